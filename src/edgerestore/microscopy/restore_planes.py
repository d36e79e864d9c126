"""Restoration of TIFF files of any size and number of pages, by region."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from ..bundle.precision import Precision
from ..engine.intensity import IntensityMapping, IntensityRange, RangeKind
from ..engine.intensity_mapper import IntensityMapper
from ..engine.predictors.protocol import Pending
from ..engine.restorer import Restorer
from ..errors import EdgerestoreError, SinkError, counted
from ..imaging.arrays import Image
from ..imaging.error_translation import held_back
from ..streams.sinks.partial_file import PartialFile
from .regions import Region, RegionRestorer
from .tiff_planes import Plane, TiffPlanes
from .tiff_writer import TiffWriter

__all__ = ["PlanesSummary", "restore_planes"]

_SIDE_PX = 1024
_SAMPLES, _SAMPLE_PX = 4, 256  # squares along each axis that a range is found from


@dataclass
class PlanesSummary:
    """What was done.

    Parameters
    ----------
    planes, regions : int
    outside : int
        Values that lay outside their range of intensities, and passed through.
    ranges : list of str
        Intensities that were seen as black to white, channel by channel.
    seconds : float
    where : str
        Device and precision.
    """

    planes: int = 0
    regions: int = 0
    outside: int = 0
    ranges: list[str] = field(default_factory=list)
    seconds: float = 0.0
    where: str = ""

    def __str__(self) -> str:
        """Return the last line of a run."""
        parts = [f"{counted(self.planes, 'plane')} in {self.seconds:.1f} s", self.where]
        different = list(dict.fromkeys(self.ranges))
        more = f" and {len(different) - 3} more" if len(different) > 3 else ""
        parts.append(f"intensities {', '.join(different[:3])}{more} as black to white")
        if self.outside:
            parts.append(f"{counted(self.outside, 'value')} outside passed through")
        return "; ".join(parts)


def restore_planes(
    restorer: Restorer,
    source: Path,
    output: Path,
    *,
    overwrite: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> PlanesSummary:
    """Restore every page of a TIFF, each channel by itself, whatever fits in memory.

    What is in memory is a band of a page and some regions. Pages, tiles or strips, byte order,
    tags and resolution are those of the source; reduced copies are made anew. A range of
    intensities that is looked for is found once for each channel of a page.

    Parameters
    ----------
    restorer : Restorer
        Of a model with exact tiles: each pixel is that of the page restored whole.
    source, output : Path
        TIFF, BigTIFF or OME-TIFF.
    overwrite : bool
    on_progress : callable, optional
        Given the regions that are done, and all; what it raises ends the work.

    Raises
    ------
    SourceError, SinkError, ArgumentError, InferenceError
        The first failure; nothing unfinished is left behind.
    """
    begun_s = time.perf_counter()
    summary, wanted = PlanesSummary(), restorer.intensity_range
    file = PartialFile(output, overwrite=overwrite, inputs=[source])
    try:
        with TiffPlanes(source) as given:
            upscale = restorer.bundle.manifest.output.upscale
            with TiffWriter(
                file.path,
                given.planes,
                upscale=upscale,
                bigtiff=given.bigtiff,
                byteorder=given.byteorder,
                where=output,
            ) as writer:
                work = _Work(restorer, wanted, given, writer, on_progress, summary)
                # The summary has the ranges.
                with held_back(IntensityMapper.__module__, logging.INFO):
                    for plane in given.planes:
                        work.restore(plane)
        file.commit()
    except BaseException:
        file.discard()
        raise
    finally:
        restorer.intensity_range = wanted
        summary.where = f"{restorer.device} {restorer.precision}"
        summary.seconds = round(time.perf_counter() - begun_s, 3)
    return summary


class _Work:
    def __init__(
        self,
        restorer: Restorer,
        wanted: IntensityRange,
        given: TiffPlanes,
        writer: TiffWriter,
        on_progress: Callable[[int, int], None] | None,
        summary: PlanesSummary,
    ) -> None:
        self._restorer, self._wanted, self._given = restorer, wanted, given
        self._writer, self._on_progress, self._summary = writer, on_progress, summary
        self._judged = str(restorer.precision) != Precision.INT8
        self._total = sum(len(list(self._regions(plane))) for plane in given.planes)

    def restore(self, plane: Plane) -> None:
        """Restore a page and write it."""
        groups = (
            [slice(None)]
            if plane.color or plane.samples == 1
            else [slice(index, index + 1) for index in range(plane.samples)]
        )
        ranges = [self._range(plane, group) for group in groups]
        told = [str(_turned(one, plane)) for one in ranges]
        self._summary.ranges += told
        note = f"edgerestore: {self._restorer.bundle.manifest.name}, intensities {', '.join(told)}"
        try:
            self._judge_precision(plane, groups[0], ranges[0])
            self._writer.write(plane, self._bands(plane, groups, ranges), note)
        except SinkError:
            raise
        except EdgerestoreError as error:
            where = f"{self._given.path}: page {plane.page.index + 1}: "
            if str(error).startswith(str(self._given.path)):
                raise
            raise type(error)(f"{where}{error}") from error
        self._summary.planes += 1

    def _bands(
        self, plane: Plane, groups: list[slice], ranges: list[IntensityRange]
    ) -> Iterator[Image]:
        upscale = self._restorer.bundle.manifest.output.upscale
        shape = (plane.width * upscale, *((plane.samples,) if plane.samples > 1 else ()))
        band: Image | None = None
        for done, pending in self._started(plane, groups, ranges):
            if band is None:
                band = np.empty((done.height * upscale, *shape), plane.dtype)
            columns = slice(done.left * upscale, (done.left + done.width) * upscale)
            for group, outcome in zip(groups, pending, strict=True):
                made = self._stored(plane, outcome.result())
                spot = band[:, columns] if len(groups) == 1 else band[:, columns, group.start]
                spot[...] = made
            self._summary.regions += 1
            if self._on_progress is not None:
                self._on_progress(self._summary.regions, self._total)
            if done.left + done.width == plane.width:
                yield band
                band = None

    def _started(
        self, plane: Plane, groups: list[slice], ranges: list[IntensityRange]
    ) -> Iterator[tuple[Region, list[Pending]]]:
        """Yield each region, with what of it is being restored; some are started ahead."""
        restore = [
            RegionRestorer(
                self._restorer,
                plane.height,
                plane.width,
                _SIDE_PX,
                partial(self._read, plane, one),
            )
            for one in groups
        ]
        waiting: deque[tuple[Region, list[Pending]]] = deque()
        for region in self._regions(plane):
            started = []
            for one, wanted in zip(restore, ranges, strict=True):
                if self._restorer.intensity_range != wanted:
                    self._restorer.intensity_range = wanted
                started.append(one.submit(region, partial(self._count_outside, wanted)))
            waiting.append((region, started))
            if len(waiting) > self._restorer.depth:
                yield waiting.popleft()
        yield from waiting

    def _read(self, plane: Plane, group: slice, region: Region) -> Image:
        """Return a region as the model sees it: black is 0."""
        image = self._given.read(plane, region)
        if plane.samples > 1 and not plane.color:
            image = np.ascontiguousarray(image[..., group.start])
        return self._stored(plane, image)

    def _count_outside(self, wanted: IntensityRange, image: Image) -> None:
        if wanted.kind is RangeKind.VALUES:
            outside = IntensityMapping(wanted.low, wanted.high).outside(image)
            self._summary.outside += int(np.count_nonzero(outside))

    @staticmethod
    def _stored(plane: Plane, image: Image) -> Image:
        """Return samples as the file has them, or back: 0 may be white."""
        return np.invert(image) if plane.inverted and image.dtype != np.float32 else image

    def _regions(self, plane: Plane) -> Iterator[Region]:
        rows = self._writer.band_rows(plane, _SIDE_PX)
        for top in range(0, plane.height, rows):
            for left in range(0, plane.width, _SIDE_PX):
                yield Region(
                    top,
                    left,
                    min(rows, plane.height - top),
                    min(_SIDE_PX, plane.width - left),
                )

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

    def _judge_precision(self, plane: Plane, group: slice, wanted: IntensityRange) -> None:
        """Let the restorer choose its precision by what is all over a page, not by one region."""
        if self._judged or plane.dtype == np.uint8:
            return
        sample = self._sample(plane, group)
        if sample.min() != sample.max():
            self._judged = True
            self._restorer.intensity_range = wanted
            self._restorer(sample)

    def _sample(self, plane: Plane, group: slice) -> Image:
        """Return squares from all over a channel, side by side as one picture."""
        tall, wide = min(_SAMPLE_PX, plane.height), min(_SAMPLE_PX, plane.width)
        tops, lefts = (
            [(whole - side) * n // (_SAMPLES - 1) for n in range(_SAMPLES)]
            for whole, side in ((plane.height, tall), (plane.width, wide))
        )
        rows = [
            np.concatenate(
                [self._read(plane, group, Region(top, left, tall, wide)) for left in lefts], 1
            )
            for top in tops
        ]
        return np.concatenate(rows)


def _turned(wanted: IntensityRange, plane: Plane) -> IntensityRange:
    """Return a range of a file's values as the model sees them, or back: 0 may be white."""
    if not plane.inverted or plane.dtype == np.float32 or wanted.kind is not RangeKind.VALUES:
        return wanted
    peak = float(np.iinfo(plane.dtype).max)
    return IntensityRange(wanted.kind, peak - wanted.high, peak - wanted.low)
