"""Planes of a TIFF file, read by region: as many as it has pages, of any size and any layout."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..errors import SourceError, first_line
from ..extensions import install_command
from ..imaging.arrays import Image
from ..imaging.error_translation import held_back
from ..imaging.stated_size import MAX_PIXELS
from .regions import Region

if TYPE_CHECKING:
    from tifffile import TiffPage

__all__ = ["Plane", "TiffPlanes", "holds_planes"]

_DTYPES = ("uint8", "uint16", "float32")
_GREY, _RGB = ("MINISBLACK", "MINISWHITE"), ("RGB", "YCBCR")
_CACHED_BYTES = 128 << 20  # of decoded segments, which neighbouring regions share
_STRAIGHT = (0, 2)


@dataclass(frozen=True)
class Plane:
    """One page of a TIFF.

    Parameters
    ----------
    height, width : int
    samples : int
        1, or more side by side: of a colour 3 or 4, else channels.
    dtype : numpy.dtype
        u8, u16 or f32, of native byte order.
    color : bool
        The samples are red, green, blue, and straight transparency.
    inverted : bool
        0 is white.
    reduced : tuple of (int, int)
        Height and width of its reduced copies.
    page : TiffPage
        With its tags.
    """

    height: int
    width: int
    samples: int
    dtype: np.dtype[Any]
    color: bool
    inverted: bool
    reduced: tuple[tuple[int, int], ...]
    page: TiffPage

    @property
    def segment(self) -> tuple[int, int]:
        """Height and width of its tiles, or of its strips."""
        if self.page.is_tiled:
            return int(self.page.tilelength), int(self.page.tilewidth)
        return min(int(self.page.rowsperstrip), self.height), self.width


def holds_planes(path: Path) -> bool:
    """Return whether a TIFF holds more than one picture of 1, 3 or 4 channels, or a large one.

    False of what is no TIFF, or damaged.
    """
    import tifffile

    try:
        with held_back("tifffile"), tifffile.TiffFile(path) as file:
            page = file.pages.first
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
    planes : list of Plane
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
        self._lock = threading.Lock()
        self._cache: OrderedDict[tuple[int, int], Image] = OrderedDict()
        self._cached_bytes = 0
        with self._translated():
            self._file = tifffile.TiffFile(path)
        try:
            with self._translated(), held_back("tifffile") as remarks:
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

    def read(self, plane: Plane, region: Region) -> Image:
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
                    segment = self._segment(page, (part * down + row) * across + column)
                    top, left = row * tall, column * wide
                    rows = max(region.top, top), min(bottom, top + tall, plane.height)
                    columns = max(region.left, left), min(right, left + wide, plane.width)
                    image[
                        rows[0] - region.top : rows[1] - region.top,
                        columns[0] - region.left : columns[1] - region.left,
                        samples,
                    ] = (
                        page.nodata
                        if segment is None
                        else segment[
                            rows[0] - top : rows[1] - top, columns[0] - left : columns[1] - left
                        ]
                    )
        return image if plane.samples > 1 else image[..., 0]

    def _segment(self, page: TiffPage, index: int) -> Image | None:
        """Return a decoded strip or tile, shape (H, W, S); None where the file leaves it out."""
        key = page.index, index
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
            if index >= len(page.dataoffsets) or not page.databytecounts[index]:
                return None
            with self._translated():
                self._file.filehandle.seek(page.dataoffsets[index])
                raw = self._file.filehandle.read(page.databytecounts[index])
        if len(raw) < page.databytecounts[index]:
            raise SourceError(f"{self.path}: is cut off; check the file")
        with self._translated():
            made = page.decode(raw, index, jpegtables=page.jpegtables, jpegheader=page.jpegheader)[
                0
            ]
            segment: Image = np.asarray(made)[0]
        with self._lock:
            if key not in self._cache:
                self._cache[key] = segment
                self._cached_bytes += segment.nbytes
            while self._cached_bytes > _CACHED_BYTES and len(self._cache) > 1:
                self._cached_bytes -= self._cache.popitem(last=False)[1].nbytes
        return segment

    def _plane(self, page: TiffPage) -> Plane:
        dtype, where = np.dtype(page.dtype or "V"), f"{self.path}: page {page.index + 1}"
        photometric = getattr(page.photometric, "name", str(page.photometric))
        if dtype.name not in _DTYPES:
            raise SourceError(f"{where} holds {dtype} samples; convert them to u8, u16 or f32")
        if photometric not in (*_GREY, *_RGB):
            raise SourceError(f"{where} holds {photometric} colours; convert it to RGB first")
        if page.imagedepth != 1:
            raise SourceError(f"{where} is a volume; split it into pages first")
        samples = int(page.samplesperpixel)
        color = photometric in _RGB and samples in (3, 4)
        if color and samples == 4 and page.extrasamples and page.extrasamples[0] not in _STRAIGHT:
            raise SourceError(f"{where} holds colours that are multiplied by their transparency")
        return Plane(
            int(page.imagelength),
            int(page.imagewidth),
            samples,
            dtype.newbyteorder("="),
            color,
            photometric == "MINISWHITE",
            tuple(
                (int(one.imagelength), int(one.imagewidth))
                for one in (copy.aspage() for copy in page.pages or ())
            ),
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
        except (SourceError, MemoryError):
            raise
        except Exception as error:  # of a damaged file tifffile raises nearly anything
            # Some decoders come with a newer Python, too.
            if "imagecodecs" in str(error) or isinstance(error, ImportError):
                raise SourceError(
                    f"{self.path}: its compression needs imagecodecs: {install_command('tiff')}"
                ) from error
            said = f"{type(error).__name__}: {first_line(error)}"
            raise SourceError(f"{self.path}: its TIFF cannot be read ({said})") from error
