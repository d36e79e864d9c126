"""Axes of charts: where a value is drawn, and which values are worth a tick."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["Axis", "linear_axis", "log_axis", "signed_axis"]

_STEPS = (1, 2, 5)


@dataclass(frozen=True)
class Axis:
    """A way from values to pixels.

    Parameters
    ----------
    ticks : tuple of float
        Values to be marked, ascending.
    bend : callable
        Makes a value a number that pixels are proportional to; never falls.
    low, high : float
        Values at the ends.
    start_px, end_px : float
        Where the ends are drawn.
    """

    ticks: tuple[float, ...]
    bend: Callable[[float], float]
    low: float
    high: float
    start_px: float
    end_px: float

    def at(self, value: float) -> float:
        """Return where a value is drawn; what is beyond an end is drawn at it."""
        low, high = self.bend(self.low), self.bend(self.high)
        part = (self.bend(min(max(value, self.low), self.high)) - low) / (high - low)
        return self.start_px + part * (self.end_px - self.start_px)


def linear_axis(low: float, high: float, start_px: float, end_px: float, ticks: int = 6) -> Axis:
    """Return an axis with about so many ticks at round numbers.

    Parameters
    ----------
    low, high : float
        A span of nothing is widened.
    start_px, end_px : float
    ticks : int
    """
    low, high = _widened(low, high)
    rough = (high - low) / ticks
    decade = 10.0 ** math.floor(math.log10(rough))
    step = min((m * decade for m in (1, 2, 5, 10)), key=lambda s: abs(math.log(s / rough)))
    first, last = math.ceil(low / step), math.floor(high / step)
    marks = tuple(round(at * step, 12) for at in range(first, last + 1))
    return Axis(marks, float, low, high, start_px, end_px)


def log_axis(low: float, high: float, start_px: float, end_px: float) -> Axis:
    """Return a logarithmic axis with a tick for each decade, or more where there are few.

    Parameters
    ----------
    low, high : float
        Above 0.
    start_px, end_px : float
    """
    high = max(high, low * 10)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = _STEPS if len(decades) <= 3 else (1,)
    marks = [m * 10.0**d for d in decades for m in steps]
    inside = tuple(mark for mark in marks if low <= mark <= high)
    return Axis(inside, math.log, low, high, start_px, end_px)


def signed_axis(
    low: float, high: float, unit: float, start_px: float, end_px: float, gap_px: float = 30
) -> Axis:
    """Return an axis that is linear below a unit and logarithmic above, on both sides of 0.

    Parameters
    ----------
    low, high : float
    unit : float
        Above 0: up to it, differences keep their size.
    start_px, end_px : float
    gap_px : float
        Ticks are at least this far apart.
    """
    low, high = _widened(low, high)
    most = max(abs(low), abs(high))
    decades = range(math.floor(math.log10(unit / 10)), math.ceil(math.log10(most)) + 1)
    # In order of worth: where there is room for few, they are the roundest.
    values = [m * 10.0**d for m in (1, 5, 2) for d in reversed(decades)]
    wanted = [0.0, *values, *(-value for value in values)]
    axis = Axis((), lambda value: math.asinh(value / unit), low, high, start_px, end_px)
    return Axis(_apart(wanted, axis, gap_px), axis.bend, low, high, start_px, end_px)


def _apart(wanted: Sequence[float], axis: Axis, gap_px: float) -> tuple[float, ...]:
    kept: list[float] = []
    for value in wanted:
        far = all(abs(axis.at(value) - axis.at(other)) >= gap_px for other in kept)
        if axis.low <= value <= axis.high and far:
            kept.append(value)
    return tuple(sorted(kept))


def _widened(low: float, high: float) -> tuple[float, float]:
    if high > low:
        return low, high
    margin = abs(low) / 10 or 1.0
    return low - margin, high + margin
