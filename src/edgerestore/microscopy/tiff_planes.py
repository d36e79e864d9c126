"""Planes of a TIFF file, read by region: as many as it has pages, of any size and any layout."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..errors import EdgerestoreError, SourceError, first_line
from ..extensions import install_command
from ..imaging.arrays import Image
from ..imaging.error_translation import held_back
from ..imaging.stated_size import MAX_PIXELS
from ..imaging.tiff import refuse_circle
from .planes import DTYPES, Plane, SegmentCache, VolumeImage
from .regions import Region

if TYPE_CHECKING:
    from tifffile import TiffPage

__all__ = ["TiffPlane", "TiffPlanes", "holds_planes"]

_GREY, _RGB = ("MINISBLACK", "MINISWHITE"), ("RGB", "YCBCR")
_CACHED_BYTES = 128 << 20  # of decoded segments, which neighbouring regions share
_STRAIGHT = (0, 2)
_UNCOMPRESSED = 1
_HEAD_BYTES = 1 << 20


@dataclass(frozen=True)
class TiffPlane(Plane):
    """One page of a TIFF.

    Parameters
    ----------
    page : TiffPage
        With its tags.
    """

    page: TiffPage


def holds_planes(path: Path) -> bool:
    """Return whether a TIFF holds more than one picture of 1, 3 or 4 channels, or a large one.

    False of what is no TIFF, or damaged.
    """
    import tifffile

    try:
        with held_back("tifffile"), tifffile.TiffFile(path) as file:
            page = file.pages.first
            refuse_circle(file, path)
            several = len(file.pages) > 1 and not all(
                one.aspage().is_reduced for one in file.pages[1:]
            )
            large = page.imagelength * page.imagewidth > MAX_PIXELS
            return several or large or bool(page.subifds) or page.samplesperpixel not in (1, 3, 4)
    except Exception:  # of a damaged file tifffile raises nearly anything; who decodes it tells
        return False


class TiffPlanes:
    """TIFF file whose pages are read by region. A context manager; any thread may read.

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    planes : list of TiffPlane
        In the order of the file, without reduced copies.
    bigtiff : bool
    byteorder : str
        ``<`` or ``>``.

    Raises
    ------
    SourceError
        When it is damaged, or holds samples that are not restored.
    """

    def __init__(self, path: Path) -> None:
        import tifffile

        self.path = path
        self.cache = SegmentCache(_CACHED_BYTES)
        self._lock = threading.Lock()
        with self._translated():
            self._file = tifffile.TiffFile(path)
        try:
            with self._translated(), held_back("tifffile") as remarks:
                refuse_circle(self._file, path)
                pages = [page.aspage() for page in self._file.pages]
                if remarks:  # it goes on without the pages behind a place that is damaged
                    raise SourceError(f"{path}: its pages are damaged or cut off ({remarks[0]})")
                self.planes = [self._plane(page) for page in pages if not page.is_reduced]
                self.bigtiff = bool(self._file.is_bigtiff)
                self.byteorder: Literal["<", ">"] = "<" if self._file.byteorder == "<" else ">"
                self._refuse_hidden(len(pages))
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> TiffPlanes:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def ome_xml(self) -> str | None:
        """Return the OME model of the file, where it has one."""
        return self._file.ome_metadata

    def images(self) -> list[VolumeImage]:
        """Return the images that the pages make.

        Raises
        ------
        SourceError
            When they make none of up to five axes.
        """
        from .tiff_volumes import volume_images

        with self._translated():
            return volume_images(self._file, self.planes, self.ome_xml(), self.path)

    def facts(self) -> dict[str, Any]:
        """Return what tells this file from another one, for a journal."""
        state = self.path.stat()
        with self.path.open("rb") as file:
            head = hashlib.sha256(file.read(_HEAD_BYTES))
        return {
            "bytes": state.st_size,
            "modified_ns": state.st_mtime_ns,
            "sha256 of its head": head.hexdigest()[:16],
        }

    def read(self, plane: TiffPlane, region: Region) -> Image:
        """Return a region, shape (H, W) or (H, W, C), in the samples of the file.

        Raises
        ------
        SourceError
            When a segment of it is damaged or missing.
        """
        page = plane.page
        tall, wide = plane.segment
        split = plane.samples if page.planarconfig == 2 else 1
        down, across = -(-plane.height // tall), -(-plane.width // wide)
        image = np.empty((region.height, region.width, plane.samples), plane.dtype)
        bottom, right = region.top + region.height, region.left + region.width
        for part in range(split):
            samples = slice(part, part + 1) if split > 1 else slice(None)
            for row in range(region.top // tall, -(-bottom // tall)):
                for column in range(region.left // wide, -(-right // wide)):
                    index = (part * down + row) * across + column
                    top, left = row * tall, column * wide
                    rows = max(region.top, top), min(bottom, top + tall, plane.height)
                    columns = max(region.left, left), min(right, left + wide, plane.width)
                    inside = range(rows[0] - top, rows[1] - top)
                    spot = slice(columns[0] - left, columns[1] - left)
                    if self._is_plain(plane):
                        found = self._rows(plane, index, inside, spot)
                    else:
                        segment = self._segment(page, index)
                        found = (
                            None if segment is None else segment[inside.start : inside.stop, spot]
                        )
                    image[
                        rows[0] - region.top : rows[1] - region.top,
                        columns[0] - region.left : columns[1] - region.left,
                        samples,
                    ] = page.nodata if found is None else found
        return image if plane.samples > 1 else image[..., 0]

    @staticmethod
    def _is_plain(plane: TiffPlane) -> bool:
        """Return whether rows of it lie in the file as they are in memory, in strips."""
        page = plane.page
        return (
            not plane.tiled
            and not plane.compressed
            and page.predictor == 1
            and page.fillorder == 1
            and page.bitspersample == 8 * plane.dtype.itemsize
            and page.photometric != 6  # YCbCr may be subsampled
        )

    def _segment(self, page: TiffPage, index: int) -> Image | None:
        """Return a decoded strip or tile, shape (H, W, S); None where the file leaves it out."""
        held = self.cache.get((page.index, index))
        if held is not None:
            return held
        raw = self._raw(page, index)
        if raw is None:
            return None
        with self._translated():
            made = page.decode(raw, index, jpegtables=page.jpegtables, jpegheader=page.jpegheader)[
                0
            ]
            segment: Image = np.asarray(made)[0]
        self.cache.put((page.index, index), segment)
        return segment

    def _raw(self, page: TiffPage, index: int, start: int = 0, count: int = 0) -> bytes | None:
        """Return the bytes of a segment, or ``count`` of them; None where it is left out."""
        if index >= len(page.dataoffsets) or not page.databytecounts[index]:
            return None
        wanted = count or page.databytecounts[index]
        with self._lock, self._translated():
            self._file.filehandle.seek(page.dataoffsets[index] + start)
            raw = self._file.filehandle.read(wanted)
        if len(raw) < wanted:
            raise SourceError(f"{self.path}: is cut off; check the file")
        return raw

    def _rows(self, plane: TiffPlane, index: int, rows: range, columns: slice) -> Image | None:
        """Return rows of a strip that is stored as it is, which may be all of a large page."""
        page = plane.page
        samples = 1 if page.planarconfig == 2 else plane.samples
        stored = np.dtype(page.dtype).newbyteorder(page.parent.byteorder)
        row_bytes = plane.width * samples * stored.itemsize
        first_byte = columns.start * samples * stored.itemsize
        count = (columns.stop - columns.start) * samples
        made = np.empty((len(rows), columns.stop - columns.start, samples), stored)
        for at, row in enumerate(rows):
            raw = self._raw(page, index, row * row_bytes + first_byte, count * stored.itemsize)
            if raw is None:
                return None
            made[at] = np.frombuffer(raw, stored).reshape(-1, samples)
        return made

    def _plane(self, page: TiffPage) -> TiffPlane:
        dtype, where = np.dtype(page.dtype or "V"), f"{self.path}: page {page.index + 1}"
        photometric = getattr(page.photometric, "name", str(page.photometric))
        if dtype.name not in DTYPES:
            raise SourceError(f"{where} holds {dtype} samples; convert them to u8, u16 or f32")
        if photometric not in (*_GREY, *_RGB):
            raise SourceError(f"{where} holds {photometric} colours; convert it to RGB first")
        if page.imagedepth != 1:
            raise SourceError(f"{where} is a volume; split it into pages first")
        samples = int(page.samplesperpixel)
        color = photometric in _RGB and samples in (3, 4)
        if color and samples == 4 and page.extrasamples and page.extrasamples[0] not in _STRAIGHT:
            raise SourceError(f"{where} holds colours that are multiplied by their transparency")
        copies = [copy.aspage() for copy in page.pages or ()]
        if any(copy.offset == page.offset for copy in copies):
            raise SourceError(f"{where} is a reduced copy of itself; check the file")
        height, width = int(page.imagelength), int(page.imagewidth)
        segment = (
            (int(page.tilelength), int(page.tilewidth))
            if page.is_tiled
            else (min(int(page.rowsperstrip), height), width)
        )
        return TiffPlane(
            f"page {page.index + 1}",
            height,
            width,
            samples,
            dtype.newbyteorder("="),
            color,
            photometric == "MINISWHITE",
            tuple((int(one.imagelength), int(one.imagewidth)) for one in copies),
            segment,
            bool(page.is_tiled),
            int(page.compression) != _UNCOMPRESSED,
            page,
        )

    def _refuse_hidden(self, pages: int) -> None:
        """Refuse pictures that no page tells of: ImageJ's beyond 4 GB."""
        series = self._file.series[0] if self._file.is_imagej else None
        if series is not None and pages == 1 and series.ndim > 2 and series.dims[0] != "S":
            count = int(
                np.prod(
                    [
                        length
                        for length, axis in zip(series.shape, series.axes, strict=True)
                        if axis not in "YXS"
                    ]
                )
            )
            if count > 1:
                raise SourceError(
                    f"{self.path}: holds {count} pictures behind one page, as ImageJ writes more"
                    " than 4 GB; save it as OME-TIFF first"
                )

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (EdgerestoreError, MemoryError):
            raise
        except Exception as error:  # of a damaged file tifffile raises nearly anything
            # Some decoders come with a newer Python, too.
            if "imagecodecs" in str(error) or isinstance(error, ImportError):
                raise SourceError(
                    f"{self.path}: its compression needs imagecodecs: {install_command('tiff')}"
                ) from error
            said = f"{type(error).__name__}: {first_line(error)}"
            raise SourceError(f"{self.path}: its TIFF cannot be read ({said})") from error
