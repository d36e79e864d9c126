"""Temporal reuse: what a frame has in common with the one before is not inferred again.

The outcome of a plane builds on the outcome before it: only tiles over what changed are
inferred, or, with a refresh interval, one part of the frame in turn.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InferenceError
from ...imaging.arrays import Image
from ...runtimes.protocol import Completion, InferQueue
from ..strength import Strength
from ..tiling.executor import Patch, Work, submit_grid, submit_patches
from ..tiling.grid import Grid
from ..tiling.windows import WindowGrid
from .changes import Changes, check_threshold, sampled_rows
from .cover import CELL_PX, Canvas, Shape, cheapest_cover, refresh_grid

__all__ = ["ChainedOutcome", "FramePlan", "ReuseCounts", "TemporalReuse"]

_UNASKED = 16  # outcomes whose result nobody took, before the oldest is put together


@dataclass(frozen=True)
class ReuseCounts:
    """Counts of frames, tiles and pixels inferred and reused, since the restorer was opened.

    Parameters
    ----------
    frames : int
        Images submitted, those at strength 0 aside.
    frames_reused : int
        Of them those of which nothing was inferred at all.
    tiles_inferred : int
        Inferences, a whole frame in one tile among them.
    pixels_reused : float
        Share of all restored pixels that were taken from the frame before, 0 to 1.
    """

    frames: int = 0
    frames_reused: int = 0
    tiles_inferred: int = 0
    pixels_reused: float = 0.0

    def __add__(self, other: ReuseCounts) -> ReuseCounts:
        """Return both together; shares count by their frames."""
        frames = self.frames + other.frames
        reused = self.pixels_reused * self.frames + other.pixels_reused * other.frames
        return ReuseCounts(
            frames,
            self.frames_reused + other.frames_reused,
            self.tiles_inferred + other.tiles_inferred,
            round(reused / frames, 6) if frames else 0.0,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class FramePlan:
    """Queues, grid and tile shapes for the planes of one size and kind.

    Parameters
    ----------
    queue : InferQueue
        For the whole plane.
    grid : Grid or WindowGrid
    canvas : Canvas or None
        None where the model must see the frame as a whole, or fades windows.
    shapes : tuple of Shape
        Of tiles that may be placed freely.
    partial_queue : callable
        Gives the queue of a shape.
    """

    queue: InferQueue
    grid: Grid | WindowGrid
    canvas: Canvas | None
    shapes: tuple[Shape, ...]
    partial_queue: Callable[[Shape], InferQueue]

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


class TemporalReuse:
    """Takes over what did not change since the frame before, and refreshes parts in turn.

    `start` is called by one thread at a time; counts may be read by any.

    Parameters
    ----------
    threshold : float or None
        As `Changes` takes it. With None nothing is compared; parts may still take turns.

    Raises
    ------
    ArgumentError
        When the threshold is no number of levels from 0 to 255.
    """

    def __init__(self, threshold: float | None) -> None:
        self._changes = None if threshold is None else Changes(check_threshold(threshold))
        self._planes: list[_PlaneReuse] = []
        self._key: object = None
        self._strength: Strength | None = None
        self._frames = self._reused = self._tiles = self._pixels = self._fresh = 0
        self._lock = threading.Lock()

    @property
    def compares(self) -> bool:
        """Whether frames are compared at all."""
        return self._changes is not None

    @property
    def counts(self) -> ReuseCounts | None:
        """Counts so far; None where nothing is compared and no frame was taken."""
        with self._lock:
            if not (self.compares or self._frames):
                return None
            share = 1 - self._fresh / self._pixels if self._pixels else 0.0
            return ReuseCounts(self._frames, self._reused, self._tiles, round(share, 6))

    def forget(self) -> None:
        """Infer all of the next frame."""
        self._key, self._planes = None, []

    def start(
        self,
        planes: Sequence[Image],
        works: Sequence[Work],
        plan: FramePlan,
        key: object,
        interval: int,
    ) -> list[ChainedOutcome]:
        """Start restoring the planes of the next frame.

        Parameters
        ----------
        planes : sequence of ndarray, shape (H, W, C), C-contiguous and writable
        works : sequence of Work
            One for each, of one strength.
        plan : FramePlan
        key : object
            Size, kind and tones; where it differs from the frame's before, nothing is taken
            over.
        interval : int
            The refresh interval in frames.
        """
        strength = works[0].strength
        if key != self._key or not _equal(strength, self._strength):
            self._planes = [_PlaneReuse(self._changes) for _ in planes]
        self._key, self._strength = key, strength
        try:
            started = [
                before.start(plane, plan, work, interval)
                for before, plane, work in zip(self._planes, planes, works, strict=True)
            ]
        except BaseException:
            self.forget()  # some planes may have moved on without the others
            raise
        total_px = plan.frame_px * len(planes)
        tiles = sum(one.tiles for one in started)
        with self._lock:
            self._frames += 1
            self._reused += tiles == 0
            self._tiles += tiles
            self._pixels += total_px
            self._fresh += min(sum(one.fresh_px for one in started), total_px)
        return [one.outcome for one in started]


class ChainedOutcome:
    """Outcome of one plane, built on the one before it once its result is asked for.

    Read-only, since the next frame may take it over.

    Parameters
    ----------
    completions : sequence of Completion
        Inferences that have to be there first.
    make : callable
        Makes the plane of them where nothing is built upon; takes a time-out in seconds.
    before : ChainedOutcome or None
        The one that this one builds upon.
    patches : callable
        Gives what is new about it.

    Where the outcome before failed, ``make`` is called all the same: it infers the whole
    plane, so that one lost frame is one lost frame.
    """

    def __init__(
        self,
        completions: Sequence[Completion],
        make: Callable[[float | None], Image],
        before: ChainedOutcome | None = None,
        patches: Callable[[], list[Patch]] = list,
    ) -> None:
        self._completions = list(completions)
        self._make: Callable[[float | None], Image] | None = make
        self._anew = False
        self._patches: Callable[[], list[Patch]] | None = patches
        self._before = before
        self._image: Image | None = None
        self._error: InferenceError | None = None
        self._lock = threading.Lock()

    @property
    def settled(self) -> bool:
        """Whether the plane, or its error, is there."""
        return self._image is not None or self._error is not None

    @property
    def extendable(self) -> bool:
        """Whether the next outcome may build on it, as far as is known.

        Not where it failed, nor where all of it had to be inferred because the one before it
        had failed: the reference is then not what it was made of.
        """
        return self._error is None and not self._anew

    def done(self) -> bool:
        """Return whether `result` would not block.

        Behind an outcome that failed, `result` still takes one inference.
        """
        if self.settled:
            return True
        before = self._before
        if before is not None and not before.done():
            return False
        return all(completion.done() for completion in self._completions)

    def result(self, timeout: float | None = None) -> Image:
        """Wait for the plane, shape (H, W, C); raise the error of its own inference."""
        self.settle(timeout)
        if self._error is not None:
            raise self._error
        assert self._image is not None  # noqa: S101 - for the type checker
        return self._image

    def settle(self, timeout: float | None = None) -> None:
        """Wait until the plane, or its error, is there.

        Raises
        ------
        TimeoutError
            When neither is there in time.
        """
        # The oldest first, and not each from within the next: a chain may be long.
        chain, outcome = list[ChainedOutcome](), self._before
        while outcome is not None and not outcome.settled:
            chain.append(outcome)
            outcome = outcome._before
        for outcome in (*reversed(chain), self):
            outcome._settle_own(timeout)

    def _settle_own(self, timeout: float | None) -> None:
        with self._lock:
            if self.settled:
                return
            try:
                for completion in self._completions:
                    completion.result(timeout)
                image = self._made(timeout)
                image.flags.writeable = False
                self._image = image
            except InferenceError as error:
                self._error = error
            # The chain must not keep every frame of a stream alive.
            self._before = self._make = self._patches = None
            self._completions = []

    def _made(self, timeout: float | None) -> Image:
        assert self._make is not None  # noqa: S101 - for the type checker
        assert self._patches is not None  # noqa: S101
        base = None if self._before is None else self._before._image
        if base is None:
            self._anew = self._before is not None
            return self._make(timeout)
        patches = self._patches()
        if not patches:
            return base
        image: Image = np.array(base)
        for (top, left, height, width), part in patches:
            image[top : top + height, left : left + width] = part
        return image


@dataclass(frozen=True)
class _Started:
    """A plane that was started: its outcome, inferences, and pixels that they restore."""

    outcome: ChainedOutcome
    tiles: int = 0
    fresh_px: int = 0


@dataclass
class _RefreshCycle:
    """The parts that are refreshed in turn, and which one is next."""

    interval: int
    grid: Grid | None
    next: int = 0
    seen: dict[int, Image] = field(default_factory=dict)

    @classmethod
    def begin(cls, plan: FramePlan, interval: int) -> _RefreshCycle:
        grid = refresh_grid(plan.canvas, interval) if plan.canvas is not None else None
        return cls(interval, grid)


class _PlaneReuse:
    """The frames of one plane, in the order of submission; not for several threads at once.

    The reference is a picture of our own of which the latest outcome is exactly the model's
    outcome. Where a frame differs from it beyond the threshold, the frame's pixels go into it,
    and all that they reach is inferred from it. So the outcome is always that of a picture
    within the threshold of the frame, however slowly that drifts.
    """

    def __init__(self, changes: Changes | None) -> None:
        self._changes = changes  # None where nothing is compared
        self._reference: Image | None = None
        self._sampled = False  # of the reference only the sampled rows are those inferred
        self._moving = 0
        self._latest: ChainedOutcome | None = None
        self._cycle: _RefreshCycle | None = None
        self._unasked: deque[ChainedOutcome] = deque()

    def start(self, plane: Image, plan: FramePlan, work: Work, interval: int) -> _Started:
        """Start restoring the next plane, which is read until the outcome is there."""
        before = self._latest
        # What a refresh cycle leaves is the outcome of no one picture.
        mixed = interval == 1 and self._cycle is not None
        if before is None or not before.extendable or mixed:
            self._cycle, self._moving = None, 0
            started = self._whole(plane, plan, work)
        elif interval > 1:
            started = self._in_turn(before, plane, plan, work, interval)
        else:
            started = self._changed(before, plane, plan, work)
        if interval > 1 and self._cycle is None:
            self._cycle = _RefreshCycle.begin(plan, interval)
        self._latest = started.outcome
        self._bound(started.outcome)
        return started

    def _whole(self, plane: Image, plan: FramePlan, work: Work) -> _Started:
        completions, gather = submit_grid(plan.queue, plan.grid, plane, work)
        if self._changes is not None:
            self._refer_to(plane)
        outcome = ChainedOutcome(completions, lambda _timeout: gather())
        return _Started(outcome, plan.whole_tiles, plan.frame_px)

    def _refer_to(self, plane: Image) -> None:
        reference = self._reference
        # While all of the picture moves, only the rows that show it are kept. What that saves
        # each frame costs one whole inference more once the picture stands still.
        self._sampled = self._moving > 1 and reference is not None
        if reference is None:
            self._reference = plane.copy()
        elif self._sampled:
            rows = sampled_rows(plane)
            reference[rows] = plane[rows]
        else:
            np.copyto(reference, plane)

    def _changed(
        self, before: ChainedOutcome, plane: Image, plan: FramePlan, work: Work
    ) -> _Started:
        changes, reference = self._changes, self._reference
        if changes is None or reference is None:
            return self._whole(plane, plan, work)
        self._moving = self._moving + 1 if changes.mostly(plane, reference) else 0
        if self._moving or self._sampled:
            return self._whole(plane, plan, work)
        cells = changes.cells(plane, reference)
        if cells is None:
            return _taken_over(before, plane, plan, work)
        canvas = plan.canvas
        if canvas is None:
            return self._whole(plane, plan, work)
        cover = cheapest_cover(cells, canvas, plan.shapes, plan.whole_px)
        if cover is None:
            return self._whole(plane, plan, work)
        _copy_cells(reference, plane, cells)
        queue = plan.partial_queue(cover.shape)
        completions, patches = submit_patches(queue, cover.tiles, reference, work)
        outcome = ChainedOutcome(completions, _whole_anew(plane, plan, work), before, patches)
        fresh = sum(tile.place[2] * tile.place[3] for tile in cover.tiles) // canvas.upscale**2
        return _Started(outcome, len(cover.tiles), fresh)

    def _in_turn(
        self, before: ChainedOutcome, plane: Image, plan: FramePlan, work: Work, interval: int
    ) -> _Started:
        cycle, self._moving = self._cycle, 0
        if cycle is None or cycle.interval != interval:
            self._cycle = cycle = _RefreshCycle.begin(plan, interval)
        place = cycle.next
        cycle.next = (place + 1) % (interval if cycle.grid is None else len(cycle.grid.tiles))
        if cycle.grid is None:
            # Whole frames now and then: the last of each cycle.
            if cycle.next == 0 and not self._same(plane):
                return self._whole(plane, plan, work)
            return _taken_over(before, plane, plan, work)
        tile = cycle.grid.tiles[place]
        top, left, height, width = tile.read
        if self._changes is not None:
            own = np.array(plane[top : top + height, left : left + width])
            seen = cycle.seen.get(place)
            if seen is not None and self._changes.cells(own, seen) is None:
                return _taken_over(before, plane, plan, work)
            cycle.seen[place] = own
        queue = plan.partial_queue((height, width))
        completions, patches = submit_patches(queue, [tile], plane, work)
        outcome = ChainedOutcome(completions, _whole_anew(plane, plan, work), before, patches)
        return _Started(outcome, 1, tile.place[2] * tile.place[3] // work.upscale**2)

    def _same(self, plane: Image) -> bool:
        """Return whether a plane is as it was when last inferred as a whole."""
        if self._changes is None or self._reference is None or self._sampled:
            return False
        return self._changes.cells(plane, self._reference) is None

    def _bound(self, outcome: ChainedOutcome) -> None:
        """Put old outcomes together whose result nobody took, so that the chain stays short."""
        unasked = self._unasked
        unasked.append(outcome)
        while unasked and unasked[0].settled:
            unasked.popleft()
        if len(unasked) > _UNASKED:
            unasked.popleft().settle()


def _taken_over(before: ChainedOutcome, plane: Image, plan: FramePlan, work: Work) -> _Started:
    return _Started(ChainedOutcome([], _whole_anew(plane, plan, work), before))


def _whole_anew(plane: Image, plan: FramePlan, work: Work) -> Callable[[float | None], Image]:
    """Return a function that infers a whole plane, for where the outcome before it failed."""

    def infer(timeout: float | None) -> Image:
        completions, gather = submit_grid(plan.queue, plan.grid, plane, work)
        for completion in completions:
            completion.result(timeout)
        return gather()

    return infer


def _copy_cells(reference: Image, plane: Image, cells: NDArray[np.bool_]) -> None:
    """Copy the changed cells of a plane into the reference, run by run."""
    edges = np.diff(np.pad(cells, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    starts, ends = (np.argwhere(edges == side) * CELL_PX for side in (1, -1))
    for (top, left), (_, right) in zip(starts.tolist(), ends.tolist(), strict=True):
        part = np.s_[top : top + CELL_PX, left:right]
        reference[part] = plane[part]


def _equal(one: Strength | None, other: Strength | None) -> bool:
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return type(one) is type(other) and np.array_equal(one, other)  # type: ignore[arg-type]
    return one == other
