"""Restoration of a layer of a viewer: of what is seen, of all of it, into a store."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..engine.load import load
from ..engine.restorer import Restorer
from ..imaging.arrays import Image
from .array_planes import ArrayPlanes
from .memory_budget import plan_budget
from .plane_restorer import PlanePlan, PlaneRestorer
from .planes import Plane
from .regions import Region
from .sharded_store import ShardedStore
from .zarr_writer import ZarrLayout, ZarrWriter

__all__ = ["CancelledError", "LayerRestoration", "LayerSettings"]


class CancelledError(Exception):
    """The work was cancelled by who asked for it."""


class LayerSettings(NamedTuple):
    """Settings of a restoration."""

    model: str = "denoise-gray"
    device: str = "CPU"
    strength: float = 1.0
    intensity_range: str = "auto"


@dataclass
class LayerRestoration:
    """Restorer that is opened once for a model and device, and used by one thread at a time."""

    _key: tuple[str, str] | None = None
    _restorer: Restorer | None = None

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the restorer."""
        with self._lock:
            if self._restorer is not None:
                self._restorer.close()
            self._restorer = self._key = None

    def region(
        self, source: ArrayPlanes, plane: Plane, region: Region, settings: LayerSettings
    ) -> Image:
        """Restore a region of a plane; each pixel is that of the whole plane restored."""
        with self._lock:
            work = self._worker(source, settings, lambda: None)
            ((_, image),) = work.restore(work.plan(plane), [region])
            return image

    def whole(
        self, source: ArrayPlanes, settings: LayerSettings, cancelled: threading.Event
    ) -> Iterator[tuple[int, int] | Image]:
        """Yield regions done and all, and at last the restored array.

        Raises
        ------
        CancelledError
            Within a tile of ``cancelled`` being set.
        """
        with self._lock:
            work = self._worker(source, settings, _until(cancelled))
            first = source.planes[0]
            up = work.upscale
            shape = (*source.stack, first.height * up, first.width * up)
            if first.samples > 1:
                shape = (*shape, first.samples)
            made = np.empty(shape, first.dtype)
            regions = _regions(first, self._side_px)
            done, total = 0, len(regions) * len(source.planes)
            yield done, total
            for plane, place in zip(source.planes, source.places, strict=True):
                for region, image in work.restore(work.plan(plane), regions):
                    rows = slice(region.top * up, (region.top + region.height) * up)
                    columns = slice(region.left * up, (region.left + region.width) * up)
                    made[(*place, rows, columns)] = image
                    done += 1
                    yield done, total
            yield made

    def store(
        self,
        source: ArrayPlanes,
        path: Path,
        settings: LayerSettings,
        cancelled: threading.Event,
        on_progress: Callable[[int, int], None],
    ) -> Path:
        """Restore all of an array into OME-Zarr, with reduced copies; of what is in no memory, too.

        Raises
        ------
        SinkError
            When the name is taken or the disk refuses.
        CancelledError
            Within a tile of ``cancelled`` being set; nothing is left.
        """
        with self._lock:
            work = self._worker(source, settings, _until(cancelled))
            layout = ZarrLayout(shard_px=self._side_px)
            with ShardedStore(path, {"input": source.facts(), **settings._asdict()}) as store:
                writer = ZarrWriter(store, source.images(), layout, upscale=work.upscale)
                try:
                    self._fill(writer, work, source, settings, on_progress)
                    return store.commit()
                except BaseException:
                    store.discard()
                    raise

    @staticmethod
    def _fill(
        writer: ZarrWriter,
        work: PlaneRestorer,
        source: ArrayPlanes,
        settings: LayerSettings,
        on_progress: Callable[[int, int], None],
    ) -> None:
        plans: list[PlanePlan] = [work.plan(plane) for plane in source.planes]
        ranges = sorted({one for plan in plans for one in plan.ranges})
        writer.create(note={**settings._asdict(), "intensities": ranges})
        total = sum(len(writer.regions(plane)) for plane in source.planes) + writer.level_regions()
        done = 0

        def tick() -> None:
            nonlocal done
            done += 1
            on_progress(done, total)

        for plan in plans:
            writer.write(plan.plane, work.restore(plan, writer.regions(plan.plane)), 1, tick)
        writer.write_levels(1, tick)

    def _worker(
        self, source: ArrayPlanes, settings: LayerSettings, on_tile: Callable[[], None]
    ) -> PlaneRestorer:
        key = (settings.model, settings.device)
        if self._restorer is None or self._key != key:
            if self._restorer is not None:
                self._restorer.close()
            self._restorer, self._key = None, None
            self._restorer, self._key = load(settings.model, device=settings.device), key
        self._restorer.strength = settings.strength
        self._restorer.intensity_range = settings.intensity_range
        budget = plan_budget(self._restorer, source.planes, None, where=source.path)
        self._side_px = budget.side_px
        return PlaneRestorer(self._restorer, source, budget, on_tile=on_tile)


def _until(cancelled: threading.Event) -> Callable[[], None]:
    def check() -> None:
        if cancelled.is_set():
            raise CancelledError

    return check


def _regions(plane: Plane, side: int) -> list[Region]:
    return [
        Region(top, left, min(side, plane.height - top), min(side, plane.width - left))
        for top in range(0, plane.height, side)
        for left in range(0, plane.width, side)
    ]
