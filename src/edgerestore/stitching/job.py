"""A mosaic from files: tiles read once, pairs measured, positions found, the mosaic written."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..engine.restorer import Restorer
from ..errors import ArgumentError, EdgerestoreError, SourceError, counted
from ..imaging.arrays import Image
from ..microscopy.sharded_store import check_store
from .grid import Cell, Grid, parse_overlap
from .mosaic import Canvas, MosaicReader, Seam
from .pairs import PairOptions
from .placement import Placement, PlacementOptions
from .positions import read_stage
from .restored_tiles import RestoredTiles, RestoreStage
from .stitcher import Stitcher, check_tile
from .tiles import TileSet, in_raster, open_tiles
from .writers import check_name, write_tiff
from .zarr_mosaic import write_zarr

__all__ = ["StitchOptions", "Stitched", "stitch_files"]

_logger = logging.getLogger(__name__)

Tick = Callable[[int, int, str], None]


@dataclass(frozen=True)
class StitchOptions:
    """How a mosaic is made.

    Parameters
    ----------
    overlap : str
        As `parse_overlap` takes it.
    pairs : PairOptions
    placement : PlacementOptions
    seam : Seam
    subpixel : bool
        Resample tiles by fractions of a pixel; else every pixel is one of a tile.
    stage : Path, optional
        Positions by the stage; else those that the files state, else the regular grid.
    stage_unit : str, optional
        Of a list that does not say.
    pixel_um : (float, float), optional
        Size of a pixel; else as the files state it.
    restore : RestoreStage
        When tiles are restored, where a restorer is given.
    """

    overlap: str
    pairs: PairOptions = field(default_factory=PairOptions)
    placement: PlacementOptions = field(default_factory=PlacementOptions)
    seam: Seam = Seam.FIRST
    subpixel: bool = False
    stage: Path | None = None
    stage_unit: str | None = None
    pixel_um: tuple[float, float] | None = None
    restore: RestoreStage = RestoreStage.WRITING


@dataclass
class Stitched:
    """A mosaic that was made, and what its audit needs.

    Parameters
    ----------
    tiles : TileSet
    placement : Placement
    canvas : Canvas
    options : StitchOptions
    overlap : (float, float)
        Planned, in pixels.
    dtype : numpy.dtype
    pixel_um : (float, float) or None
    stage_source : str
        Where planned positions come from.
    measured_on, shown : str
        ``measured`` or ``restored``: the pixels of pairs, and of the mosaic.
    restored_by : str
        Model, strength and precision; empty where nothing is restored.
    unread : dict
        Cell -> why its tile could not be read.
    seconds : dict
        By step.
    read : callable
        Given a cell; returns the pixels that pairs were measured on, None for an unread tile.
    """

    tiles: TileSet
    placement: Placement
    canvas: Canvas
    options: StitchOptions
    overlap: tuple[float, float]
    dtype: np.dtype[Any]
    pixel_um: tuple[float, float] | None
    stage_source: str
    measured_on: str = "measured"
    shown: str = "measured"
    restored_by: str = ""
    unread: dict[Cell, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    read: Callable[[Cell], Image | None] = lambda _cell: None

    @property
    def max_residual_px(self) -> float:
        """Largest residual of a measured pair."""
        return max(
            (one.residual_px for one in self.placement.edges if one.is_measured), default=0.0
        )

    def __str__(self) -> str:
        """Return the last line of a run."""
        edges = self.placement.edges
        measured = sum(one.is_measured for one in edges)
        outliers = sum(one.outlier for one in edges)
        parts = [
            f"{counted(len(self.placement.positions), 'tile')} in"
            f" {self.canvas.width}x{self.canvas.height} px",
            f"{measured} of {counted(len(edges), 'pair')} measured",
            f"largest residual {self.max_residual_px:.2f} px",
        ]
        if outliers:
            parts.append(f"{counted(outliers, 'outlier')} left out")
        if self.placement.unmeasured:
            parts.append(f"{counted(len(self.placement.unmeasured), 'tile')} placed by the stage")
        if pairs_s := self.seconds.get("pairs"):
            parts.append(f"{len(edges) / pairs_s:.1f} pairs a second")
        parts.append(f"{sum(self.seconds.values()):.1f} s")
        return "; ".join(parts)


class _Files:
    """Reader of tiles, all of one kind; what cannot be read is told once."""

    def __init__(self, tiles: TileSet) -> None:
        self.tiles, self.unread = tiles, dict[Cell, str]()
        self.like: Image | None = None

    def __call__(self, cell: Cell) -> Image | None:
        file = self.tiles.files[cell]
        if cell in self.unread:
            return None
        try:
            tile = file.read()
        except SourceError as error:
            self.unread[cell] = str(error)
            _logger.warning("%s; the tile is left blank, its place is by the stage", error)
            return None
        check_tile(tile, str(file.path), self.like)
        if self.like is None:
            self.like = np.broadcast_to(np.zeros((), tile.dtype), tile.shape)
        return tile


def stitch_files(
    source: str,
    grid: Grid,
    output: Path | None,
    options: StitchOptions,
    *,
    restorer: Restorer | None = None,
    overwrite: bool = False,
    resume: bool = False,
    tick: Tick | None = None,
    audit: Callable[[Stitched], None] | None = None,
) -> Stitched:
    """Stitch tiles into a mosaic.

    Parameters
    ----------
    source : str
        As `open_tiles` takes it.
    grid : Grid
    output : Path or None
        None to find positions only.
    options : StitchOptions
    restorer : Restorer, optional
    overwrite : bool
    resume : bool
        Go on with an OME-Zarr that was begun.
    tick : callable, optional
        Given steps done and all, and a label.
    audit : callable, optional
        Given what was found while tiles can still be read, before the mosaic is written.

    Raises
    ------
    EdgerestoreError
        The first failure; nothing unfinished is left behind.
    """
    if output is not None:
        check_name(output)
        if output.suffix.lower() == ".zarr":
            check_store(output, overwrite=overwrite, resume=resume)
        elif resume:
            raise ArgumentError("--resume goes on with an OME-Zarr; a TIFF is written anew")
    tiles = open_tiles(source, grid)
    if len(tiles.files) < 2:
        raise ArgumentError(f"{source}: one tile needs no stitching")
    files = _Files(tiles)
    begun = time.perf_counter()
    first = _first_readable(files)
    overlap = parse_overlap(options.overlap, *first.shape)
    _check_search(options, overlap)
    pixel_um = options.pixel_um or tiles.pixel_um
    stage, stage_source = _stage(tiles, options, pixel_um)
    with ExitStack() as stack:
        restored: RestoredTiles | None = None
        if restorer is not None:
            folder = output.parent if output is not None else Path.cwd()
            restored = stack.enter_context(RestoredTiles(restorer, files, folder))
            restored.share_range(list(tiles.files))
        estimated = (
            files if restored is None or options.restore is RestoreStage.WRITING else restored
        )
        placement = _measure(tiles, estimated, overlap, stage, options, tick)
        found = Stitched(
            tiles,
            placement,
            Canvas.around(placement.positions, first.shape[:2], subpixel=options.subpixel),
            options,
            overlap,
            first.dtype,
            pixel_um,
            stage_source,
            unread=files.unread,
            read=estimated,
        )
        if restored is not None:
            found.measured_on, found.shown = options.restore.pixels
            found.restored_by = restored.words
        found.seconds["pairs"] = time.perf_counter() - begun
        begun = time.perf_counter()
        if audit is not None:
            audit(found)
            found.seconds["audit"] = time.perf_counter() - begun
        begun = time.perf_counter()
        if output is not None:
            mosaic = MosaicReader(found.canvas, restored or files, first.dtype, options.seam)
            note = _note(found, restored)
            if output.suffix.lower() == ".zarr":
                write_zarr(
                    output, mosaic, _facts(found), note=note, pixel_um=pixel_um,
                    overwrite=overwrite, resume=resume, inputs=tiles.paths, tick=tick,
                )  # fmt: skip
            else:
                write_tiff(
                    output, mosaic, note=note, pixel_um=pixel_um, overwrite=overwrite,
                    inputs=tiles.paths, tick=tick,
                )  # fmt: skip
            found.seconds["mosaic"] = time.perf_counter() - begun
    return found


def _first_readable(files: _Files) -> Image:
    for cell, _ in in_raster(files.tiles):
        if (tile := files(cell)) is not None:
            return tile
    raise SourceError(next(iter(files.unread.values())))


def _check_search(options: StitchOptions, overlap: tuple[float, float]) -> None:
    least = options.pairs.min_overlap
    for axis, (value, limit) in enumerate(
        zip(overlap, (options.pairs.limit_x, options.pairs.limit_y), strict=True)
    ):
        if value + limit < least:
            raise ArgumentError(
                f"--overlap {value:g} px in {'xy'[axis]} with --search {limit} never reaches"
                f" --min-overlap {least}"
            )


def _stage(
    tiles: TileSet, options: StitchOptions, pixel_um: tuple[float, float] | None
) -> tuple[dict[Cell, tuple[float, float]], str]:
    if options.stage is not None:
        found = read_stage(options.stage, tiles.grid, tiles.names, pixel_um, options.stage_unit)
        return found, options.stage.name
    if tiles.stage_um and pixel_um is not None:
        return {
            cell: (x / pixel_um[0], y / pixel_um[1]) for cell, (x, y) in tiles.stage_um.items()
        }, "OME-XML"
    return {}, "the regular grid"


def _measure(
    tiles: TileSet,
    read: Callable[[Cell], Image | None],
    overlap: tuple[float, float],
    stage: dict[Cell, tuple[float, float]],
    options: StitchOptions,
    tick: Tick | None,
) -> Placement:
    stitcher = Stitcher(tiles.grid, overlap, pairs=options.pairs, placement=options.placement)
    with stitcher:
        for done, (cell, file) in enumerate(in_raster(tiles)):
            try:
                stitcher.add_tile(read(cell), *cell, stage=stage.get(cell), name=str(file.path))
            except EdgerestoreError as error:
                if str(file.path) in str(error):
                    raise
                raise type(error)(f"{file.path}: {error}") from error
            if tick is not None:
                tick(done + 1, len(tiles.files), "pairs")
        return stitcher.placement()


def _facts(found: Stitched) -> dict[str, Any]:
    """Return what a mosaic is made of: another one's shards are not gone on with."""
    states = [(str(path), path.stat()) for path in found.tiles.paths]
    return {
        "tiles": [[name, state.st_size, state.st_mtime_ns] for name, state in states],
        "origins": [[*cell, *place] for cell, place in found.canvas.origins.items()],
        "size": [found.canvas.width, found.canvas.height],
        "seam": str(found.options.seam),
        "restored": found.restored_by,
    }


def _note(found: Stitched, restored: RestoredTiles | None) -> str:
    made = f"edgerestore stitch: {found.tiles.grid} tiles, seam {found.options.seam}"
    if restored is None:
        return f"{made}; pixels as measured{', resampled' if found.options.subpixel else ''}"
    on = "restored" if found.measured_on == "restored" else "measured"
    return f"{made}; pixels restored by {restored.words}, positions from {on} pixels"
