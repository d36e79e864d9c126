"""Tile covers: which tiles to infer of a frame, for what changed or for a part in turn.

A fixed grid of tiles would meet one small change with up to four of them. Here a tile starts
as far down and right as the first uncovered pixel allows, so what fits into one tile gets one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ...errors import ArgumentError
from ...imaging.arrays import round_up
from ..tiling.grid import Grid, Span, Tile, smallest_tile

__all__ = [
    "CELL_PX",
    "LONGEST_INTERVAL",
    "Canvas",
    "Cover",
    "Shape",
    "affected_units",
    "cheapest_cover",
    "check_refresh_interval",
    "covered",
    "refresh_grid",
    "shapes_for",
]

LONGEST_INTERVAL = 64
"""The longest refresh interval in frames: two seconds of a camera."""

CELL_PX = 8
"""Side of the cells in which changes are found, input pixels."""

_UNIT_PX = 4  # halos are rounded up to this: finer would make the map of a frame dear
_CHANGES_PX = (96, 320)  # the changes that one tile of each shape covers, wherever they lie
_LEAST_PX = 128  # below, an inference costs its call and not its pixels
_CALL_PX = 12_000  # what one more call costs, in pixels
_WORTH_CUTTING = 0.75  # of the frame; where a part is larger, whole frames now and then cost less
_WORTH_IT = 0.9  # of the whole frame's cost: patches also have to be put together

Shape = tuple[int, int]
"""Height and width of a tile, input pixels."""


@dataclass(frozen=True)
class Canvas:
    """Size of a frame and the constraints that a model puts on its tiles.

    Parameters
    ----------
    height, width : int
        Input pixels.
    halo : int
        Input pixels around an output pixel that may influence it.
    multiple : int
        Tile origins are multiples of this.
    upscale : int
    """

    height: int
    width: int
    halo: int
    multiple: int
    upscale: int = 1


@dataclass(frozen=True)
class Cover:
    """Tiles of one shape that restore all that changed.

    Parameters
    ----------
    shape : Shape
    tiles : tuple of Tile
        Their places may overlap: each holds what the whole frame's inference would.
    """

    shape: Shape
    tiles: tuple[Tile, ...]

    @property
    def cost_px(self) -> int:
        """Cost in inferred pixels, calls included."""
        return len(self.tiles) * (self.shape[0] * self.shape[1] + _CALL_PX)


def shapes_for(canvas: Canvas) -> list[Shape]:
    """Return the shapes of tile worth compiling for a frame, ascending; perhaps none.

    Parameters
    ----------
    canvas : Canvas

    Returns
    -------
    list of Shape
        Each so large that a change of 96 (320) px on a side, wherever it lies, fits into one
        tile: the change itself, the halo that it reaches, and the halo of that.
    """
    step = _step(canvas)
    shapes: list[Shape] = []
    for change in _CHANGES_PX:
        # A change that begins between two cells touches one more of them.
        reach = 4 * round_up(canvas.halo, _UNIT_PX) + change + CELL_PX
        side = round_up(max(reach + step - math.gcd(step, CELL_PX), _LEAST_PX), canvas.multiple)
        shape = (min(side, canvas.height), min(side, canvas.width))
        cheap = Cover(shape, (_ANYWHERE,)).cost_px < _WORTH_IT * canvas.height * canvas.width
        if cheap and shape not in shapes:
            shapes.append(shape)
    return shapes


def affected_units(changed: NDArray[np.bool_], canvas: Canvas) -> NDArray[np.bool_]:
    """Return which parts of the outcome a change may have reached.

    Parameters
    ----------
    changed : ndarray, bool, shape (ceil(H / 8), ceil(W / 8))
        Cells with a changed input pixel.
    canvas : Canvas

    Returns
    -------
    ndarray, bool, shape (ceil(H / 4), ceil(W / 4))
    """
    factor = CELL_PX // _UNIT_PX
    fine = changed.astype(np.uint8).repeat(factor, 0).repeat(factor, 1)
    fine = fine[: -(-canvas.height // _UNIT_PX), : -(-canvas.width // _UNIT_PX)]
    reach = -(-canvas.halo // _UNIT_PX)
    if reach:
        kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
        border = cv2.BORDER_CONSTANT
        fine = np.asarray(cv2.dilate(fine, kernel, borderType=border, borderValue=0), np.uint8)
    return fine.astype(np.bool_)


def cheapest_cover(
    changed: NDArray[np.bool_], canvas: Canvas, shapes: Sequence[Shape], whole_px: int
) -> Cover | None:
    """Return the tiles to infer, or None where the whole frame costs no more.

    Parameters
    ----------
    changed : ndarray, bool, shape (ceil(H / 8), ceil(W / 8))
        Cells with a changed input pixel; at least one.
    canvas : Canvas
    shapes : sequence of Shape
        Those of `shapes_for`, or some of them.
    whole_px : int
        What the whole frame's inference costs, in pixels.
    """
    affected = affected_units(changed, canvas)
    least = np.count_nonzero(affected) * _UNIT_PX**2
    if not shapes or least >= _WORTH_IT * whole_px:
        return None
    best = min((covered(affected, canvas, shape) for shape in shapes), key=lambda c: c.cost_px)
    return best if best.cost_px < _WORTH_IT * whole_px else None


def covered(affected: NDArray[np.bool_], canvas: Canvas, shape: Shape) -> Cover:
    """Cover what was reached with tiles of one shape, in bands of rows or of columns.

    Parameters
    ----------
    affected : ndarray, bool, as `affected_units` returns it
    canvas : Canvas
    shape : Shape
    """
    rows = _Axis.of(canvas.height, shape[0], canvas)
    columns = _Axis.of(canvas.width, shape[1], canvas)
    in_rows = [
        (row, column)
        for row, band in rows.sweep(_along(affected, 1))
        for column, _ in columns.sweep(_along(affected[band], 0))
    ]
    in_columns = [
        (row, column)
        for column, band in columns.sweep(_along(affected, 0))
        for row, _ in rows.sweep(_along(affected[:, band], 1))
    ]
    fewest = min(in_rows, in_columns, key=len)
    return Cover(shape, tuple(Tile.of(row, column, canvas.upscale) for row, column in fewest))


@dataclass(frozen=True)
class _Axis:
    """The places that a tile may take along one side of the frame."""

    length: int
    tile: int
    halo: int
    step: int
    last: int

    @classmethod
    def of(cls, length: int, tile: int, canvas: Canvas) -> _Axis:
        last = 0 if tile >= length else round_up(length, canvas.multiple) - tile
        return cls(length, tile, canvas.halo, _step(canvas), last)

    def sweep(self, busy: NDArray[np.bool_]) -> list[tuple[Span, slice]]:
        """Cover the busy units of this axis; return the spans and the units that each covers."""
        spans: list[tuple[Span, slice]] = []
        rest = np.flatnonzero(busy)
        while rest.size:
            first = int(rest[0])
            span = self._placed(first * _UNIT_PX)
            end = busy.size if span.end == self.length else span.end // _UNIT_PX
            spans.append((span, slice(first, end)))
            rest = rest[rest >= end]
        return spans

    def _placed(self, first: int) -> Span:
        """Return the span that begins as late as it can while it keeps a pixel."""
        origin = max(0, min((first - self.halo) // self.step * self.step, self.last))
        start = origin + self.halo if origin else 0
        end = self.length if origin == self.last else origin + self.tile - self.halo
        return Span(origin, self.tile, start, end)


def _along(affected: NDArray[np.bool_], axis: int) -> NDArray[np.bool_]:
    busy: NDArray[np.bool_] = np.logical_or.reduce(affected, axis=axis)
    return busy


def _step(canvas: Canvas) -> int:
    """Return the least distance of two tiles' origins: on the model's grid and on the units."""
    return math.lcm(canvas.multiple, _UNIT_PX)


_ANYWHERE = Tile((0, 0, 0, 0), (0, 0, 0, 0), (0, 0, 0, 0))


def check_refresh_interval(interval: object) -> int:
    """Return a refresh interval as an int from 1 to 64.

    Raises
    ------
    ArgumentError
        When it is no such number.
    """
    whole = isinstance(interval, int) and not isinstance(interval, bool)
    if not (whole and 1 <= interval <= LONGEST_INTERVAL):  # type: ignore[operator]
        raise ArgumentError(
            "the refresh interval (cadence) is a whole number from 1 to"
            f" {LONGEST_INTERVAL}, got {interval!r}"
        )
    return int(interval)  # type: ignore[call-overload, no-any-return]


def refresh_grid(canvas: Canvas, interval: int) -> Grid | None:
    """Return at most ``interval`` tiles that cover a frame, as small as they can be.

    Parameters
    ----------
    canvas : Canvas
    interval : int
        The refresh interval in frames, above 1.

    Returns
    -------
    Grid or None
        None where the halo makes a tile nearly as large as the frame.
    """
    shapes = {
        (_side(canvas.height, rows, canvas), _side(canvas.width, interval // rows, canvas))
        for rows in range(1, interval + 1)
    }
    best: Shape = min(shapes, key=lambda shape: (shape[0] * shape[1], shape))
    if best[0] * best[1] > _WORTH_CUTTING * canvas.height * canvas.width:
        return None
    size, halo, multiple = (canvas.height, canvas.width), canvas.halo, canvas.multiple
    return Grid.plan(*size, best, halo=halo, multiple=multiple, upscale=canvas.upscale)


def _side(length: int, count: int, canvas: Canvas) -> int:
    """Return the least side of a tile of which ``count`` cover a length."""
    halos, multiple = 2 * canvas.halo, canvas.multiple
    inner = round_up(-(-(round_up(length, multiple) - halos) // count), multiple)
    side = max(round_up(inner + halos, multiple), smallest_tile(canvas.halo, multiple))
    return length if count == 1 else min(side, length)
