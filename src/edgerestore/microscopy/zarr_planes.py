"""Planes of an OME-Zarr store, read by region: each channel, depth and time of its images."""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ..errors import EdgerestoreError, SourceError, first_line
from ..imaging.arrays import Image
from .ome_zarr import ZarrImage, is_zarr, read_images
from .planes import DTYPES, Plane, SegmentCache, VolumeImage
from .regions import Region
from .sharded_store import import_zarr

if TYPE_CHECKING:
    from zarr import Array

__all__ = ["ZarrPlane", "ZarrPlanes"]

_logger = logging.getLogger(__name__)

_CACHED_BYTES = 128 << 20
_RGB = ("FF0000", "00FF00", "0000FF")
_XML = ("OME/METADATA.ome.xml", "METADATA.ome.xml")


@dataclass(frozen=True)
class ZarrPlane(Plane):
    """One plane of an image in a store.

    Parameters
    ----------
    image : int
        Number of the image.
    place : tuple of int
        Along t, c and z, those that it has; of a colour the first channel.
    """

    image: int
    place: tuple[int, ...]


class ZarrPlanes:
    """OME-Zarr store, 0.4 or 0.5, whose planes are read by region.

    Parameters
    ----------
    path : Path
        A local folder.
    color : bool
        Take three channels of bytes that are drawn in red, green and blue as one picture.

    Attributes
    ----------
    planes : list of ZarrPlane
    found : list of ZarrImage
        The metadata of its images.

    Raises
    ------
    SourceError
        When it is no OME-Zarr, its metadata is wrong, or it holds samples that are not restored.
    """

    def __init__(self, path: Path, *, color: bool = True) -> None:
        self.path = path
        self.cache = SegmentCache(_CACHED_BYTES)
        self._lock = threading.Lock()
        if not is_zarr(path):
            raise SourceError(f"{path}: is no Zarr store; check the path")
        self.found = read_images(path)
        self._arrays = [self._opened(one) for one in self.found]
        self._images = [
            self._image(number, one, color=color) for number, one in enumerate(self.found)
        ]
        self.planes = [plane for one in self._images for plane in one.planes]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing is held open."""

    def images(self) -> list[VolumeImage]:
        """Return the images of the store."""
        return self._images

    def ome_xml(self) -> str | None:
        """Return the OME model beside the images, where there is one."""
        for name in _XML:
            if (self.path / name).is_file():
                with self._translated(self.path / name):
                    return (self.path / name).read_text("utf-8")
        return None

    def facts(self) -> dict[str, Any]:
        """Return what tells this store from another one: names, sizes and times of its files."""
        digest, size, count = hashlib.sha256(), 0, 0
        for folder, names, files in os.walk(self.path):
            names.sort()
            for name in sorted(files):
                path = Path(folder, name)
                state = path.stat()
                told = f"{path.relative_to(self.path)} {state.st_size} {state.st_mtime_ns}\n"
                digest.update(told.encode("utf-8", "surrogateescape"))
                size, count = size + state.st_size, count + 1
        return {"bytes": size, "files": count, "sha256 of its files": digest.hexdigest()[:16]}

    def read(self, plane: ZarrPlane, region: Region) -> Image:
        """Return a region, shape (H, W) or (H, W, C), in samples of native byte order.

        Raises
        ------
        SourceError
            When a chunk of it is damaged.
        """
        array = self._arrays[plane.image][0]
        shape = (region.height, region.width, plane.samples)
        image = np.empty(shape, plane.dtype)
        for sample in range(plane.samples):
            self._read(array, plane, sample, region, image[..., sample])
        return image if plane.samples > 1 else image[..., 0]

    def _read(
        self, array: Array[Any], plane: ZarrPlane, sample: int, region: Region, image: Image
    ) -> None:
        tall, wide = plane.segment
        bottom, right = region.top + region.height, region.left + region.width
        for row in range(region.top // tall, -(-bottom // tall)):
            for column in range(region.left // wide, -(-right // wide)):
                top, left = row * tall, column * wide
                segment = self._segment(array, plane, sample, top, left)
                rows = max(region.top, top), min(bottom, top + tall)
                columns = max(region.left, left), min(right, left + wide)
                image[
                    rows[0] - region.top : rows[1] - region.top,
                    columns[0] - region.left : columns[1] - region.left,
                ] = segment[rows[0] - top : rows[1] - top, columns[0] - left : columns[1] - left]

    def _segment(
        self, array: Array[Any], plane: ZarrPlane, sample: int, top: int, left: int
    ) -> Image:
        place: list[Any] = list(plane.place)
        axes = self._images[plane.image].axes
        if sample:
            place[axes.index("c")] += sample
        key = plane.image, *place, top, left
        held = self.cache.get(key)
        if held is None:
            tall, wide = plane.segment
            spot = *place, slice(top, top + tall), slice(left, left + wide)
            at = f"chunk at {', '.join(map(str, (*place, top, left)))}"
            with self._translated(f"{self.path}: {plane.name}: {at}"):
                held = np.asarray(array[spot]).astype(plane.dtype, copy=False)
            self.cache.put(key, held)
        return held

    def _opened(self, image: ZarrImage) -> list[Array[Any]]:
        zarr = import_zarr()
        made = []
        for name, _ in image.datasets:
            where = self.path / image.path / name
            if not is_zarr(where):
                raise SourceError(f"{where}: is not there, though its multiscales name it")
            with self._translated(where):
                made.append(zarr.open_array(where, mode="r"))
        return made

    def _image(self, number: int, found: ZarrImage, *, color: bool) -> VolumeImage:
        arrays = self._arrays[number]
        first, where = arrays[0], self.path / found.path
        dtype = np.dtype(first.dtype)
        if dtype.name not in DTYPES:
            raise SourceError(f"{where} holds {dtype} samples; convert them to u8, u16 or f32")
        for one, (name, _) in zip(arrays, found.datasets, strict=True):
            if one.ndim != len(found.axes):
                raise SourceError(
                    f"{where}: its array {name} has {one.ndim} axes, its multiscales"
                    f" {len(found.axes)}; correct them"
                )
            if np.dtype(one.dtype) != dtype:
                raise SourceError(f"{where}: its levels are of {dtype} and of {one.dtype}")
        if 0 in first.shape:
            raise SourceError(f"{where}: holds no pixels")
        self._tell_missing(first, where / found.datasets[0][0])
        axes, sizes = found.axes[:-2], tuple(int(size) for size in first.shape[:-2])
        steps = _steps(arrays, found.axes)
        counts = dict(zip(axes, sizes, strict=True))
        samples = 3 if color and _is_rgb(found, dtype, counts.get("c", 1)) else 1
        return VolumeImage(
            str(found.ome["multiscales"][0].get("name") or self.path.stem),
            axes,
            sizes,
            tuple(self._planes(number, found, counts, samples)),
            steps,
            dict(zip(found.axes, found.datasets[0][1], strict=False)),
            found.units,
            tuple(str(one.get("label", "")) for one in found.channels),
        )

    def _planes(
        self, number: int, found: ZarrImage, counts: Mapping[str, int], samples: int
    ) -> Iterator[ZarrPlane]:
        arrays = self._arrays[number]
        first = arrays[0]
        height, width = first.shape[-2:]
        ranges = [range(0, size, samples if axis == "c" else 1) for axis, size in counts.items()]
        named = f"image {found.path}, " if found.path else ""
        for place in itertools.product(*ranges):
            told = ", ".join(f"{axis} {at}" for axis, at in zip(counts, place, strict=True))
            yield ZarrPlane(
                f"{named}{told}".strip(", ") or "its plane",
                int(height),
                int(width),
                samples,
                np.dtype(first.dtype).newbyteorder("="),
                samples == 3,
                False,
                tuple((int(one.shape[-2]), int(one.shape[-1])) for one in arrays[1:]),
                (min(first.chunks[-2], height), min(first.chunks[-1], width)),
                True,
                True,
                number,
                place,
            )

    def _tell_missing(self, array: Array[Any], folder: Path) -> None:
        """Say that chunks are not stored: they read as if they held the fill value."""
        shard = array.shards or array.chunks
        total = int(np.prod([-(-n // part) for n, part in zip(array.shape, shard, strict=True)]))
        stored = sum(
            not name.startswith((".z", "zarr.json")) and not name.endswith(".partial")
            for _, _, names in os.walk(folder)
            for name in names
        )
        if stored < total:
            _logger.warning(
                "%s: %d of its %d %s are not stored; they are read as %s",
                folder,
                total - stored,
                total,
                "shards" if array.shards else "chunks",
                array.fill_value,
            )

    @contextmanager
    def _translated(self, where: object) -> Iterator[None]:
        try:
            yield
        except (EdgerestoreError, MemoryError):
            raise
        except Exception as error:  # of a damaged store zarr and its codecs raise nearly anything
            said = f"{type(error).__name__}: {first_line(error, 120)}"
            raise SourceError(f"{where}: cannot be read ({said}); check the store") from error


def _is_rgb(found: ZarrImage, dtype: np.dtype[Any], channels: int) -> bool:
    colors = tuple(str(one.get("color", "")).upper() for one in found.channels)
    return dtype == np.uint8 and channels == 3 and colors == _RGB


def _steps(arrays: list[Array[Any]], axes: str) -> tuple[Mapping[str, int], ...]:
    return tuple(
        {
            axis: max(1, round(before / after))
            for axis, before, after in zip(axes, fine.shape, coarse.shape, strict=True)
        }
        for fine, coarse in itertools.pairwise(arrays)
    )
