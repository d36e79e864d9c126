"""One plane over time: what of it is inferred anew, and what is taken over."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ...imaging.arrays import Image
from ...runtimes.protocol import InferQueue
from ..tiling.executor import Work, submit_grid, submit_patches
from ..tiling.grid import Grid
from ..tiling.windows import WindowGrid
from .cadence import grid_in_turns
from .chain import Outcome
from .changes import Changes, sampled_rows
from .cover import CELL_PX, Canvas, Shape, cheapest_cover

__all__ = ["Means", "PlaneTrack", "Start"]

_UNASKED = 16  # outcomes that nobody has asked for, before the oldest is put together


@dataclass(frozen=True)
class Means:
    """What planes of one size and kind are inferred with.

    Parameters
    ----------
    queue : InferQueue
        For the whole plane.
    grid : Grid or WindowGrid
    canvas : Canvas or None
        None where the model must see the frame as a whole, or fades windows.
    shapes : tuple of Shape
        Of tiles that may be placed freely.
    patch_queue : callable
        Gives the queue of a shape.
    """

    queue: InferQueue
    grid: Grid | WindowGrid
    canvas: Canvas | None
    shapes: tuple[Shape, ...]
    patch_queue: Callable[[Shape], InferQueue]

    @property
    def whole_tiles(self) -> int:
        """Inferences of a whole plane."""
        return len(self.grid.windows if isinstance(self.grid, WindowGrid) else self.grid.tiles)

    @property
    def whole_px(self) -> int:
        """Pixels that a whole plane's inference reads."""
        return self.whole_tiles * self.grid.tile_height * self.grid.tile_width

    @property
    def frame_px(self) -> int:
        """Pixels of the plane."""
        return self.grid.height * self.grid.width


@dataclass(frozen=True)
class Start:
    """A plane that was started.

    Parameters
    ----------
    outcome : Outcome
    tiles : int
        Inferences.
    fresh_px : int
        Pixels of the plane that they restore.
    """

    outcome: Outcome
    tiles: int = 0
    fresh_px: int = 0


@dataclass
class _Turns:
    """Where a cadence has come to."""

    cadence: int
    grid: Grid | None
    next: int = 0
    seen: dict[int, Image] = field(default_factory=dict)


