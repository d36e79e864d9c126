"""Planes of an array in memory, or of one that is read as it is sliced (Dask, Zarr)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from ..errors import ArgumentError
from ..imaging.arrays import Image, native
from .planes import DTYPES, Plane, SegmentCache, VolumeImage
from .regions import Region

__all__ = ["ArrayPlanes"]

_STACKS = ("", "z", "tz", "tcz")


class ArrayPlanes:
    """`PlaneSource` over an array, whose last two axes are rows and columns, colour aside.

    Parameters
    ----------
    data : array-like, shape (..., H, W) or, in colour, (..., H, W, 3 or 4), u8, u16 or f32
    name : str
        For messages.
    color : bool
    pixel : mapping of str to float
        Physical size of a pixel, by axis.
    units : mapping of str to str

    Raises
    ------
    ArgumentError
        On another dtype.
    """

    def __init__(
        self,
        data: Any,
        name: str,
        *,
        color: bool = False,
        pixel: Mapping[str, float] | None = None,
        units: Mapping[str, str] | None = None,
    ) -> None:
        dtype = np.dtype(data.dtype)
        if dtype.name not in DTYPES:
            raise ArgumentError(f"{name}: dtype {dtype} is not restored; use {', '.join(DTYPES)}")
        self.path, self.cache = Path(name), SegmentCache(0)
        self._data, self._pixel, self._units = data, pixel or {}, units or {}
        ends = 3 if color else 2
        self.stack: tuple[int, ...] = tuple(data.shape[: len(data.shape) - ends])
        height, width = data.shape[len(self.stack) : len(self.stack) + 2]
        self.places = list(np.ndindex(*self.stack))
        self.planes: Sequence[Plane] = [
            Plane(
                name=f"plane {', '.join(map(str, place))}" if place else "the plane",
                height=height,
                width=width,
                samples=data.shape[-1] if color else 1,
                dtype=dtype.newbyteorder("="),
                color=color,
                inverted=False,
                reduced=(),
                segment=(1, width),
                tiled=False,
                compressed=False,
            )
            for place in self.places
        ]

    def images(self) -> list[VolumeImage]:
        """Return the one image that the planes make.

        Raises
        ------
        ArgumentError
            When it has more axes than OME-Zarr.
        """
        if len(self.stack) >= len(_STACKS):
            raise ArgumentError(f"{self.path}: has more axes than t, c, z, y and x; export a part")
        axes, sizes = _STACKS[len(self.stack)], self.stack
        if self.planes[0].samples > 1:
            if "c" in axes:
                raise ArgumentError(f"{self.path}: has channels and colour; export a part")
            # The samples of a colour are channels, and planes lie side by side in the others.
            if axes == "tz":
                axes, sizes = "tcz", (self.stack[0], self.planes[0].samples, self.stack[1])
            else:
                axes = "c" + axes
                sizes = (self.planes[0].samples, *self.stack)
        name = str(self.path)
        pixel = {axis: self._pixel[axis] for axis in (*axes, "y", "x") if axis in self._pixel}
        return [VolumeImage(name, axes, sizes, tuple(self.planes), pixel=pixel, units=self._units)]

    def ome_xml(self) -> str | None:
        """Return None: an array has no OME model."""
        return None

    def read(self, plane: Plane, region: Region) -> Image:
        """Return a region of a plane, as the array is sliced."""
        place = self.places[next(at for at, one in enumerate(self.planes) if one is plane)]
        rows = slice(region.top, region.top + region.height)
        columns = slice(region.left, region.left + region.width)
        return native(np.ascontiguousarray(np.asarray(self._data[(*place, rows, columns)])))

    def facts(self) -> dict[str, Any]:
        """Return what tells this array from another one."""
        return {"name": str(self.path), "shape": list(self._data.shape)}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
