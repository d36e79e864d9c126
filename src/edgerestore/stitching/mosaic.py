"""Mosaic by parts: what of which tile shows where, without ever holding the whole."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from ..imaging.arrays import Image
from ..microscopy.regions import Region
from .grid import Cell

__all__ = ["Canvas", "MosaicReader", "Seam"]

_RESAMPLING_PX = 4  # reach of Lanczos' kernel


class Seam(StrEnum):
    """What shows where tiles overlap."""

    FIRST = "first"
    LAST = "last"
    MEAN = "mean"
    LINEAR = "linear"


@dataclass(frozen=True)
class Canvas:
    """Where tiles lie in the mosaic.

    Parameters
    ----------
    origins : dict
        Cell -> origin (x, y) in the mosaic's pixels, 0 or more; whole unless ``subpixel``.
    height, width : int
    tile_height, tile_width : int
    left, top : int
        Of the mosaic's first pixel, in the coordinates of the placement.
    """

    origins: dict[Cell, tuple[float, float]]
    height: int
    width: int
    tile_height: int
    tile_width: int
    left: int
    top: int

    @classmethod
    def around(
        cls,
        positions: Mapping[Cell, tuple[float, float]],
        tile: tuple[int, int],
        *,
        subpixel: bool = False,
    ) -> Canvas:
        """Return the least canvas that holds all tiles.

        A tile that no pair holds lies on the stage's plan, so the canvas is never larger than
        the planned grid plus the largest shift that was measured.

        Parameters
        ----------
        positions : mapping
            Cell -> origin (x, y).
        tile : (int, int)
            Height and width.
        subpixel : bool
            Keep fractions; else each origin is rounded.
        """
        origins = {
            cell: (x, y) if subpixel else (float(round(x)), float(round(y)))
            for cell, (x, y) in positions.items()
        }
        left, top = (math.floor(min(place[axis] for place in origins.values())) for axis in (0, 1))
        right, bottom = (
            math.ceil(max(place[axis] for place in origins.values())) for axis in (0, 1)
        )
        return cls(
            {cell: (x - left, y - top) for cell, (x, y) in sorted(origins.items())},
            bottom - top + tile[0],
            right - left + tile[1],
            *tile,
            left,
            top,
        )

    @cached_property
    def _places(self) -> NDArray[np.float64]:
        return np.array(list(self.origins.values())).reshape(-1, 2)

    def tiles_in(self, region: Region) -> list[Cell]:
        """Return cells whose tile shows in a region, in raster order."""
        x, y = self._places.T
        shown = (
            (y < region.top + region.height)
            & (y + self.tile_height > region.top)
            & (x < region.left + region.width)
            & (x + self.tile_width > region.left)
        )
        cells = list(self.origins)
        return [cells[at] for at in np.flatnonzero(shown)]


@dataclass
class MosaicReader:
    """Reader of regions of a mosaic, made of tiles when they are asked for.

    Where origins are whole, a pixel of the mosaic is one of a tile, bit for bit, outside of
    blended overlaps. Nothing but 0 is where no tile is.

    Parameters
    ----------
    canvas : Canvas
    read : callable
        Given a cell; returns its tile, or None where there is none to show.
    dtype : numpy.dtype
    seam : Seam
    cache_bytes : int
        Of decoded tiles.
    """

    canvas: Canvas
    read: Callable[[Cell], Image | None]
    dtype: np.dtype[np.generic]
    seam: Seam = Seam.FIRST
    cache_bytes: int = 256 << 20
    _cache: OrderedDict[Cell, Image | None] = field(default_factory=OrderedDict, repr=False)

    def region(self, region: Region) -> Image:
        """Return a region of the mosaic.

        Parameters
        ----------
        region : Region

        Returns
        -------
        ndarray, shape (height, width)
        """
        cells = self.canvas.tiles_in(region)
        if self.seam in (Seam.FIRST, Seam.LAST):
            made = np.zeros((region.height, region.width), self.dtype)
            # What is written last shows.
            for cell in reversed(cells) if self.seam is Seam.FIRST else cells:
                if (spot := self._spot(cell, region)) is not None:
                    where, pixels = spot
                    made[where] = pixels
            return made
        return self._blended(cells, region)

    def _blended(self, cells: list[Cell], region: Region) -> Image:
        total = np.zeros((region.height, region.width), np.float64)
        weights = np.zeros_like(total)
        for cell in cells:
            if (spot := self._spot(cell, region)) is None:
                continue
            where, pixels = spot
            weight = self._weight(cell, region, where)
            total[where] += pixels * weight
            weights[where] += weight
        made = np.divide(total, weights, out=np.zeros_like(total), where=weights > 0)
        return (np.rint(made) if np.issubdtype(self.dtype, np.integer) else made).astype(self.dtype)

    def _weight(
        self, cell: Cell, region: Region, where: tuple[slice, slice]
    ) -> NDArray[np.float64]:
        """Return the weight of a tile's pixels: even, or falling to its border."""
        rows, columns = where
        if self.seam is Seam.MEAN:
            return np.ones((rows.stop - rows.start, columns.stop - columns.start))
        x, y = self.canvas.origins[cell]
        falls = []
        for span, start, origin, side in (
            (rows, region.top, y, self.canvas.tile_height),
            (columns, region.left, x, self.canvas.tile_width),
        ):
            place = np.arange(span.start, span.stop) + start - origin
            falls.append(np.minimum(place + 1, side - place).clip(1e-3))
        return np.asarray(np.minimum.outer(*falls))

    def _spot(self, cell: Cell, region: Region) -> tuple[tuple[slice, slice], Image] | None:
        """Return where a tile shows in a region, and its pixels there."""
        x, y = self.canvas.origins[cell]
        left, top = math.floor(x), math.floor(y)
        first = max(0, region.top - top), max(0, region.left - left)
        last = (
            min(self.canvas.tile_height, region.top + region.height - top),
            min(self.canvas.tile_width, region.left + region.width - left),
        )
        if first[0] >= last[0] or first[1] >= last[1] or (tile := self._tile(cell)) is None:
            return None
        rows, columns = slice(first[0], last[0]), slice(first[1], last[1])
        where = (
            slice(rows.start + top - region.top, rows.stop + top - region.top),
            slice(columns.start + left - region.left, columns.stop + left - region.left),
        )
        if x == left and y == top:
            return where, tile[rows, columns]
        return where, self._resampled(tile, y - top, x - left, rows, columns)

    def _resampled(self, tile: Image, y: float, x: float, rows: slice, columns: slice) -> Image:
        """Return a part of a tile moved by a fraction of a pixel (Lanczos, four lobes)."""
        reach = np.arange(-_RESAMPLING_PX, _RESAMPLING_PX + 1)

        def kernel(fraction: float) -> NDArray[np.float64]:
            place = reach + fraction
            found = np.sinc(place) * np.sinc(place / _RESAMPLING_PX)
            return np.asarray(np.where(np.abs(place) < _RESAMPLING_PX, found, 0) / found.sum())

        start = max(0, rows.start - _RESAMPLING_PX), max(0, columns.start - _RESAMPLING_PX)
        part = tile[start[0] : rows.stop + _RESAMPLING_PX, start[1] : columns.stop + _RESAMPLING_PX]
        moved = cv2.sepFilter2D(
            np.asarray(part, np.float32), cv2.CV_32F, kernel(x), kernel(y),
            borderType=cv2.BORDER_REPLICATE,
        )  # fmt: skip
        moved = moved[rows.start - start[0] :, columns.start - start[1] :]
        moved = moved[: rows.stop - rows.start, : columns.stop - columns.start]
        if np.issubdtype(self.dtype, np.integer):
            most = np.iinfo(self.dtype).max  # type: ignore[type-var]
            return np.clip(np.rint(moved), 0, most).astype(self.dtype)
        return moved.astype(self.dtype)

    def _tile(self, cell: Cell) -> Image | None:
        if cell in self._cache:
            self._cache.move_to_end(cell)
            return self._cache[cell]
        tile = self.read(cell)
        self._cache[cell] = tile
        size = self.canvas.tile_height * self.canvas.tile_width * self.dtype.itemsize
        while len(self._cache) > 1 and len(self._cache) * size > self.cache_bytes:
            self._cache.popitem(last=False)
        return tile
