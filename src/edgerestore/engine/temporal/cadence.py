"""Cutting a frame into as many tiles as frames may pass until each is refreshed."""

from __future__ import annotations

from ...errors import ArgumentError
from ...imaging.arrays import round_up
from ..tiling.grid import Grid, smallest_tile
from .cover import Canvas, Shape

__all__ = ["LONGEST", "check_cadence", "grid_in_turns"]

LONGEST = 64
"""The largest cadence: two seconds of a camera."""

_WORTH_CUTTING = 0.75  # of the frame; where a turn is larger, whole frames now and then are less


def check_cadence(cadence: object) -> int:
    """Return a cadence as an int from 1 to 64.

    Raises
    ------
    ArgumentError
        When it is no such number.
    """
    whole = isinstance(cadence, int) and not isinstance(cadence, bool)
    if not (whole and 1 <= cadence <= LONGEST):  # type: ignore[operator]
        raise ArgumentError(f"cadence is a whole number from 1 to {LONGEST}, got {cadence!r}")
    return int(cadence)  # type: ignore[call-overload, no-any-return]


def grid_in_turns(canvas: Canvas, cadence: int) -> Grid | None:
    """Return at most ``cadence`` tiles that cover a frame, as small as they can be.

    Parameters
    ----------
    canvas : Canvas
    cadence : int
        Above 1.

    Returns
    -------
    Grid or None
        None where the halo makes a tile nearly as large as the frame.
    """
    shapes = {
        (_side(canvas.height, rows, canvas), _side(canvas.width, cadence // rows, canvas))
        for rows in range(1, cadence + 1)
    }
    best: Shape = min(shapes, key=lambda shape: (shape[0] * shape[1], shape))
    if best[0] * best[1] > _WORTH_CUTTING * canvas.height * canvas.width:
        return None
    return Grid.cut(
        canvas.height,
        canvas.width,
        best,
        halo=canvas.halo,
        multiple=canvas.multiple,
        upscale=canvas.upscale,
    )


def _side(length: int, count: int, canvas: Canvas) -> int:
    """Return the least side of a tile of which ``count`` cover a length."""
    halos, multiple = 2 * canvas.halo, canvas.multiple
    inner = round_up(-(-(round_up(length, multiple) - halos) // count), multiple)
    side = max(round_up(inner + halos, multiple), smallest_tile(canvas.halo, multiple))
    return length if count == 1 else min(side, length)
