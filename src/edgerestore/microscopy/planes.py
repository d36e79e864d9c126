"""Planes of an image file: read by region from whatever holds them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from ..imaging.arrays import Image
from .regions import Region

__all__ = ["DTYPES", "Plane", "PlaneSource", "SegmentCache", "VolumeImage"]

DTYPES = ("uint8", "uint16", "float32")
"""Samples that are restored."""


@dataclass(frozen=True)
class Plane:
    """Picture of two dimensions: a page of a TIFF, or a z, t and channel of an OME-Zarr.

    Parameters
    ----------
    name : str
        What messages call it: ``page 3``, ``t 0, c 1``.
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
    segment : (int, int)
        Height and width of what is decoded at a time: a tile, a strip, a chunk.
    tiled, compressed : bool
        How it is stored: segments beside each other, not only below each other.
    """

    name: str
    height: int
    width: int
    samples: int
    dtype: np.dtype[Any]
    color: bool
    inverted: bool
    reduced: tuple[tuple[int, int], ...]
    segment: tuple[int, int]
    tiled: bool
    compressed: bool


@dataclass(frozen=True)
class VolumeImage:
    """Planes that make one image of up to five axes.

    Parameters
    ----------
    name : str
    axes : str
        Those of t, c and z that it has, in this order: ``cz``.
    sizes : tuple of int
        Along them.
    planes : tuple of Plane
        The last axis fastest; samples of a plane are channels.
    steps : tuple of mapping of str to int
        How much smaller each reduced copy is than the one before, by axis.
    pixel : mapping of str to float
        Physical size of a pixel, by axis; of ``t`` the time between two.
    units : mapping of str to str
        As OME-Zarr names them: ``micrometer``.
    channels : tuple of str
        Their names, where they have some.
    """

    name: str
    axes: str
    sizes: tuple[int, ...]
    planes: tuple[Plane, ...]
    steps: tuple[Mapping[str, int], ...] = ()
    pixel: Mapping[str, float] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    channels: tuple[str, ...] = ()

    def index(self, plane: Plane) -> dict[str, int]:
        """Return where a plane lies; its first channel, where it holds several."""
        number = next(at for at, one in enumerate(self.planes) if one is plane)
        counts = [
            size // plane.samples if axis == "c" else size
            for axis, size in zip(self.axes, self.sizes, strict=True)
        ]
        place = np.unravel_index(number, counts) if counts else ()
        return {
            axis: int(at) * (plane.samples if axis == "c" else 1)
            for axis, at in zip(self.axes, place, strict=True)
        }


class PlaneSource(Protocol):
    """Image file whose planes are read by region. A context manager.

    Any thread may read. What is decoded is kept as far as ``cache`` allows, since neighbouring
    regions share it.

    Attributes
    ----------
    path : Path
    cache : SegmentCache
    """

    path: Path
    cache: SegmentCache

    @property
    def planes(self) -> Sequence[Plane]:
        """All planes, in the order of the file."""

    def images(self) -> list[VolumeImage]:
        """Return the images that the planes make.

        Raises
        ------
        SourceError
            When they make none of up to five axes.
        """

    def ome_xml(self) -> str | None:
        """Return the OME model of the file, where it has one."""

    def read(self, plane: Plane, region: Region) -> Image:
        """Return a region, shape (H, W) or (H, W, C), in the samples of the file.

        Raises
        ------
        SourceError
            When a part of it is damaged or missing.
        """

    def facts(self) -> dict[str, Any]:
        """Return what tells this input from another one, for a journal."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class SegmentCache:
    """Decoded segments, the latest used of them, up to a number of bytes. For any thread.

    Parameters
    ----------
    most_bytes : int
        The latest segment is kept whatever its size.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes, self._bytes = most_bytes, 0
        self._lock = threading.Lock()
        self._held: OrderedDict[Hashable, Image] = OrderedDict()

    def get(self, key: Hashable) -> Image | None:
        """Return a segment, if it is held."""
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
            return None

    def put(self, key: Hashable, segment: Image) -> None:
        """Hold a segment, in place of those used longest ago."""
        with self._lock:
            if key not in self._held:
                self._held[key] = segment
                self._bytes += segment.nbytes
            while self._bytes > self.most_bytes and len(self._held) > 1:
                self._bytes -= self._held.popitem(last=False)[1].nbytes
