"""Values as the command line takes them: durations, sizes, rates, numbers or ``auto``."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Literal

from ..errors import ArgumentError

__all__ = [
    "parse_auto",
    "parse_bytes",
    "parse_duration",
    "parse_rate",
    "parse_size",
    "parse_tile",
]

_UNITS_S = {"h": 3600, "m": 60, "s": 1}
_PARTS = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?")
_SHORTEST_S = 1.0
_FASTEST_FPS = 1000


def parse_duration(text: str) -> float:
    """Return the seconds of a duration such as ``90s``, ``10m`` or ``1h30m``.

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


def parse_size(text: str) -> tuple[int, int]:
    """Return width and height of a size such as ``1280x720``.

    Raises
    ------
    ArgumentError
        For any other text, and for a side of 0.
    """
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if not found or not (int(found[1]) and int(found[2])):
        raise ArgumentError(f"size is WIDTHxHEIGHT such as 1280x720, got {text!r}")
    return int(found[1]), int(found[2])


def parse_bytes(text: str) -> int:
    """Return the bytes of a size such as ``512MiB``, ``1GiB`` or ``2GB``.

    Raises
    ------
    ArgumentError
        For any other text, and for less than a MiB.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:([kmgt])(i?)b?|b)?", text.strip().lower())
    count = 0
    if found is not None:
        power = " kmgt".index(found[2] or " ")
        count = int(float(found[1]) * (1024 if found[3] else 1000) ** power)
    if count < 1 << 20:
        raise ArgumentError(f"memory is a size such as 512MiB or 1GiB, got {text!r}")
    return count


def parse_rate(text: str) -> Fraction:
    """Return frames per second, from a number or a fraction such as ``30000/1001``.

    Raises
    ------
    ArgumentError
        For any other text, for 0, and for more than 1000.
    """
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not 0 < rate <= _FASTEST_FPS:
        raise ArgumentError(f"fps is a number up to 1000 such as 30 or 30000/1001, got {text!r}")
    return rate


def parse_auto(name: str, text: str) -> float | Literal["auto"]:
    """Return a number, or ``auto``, for the option of a name.

    Raises
    ------
    ArgumentError
        For any other text.
    """
    if text == "auto":
        return "auto"
    try:
        return float(text)
    except ValueError:
        raise ArgumentError(f"{name} is auto or a number, got {text!r}") from None


def parse_tile(text: str) -> int | Literal["auto"]:
    """Return the side of a tile in pixels, or ``auto``.

    Raises
    ------
    ArgumentError
        For any other text; 0 is refused by the engine.
    """
    if text == "auto":
        return "auto"
    if not text.isdigit():
        raise ArgumentError(f"tile is auto or a number of pixels above 0, got {text!r}")
    return int(text)
