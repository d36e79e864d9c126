"""TIFF writing by bands: pages of any size, with the tags of those that they were made of."""

from __future__ import annotations

import itertools
import logging
import os
import re
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..errors import SinkError
from ..imaging.arrays import Image, round_up
from ..imaging.error_translation import translated
from ..imaging.tiff import HISTORY_TAG
from .planes import Plane
from .tiff_planes import TiffPlane

__all__ = ["TiffWriter"]

_logger = logging.getLogger(__name__)

# What the writer states itself, and what points elsewhere into the old file.
_STRUCTURE = {
    *(254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 274, 277, 278, 279, 280, 281),
    *(282, 283, 284, 288, 289, 290, 291, 296, 301, 317, 318, 319, 320, 321, 322, 323, 324, 325),
    *(330, 332, 333, 334, 336, 337, 338, 339, 340, 341, 342, 347, 512, 513, 514, 529, 530, 531),
    *(532, 32997, 32998),
}
_POINTERS = {34665: "EXIF", 34853: "GPS", 40965: "interoperability tags"}
_ORIENTATION, _DESCRIPTION, _SUBIFDS = 274, 270, 330
_DIRECTORIES = (13, 18)  # types of places in the file
_DEFLATE_LEVEL = 3
_SIDES_PX = 16  # sides of tiles are multiples of it
_LARGEST_CLASSIC = 2**32 - 2**25
_OME_SIZE = re.compile(r'(\bSize[XY]=")(\d+)(")')
_OME_PIXEL = re.compile(r'(\bPhysicalSize[XY]=")([^"]+)(")')


