"""Windows for models with global context, whose tiles can never equal the whole frame.

Such a model saw crops of one size in training; it is shown windows of that size, and
where they overlap their outcomes are faded into each other with raised-cosine ramps.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...imaging.arrays import round_up

__all__ = ["Window", "WindowGrid"]


@dataclass(frozen=True)
class Window:
    """One window.

    Parameters
    ----------
    read : (top, left, height, width) in the frame, input pixels
        May reach past the bottom or right edge by less than ``multiple_of``.
    rows, columns : ndarray, f32, shapes (h,) and (w,)
        Weights of its output rows and columns that lie inside the frame. Over all windows
        the products sum to 1 at every pixel.
    """

    read: tuple[int, int, int, int]
    rows: NDArray[np.float32]
    columns: NDArray[np.float32]


@dataclass(frozen=True)
class WindowGrid:
    """The windows of one frame size; the same fields as an exact `Grid`."""

    height: int
    width: int
    tile_height: int
    tile_width: int
    windows: tuple[Window, ...]

    @classmethod
    def plan(
        cls, height: int, width: int, window: int, *, ramp: int, multiple: int, upscale: int = 1
    ) -> WindowGrid:
        """Cover a frame with windows.

        Parameters
        ----------
        height, width : int
            The frame, input pixels.
        window : int
            Side of a window; an axis no longer than this is not cut.
        ramp : int
            Least overlap of neighbours in input pixels, at most half a window.
        multiple : int
            Origins are multiples of this.
        upscale : int
            Output pixels per input pixel.
        """
        rows, columns = (
            _cover(length, window, ramp=ramp, multiple=multiple, upscale=upscale)
            for length in (height, width)
        )
        windows = tuple(
            Window((top, left, high, wide), row, column)
            for (top, high, row), (left, wide, column) in itertools.product(rows, columns)
        )
        return cls(height, width, rows[0][1], columns[0][1], windows)


def _cover(
    length: int, window: int, *, ramp: int, multiple: int, upscale: int
) -> list[tuple[int, int, NDArray[np.float32]]]:
    """Return origin, length and weights of each window along one axis."""
    if length <= window:
        return [(0, length, np.ones(length * upscale, np.float32))]
    window = max(multiple, window // multiple * multiple)
    ramp = min(ramp, window // 2)
    last = round_up(length, multiple) - window
    count = 1 + -(-last // max(multiple, window - ramp))
    # Evenly spread, so that every overlap is as wide as it can be.
    origins = [round(i * last / (count - 1) / multiple) * multiple for i in range(count)]
    total = np.zeros(length * upscale)
    fades = []
    for origin in origins:
        inside = min(window, length - origin) * upscale
        fade = np.ones(inside)
        rise = 0.5 - 0.5 * np.cos(np.pi * (np.arange(ramp * upscale) + 0.5) / (ramp * upscale))
        if origin > 0:
            fade[: rise.size] = np.minimum(fade[: rise.size], rise[:inside])
        if origin < last:
            fade[-rise.size :] = np.minimum(fade[-rise.size :], rise[::-1])
        fades.append(fade)
        total[origin * upscale : origin * upscale + inside] += fade
    return [
        (origin, window, (fade / total[origin * upscale :][: fade.size]).astype(np.float32))
        for origin, fade in zip(origins, fades, strict=True)
    ]
