"""Restoration of planes by region: read ahead, restored exactly, in the order asked for."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from ..bundle.precision import Precision
from ..engine.intensity import IntensityMapping, IntensityRange, RangeKind
from ..engine.predictors.protocol import Pending
from ..engine.restorer import Restorer
from ..errors import ArgumentError, EdgerestoreError
from ..imaging.arrays import Image, not_finite
from .memory_budget import RegionBudget
from .planes import Plane, PlaneSource
from .regions import Region, RegionRestorer

__all__ = ["ChannelPlan", "PlanePlan", "PlaneRestorer"]

_SAMPLES, _SAMPLE_PX = 4, 256  # squares along each axis that a range is found from


@dataclass(frozen=True)
class ChannelPlan:
    """How a channel of a plane is restored, or all samples of a colour.

    Parameters
    ----------
    samples : slice
        Of the plane's.
    intensities : IntensityRange or None
        ``FULL`` or ``VALUES``, as the model sees them; None where it is passed through as it is.
    """

    samples: slice
    intensities: IntensityRange | None


@dataclass(frozen=True)
class PlanePlan:
    """How a plane is restored.

    Parameters
    ----------
    plane : Plane
    channels : tuple of ChannelPlan
    ranges : tuple of str
        Intensities that are seen as black to white, as the file has them.
    """

    plane: Plane
    channels: tuple[ChannelPlan, ...]
    ranges: tuple[str, ...]


class PlaneRestorer:
    """Restorer of planes of one source. Its methods are called by one thread at a time.

    Parameters
    ----------
    restorer : Restorer
        Of a model with exact tiles: each pixel is that of the plane restored whole.
    source : PlaneSource
    budget : RegionBudget
    chosen : callable, optional
        Given a plane and the first of its samples that go together; returns whether they are
        restored. All are, when not given.
    on_tile : callable, optional
        Called after each tile; what it raises ends the work.

    Attributes
    ----------
    outside : int
        Values of restored regions that lay outside their range of intensities.
    blank : int
        Regions of one value that were not inferred, since their outcome was known.
    """

    def __init__(
        self,
        restorer: Restorer,
        source: PlaneSource,
        budget: RegionBudget,
        chosen: Callable[[Plane, int], bool] | None = None,
        on_tile: Callable[[], None] | None = None,
    ) -> None:
        self._restorer, self._source, self._budget = restorer, source, budget
        self._wanted = restorer.intensity_range
        self._chosen = chosen or (lambda _plane, _sample: True)
        self._on_tile = None if on_tile is None else (lambda _done, _all: on_tile())
        self._judged = str(restorer.precision) != Precision.INT8
        self._blanks: dict[tuple[object, ...], Image | None] = {}
        self.outside = self.blank = 0

    @property
    def upscale(self) -> int:
        """How much larger the outcome is."""
        return self._restorer.bundle.manifest.output.upscale

    def plan(self, plane: Plane) -> PlanePlan:
        """Return how a plane is restored: its ranges are looked for in squares all over it.

        Raises
        ------
        SourceError, ArgumentError
            When a square cannot be read, or holds what is not finite.
        """
        groups = (
            [slice(0, plane.samples)]
            if plane.color or plane.samples == 1
            else [slice(index, index + 1) for index in range(plane.samples)]
        )
        with self._named(plane):
            channels = tuple(
                ChannelPlan(
                    group,
                    self._range(plane, group) if self._chosen(plane, group.start) else None,
                )
                for group in groups
            )
            self._judge_precision(plane, channels)
        ranges = [_turned(one.intensities, plane) for one in channels if one.intensities]
        return PlanePlan(plane, channels, tuple(map(str, ranges)))

    def restore(self, plan: PlanePlan, regions: Iterable[Region]) -> Iterator[tuple[Region, Image]]:
        """Yield regions and what they became, in order, as they are asked for.

        What is decoded, mapped and restored at a time is as much as the budget allows.

        Raises
        ------
        SourceError, ArgumentError, InferenceError
            Which name the plane.
        """
        plane = plan.plane
        cut = RegionRestorer(self._restorer, plane.height, plane.width, self._budget.side_px)
        reader = ThreadPoolExecutor(1, "edgerestore-reader")
        read: deque[tuple[Region, Future[Image]]] = deque()
        started: deque[tuple[Region, list[Pending]]] = deque()
        rest = iter(regions)
        try:
            while True:
                for region in itertools.islice(rest, self._budget.ahead - len(read)):
                    read.append((region, reader.submit(self._read, plane, cut.extent(region))))
                if read:
                    region, future = read.popleft()
                    with self._named(plane):
                        started.append((region, self._started(plan, cut, region, future.result())))
                if not started:
                    return
                if len(started) > self._budget.in_flight or not read:
                    region, pending = started.popleft()
                    with self._named(plane):
                        outcome = self._merged(plan, region, pending)
                    yield region, outcome
        finally:
            reader.shutdown(cancel_futures=True)

    def _started(
        self, plan: PlanePlan, cut: RegionRestorer, region: Region, image: Image
    ) -> list[Pending]:
        """Start each channel of a region."""
        extent, plane = cut.extent(region), plan.plane
        rows = slice(region.top - extent.top, region.top - extent.top + region.height)
        columns = slice(region.left - extent.left, region.left - extent.left + region.width)
        started = []
        for one in plan.channels:
            own = image if image.ndim == 2 else image[..., one.samples]
            if own.ndim == 3 and own.shape[2] == 1:
                own = own[..., 0]
            own = _seen(plane, np.ascontiguousarray(own))
            inside = own[rows, columns]
            if one.intensities is None:
                large = inside.repeat(self.upscale, 0).repeat(self.upscale, 1)
                started.append(Pending([], partial(np.asarray, large)))
                continue
            if one.intensities.kind is RangeKind.VALUES:
                mapping = IntensityMapping(one.intensities.low, one.intensities.high)
                self.outside += int(np.count_nonzero(mapping.outside(inside)))
            if self._restorer.intensity_range != one.intensities:
                self._restorer.intensity_range = one.intensities
            started.append(self._submitted(one, cut, region, own))
        return started

    def _submitted(
        self, channel: ChannelPlan, cut: RegionRestorer, region: Region, image: Image
    ) -> Pending:
        """Start a region, unless it is of one value of which the outcome is known.

        Of a region that sees no border and holds one value, a convolution makes the same at every
        place; what it makes is inferred once for each value, and taken over where it is one value
        too. At a border networks pad, and what they pad with may be another value.
        """
        first = image[:1, :1]
        constant = (
            not cut.meets_border(region)
            and bool((image[0] == first).all())
            and bool((image == first).all())
        )
        if not constant:
            return cut.submit(region, image, self._on_tile)
        key = (channel.intensities, self._restorer.strength, first.tobytes(), image.dtype.str)
        if key not in self._blanks:
            outcome = cut.submit(region, image, self._on_tile).result()
            one = outcome[:1, :1].copy()
            self._blanks[key] = one if bool((outcome == one).all()) else None
            return Pending([], lambda: outcome)
        value = self._blanks[key]
        if value is None:
            return cut.submit(region, image, self._on_tile)
        self.blank += 1
        shape = (region.height * self.upscale, region.width * self.upscale, *image.shape[2:])
        return Pending([], lambda: np.broadcast_to(value, shape))

    def _merged(self, plan: PlanePlan, region: Region, pending: list[Pending]) -> Image:
        plane = plan.plane
        if len(pending) == 1:
            return _seen(plane, pending[0].result())
        size = (region.height * self.upscale, region.width * self.upscale, plane.samples)
        merged = np.empty(size, plane.dtype)
        for one, outcome in zip(plan.channels, pending, strict=True):
            merged[..., one.samples.start] = _seen(plane, outcome.result())
        return merged

    def _read(self, plane: Plane, region: Region) -> Image:
        image = self._source.read(plane, region)
        if wrong := not_finite(image, (region.top, region.left)):
            raise ArgumentError(f"the image {wrong}")
        return image

    def _range(self, plane: Plane, group: slice) -> IntensityRange:
        """Return the range of a channel, looked for in squares from all over it."""
        if self._wanted.kind in (RangeKind.FULL, RangeKind.VALUES):
            return _turned(self._wanted, plane)
        if plane.dtype == np.uint8 and self._wanted.kind is RangeKind.AUTO:
            return IntensityRange(RangeKind.FULL)
        found = self._wanted.mapping(self._sample(plane, group))
        if found is None:
            return IntensityRange(RangeKind.FULL)
        return IntensityRange(RangeKind.VALUES, found.low, found.high)

    def _judge_precision(self, plane: Plane, channels: tuple[ChannelPlan, ...]) -> None:
        """Let the restorer choose its precision by what is all over a page, not by one region."""
        one = next((one for one in channels if one.intensities is not None), None)
        if self._judged or plane.dtype == np.uint8 or one is None or one.intensities is None:
            return
        sample = self._sample(plane, one.samples)
        if sample.min() != sample.max():
            self._judged = True
            self._restorer.intensity_range = one.intensities
            self._restorer(sample)

    def _sample(self, plane: Plane, group: slice) -> Image:
        """Return squares from all over a channel, side by side as one picture."""
        tall, wide = min(_SAMPLE_PX, plane.height), min(_SAMPLE_PX, plane.width)
        tops, lefts = (
            [(whole - side) * n // (_SAMPLES - 1) for n in range(_SAMPLES)]
            for whole, side in ((plane.height, tall), (plane.width, wide))
        )
        rows = [
            np.concatenate([self._read(plane, Region(top, left, tall, wide)) for left in lefts], 1)
            for top in tops
        ]
        whole = np.concatenate(rows)
        if whole.ndim == 3 and not plane.color:
            whole = np.ascontiguousarray(whole[..., group.start])
        return _seen(plane, whole)

    def _named(self, plane: Plane) -> _Named:
        return _Named(f"{self._source.path}: {plane.name}: ", str(self._source.path))


@dataclass(frozen=True)
class _Named:
    """Names the plane in errors that do not name the file."""

    where: str
    path: str

    def __enter__(self) -> None: ...

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, EdgerestoreError) and not str(error).startswith(self.path):
            raise type(error)(f"{self.where}{error}") from error


def _seen(plane: Plane, image: Image) -> Image:
    """Return samples as the model sees them, or back: 0 may be white."""
    return np.invert(image) if plane.inverted and image.dtype != np.float32 else image


def _turned(wanted: IntensityRange, plane: Plane) -> IntensityRange:
    """Return a range of a file's values as the model sees them, or back: 0 may be white."""
    if not plane.inverted or plane.dtype == np.float32 or wanted.kind is not RangeKind.VALUES:
        return wanted
    peak = float(np.iinfo(plane.dtype).max)
    return IntensityRange(wanted.kind, peak - wanted.high, peak - wanted.low)
