"""OME-Zarr writing: restored planes by whole shards, their pyramids, and their metadata."""

from __future__ import annotations

import itertools
import logging
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import SinkError
from ..imaging.arrays import Image, round_up
from ..imaging.error_translation import translated
from .journal import WrittenShard
from .ome_zarr import OmeVersion, ZarrImage, image_attributes, not_valid, zarr_format_of
from .planes import Plane, VolumeImage
from .pyramids import level_sizes, pyramid_steps, reduced
from .regions import Region
from .sharded_store import ArrayLayout, ShardedArray, ShardedStore

__all__ = ["Box", "ZarrLayout", "ZarrWriter", "write_boxes"]

_logger = logging.getLogger(__name__)

Box = tuple[list[int], list[int]]
"""Start and shape of a part of an array."""

_CHUNK_PX = 512
_RGB = ("FF0000", "00FF00", "0000FF")


@dataclass(frozen=True)
class ZarrLayout:
    """How arrays are laid out.

    Parameters
    ----------
    version : str
        Of OME-Zarr; 0.4 has no shards.
    compression : str
        See `COMPRESSIONS`.
    shard_px : int
        Of the largest shards; what is restored at a time.
    """

    version: OmeVersion = "0.5"
    compression: str = "zstd"
    shard_px: int = 2048


@dataclass
class _Target:
    """An image in the store: its levels, the largest first."""

    image: VolumeImage
    levels: list[ShardedArray]
    steps: list[Mapping[str, int]] = field(default_factory=list)


