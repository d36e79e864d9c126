"""Handing the tiles of one frame to a queue, and putting their outcomes together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...pixels import Depth, Image, rounded
from ...runtimes.protocol import Completion, InferQueue
from .tiling import Grid
from .windowing import WindowGrid

__all__ = ["submit_tiles", "submit_windows"]

Submitted = tuple[list[Completion], Callable[[], Image]]
"""What must be waited for, and what then gives the restored plane."""

_Strength = float | NDArray[np.float32]


def submit_tiles(
    queue: InferQueue,
    grid: Grid,
    plane: Image,
    strength: _Strength,
    channels: int,
    upscale: int,
    depth: Depth,
    tone: NDArray[np.float32] | None = None,
) -> Submitted:
    """Submit the tiles of an exact grid; each writes its own part of the outcome.

    Parameters
    ----------
    plane : ndarray, shape (H, W, C), C-contiguous and writable
    strength : float, or ndarray f32 of shape (H * upscale, W * upscale)
    channels : int
        Channels of the outcome.
    upscale : int
    depth : Depth
        Sample type of the outcome.
    tone : ndarray or None
        As `InferQueue.submit` takes it.
    """
    outcome = np.empty((grid.height * upscale, grid.width * upscale, channels), depth.value)
    completions = []
    for tile in grid.tiles:
        top, left, height, width = tile.place
        destination = outcome[top : top + height, left : left + width]
        completions.append(
            _submit(queue, plane, strength, destination, tile.read, tile.keep[:2], upscale, tone)
        )
    return completions, lambda: outcome


def submit_windows(
    queue: InferQueue,
    grid: WindowGrid,
    plane: Image,
    strength: _Strength,
    channels: int,
    upscale: int,
    depth: Depth,
    tone: NDArray[np.float32] | None = None,
) -> Submitted:
    """Submit overlapping windows; their f32 outcomes are faded into each other.

    The queue's output depth is f32, so that fading rounds only once. Parameters as in
    `submit_tiles`.
    """
    completions: list[Completion] = []
    outcomes: list[NDArray[np.float32]] = []
    for window in grid.windows:
        shape = (window.rows.size, window.columns.size, channels)
        outcomes.append(np.empty(shape, np.float32))
        completions.append(
            _submit(queue, plane, strength, outcomes[-1], window.read, (0, 0), upscale, tone)
        )

    def faded() -> Image:
        shape = (grid.height * upscale, grid.width * upscale, channels)
        total = np.zeros(shape, np.float32)
        for window, outcome in zip(grid.windows, outcomes, strict=True):
            top, left = window.read[0] * upscale, window.read[1] * upscale
            part = total[top : top + window.rows.size, left : left + window.columns.size]
            part += outcome * (window.rows[:, None] * window.columns[None, :])[..., None]
        return rounded(total, depth)

    return completions, faded


def _submit(
    queue: InferQueue,
    plane: Image,
    strength: _Strength,
    destination: Image,
    read: tuple[int, int, int, int],
    keep: tuple[int, int],
    upscale: int,
    tone: NDArray[np.float32] | None,
) -> Completion:
    top, left, height, width = read
    if top + height > plane.shape[0] or left + width > plane.shape[1]:
        # The last tile reaches past a frame that is no multiple: continue its edge, as
        # the graph does for a whole frame.
        plane = _extended(plane, read)
        if isinstance(strength, np.ndarray):
            strength = _extended(strength, tuple(upscale * value for value in read))
        top = left = 0
    return queue.submit(plane, strength, destination, read=(top, left), keep=keep, tone=tone)


def _extended(array: NDArray[Any], read: tuple[int, ...]) -> NDArray[Any]:
    top, left, height, width = read
    inside = array[top : top + height, left : left + width]
    missing = [(0, height - inside.shape[0]), (0, width - inside.shape[1])]
    return np.pad(inside, missing + [(0, 0)] * (array.ndim - 2), mode="edge")
