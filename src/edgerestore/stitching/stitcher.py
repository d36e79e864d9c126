"""Stitcher: tiles come one by one, in any order, and positions are there at any time."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

from ..errors import ArgumentError, MissingExtraError
from ..extensions import install_command
from ..imaging.arrays import Image, not_finite
from .grid import Cell, Grid
from .pairs import PairOptions, PairShift, Reason, estimate_pair, seam_drift
from .placement import Placement, PlacementOptions, place

__all__ = ["Stitcher", "check_tile"]

_SLACK_PX = 8
_DTYPES = ("uint8", "uint16", "float32")


@dataclass
class _Tile:
    """A tile while a neighbour is still to come: the borders that neighbours may share."""

    borders: dict[str, Image]
    stage: tuple[float, float]


def check_tile(image: Image, name: str, like: Image | None = None) -> None:
    """Refuse what is no tile.

    Parameters
    ----------
    image : ndarray
    name : str
        For messages.
    like : ndarray, optional
        Another tile of the same grid.

    Raises
    ------
    ArgumentError
        On colour, another dtype, NaN, and another size or dtype than that of ``like``.
    """
    if image.ndim != 2:
        what = f"{image.shape[-1]} channels" if image.ndim == 3 else f"{image.ndim} dimensions"
        raise ArgumentError(f"{name}: has {what}; stitch one channel, or convert it to grey first")
    if image.dtype.name not in _DTYPES:
        raise ArgumentError(f"{name}: holds {image.dtype} samples; convert it to u8, u16 or f32")
    if wrong := not_finite(image):
        raise ArgumentError(f"{name}: {wrong}")
    if like is None:
        return
    if image.shape != like.shape:
        raise ArgumentError(
            f"{name}: is {image.shape[1]}x{image.shape[0]} px, other tiles are"
            f" {like.shape[1]}x{like.shape[0]}; tiles of a grid have one size"
        )
    if image.dtype != like.dtype:
        raise ArgumentError(
            f"{name}: holds {image.dtype}, other tiles hold {like.dtype}; convert them first"
        )


class Stitcher:
    """Measures pairs while tiles come, and places tiles by all pairs that are known.

    Of a tile only the borders that a neighbour may share are kept, and only until that neighbour
    has come. A pair is measured in one of a few threads as soon as both tiles are there; the
    order in which tiles come changes nothing.

    Parameters
    ----------
    grid : Grid
    overlap : (float, float)
        Planned, in pixels: of neighbours in a row, and in a column.
    pairs : PairOptions, optional
    placement : PlacementOptions, optional
    drift : bool
        Measure the drift along each seam, too.
    workers : int, optional
        Threads; one for each processor by default.

    Notes
    -----
    A context manager; leaving it waits for what is being measured.
    """

    def __init__(
        self,
        grid: Grid,
        overlap: tuple[float, float],
        *,
        pairs: PairOptions | None = None,
        placement: PlacementOptions | None = None,
        drift: bool = True,
        workers: int | None = None,
    ) -> None:
        if find_spec("scipy") is None:
            raise MissingExtraError(f"stitching needs SciPy: {install_command('stitch')}")
        self.grid, self.overlap = grid, overlap
        self._pair_options = pairs or PairOptions()
        self._placement_options = placement or PlacementOptions()
        self._drift = drift
        self._lock = threading.Lock()
        self._waiting: dict[Cell, _Tile] = {}
        self._stage: dict[Cell, tuple[float, float]] = {}
        self._unread: set[Cell] = set()
        self._pairs: dict[tuple[Cell, Cell], Future[PairShift] | PairShift] = {}
        self._like: Image | None = None
        affinity = getattr(os, "sched_getaffinity", None)
        count = workers or (len(affinity(0)) if affinity else os.cpu_count() or 1)
        self._pool = ThreadPoolExecutor(count, "stitch")
        self._room = threading.Semaphore(2 * count)

    def __enter__(self) -> Stitcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Wait for what is being measured, and end the threads."""
        self._pool.shutdown(cancel_futures=True)

    @property
    def tile_shape(self) -> tuple[int, int]:
        """Height and width of a tile; (0, 0) before the first."""
        return (0, 0) if self._like is None else (self._like.shape[0], self._like.shape[1])

    @property
    def pairs_done(self) -> int:
        """Pairs that are measured."""
        with self._lock:
            return sum(not isinstance(one, Future) or one.done() for one in self._pairs.values())

    def add_tile(
        self,
        image: Image | None,
        row: int,
        column: int,
        stage: tuple[float, float] | None = None,
        name: str = "",
    ) -> None:
        """Take a tile; waits only where measuring falls behind by several pairs.

        Parameters
        ----------
        image : ndarray, u8, u16 or f32, shape (H, W), or None
            None for a tile that could not be read: it is placed by the stage. Not kept: what is
            needed is copied.
        row, column : int
            Place in the grid, from 0.
        stage : (float, float), optional
            Origin (x, y) by the stage, in pixels; by default that of the regular grid.
        name : str
            For messages.

        Raises
        ------
        ArgumentError
            When the cell is outside the grid or taken, or the image is no tile or unlike others.
        """
        cell, name = (row, column), name or f"tile {row}, {column}"
        if cell not in self.grid:
            raise ArgumentError(f"{name}: {row}, {column} lies outside a grid of {self.grid}")
        if image is not None:
            check_tile(image, name, self._like)
        with self._lock:
            if cell in self._stage or cell in self._unread:
                raise ArgumentError(f"{name}: the grid has a tile at {row}, {column} already")
            if image is None:
                self._unread.add(cell)
                if stage is not None:
                    self._stage[cell] = stage
                for pair in self._neighbours(cell):
                    self._pairs[pair] = PairShift(reason=Reason.UNREAD)
                    self._release(pair)
                return
            if self._like is None:
                self._like = np.broadcast_to(np.zeros((), image.dtype), image.shape)
            self._stage[cell] = stage or self._regular(cell)
            self._waiting[cell] = _Tile(self._borders(image, cell), self._stage[cell])
            ready = [
                pair
                for pair in self._neighbours(cell)
                if pair[0] in self._waiting and pair[1] in self._waiting
            ]
        for pair in ready:
            self._start(pair)

    def placement(self) -> Placement:
        """Return positions of all tiles so far, after what is being measured.

        Returns
        -------
        Placement
            Of the tiles that are there, of unread ones too.
        """
        with self._lock:
            pending = dict(self._pairs)
            stage = dict(self._stage)
            for cell in self._unread:
                stage.setdefault(cell, self._regular(cell))
        known = {
            pair: one.result() if isinstance(one, Future) else one for pair, one in pending.items()
        }
        known = {pair: one for pair, one in known.items() if pair[0] in stage and pair[1] in stage}
        return place(list(stage), stage, known, self._placement_options)

    def positions(self) -> Mapping[Cell, tuple[float, float]]:
        """Return the origin (x, y) of every tile so far, in pixels."""
        return self.placement().positions

    def _regular(self, cell: Cell) -> tuple[float, float]:
        height, width = self.tile_shape
        return cell[1] * (width - self.overlap[0]), cell[0] * (height - self.overlap[1])

    def _neighbours(self, cell: Cell) -> list[tuple[Cell, Cell]]:
        row, column = cell
        found = [
            ((row, column - 1), cell), (cell, (row, column + 1)),
            ((row - 1, column), cell), (cell, (row + 1, column)),
        ]  # fmt: skip
        return [pair for pair in found if pair[0] in self.grid and pair[1] in self.grid]

    def _borders(self, image: Image, cell: Cell) -> dict[str, Image]:
        """Return copies of the parts that neighbours may share, by the side they lie on."""
        height, width = image.shape
        options = self._pair_options
        wide = min(width, round(self.overlap[0]) + 2 * options.limit_x + _SLACK_PX)
        tall = min(height, round(self.overlap[1]) + 2 * options.limit_y + _SLACK_PX)
        row, column = cell
        parts: dict[str, tuple[Cell, tuple[slice, slice]]] = {
            "left": ((row, column - 1), (slice(None), slice(wide))),
            "right": ((row, column + 1), (slice(None), slice(width - wide, None))),
            "top": ((row - 1, column), (slice(tall), slice(None))),
            "bottom": ((row + 1, column), (slice(height - tall, None), slice(None))),
        }
        return {
            side: image[part].copy()
            for side, (other, part) in parts.items()
            if other in self.grid and other not in self._unread
        }

    def _start(self, pair: tuple[Cell, Cell]) -> None:
        first, second = pair
        along = first[0] == second[0]
        sides = ("right", "left") if along else ("bottom", "top")
        with self._lock:
            tiles = [self._waiting[cell] for cell in pair]
            one, other = (tile.borders[side] for tile, side in zip(tiles, sides, strict=True))
            plan = np.subtract(tiles[1].stage, tiles[0].stage)
        self._room.acquire()
        future = self._pool.submit(
            self._measure, one, other, (float(plan[0]), float(plan[1])), along
        )
        future.add_done_callback(lambda _: self._room.release())
        with self._lock:
            self._pairs[pair] = future
            self._release(pair)

    def _release(self, pair: tuple[Cell, Cell]) -> None:
        """Forget borders that nobody needs any more."""
        first, second = pair
        sides = ("right", "left") if first[0] == second[0] else ("bottom", "top")
        for cell, side in zip(pair, sides, strict=True):
            if cell in self._waiting:
                self._waiting[cell].borders.pop(side, None)

    def _measure(
        self, one: Image, other: Image, plan: tuple[float, float], along: bool
    ) -> PairShift:
        """Measure a pair of borders; the first one's origin is not the tile's."""
        height, width = self.tile_shape
        moved_x = float(width - one.shape[1]) if along else 0.0
        moved_y = 0.0 if along else float(height - one.shape[0])
        options = self._pair_options
        found = estimate_pair(one, other, (plan[0] - moved_x, plan[1] - moved_y), options)
        if self._drift:
            found = seam_drift(one, other, found, options)
        return found.moved(moved_x, moved_y)