class ZarrWriter:
    """Writer of images into a store, each plane region by region, each region of whole shards.

    Parameters
    ----------
    store : ShardedStore
    images : sequence of VolumeImage
        What they are made of.
    layout : ZarrLayout
        What a store that is gone on with has already, stays.
    upscale : int
    pyramid : bool
        Make reduced copies; else the largest level alone.

    Attributes
    ----------
    images : list of VolumeImage
        With the steps of the pyramids that are made.
    """

    def __init__(
        self,
        store: ShardedStore,
        images: Sequence[VolumeImage],
        layout: ZarrLayout,
        *,
        upscale: int = 1,
        pyramid: bool = True,
    ) -> None:
        self._store, self._layout, self._upscale = store, layout, upscale
        self._several = len(images) > 1
        self._steps = [[*pyramid_steps(one, upscale)] if pyramid else [] for one in images]
        self._given = list(images)
        self._targets: list[_Target] = []

    @property
    def root(self) -> Path:
        """Folder of the store in the making."""
        return self._store.path

    def create(
        self,
        given: Sequence[ZarrImage] = (),
        colors: Sequence[str | None] = (),
        **metadata: Any,
    ) -> None:
        """Create groups and arrays, where they are not there.

        Parameters
        ----------
        given : sequence of ZarrImage
            Metadata of the images, where they were a store's; levels keep their names.
        colors : sequence of str or None
            Of channels, as ``RRGGBB``.
        **metadata
            As `image_attributes` takes it.
        """
        form = zarr_format_of(self._layout.version)
        if self._several:
            inner = {"bioformats2raw.layout": 3}
            attributes = inner if form == 2 else {"ome": {"version": "0.5", **inner}}
            self._store.group("", attributes, form)
        for number, (image, steps) in enumerate(zip(self._given, self._steps, strict=True)):
            prefix = str(number) if self._several else ""
            own = given[number] if given else None
            names = self._level_names(own, len(steps) + 1)
            shown = replace(image, steps=tuple(steps))
            stated = image_attributes(
                shown,
                self._layout.version,
                names,
                given=own,
                upscale=self._upscale,
                **metadata,
                colors=_RGB if _is_color(image) else colors,
            )
            if wrong := not_valid(stated):
                _logger.warning("%s: its metadata is no valid OME-Zarr (%s)", self.root, wrong)
            self._store.group(prefix, stated, form)
            sizes = level_sizes(image, steps, self._upscale)
            levels = [
                self._store.array(self._array_layout(f"{prefix}/{name}".strip("/"), image, shape))
                for name, shape in zip(names, sizes, strict=True)
            ]
            self._targets.append(_Target(image, levels, steps))

    @staticmethod
    def _level_names(given: ZarrImage | None, count: int) -> list[str]:
        before = [name for name, _ in given.datasets] if given else []
        free = (str(at) for at in itertools.count() if str(at) not in before)
        return [*before[:count], *(next(free) for _ in range(count - len(before)))]

    def _array_layout(self, path: str, image: VolumeImage, shape: tuple[int, ...]) -> ArrayLayout:
        alone = (1,) * (len(shape) - 2)
        sides = [round_up(min(_CHUNK_PX, side), 16) for side in shape[-2:]]
        chunks = [min(side, whole) for side, whole in zip(sides, shape[-2:], strict=True)]
        most = self._shard_px
        shards = [
            chunk * max(1, min(most // chunk, -(-whole // chunk)))
            for chunk, whole in zip(chunks, shape[-2:], strict=True)
        ]
        plain = self._layout.version == "0.4"
        return ArrayLayout(
            path,
            shape,
            (*alone, *chunks),
            image.planes[0].dtype,
            None if plain else (*alone, *shards),
            tuple(f"{image.axes}yx"),
            self._layout.compression,
            zarr_format_of(self._layout.version),
        )

    @property
    def _shard_px(self) -> int:
        return max(_CHUNK_PX, self._layout.shard_px * self._upscale // _CHUNK_PX * _CHUNK_PX)

    # Regions of the largest level.

    def regions(self, plane: Plane) -> list[Region]:
        """Return the regions of a plane that are not written yet, in its pixels.

        Each is of whole shards; those of arrays without shards are as large as shards would be.
        """
        target = self._target(plane)
        side = self._region_px(target)
        return [
            region
            for top in range(0, plane.height, side[0])
            for left in range(0, plane.width, side[1])
            for region in [
                Region(
                    top,
                    left,
                    min(side[0], plane.height - top),
                    min(side[1], plane.width - left),
                )
            ]
            if not all(
                self._store.is_done(target.levels[0], start, shape)
                for start, shape in self._boxes(target, plane, region)
            )
        ]

    def region_count(self, plane: Plane) -> int:
        """Return how many regions a plane has, written or not."""
        side = self._region_px(self._target(plane))
        return -(-plane.height // side[0]) * -(-plane.width // side[1])

    @property
    def side_px(self) -> int:
        """Side of the largest regions, in pixels of the planes."""
        return max(max(self._region_px(one)) for one in self._targets)

    def _region_px(self, target: _Target) -> tuple[int, int]:
        """Return height and width of regions: whole shards, and whole pixels of the input."""
        shard = target.levels[0].shard[-2:]
        if self._layout.version == "0.4":
            shard = tuple(side * max(1, self._shard_px // side) for side in shard)
        sides = [int(np.lcm(side, self._upscale)) // self._upscale for side in shard]
        return sides[0], sides[1]

    def _target(self, plane: Plane) -> _Target:
        return next(
            one for one in self._targets if any(plane is other for other in one.image.planes)
        )

    def _boxes(self, target: _Target, plane: Plane, region: Region) -> Iterator[Box]:
        """Yield start and shape of what a region fills, for each of its samples."""
        index = target.image.index(plane)
        up = self._upscale
        for sample in range(plane.samples):
            place = [
                at + sample if axis == "c" else at
                for axis, at in ((axis, index[axis]) for axis in target.image.axes)
            ]
            yield (
                [*place, region.top * up, region.left * up],
                [*[1] * len(place), region.height * up, region.width * up],
            )

    def boxes(self, plane: Plane, region: Region) -> tuple[ShardedArray, list[Box]]:
        """Return the array that a region is in, and where: a box for each sample."""
        target = self._target(plane)
        return target.levels[0], list(self._boxes(target, plane, region))

    def _written(self, plane: Plane, region: Region, image: Image) -> None:
        array, boxes = self.boxes(plane, region)
        self._store.note(write_boxes(array, boxes, image))

    def write(
        self,
        plane: Plane,
        outcomes: Iterable[tuple[Region, Image]],
        behind: int,
        on_written: Callable[[], None],
    ) -> None:
        """Write regions as they come, on a thread of its own.

        Parameters
        ----------
        plane : Plane
        outcomes : iterable of (Region, ndarray)
        behind : int
            Regions that may wait for it.
        on_written : callable
            Called for each region that is written for good, on this thread.

        Raises
        ------
        SinkError
            When the disk refuses.
        """
        self._behind(
            behind,
            on_written,
            (partial(self._written, plane, region, image) for region, image in outcomes),
        )

    @staticmethod
    def _behind(
        behind: int, on_written: Callable[[], None], tasks: Iterable[Callable[[], None]]
    ) -> None:
        waiting: deque[Future[None]] = deque()
        with ThreadPoolExecutor(1, "edgerestore-writer") as writer:
            try:
                for task in tasks:
                    waiting.append(writer.submit(task))
                    del task
                    while len(waiting) > behind or (waiting and waiting[0].done()):
                        waiting.popleft().result()
                        on_written()
                while waiting:
                    waiting.popleft().result()
                    on_written()
            except BaseException:
                for one in waiting:
                    one.cancel()
                raise

    def note(self, shards: Sequence[WrittenShard]) -> None:
        """Note shards that another process has written."""
        self._store.note(shards)

    # The levels below.

    def level_regions(self) -> int:
        """Return how many shards of reduced copies there are to write."""
        return sum(1 for _ in self._reductions())

    def write_levels(self, behind: int, on_written: Callable[[], None]) -> None:
        """Write the reduced copies that are not written yet, each from the one before.

        Raises
        ------
        SinkError
            When the disk refuses.
        """
        for target in self._targets:
            for at in range(1, len(target.levels)):
                tasks = (
                    partial(self._reduce, target, at, index)
                    for one, level, index in self._reductions()
                    if one is target and level == at
                )
                self._behind(behind, on_written, tasks)

    def _reductions(self) -> Iterator[tuple[_Target, int, tuple[int, ...]]]:
        for target in self._targets:
            for at, array in enumerate(target.levels[1:], 1):
                for index in array.indices():
                    start, shape = _box(array, index)
                    if not self._store.is_done(array, start, shape):
                        yield target, at, index

    def _reduce(self, target: _Target, at: int, index: tuple[int, ...]) -> None:
        fine, coarse = target.levels[at - 1], target.levels[at]
        axes = f"{target.image.axes}yx"
        steps = [target.steps[at - 1].get(axis, 1) for axis in axes]
        start, shape = _box(coarse, index)
        first = [one * step for one, step in zip(start, steps, strict=True)]
        extent = [
            min(size * step, whole - begin)
            for size, step, whole, begin in zip(shape, steps, fine.shape, first, strict=True)
        ]
        self._store.write(coarse, start, reduced(fine.read(first, extent), steps, shape))

    # What is read back, for a TIFF.

    def read(self, plane: Plane, region: Region) -> Image:
        """Return a region of what was written, in its pixels: shape (H, W) or (H, W, C)."""
        target = self._target(plane)
        index = target.image.index(plane)
        samples = []
        for sample in range(plane.samples):
            place = [index[axis] + (sample if axis == "c" else 0) for axis in target.image.axes]
            box = target.levels[0].read(
                [*place, region.top, region.left],
                [*[1] * len(place), region.height, region.width],
            )
            samples.append(box.reshape(region.height, region.width))
        return samples[0] if plane.samples == 1 else np.stack(samples, -1)

    def add_file(self, name: str, content: str) -> None:
        """Put a file of text beside the images, such as the OME model."""
        path = self._store.path / name
        if self._several or "/" in name:
            inner = {"series": [str(at) for at in range(len(self._given))]} if self._several else {}
            form = zarr_format_of(self._layout.version)
            attributes = inner if form == 2 else {"ome": {"version": "0.5", **inner}}
            self._store.group(name.partition("/")[0], attributes if inner else {}, form)
        with translated(SinkError, path):
            path.write_text(content, "utf-8")

    def copy_folder(self, source: Path, name: str) -> None:
        """Copy a folder of the input, such as its labels, as it is."""
        target = self._store.path / name
        with translated(SinkError, target):
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target)


def write_boxes(array: ShardedArray, boxes: Sequence[Box], image: Image) -> list[WrittenShard]:
    """Write the samples of a region, without noting it: any process may do that.

    Parameters
    ----------
    array : ShardedArray
    boxes : sequence of (start, shape)
        As `ZarrWriter.boxes` gives them.
    image : ndarray, shape (H, W) or (H, W, C)
    """
    made: list[WrittenShard] = []
    for sample, (start, shape) in enumerate(boxes):
        own = image[..., sample] if image.ndim == 3 else image
        made += array.write(start, own.reshape(shape))
    return made


def _box(array: ShardedArray, index: Sequence[int]) -> Box:
    start = [at * part for at, part in zip(index, array.shard, strict=True)]
    shape = [
        min(part, whole - first)
        for first, part, whole in zip(start, array.shard, array.shape, strict=True)
    ]
    return start, shape


def _is_color(image: VolumeImage) -> bool:
    return image.planes[0].color
