"""Handing the tiles of one frame to a queue, and putting their outcomes together.

Queues are as large as a tile, rounded up to the model's multiple: a frame that is none is
continued by its edge pixels here and not in the graph. There, at INT8 with bf16 around it, the
levels of a picture finer than 8 bits would be rounded before they are padded, and only then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from ...imaging.arrays import Depth, Image, rounded
from ...runtimes.protocol import Completion, InferQueue
from ..strength import MAXIMUM
from .grid import Grid, Tile
from .windows import WindowGrid

__all__ = ["Mender", "Work", "submit_grid", "submit_patches", "submit_tiles", "submit_windows"]

Submitted = tuple[list[Completion], Callable[[], Image]]
"""What must be waited for, and what then gives the restored plane."""

_Rectangle = tuple[int, int, int, int]

Patch = tuple[_Rectangle, Image]
"""Where a part of the restored plane goes (top, left, height, width), and the part."""


class Mender(Protocol):
    """Looks at what each tile became, and puts something else there if it must."""

    def mend(
        self,
        outcome: Image,
        source: Image,
        upscale: int,
        tone: NDArray[np.float32] | None,
        strength: float,
    ) -> None:
        """Check one tile's outcome and change it in place where it is no picture.

        Parameters
        ----------
        outcome : ndarray, shape (h * upscale, w * upscale, C')
        source : ndarray, shape (h, w, C)
            The same place of the plane that went in.
        upscale : int
        tone : ndarray, f32, shape (2, C'), or None
            Gain and offset that the outcome has and the source has not.
        strength : float
            The most that any of its pixels had.
        """


@dataclass(frozen=True)
class Work:
    """What is asked of a plane, wherever its tiles lie.

    Parameters
    ----------
    strength : float, or ndarray f32 of shape (H * upscale, W * upscale)
    channels : int
        Channels of the outcome.
    upscale : int
    depth : Depth
        Sample type of the outcome.
    tone : ndarray or None
        As `InferQueue.submit` takes it.
    mender : Mender or None
    """

    strength: float | NDArray[np.float32]
    channels: int
    upscale: int
    depth: Depth
    tone: NDArray[np.float32] | None = None
    mender: Mender | None = None

    def mend(self, outcome: Image, plane: Image, top: int, left: int) -> None:
        """Have the outcome of one tile looked at; its corner is given in output pixels."""
        if self.mender is None:
            return
        rows, columns = (
            slice(start // self.upscale, (start + length) // self.upscale)
            for start, length in ((top, outcome.shape[0]), (left, outcome.shape[1]))
        )
        most = self.strength if isinstance(self.strength, float) else MAXIMUM
        self.mender.mend(outcome, plane[rows, columns], self.upscale, self.tone, most)


def submit_grid(queue: InferQueue, grid: Grid | WindowGrid, plane: Image, work: Work) -> Submitted:
    """Submit all of a plane."""
    if isinstance(grid, WindowGrid):
        return submit_windows(queue, grid, plane, work)
    return submit_tiles(queue, grid, plane, work)


def submit_tiles(queue: InferQueue, grid: Grid, plane: Image, work: Work) -> Submitted:
    """Submit the tiles of an exact grid; each writes its own part of the outcome.

    Parameters
    ----------
    plane : ndarray, shape (H, W, C), C-contiguous and writable
        Read until the outcome is there.
    """
    upscale = work.upscale
    size = (grid.height * upscale, grid.width * upscale, work.channels)
    outcome = np.empty(size, work.depth.value)
    parts = [
        outcome[top : top + height, left : left + width]
        for top, left, height, width in (tile.place for tile in grid.tiles)
    ]
    completions = [
        _submit(queue, plane, work, part, tile.read[:2], tile.keep[:2])
        for tile, part in zip(grid.tiles, parts, strict=True)
    ]

    def gathered() -> Image:
        for tile, part in zip(grid.tiles, parts, strict=True):
            work.mend(part, plane, *tile.place[:2])
        return outcome

    return completions, gathered


def submit_patches(
    queue: InferQueue, tiles: Sequence[Tile], plane: Image, work: Work
) -> tuple[list[Completion], Callable[[], list[Patch]]]:
    """Submit some tiles of a plane, each with an outcome of its own.

    Parameters
    ----------
    plane : ndarray, shape (H, W, C), C-contiguous
        Not read once this has returned.

    Returns
    -------
    completions : list of Completion
    patches : callable
        Gives, once they are done, what belongs where.
    """
    completions, patches, sources = [], [], []
    for tile in tiles:
        read = _read(queue, tile.read[:2])
        outcome = np.empty((*tile.place[2:], work.channels), work.depth.value)
        strength = work.strength
        if isinstance(strength, np.ndarray):
            strength = _cut_out(strength, _enlarged(read, work.upscale))
        own = _cut_out(plane, read)
        completions.append(queue.submit(own, strength, outcome, keep=tile.keep[:2], tone=work.tone))
        patches.append((tile.place, outcome))
        sources.append((own, tile.keep[:2]))

    def gathered() -> list[Patch]:
        for (_, outcome), (own, (top, left)) in zip(patches, sources, strict=True):
            work.mend(outcome, own, top, left)
        return patches

    return completions, gathered


def submit_windows(queue: InferQueue, grid: WindowGrid, plane: Image, work: Work) -> Submitted:
    """Submit overlapping windows; their f32 outcomes are faded into each other.

    The queue's output depth is f32, so that fading rounds only once. Parameters as in
    `submit_tiles`.
    """
    upscale, channels = work.upscale, work.channels
    completions: list[Completion] = []
    outcomes: list[NDArray[np.float32]] = []
    for window in grid.windows:
        shape = (window.rows.size, window.columns.size, channels)
        outcomes.append(np.empty(shape, np.float32))
        completions.append(_submit(queue, plane, work, outcomes[-1], window.read[:2], (0, 0)))

    def faded() -> Image:
        shape = (grid.height * upscale, grid.width * upscale, channels)
        total = np.zeros(shape, np.float32)
        for window, outcome in zip(grid.windows, outcomes, strict=True):
            top, left = window.read[0] * upscale, window.read[1] * upscale
            work.mend(outcome, plane, top, left)
            part = total[top : top + window.rows.size, left : left + window.columns.size]
            part += outcome * (window.rows[:, None] * window.columns[None, :])[..., None]
        return rounded(total, work.depth)

    return completions, faded


def _submit(
    queue: InferQueue,
    plane: Image,
    work: Work,
    destination: Image,
    corner: tuple[int, int],
    keep: tuple[int, int],
) -> Completion:
    strength = work.strength
    read = _read(queue, corner)
    top, left, height, width = read
    if top + height > plane.shape[0] or left + width > plane.shape[1]:
        plane = _cut_out(plane, read)
        if isinstance(strength, np.ndarray):
            strength = _cut_out(strength, _enlarged(read, work.upscale))
        top = left = 0
    return queue.submit(plane, strength, destination, read=(top, left), keep=keep, tone=work.tone)


def _read(queue: InferQueue, corner: tuple[int, int]) -> _Rectangle:
    """Return what a queue reads of a plane; it may be more than the plane has."""
    return (*corner, queue.spec.height, queue.spec.width)


def _enlarged(read: _Rectangle, upscale: int) -> _Rectangle:
    top, left, height, width = (upscale * value for value in read)
    return top, left, height, width


def _cut_out(array: NDArray[Any], read: _Rectangle) -> NDArray[Any]:
    """Return a copy of a part that may reach past the end, where the edge is continued."""
    top, left, height, width = read
    inside = array[top : top + height, left : left + width]
    below, beside = height - inside.shape[0], width - inside.shape[1]
    if not (below or beside):
        return inside.copy()
    grown = cv2.copyMakeBorder(inside, 0, below, 0, beside, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(grown).reshape(height, width, *array.shape[2:])
