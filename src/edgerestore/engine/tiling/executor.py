"""Submission of the tiles of a frame to infer queues, and assembly of their outcomes.

Queues are as large as a tile, rounded up to the model's multiple: a frame whose sides are no
multiples is padded with its edge pixels here and not in the graph. There, at INT8 with bf16
around it, the levels of a picture finer than 8 bits would be rounded before they are padded.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ...errors import InferenceError
from ...imaging.arrays import Depth, Image, rounded
from ...runtimes.protocol import Completion, InferQueue, Model, QueueSpec
from ..cancellation import check_cancelled
from ..guard import Guard
from ..strength import MAXIMUM
from .grid import Grid, Tile
from .tile_count import TileCount
from .windows import WindowGrid

__all__ = ["InferQueues", "Patch", "Work", "submit_grid", "submit_patches"]

logger = logging.getLogger(__name__)

Submitted = tuple[list[Completion], Callable[[], Image]]
"""Completions to wait for, and a function that then gives the restored plane."""

_Rectangle = tuple[int, int, int, int]

Patch = tuple[_Rectangle, Image]
"""Rectangle (top, left, height, width) of a part of the restored plane, and the part."""


class InferQueues:
    """The infer queues of a model by shape; the least recently used one is closed first.

    Parameters
    ----------
    model : Model
    kept : int
        How many are open at a time.
    """

    def __init__(self, model: Model, kept: int) -> None:
        self._model, self._kept = model, kept
        self._open: OrderedDict[QueueSpec, InferQueue] = OrderedDict()
        self._closed = False

    def get(self, spec: QueueSpec) -> InferQueue:
        """Return the queue of a shape, compiled where it is not open.

        Raises
        ------
        InferenceError
            When it cannot be compiled, or the queues are closed.
        """
        if spec in self._open and self._open[spec].lost:
            logger.warning("the device was lost; it is opened anew")
            self.free()
        if spec in self._open:
            self._open.move_to_end(spec)
        elif self._closed:
            raise InferenceError("the restorer is closed")
        else:
            if len(self._open) >= self._kept:
                self._open.popitem(last=False)[1].close()
            check_cancelled()
            self._open[spec] = self._model.open_queue(spec)
        return self._open[spec]

    @property
    def latest(self) -> InferQueue | None:
        """The most recently used one."""
        return next(reversed(self._open.values()), None)

    def close(self) -> None:
        """Finish what was submitted to them and free them; further shapes are refused."""
        self._closed = True
        self.free()

    def free(self) -> None:
        """Finish what was submitted to them and free them."""
        while self._open:
            self._open.popitem()[1].close()


@dataclass(frozen=True)
class Work:
    """Inference settings of one plane, the same for all its tiles.

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
    guard : Guard or None
    notify : callable or None
        Takes one line for each tile that the guard replaced.
    count : TileCount or None
        Of the tiles that `submit_grid` submits.
    """

    strength: float | NDArray[np.float32]
    channels: int
    upscale: int
    depth: Depth
    tone: NDArray[np.float32] | None = None
    guard: Guard | None = None
    notify: Callable[[str], None] | None = None
    count: TileCount | None = None

    def validate(self, outcome: Image, plane: Image, top: int, left: int) -> None:
        """Validate the outcome of one tile; its corner is given in output pixels."""
        if self.guard is None:
            return
        rows, columns = (
            slice(start // self.upscale, (start + length) // self.upscale)
            for start, length in ((top, outcome.shape[0]), (left, outcome.shape[1]))
        )
        most = self.strength if isinstance(self.strength, float) else MAXIMUM
        source = plane[rows, columns]
        self.guard.validate(outcome, source, self.upscale, self.tone, most, self.notify)


def submit_grid(queue: InferQueue, grid: Grid | WindowGrid, plane: Image, work: Work) -> Submitted:
    """Submit all of a plane.

    Parameters
    ----------
    queue : InferQueue
        Its output depth is f32 where windows are faded, so that fading rounds only once.
    grid : Grid or WindowGrid
    plane : ndarray, shape (H, W, C), C-contiguous and writable
        Read until the outcome is there.
    work : Work
    """
    if isinstance(grid, WindowGrid):
        return _submit_windows(queue, grid, plane, work)
    return _submit_tiles(queue, grid, plane, work)


def _submit_tiles(queue: InferQueue, grid: Grid, plane: Image, work: Work) -> Submitted:
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
            work.validate(part, plane, *tile.place[:2])
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
        outcome = np.empty((*tile.place[2:], work.channels), work.depth.value)
        own, strength = _tile(plane, work, _read(queue, tile.read[:2]))
        completions.append(queue.submit(own, strength, outcome, keep=tile.keep[:2], tone=work.tone))
        patches.append((tile.place, outcome))
        sources.append((own, tile.keep[:2]))

    def gathered() -> list[Patch]:
        for (_, outcome), (own, (top, left)) in zip(patches, sources, strict=True):
            work.validate(outcome, own, top, left)
        return patches

    return completions, gathered


def _submit_windows(queue: InferQueue, grid: WindowGrid, plane: Image, work: Work) -> Submitted:
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
            work.validate(outcome, plane, top, left)
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
    strength, read = work.strength, _read(queue, corner)
    if corner[0] + read[2] > plane.shape[0] or corner[1] + read[3] > plane.shape[1]:
        plane, strength = _tile(plane, work, read)
        corner = (0, 0)
    done = queue.submit(plane, strength, destination, read=corner, keep=keep, tone=work.tone)
    return done if work.count is None else work.count.submitted(done)


def _read(queue: InferQueue, corner: tuple[int, int]) -> _Rectangle:
    """Return what a queue reads of a plane; it may be more than the plane has."""
    return (*corner, queue.spec.height, queue.spec.width)


def _tile(plane: Image, work: Work, read: _Rectangle) -> tuple[Image, float | NDArray[np.float32]]:
    """Return copies of a part of a plane and of its strength map."""
    strength = work.strength
    if isinstance(strength, np.ndarray):
        strength = _cut_out(strength, *(work.upscale * value for value in read))
    return _cut_out(plane, *read), strength


def _cut_out(array: NDArray[Any], top: int, left: int, height: int, width: int) -> NDArray[Any]:
    """Return a copy of a part that may reach past the end, where the edge is continued."""
    inside = array[top : top + height, left : left + width]
    below, beside = height - inside.shape[0], width - inside.shape[1]
    if not (below or beside):
        return inside.copy()
    grown = cv2.copyMakeBorder(inside, 0, below, 0, beside, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(grown).reshape(height, width, *array.shape[2:])
