"""Restoration of TIFF and OME-Zarr of any size, by region, into either of them."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from .._version import __version__
from ..engine.intensity_mapper import IntensityMapper
from ..engine.restorer import Restorer
from ..errors import ArgumentError, counted
from ..imaging.arrays import Image
from ..imaging.error_translation import held_back
from ..streams.sinks.partial_file import PartialFile
from .left_tags import shown_window, tell_left_tags
from .memory_budget import plan_budget
from .ome_model import ome_images, scaled_ome
from .ome_zarr import OmeVersion, is_zarr
from .plane_restorer import PlanePlan, PlaneRestorer
from .planes import Plane, PlaneSource
from .planes_options import PlanesOptions, PlanesSummary, check_planes, is_zarr_name
from .regions import Region, RegionRestorer
from .sharded_store import COMPRESSIONS, ShardedStore
from .tiff_planes import TiffPlanes
from .tiff_writer import TiffWriter
from .zarr_planes import ZarrPlanes
from .zarr_writer import ZarrLayout, ZarrWriter

__all__ = ["PlanesOptions", "PlanesSummary", "check_planes", "is_zarr_name", "restore_planes"]

_logger = logging.getLogger(__name__)

_SIDE_PX = 1024  # of regions that go straight into a TIFF
_STRAIGHT_BYTES = 256 << 20  # a larger TIFF is made by way of a store that can be gone on with


def restore_planes(
    restorer: Restorer,
    source: Path,
    output: Path,
    options: PlanesOptions | None = None,
    *,
    on_progress: Callable[[int, int], None] | None = None,
    on_tile: Callable[[], None] | None = None,
) -> PlanesSummary:
    """Restore every plane of a TIFF or OME-Zarr, each channel by itself, whatever fits in memory.

    What is in memory is some regions of a plane. Into a TIFF from a TIFF, pages, tiles or strips,
    byte order, tags and resolution are those of the source; into an OME-Zarr go axes, scales,
    units, channels and the OME model. Reduced copies are made anew. A range of intensities that is
    looked for is found once for each channel of a plane.

    Parameters
    ----------
    restorer : Restorer
        Of a model with exact tiles: each pixel is that of the plane restored whole.
    source, output : Path
        TIFF, BigTIFF, OME-TIFF, or OME-Zarr (0.4, 0.5).
    options : PlanesOptions, optional
    on_progress : callable, optional
        Given the regions that are done, and all; what it raises ends the work.
    on_tile : callable, optional
        Called after each tile of a region; what it raises ends the work.

    Raises
    ------
    SourceError, SinkError, ArgumentError, InferenceError
        The first failure. Of a TIFF nothing unfinished is left behind; of a store, and of a large
        TIFF, what was restored, to go on with.
    """
    begun_s = time.perf_counter()
    options = options or PlanesOptions()
    check_planes(source, output, options)
    summary, wanted = PlanesSummary(), restorer.intensity_range
    _check_tones(restorer)
    gray = restorer.bundle.manifest.input.channels == 1
    try:
        given = ZarrPlanes(source, color=not gray) if is_zarr(source) else TiffPlanes(source)
        # The summary has the ranges.
        with given, held_back(IntensityMapper.__module__, logging.INFO):
            run = _Run(restorer, given, output, options, on_progress, on_tile, summary)
            if is_zarr_name(output) or options.resume or run.is_large():
                run.by_way_of_a_store()
            else:
                run.straight()
    finally:
        restorer.intensity_range = wanted
        summary.where = f"{restorer.where} {restorer.precision}"
        summary.seconds = round(time.perf_counter() - begun_s, 3)
    return summary


def _check_tones(restorer: Restorer) -> None:
    auto = [name for name, value in asdict(restorer.adjustments).items() if value == "auto"]
    if auto:
        raise ArgumentError(
            f"{auto[0]} auto is estimated from a whole picture, which is restored by regions here;"
            " give a number"
        )


class _Run:
    """One run, from an open source."""

    def __init__(
        self,
        restorer: Restorer,
        given: TiffPlanes | ZarrPlanes,
        output: Path,
        options: PlanesOptions,
        on_progress: Callable[[int, int], None] | None,
        on_tile: Callable[[], None] | None,
        summary: PlanesSummary,
    ) -> None:
        self._restorer, self._given, self._output = restorer, given, output
        self._options, self._summary = options, summary
        self._on_progress, self._on_tile = on_progress, on_tile
        self._source: PlaneSource = given  # type: ignore[assignment] # each reads its own planes
        self._upscale = restorer.bundle.manifest.output.upscale
        self._done = self._total = 0
        self._wanted_range = str(restorer.intensity_range)
        RegionRestorer(restorer, 1, 1, 1)  # refuses models that see the whole
        self._chosen = _chosen_channels(self._source, options.channels)

    def is_large(self) -> bool:
        """Return whether the outcome is worth the disk space of a store."""
        pixels = sum(p.height * p.width * p.samples * p.dtype.itemsize for p in self._given.planes)
        return pixels * self._upscale**2 > _STRAIGHT_BYTES or isinstance(self._given, ZarrPlanes)

    def _worker(self, side_px: int | None) -> PlaneRestorer:
        budget = plan_budget(
            self._restorer,
            self._given.planes,
            self._options.memory_bytes,
            side_px=side_px,
            where=self._given.path,
        )
        self._source.cache.most_bytes = budget.cache_bytes
        self._behind = budget.behind
        return PlaneRestorer(self._restorer, self._source, budget, self._chosen, self._on_tile)

    def _tick(self) -> None:
        self._done += 1
        self._summary.regions += 1
        self._told()

    def _told(self) -> None:
        if self._on_progress is not None:
            self._on_progress(self._done, self._total)

    def _planned(self, work: PlaneRestorer, plane: Plane) -> PlanePlan:
        plan = work.plan(plane)
        self._summary.ranges += plan.ranges
        self._summary.planes += 1
        return plan

    def _note(self, plan: PlanePlan) -> str:
        name = self._restorer.bundle.manifest.name
        return f"edgerestore: {name}, intensities {', '.join(plan.ranges)}"

    def _counted(self, work: PlaneRestorer) -> None:
        self._summary.outside, self._summary.blank = work.outside, work.blank

    # A TIFF, page after page.

    def straight(self) -> None:
        """Write pages as they come."""
        file = PartialFile(
            self._output, overwrite=self._options.overwrite, inputs=[self._given.path]
        )
        try:
            work = self._worker(_SIDE_PX)
            with self._tiff(file.path) as writer:
                plans = {
                    plane.name: _row_regions(plane, writer.band_rows(plane, _SIDE_PX), _SIDE_PX)
                    for plane in self._given.planes
                }
                self._total = sum(map(len, plans.values()))
                for plane in self._given.planes:
                    plan = self._planned(work, plane)
                    outcomes = self._ticked(work.restore(plan, plans[plane.name]))
                    bands = _bands(plane, outcomes, self._upscale)
                    writer.write(plane, bands, self._note(plan))
            self._counted(work)
            file.commit()
        except BaseException:
            file.discard()
            raise

    def _ticked(self, outcomes: Iterable[tuple[Region, Image]]) -> Iterator[tuple[Region, Image]]:
        for region, image in outcomes:
            yield region, image
            self._tick()

    def _tiff(self, path: Path) -> TiffWriter:
        given = self._given
        return TiffWriter(
            path,
            list(given.planes),
            upscale=self._upscale,
            bigtiff=isinstance(given, TiffPlanes) and given.bigtiff,
            byteorder=given.byteorder if isinstance(given, TiffPlanes) else "<",
            where=self._output,
        )

    # A store, or a TIFF by way of one.

    def by_way_of_a_store(self) -> None:
        """Write shards, which can be gone on with, and a TIFF of them where one is asked for."""
        to_tiff = not is_zarr_name(self._output)
        final = self._output.with_name(f"{self._output.name}.zarr") if to_tiff else self._output
        images = self._source.images() if not to_tiff else _single_planes(self._source)
        side = plan_budget(
            self._restorer,
            self._given.planes,
            self._options.memory_bytes,
            where=self._given.path,
        ).side_px
        layout = ZarrLayout(self._version(), self._options.compression or COMPRESSIONS[0], side)
        planning = self._worker(side)
        plans = {id(plane): planning.plan(plane) for plane in self._given.planes}
        facts = self._facts(layout, to_tiff=to_tiff)
        with ShardedStore(
            final,
            facts,
            overwrite=self._options.overwrite,
            resume=self._options.resume,
            inputs=[self._given.path],
        ) as store:
            writer = ZarrWriter(store, images, layout, upscale=self._upscale, pyramid=not to_tiff)
            self._describe(writer, plans, to_tiff=to_tiff)
            for _ in range(2):  # once more, where the disk did not keep what was written
                self._fill(writer, plans)
                lost = store.lost()
                if not lost:
                    break
                _logger.warning("%s: %s to be written again", final, counted(len(lost), "shard"))
            if to_tiff:
                self._tiff_of(writer, plans)
                store.discard()
            else:
                store.commit()

    def _version(self) -> OmeVersion:
        if self._options.version is not None:
            return self._options.version
        return self._given.found[0].version if isinstance(self._given, ZarrPlanes) else "0.5"

    def _facts(self, layout: ZarrLayout, *, to_tiff: bool) -> dict[str, Any]:
        """Return what decides the outcome: another value of any of it is another run."""
        restorer, loader = self._restorer, self._restorer.loader
        return {
            "edgerestore": __version__,
            "input": self._source.facts(),
            "output": "TIFF" if to_tiff else f"OME-Zarr {layout.version}",
            "compression": layout.compression,
            **_model_facts(restorer),
            "model": str(loader.model) if loader is not None else restorer.bundle.manifest.name,
            "strength": restorer.strength,
            "tones": asdict(restorer.adjustments),
            "intensities": self._wanted_range,
            "channels": list(self._options.channels),
        }

    def _describe(
        self, writer: ZarrWriter, plans: Mapping[int, PlanePlan], *, to_tiff: bool
    ) -> None:
        """Write metadata, where it is not there."""
        given = self._given
        ranges = [plans[id(plane)].ranges for plane in given.planes]
        note = {
            "model": self._restorer.bundle.manifest.name,
            "strength": self._restorer.strength,
            "intensities": sorted({one for some in ranges for one in some}),
        }
        if to_tiff:
            writer.create(note=note)
            return
        found = given.found if isinstance(given, ZarrPlanes) else ()
        xml = self._source.ome_xml()
        more: dict[str, Any] = {}
        if not found:
            more["window"] = shown_window(given.planes[0], ranges)
            stated = ome_images(xml, given.path) if xml else []
            if stated:
                more["colors"] = stated[0].colors
        writer.create(found, note=note, **more)
        if xml is not None:
            writer.add_file("OME/METADATA.ome.xml", self._described(xml))
        self._carry(writer)
        if isinstance(given, TiffPlanes):
            tell_left_tags(given, self._output)

    def _described(self, xml: str) -> str:
        return xml if self._upscale == 1 else scaled_ome(xml, self._given.path, self._upscale)

    def _carry(self, writer: ZarrWriter) -> None:
        """Copy what else a store holds: labels where they still fit, and tell of the rest."""
        if not isinstance(self._given, ZarrPlanes):
            return
        root = self._given.path
        for image in self._given.found:
            folder = root / image.path
            levels = {name.partition("/")[0] for name, _ in image.datasets}
            for one in sorted(folder.iterdir()):
                skipped = {*levels, "OME"}
                if not one.is_dir() or one.name in skipped:
                    continue
                name = f"{image.path}/{one.name}".strip("/")
                if self._upscale == 1 and self._same_format():
                    writer.copy_folder(one, name)
                else:
                    _logger.warning("%s: its %s does not fit what is written; left out", root, name)

    def _same_format(self) -> bool:
        return (
            isinstance(self._given, ZarrPlanes) and self._version() == self._given.found[0].version
        )

    def _fill(self, writer: ZarrWriter, plans: Mapping[int, PlanePlan]) -> None:
        todo = {id(plane): writer.regions(plane) for plane in self._given.planes}
        left = sum(map(len, todo.values()))
        everything = sum(writer.region_count(plane) for plane in self._given.planes)
        work = self._worker(writer.side_px)
        self._summary.planes = len(self._given.planes)
        self._summary.ranges = [one for plan in plans.values() for one in plan.ranges]
        self._summary.resumed = everything - left
        self._done, self._total = everything - left, everything + writer.level_regions()
        self._told()
        if self._options.dask is not None:
            self._by_dask(self._options.dask, writer, plans, todo)
        else:
            for plane in self._given.planes:
                outcomes = work.restore(plans[id(plane)], todo[id(plane)])
                writer.write(plane, outcomes, self._behind, self._tick)
            self._counted(work)
        regions = self._summary.regions
        writer.write_levels(self._behind, self._tick)
        self._summary.regions = regions

    def _by_dask(
        self,
        address: str,
        writer: ZarrWriter,
        plans: Mapping[int, PlanePlan],
        todo: Mapping[int, Sequence[Region]],
    ) -> None:
        from .dask_run import DaskRun

        with DaskRun(
            address,
            self._restorer,
            self._given.path,
            self._options.memory_bytes,
            writer.side_px,
            writer.root,
        ) as run:
            self._summary.outside, self._summary.blank = run.restore(
                (
                    (number, plans[id(plane)], region, *writer.boxes(plane, region))
                    for number, plane in enumerate(self._given.planes)
                    for region in todo[id(plane)]
                ),
                writer.note,
                self._tick,
            )

    def _tiff_of(self, writer: ZarrWriter, plans: Mapping[int, PlanePlan]) -> None:
        """Write the pages of a TIFF from a store that holds them all."""
        file = PartialFile(
            self._output, overwrite=self._options.overwrite, inputs=[self._given.path]
        )
        try:
            with self._tiff(file.path) as tiff:
                order, xml = self._pages()
                for number, plane in enumerate(order):
                    rows = tiff.band_rows(plane, _SIDE_PX // 4)
                    height, width = plane.height * self._upscale, plane.width * self._upscale
                    bands = (
                        writer.read(plane, Region(top, 0, min(rows, height - top), width))
                        for top in range(0, height, rows)
                    )
                    tiff.write(
                        plane,
                        bands,
                        self._note(plans[id(plane)]),
                        description=xml if not number else "",
                    )
            file.commit()
        except BaseException:
            file.discard()
            raise

    def _pages(self) -> tuple[list[Plane], str]:
        """Return the planes in the order of pages, and the OME model of a TIFF that had none."""
        given = self._given
        if isinstance(given, TiffPlanes):
            return list(given.planes), ""
        from .tiff_pages import ome_pages

        return ome_pages(given, self._upscale)


def _model_facts(restorer: Restorer) -> dict[str, Any]:
    """Return what tells a model from another one, wherever it is installed."""
    bundle, loader = restorer.bundle, restorer.loader
    digests = "".join(bundle.digest(name) for name in sorted(bundle.manifest.variants))
    return {
        "bundle": hashlib.sha256(digests.encode()).hexdigest()[:16],
        "precision": str(restorer.precision),
        "turns": bool(loader.tta) if loader is not None else False,
        "guard": bool(loader.guard) if loader is not None else False,
    }


def _chosen_channels(
    source: PlaneSource, wanted: tuple[str, ...]
) -> Callable[[Plane, int], bool] | None:
    """Return whether a channel is restored.

    Raises
    ------
    ArgumentError
        When there is none of that name or number.
    """
    if not wanted:
        return None
    chosen: set[tuple[int, int]] = set()
    for image in source.images():
        count = dict(zip(image.axes, image.sizes, strict=True)).get("c", 1)
        names = list(image.channels)
        numbers = set()
        for one in wanted:
            if one in names:
                numbers |= {at for at, name in enumerate(names) if name == one}
            elif one.isdigit() and int(one) < count:
                numbers.add(int(one))
            else:
                has = ", ".join(names) or f"0 to {count - 1}"
                raise ArgumentError(f"{source.path}: has no channel {one!r}; it has {has}")
        for plane in image.planes:
            first = image.index(plane).get("c", 0)
            chosen |= {
                (id(plane), at - first) for at in numbers if first <= at < first + plane.samples
            }
    return lambda plane, sample: (id(plane), sample) in chosen


def _single_planes(source: PlaneSource) -> list[Any]:
    """Return each plane as an image of its own, as the spool of a TIFF has them."""
    from .planes import VolumeImage

    return [
        VolumeImage(
            plane.name,
            "c" if plane.samples > 1 else "",
            (plane.samples,) if plane.samples > 1 else (),
            (plane,),
        )
        for plane in source.planes
    ]


def _row_regions(plane: Plane, rows: int, side: int) -> list[Region]:
    return [
        Region(top, left, min(rows, plane.height - top), min(side, plane.width - left))
        for top in range(0, plane.height, rows)
        for left in range(0, plane.width, side)
    ]


def _bands(plane: Plane, outcomes: Iterable[tuple[Region, Image]], upscale: int) -> Iterator[Image]:
    """Yield rows of regions, side by side."""
    shape = (plane.width * upscale, *((plane.samples,) if plane.samples > 1 else ()))
    band: Image | None = None
    for region, image in outcomes:
        if band is None:
            band = np.empty((region.height * upscale, *shape), plane.dtype)
        band[:, region.left * upscale : (region.left + region.width) * upscale] = image
        if region.left + region.width == plane.width:
            yield band
            band = None
