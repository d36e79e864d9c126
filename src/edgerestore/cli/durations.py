"""Lengths of time as people write them: ``90s``, ``10m``, ``1h30m``."""

from __future__ import annotations

import re

from ..errors import ArgumentError

__all__ = ["parse_duration"]

_UNITS_S = {"h": 3600, "m": 60, "s": 1}
_PARTS = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?")
_SHORTEST_S = 1.0


def parse_duration(text: str) -> float:
    """Return the seconds that a text stands for.

    Parameters
    ----------
    text : str
        Hours, minutes and seconds in this order, each at most once, such as ``1h30m``,
        ``10m`` or ``2.5h``; a number without a unit counts seconds.

    Returns
    -------
    float
        At least 1.

    Raises
    ------
    ArgumentError
        For any other text, and for less than a second.
    """
    found = _PARTS.fullmatch(text.strip().lower())
    if found is None or not any(found.groups()):
        raise ArgumentError(f"{text!r} is no length of time; write 90s, 10m, 1h or 1h30m")
    seconds = sum(
        float(part) * unit_s
        for part, unit_s in zip(found.groups(), _UNITS_S.values(), strict=True)
        if part is not None
    )
    if not _SHORTEST_S <= seconds < float("inf"):
        raise ArgumentError(f"{text!r} is too short or too long; write at least 1s")
    return seconds
