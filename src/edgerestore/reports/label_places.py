"""Where labels of points go, so that they hide neither each other nor the points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "Box",
    "Label",
    "Placed",
    "place_labels",
    "point_box",
    "shared_area",
    "text_width",
]

Box = tuple[float, float, float, float]
"""Left, top, right and bottom, in pixels."""

_CHARACTER_PX = 6.8  # of sans-serif at 12 px, rather too much than too little
_HEIGHT_PX = 15.0
_GAP_PX = 10.0
_POINT_PX = 7.0
_DISTANCES = (_GAP_PX, 18.0, 28.0, 40.0)
_DIRECTIONS = 24
_MARGIN_PX = 3.0
_LEAD_STEPS = 8


@dataclass(frozen=True)
class Label:
    """A label that is wanted at a point.

    Parameters
    ----------
    text : str
    x, y : float
        The point, in pixels.
    needed : bool
        Shown even where there is no good place.
    """

    text: str
    x: float
    y: float
    needed: bool


@dataclass(frozen=True)
class Placed:
    """A label with its place.

    Parameters
    ----------
    label : Label
    box : Box
    led : bool
        So far off that a line has to lead to it.
    """

    label: Label
    box: Box
    led: bool

    @property
    def lead_end(self) -> tuple[float, float]:
        """Where a line from the point meets the label."""
        left, top, right, bottom = self.box
        return min(max(self.label.x, left), right), min(max(self.label.y, top), bottom)


def text_width(text: str) -> float:
    """Return about how wide a label is, in pixels."""
    return len(text) * _CHARACTER_PX


def point_box(x: float, y: float) -> Box:
    """Return what a point takes up."""
    return (x - _POINT_PX, y - _POINT_PX, x + _POINT_PX, y + _POINT_PX)


def shared_area(one: Box, other: Box) -> float:
    """Return how many square pixels two boxes share."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, width) * max(0.0, height)


def place_labels(
    labels: Sequence[Label],
    bounds: Box,
    taken: Sequence[Box] = (),
    avoid: Sequence[tuple[float, float]] = (),
) -> list[Placed]:
    """Place labels, the first ones best.

    Parameters
    ----------
    labels : sequence of Label
        The most important first.
    bounds : Box
        No label leaves it.
    taken : sequence of Box
        Where something else stands.
    avoid : sequence of (float, float)
        Where lines pass: better not covered.

    Returns
    -------
    list of Placed
        Without those that are not needed and would cover something.
    """
    fixed = [*taken, *(point_box(label.x, label.y) for label in labels)]
    passed = list(avoid)
    placed: list[Placed] = []
    for label in labels:
        full = [*fixed, *(other.box for other in placed)]
        options = [one for one in _options(label) if _inside(one.box, bounds)]
        if not options:
            options = [Placed(label, _pushed(_beside(label, _GAP_PX, 0.0), bounds), led=False)]
        best = min(options, key=lambda one: _cost(one, full, passed))
        if label.needed or not _hidden(best, full):
            placed.append(best)
            passed += _lead(best)
    return placed


def _options(label: Label) -> list[Placed]:
    turns = (2 * math.pi * at / _DIRECTIONS for at in range(_DIRECTIONS))
    return [
        Placed(label, _beside(label, far, turn), led=far > _GAP_PX)
        for turn in turns
        for far in _DISTANCES
    ]


def _beside(label: Label, far: float, turn: float) -> Box:
    """Return the box whose nearest part lies that far from the point, in that direction."""
    width, across, down = text_width(label.text), math.cos(turn), math.sin(turn)
    x = label.x + far * across + (across - 1) / 2 * width
    y = label.y + far * down + (down - 1) / 2 * _HEIGHT_PX
    return (x, y, x + width, y + _HEIGHT_PX)


def _cost(option: Placed, taken: Sequence[Box], avoid: Sequence[tuple[float, float]]) -> float:
    box, label = option.box, option.label
    left, top, right, bottom = box
    crossed = sum(_holds(box, x, y, _MARGIN_PX) for x, y in avoid)
    far = math.hypot((left + right) / 2 - label.x, (top + bottom) / 2 - label.y)
    # Straight to the right or the left reads best.
    level = abs((top + bottom) / 2 - label.y)
    return 50 * _hidden(option, taken) + 6 * crossed + 0.05 * far + 0.1 * level + 6 * option.led


def _hidden(option: Placed, taken: Sequence[Box]) -> float:
    """Return how much a label and the line that leads to it would cover."""
    x, y = option.label.x, option.label.y
    others = [other for other in taken if not _holds(other, x, y, 0)]
    lead = sum(_holds(other, *place, 0) for other in others for place in _lead(option))
    return lead + sum(shared_area(option.box, other) for other in taken)


def _lead(option: Placed) -> list[tuple[float, float]]:
    """Return places on the line from a point to its label."""
    if not option.led:
        return []
    (x, y), (to_x, to_y) = (option.label.x, option.label.y), option.lead_end
    parts = (at / _LEAD_STEPS for at in range(1, _LEAD_STEPS))
    return [(x + part * (to_x - x), y + part * (to_y - y)) for part in parts]


def _holds(box: Box, x: float, y: float, margin: float) -> bool:
    left, top, right, bottom = box
    return left - margin <= x <= right + margin and top - margin <= y <= bottom + margin


def _inside(box: Box, bounds: Box) -> bool:
    return (
        bounds[0] <= box[0] and bounds[1] <= box[1] and box[2] <= bounds[2] and box[3] <= bounds[3]
    )


def _pushed(box: Box, bounds: Box) -> Box:
    width = box[2] - box[0]
    left = max(bounds[0], min(box[0], bounds[2] - width))
    top = max(bounds[1], min(box[1], bounds[3] - _HEIGHT_PX))
    return (left, top, left + width, top + _HEIGHT_PX)