class PlaneTrack:
    """The frames of one plane, in the order of submission; not for several threads at once.

    The reference is a picture of our own that the latest outcome is exactly what the model
    makes of. Where a frame differs from it beyond the threshold, the frame's pixels go into
    it, and all that they reach is inferred from it. So the outcome is always one that the
    model gives for a picture within the threshold of the frame, however slowly that drifts.

    Parameters
    ----------
    changes : Changes or None
        None where nothing is compared.
    """

    def __init__(self, changes: Changes | None) -> None:
        self._changes = changes
        self._reference: Image | None = None
        self._glimpsed = False  # of the reference only the sampled rows are those inferred
        self._moving = 0
        self._latest: Outcome | None = None
        self._turns: _Turns | None = None
        self._unasked: deque[Outcome] = deque()

    def start(self, plane: Image, means: Means, work: Work, cadence: int) -> Start:
        """Start restoring the next plane.

        Parameters
        ----------
        plane : ndarray, shape (H, W, C), C-contiguous and writable
            Read until the outcome is there.
        means : Means
        work : Work
        cadence : int
        """
        before = self._latest
        # A cadence leaves an outcome that belongs to no one picture.
        lost = before is None or before.failed or before.anew
        if before is None or lost or (cadence == 1 and self._turns is not None):
            self._turns, self._moving = None, 0
            started = self._whole(plane, means, work)
        elif cadence > 1:
            started = self._in_turn(before, plane, means, work, cadence)
        else:
            started = self._changed(before, plane, means, work)
        if cadence > 1 and self._turns is None:
            self._turns = _begin(means, cadence)
        self._latest = started.outcome
        self._bound(started.outcome)
        return started

    def _whole(self, plane: Image, means: Means, work: Work) -> Start:
        completions, gather = submit_grid(means.queue, means.grid, plane, work)
        if self._changes is not None:
            self._refer_to(plane)
        outcome = Outcome(completions, lambda _timeout: gather())
        return Start(outcome, means.whole_tiles, means.frame_px)

    def _refer_to(self, plane: Image) -> None:
        reference = self._reference
        # While all of the picture moves, no more than its rows that tell so are kept. What that
        # saves each frame costs one whole inference more once it stands still.
        self._glimpsed = self._moving > 1 and reference is not None
        if reference is None:
            self._reference = plane.copy()
        elif self._glimpsed:
            rows = sampled_rows(plane)
            reference[rows] = plane[rows]
        else:
            np.copyto(reference, plane)

    def _changed(self, before: Outcome, plane: Image, means: Means, work: Work) -> Start:
        changes, reference = self._changes, self._reference
        if changes is None or reference is None:
            return self._whole(plane, means, work)
        self._moving = self._moving + 1 if changes.mostly(plane, reference) else 0
        if self._moving or self._glimpsed:
            return self._whole(plane, means, work)
        cells = changes.cells(plane, reference)
        if cells is None:
            return Start(_taken_over(before, plane, means, work))
        canvas = means.canvas
        if canvas is None:
            return self._whole(plane, means, work)
        cover = cheapest_cover(cells, canvas, means.shapes, means.whole_px)
        if cover is None:
            return self._whole(plane, means, work)
        _take_cells(reference, plane, cells)
        queue = means.patch_queue(cover.shape)
        completions, patches = submit_patches(queue, cover.tiles, reference, work)
        outcome = Outcome(completions, _anew(plane, means, work), before, patches)
        fresh = sum(tile.place[2] * tile.place[3] for tile in cover.tiles) // canvas.upscale**2
        return Start(outcome, len(cover.tiles), fresh)

    def _in_turn(
        self, before: Outcome, plane: Image, means: Means, work: Work, cadence: int
    ) -> Start:
        turns, self._moving = self._turns, 0
        if turns is None or turns.cadence != cadence:
            self._turns = turns = _begin(means, cadence)
        place = turns.next
        turns.next = (place + 1) % (cadence if turns.grid is None else len(turns.grid.tiles))
        if turns.grid is None:
            # Whole frames now and then: the last turn of each round.
            if turns.next == 0 and not self._same(plane):
                return self._whole(plane, means, work)
            return Start(_taken_over(before, plane, means, work))
        tile = turns.grid.tiles[place]
        top, left, height, width = tile.read
        read = plane[top : top + height, left : left + width]
        if self._changes is not None:
            seen = turns.seen.get(place)
            own = np.array(read)
            if seen is not None and self._changes.cells(own, seen) is None:
                return Start(_taken_over(before, plane, means, work))
            turns.seen[place] = own
        queue = means.patch_queue((height, width))
        completions, patches = submit_patches(queue, [tile], plane, work)
        fresh = tile.place[2] * tile.place[3] // work.upscale**2
        return Start(Outcome(completions, _anew(plane, means, work), before, patches), 1, fresh)

    def _same(self, plane: Image) -> bool:
        """Return whether a plane is as it was when last inferred as a whole."""
        if self._changes is None or self._reference is None or self._glimpsed:
            return False
        return self._changes.cells(plane, self._reference) is None

    def _bound(self, outcome: Outcome) -> None:
        """Put old outcomes together that nobody asks for, so that no chain grows without end."""
        unasked = self._unasked
        unasked.append(outcome)
        while unasked and unasked[0].settled:
            unasked.popleft()
        if len(unasked) > _UNASKED:
            unasked.popleft().settle()


def _begin(means: Means, cadence: int) -> _Turns:
    grid = grid_in_turns(means.canvas, cadence) if means.canvas is not None else None
    return _Turns(cadence, grid)


def _taken_over(before: Outcome, plane: Image, means: Means, work: Work) -> Outcome:
    return Outcome([], _anew(plane, means, work), before)


def _anew(plane: Image, means: Means, work: Work) -> Callable[[float | None], Image]:
    """Return what infers a whole plane, for where the outcome before it is not to be had."""

    def infer(timeout: float | None) -> Image:
        completions, gather = submit_grid(means.queue, means.grid, plane, work)
        for completion in completions:
            completion.result(timeout)
        return gather()

    return infer


def _take_cells(reference: Image, plane: Image, cells: NDArray[np.bool_]) -> None:
    """Bring the changed cells of a plane into the reference, run by run."""
    edges = np.diff(np.pad(cells, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    starts, ends = (np.argwhere(edges == side) * CELL_PX for side in (1, -1))
    for (top, left), (_, right) in zip(starts.tolist(), ends.tolist(), strict=True):
        part = np.s_[top : top + CELL_PX, left:right]
        reference[part] = plane[part]