class TiffWriter:
    """Writer of a TIFF, page after page, each of bands from top to bottom. A context manager.

    Parameters
    ----------
    path : Path
    pages : list of Plane
        What the pages are made of, for the size of the file.
    upscale : int
        Of the pages written.
    bigtiff : bool
        In any case; else where it is needed.
    byteorder : str
        ``<`` or ``>``.
    where : Path
        What it will be called, for messages.
    """

    def __init__(
        self,
        path: Path,
        pages: list[Plane],
        *,
        upscale: int,
        bigtiff: bool,
        byteorder: Literal["<", ">"],
        where: Path,
    ) -> None:
        import tifffile

        size = sum(
            page.height * page.width * page.samples * page.dtype.itemsize * upscale**2
            for page in pages
        )
        self._path, self._where = path, where
        self._upscale, self._byteorder = upscale, byteorder
        self._told: set[str] = set()
        with translated(SinkError, where):
            self._file = tifffile.TiffWriter(
                path, bigtiff=bigtiff or size * 4 // 3 > _LARGEST_CLASSIC, byteorder=byteorder
            )

    def __enter__(self) -> TiffWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def band_rows(self, plane: Plane, least: int) -> int:
        """Return the rows of a band: whole tiles or strips, and whole pixels of reduced copies."""
        tall = self._segment(plane)[0]
        return round_up(
            least, np.lcm.reduce([tall, *itertools.accumulate(_steps(plane), int.__mul__)])
        )

    def write(
        self,
        plane: Plane,
        bands: Iterable[Image],
        note: str = "",
        *,
        description: str = "",
    ) -> None:
        """Write a page, and its reduced copies.

        Parameters
        ----------
        plane : Plane
            What it is made of: layout, compression and tags are the same.
        bands : iterable of ndarray, shape (H, W) or (H, W, C)
            From top to bottom, of `band_rows` rows each but the last.
        note : str
            A line on how it was made, for its history.
        description : str
            Of a page that is made of no page.

        Raises
        ------
        SinkError
            When the disk refuses.
        """
        scaled = plane.height * self._upscale, plane.width * self._upscale
        sizes = [(h * self._upscale, w * self._upscale) for h, w in plane.reduced]
        with tempfile.TemporaryDirectory(dir=self._path.parent, prefix=".pyramid-") as folder:
            with translated(SinkError, self._where):
                levels = [
                    _Level(Path(folder) / str(index), size, step, plane)
                    for index, (size, step) in enumerate(zip(sizes, _steps(plane), strict=True))
                ]
            with translated(SinkError, self._where):
                self._page(
                    plane,
                    scaled,
                    _reducing(bands, levels[:1]),
                    self._tags(plane, note, description),
                    len(levels),
                )
            for level, finer in zip(levels[1:], levels, strict=False):
                for start in range(0, finer.size[0], level.step * 256):
                    level.add(finer.array[start : start + level.step * 256])
            for level in levels:
                rows = self.band_rows(plane, 256)
                parts = (level.array[at : at + rows] for at in range(0, level.size[0], rows))
                with translated(SinkError, self._where):
                    self._page(plane, level.size, parts, {"subfiletype": 1}, 0)

    def _page(
        self,
        plane: Plane,
        size: tuple[int, int],
        bands: Iterable[Image],
        settings: dict[str, Any],
        reduced: int,
    ) -> None:
        tall, wide = self._segment(plane)
        tiled = plane.tiled
        several = plane.samples > 1
        compressed = plane.compressed
        layout: dict[str, Any] = {"tile": (tall, wide)} if tiled else {"rowsperstrip": tall}
        segments: Iterator[Any] = _segments(bands, tall, wide if tiled else size[1])
        if compressed and not tiled:  # of strips that it compresses tifffile takes whole pages
            segments = (self._deflated(segment) for segment in segments)
        self._file.write(
            segments,
            shape=(*size, plane.samples) if several else size,
            dtype=plane.dtype,
            photometric="rgb" if plane.color else "miniswhite" if plane.inverted else "minisblack",
            planarconfig="contig" if several else None,
            extrasamples=["unassalpha"] if plane.color and plane.samples == 4 else None,
            compression="zlib" if compressed else None,
            compressionargs={"level": _DEFLATE_LEVEL} if compressed else None,
            predictor=compressed and tiled and plane.dtype != np.float32,
            metadata=None,
            software=False,
            subifds=reduced or None,
            **layout,
            **settings,
        )

    def _deflated(self, segment: Image) -> bytes:
        order = segment.dtype.newbyteorder(self._byteorder)
        return zlib.compress(segment.astype(order).tobytes(), _DEFLATE_LEVEL)

    def _segment(self, plane: Plane) -> tuple[int, int]:
        """Return height and width of the tiles or strips that are written."""
        tall, wide = plane.segment
        if plane.tiled:
            return round_up(min(max(tall, 64), 1024), _SIDES_PX), round_up(
                min(max(wide, 64), 1024), _SIDES_PX
            )
        # A strip of all rows, as some write, is held in memory by whoever reads it.
        return min(tall, max(1, (8 << 20) // (wide * plane.samples * plane.dtype.itemsize))), wide

    def _tags(self, plane: Plane, note: str, description: str) -> dict[str, Any]:
        extra: list[tuple[int, int, int, Any, bool]] = []
        if description:
            extra.append(_text(_DESCRIPTION, description))
        if not isinstance(plane, TiffPlane):
            return {"extratags": [*extra, _text(HISTORY_TAG, note)] if note else extra}
        page = plane.page
        for tag in page.tags:
            if tag.code in _POINTERS or (int(tag.dtype) in _DIRECTORIES and tag.code != _SUBIFDS):
                what = _POINTERS.get(tag.code, f"directory {tag.code}")
                self._tell(f"its {what} cannot be copied; left out")
            elif tag.code == _DESCRIPTION:
                extra.append(_text(tag.code, self._described(str(tag.value))))
            elif tag.code not in _STRUCTURE:
                # As the bytes that they are: tifffile reads more into some than it writes.
                page.parent.filehandle.seek(tag.valueoffset)
                raw = page.parent.filehandle.read(tag.valuebytecount)
                extra.append((tag.code, int(tag.dtype), int(tag.count), raw, True))
        orientation = page.tags.get(_ORIENTATION)
        if orientation is not None and orientation.value != 1:
            extra.append((_ORIENTATION, 3, 1, int(orientation.value), True))
        if note:
            extra.append(_text(HISTORY_TAG, note))
        resolution = [page.tags.get(code) for code in (282, 283)]
        unit = page.tags.get(296)
        found: dict[str, Any] = {"extratags": extra}
        if all(one is not None and one.value[1] for one in resolution):
            found["resolution"] = tuple(
                self._scaled(*one.value) for one in resolution if one is not None
            )
            found["resolutionunit"] = int(unit.value) if unit is not None else 1
        return found

    def _scaled(self, over: int, under: int) -> tuple[int, int]:
        value = Fraction(over, under) * self._upscale
        return value.limit_denominator(2**31 // max(1, int(value) + 1)).as_integer_ratio()

    def _described(self, text: str) -> str:
        """Return a description whose OME-XML has the sizes of what is written."""
        if "FileName=" in text:
            self._tell("its OME-XML names other files, which stay what they are")
        if self._upscale == 1 or "<OME" not in text:
            return text
        text = _OME_SIZE.sub(lambda m: f"{m[1]}{int(m[2]) * self._upscale}{m[3]}", text)
        return _OME_PIXEL.sub(lambda m: f"{m[1]}{float(m[2]) / self._upscale:.12g}{m[3]}", text)

    def _tell(self, line: str) -> None:
        if line not in self._told:
            self._told.add(line)
            _logger.warning("%s: %s", self._where, line)


def _text(code: int, text: str) -> tuple[int, int, int, Any, bool]:
    """Return a tag of text as tifffile takes it; OME-XML is no ASCII."""
    return code, 2, 0, text.encode(), True


class _Level:
    """Reduced copy of a page, on the disk while it grows."""

    def __init__(self, path: Path, size: tuple[int, int], step: int, plane: Plane) -> None:
        shape = (*size, plane.samples) if plane.samples > 1 else size
        self.size, self.step, self._rows = size, step, 0
        # Room on the disk that is not there is an error now, and no bus error later.
        with path.open("wb") as file:
            size_bytes = int(np.prod(shape)) * plane.dtype.itemsize
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size_bytes)
            else:
                file.truncate(size_bytes)
        self.array = np.memmap(path, plane.dtype, "r+", shape=shape)

    def add(self, band: Image) -> None:
        """Take the next rows of the finer copy; their means are this one's."""
        step, wide = self.step, self.size[1]
        more = -band.shape[0] % step, max(0, wide * step - band.shape[1])
        band = np.pad(band, [(0, more[0]), (0, more[1]), *[(0, 0)] * (band.ndim - 2)], mode="edge")
        band = band[:, : wide * step]
        cells = band.reshape(band.shape[0] // step, step, wide, step, *band.shape[2:])
        means = cells.mean(axis=(1, 3), dtype=np.float64)
        if self.array.dtype != np.float32:
            means = np.rint(means)
        rows = means[: self.size[0] - self._rows]
        self.array[self._rows : self._rows + len(rows)] = rows
        self._rows += len(rows)


def _steps(plane: Plane) -> list[int]:
    """Return by how much each reduced copy is smaller than the one before."""
    widths = [plane.width, *(wide for _, wide in plane.reduced)]
    return [max(1, round(before / after)) for before, after in itertools.pairwise(widths)]


def _reducing(bands: Iterable[Image], levels: list[_Level]) -> Iterator[Image]:
    for band in bands:
        for level in levels:
            level.add(band)
        yield band


def _segments(bands: Iterable[Image], tall: int, wide: int) -> Iterator[Image]:
    """Yield tiles or strips, row by row; those at the borders are smaller."""
    for band in bands:
        for top in range(0, band.shape[0], tall):
            for left in range(0, band.shape[1], wide):
                yield np.ascontiguousarray(band[top : top + tall, left : left + wide])
