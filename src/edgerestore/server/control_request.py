"""What a change of a running stream may say, checked whole before anything is done."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..bundle.precision import Precision
from ..engine.strength import check_scalar
from ..errors import ArgumentError

__all__ = ["Change", "parse_change"]

_PRECISIONS = ("auto", *Precision)
_LONGEST_NAME = 4096  # the longest path that the system takes


@dataclass(frozen=True)
class Change:
    """What shall be different; ``None`` stays as it is."""

    strength: float | None = None
    paused: bool | None = None
    model: str | None = None
    precision: str | None = None

    @property
    def switches(self) -> bool:
        """Whether something has to be compiled."""
        return self.model is not None or self.precision is not None


def parse_change(body: bytes) -> Change:
    """Read a change from JSON.

    Parameters
    ----------
    body : bytes
        An object with any of ``strength``, ``paused``, ``model`` and ``precision``.

    Raises
    ------
    ArgumentError
        On anything else; the message says which value, and what it may be.
    """
    wanted = _object(body)
    unknown = [key for key in wanted if key not in _CHECKS]
    if unknown:
        raise ArgumentError(f"{unknown[0]!a:.80} is not known; there is {', '.join(_CHECKS)}")
    return Change(**{key: _CHECKS[key](key, value) for key, value in wanted.items()})


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(
            body.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant
        )
    except ArgumentError:
        raise
    except (ValueError, RecursionError) as error:
        raise ArgumentError(
            'the body is not JSON; send an object such as {"strength": 0.5}'
        ) from error
    if not isinstance(value, dict):
        raise ArgumentError('the body is no JSON object; send one such as {"strength": 0.5}')
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ArgumentError("a key stands twice in one object; say it once")
    return found


def _no_constant(name: str) -> None:
    raise ArgumentError(f"{name} is no number of JSON; strength is a number from 0 to 2")


def _strength(key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ArgumentError(f"{key} is a number from 0 to 2, got {_short(value)}")
    try:
        return check_scalar(value)
    except OverflowError:  # an integer of hundreds of digits
        raise ArgumentError(f"{key} is a number from 0 to 2, got {_short(value)}") from None


def _flag(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ArgumentError(f"{key} is true or false, got {_short(value)}")
    return value


def _name(key: str, value: object) -> str:
    if not isinstance(value, str):
        raise ArgumentError(f"{key} is a name, got {_short(value)}")
    # What is not printable (line ends, halves of surrogate pairs) is in no name or path here.
    if not value.strip() or not value.isprintable() or len(value) > _LONGEST_NAME:
        raise ArgumentError(f"{key} is a name in printable characters, got {_short(value)}")
    return value


def _precision(key: str, value: object) -> str:
    if value not in _PRECISIONS:
        raise ArgumentError(f"{key} is one of {', '.join(_PRECISIONS)}, got {_short(value)}")
    return str(value)


def _short(value: object) -> str:
    return f"{json.dumps(value):.60}"


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "strength": _strength,
    "paused": _flag,
    "model": _name,
    "precision": _precision,
}
