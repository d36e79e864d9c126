"""Tiles on the disk: folders, patterns of names, and pages of a TIFF, as cells of a grid."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ArgumentError, SourceError, counted, first_line
from ..imaging.arrays import Image, native
from ..imaging.error_translation import silenced, translated
from ..imaging.image_files import decode_image, files_in, image_suffixes
from .grid import Cell, Grid

__all__ = ["TileFile", "TileSet", "in_raster", "open_tiles"]

_DIGITS = re.compile(r"(\d+)")
_FIELD = re.compile(r"\{(r+|c+|p+|row|column|index)\}")
_TIFF = (".tif", ".tiff", ".btf", ".tf2", ".tf8")
_BLACK_IS_ZERO = 1
_UM = {"µm": 1.0, "um": 1.0, "μm": 1.0, "nm": 1e-3, "mm": 1e3, "m": 1e6, "cm": 1e4}


@dataclass(frozen=True)
class TileFile:
    """A tile on the disk.

    Parameters
    ----------
    path : Path
    page : int or None
        Of a TIFF of several pages.
    """

    path: Path
    page: int | None = None

    @property
    def name(self) -> str:
        """Name for lists of positions and messages."""
        return self.path.name if self.page is None else f"{self.path.name}#{self.page + 1}"

    def read(self) -> Image:
        """Return its pixels, shape (H, W), or (H, W, C) where it is none for a grid.

        Raises
        ------
        SourceError
            When it cannot be read.
        """
        if self.page is None and self.path.suffix.lower() in _TIFF:
            with silenced(), _Opened(self.path) as file:
                page = file.pages[0]
                # As they are: a float that is no number is the grid's business, not the reader's.
                if len(file.pages) == 1 and page.photometric == _BLACK_IS_ZERO:
                    return native(np.asarray(page.asarray()))
        if self.page is None:
            return native(decode_image(self.path, any_range=True, max_pixels=None)[0])
        with _Opened(self.path) as file:
            return native(np.asarray(file.pages[self.page].asarray()))


@dataclass(frozen=True)
class TileSet:
    """Tiles of a grid; a cell that is not there is a hole.

    Parameters
    ----------
    grid : Grid
    files : dict
        Cell -> where its tile is, in the order of acquisition.
    stage_um : dict
        Cell -> origin (x, y) that the files state, in micrometres.
    pixel_um : (float, float) or None
        Size of a pixel along x and y that the files state.
    """

    grid: Grid
    files: dict[Cell, TileFile]
    stage_um: dict[Cell, tuple[float, float]] = field(default_factory=dict)
    pixel_um: tuple[float, float] | None = None

    @property
    def names(self) -> Mapping[Cell, str]:
        """Names by cell."""
        return {cell: file.name for cell, file in self.files.items()}

    @property
    def paths(self) -> list[Path]:
        """Files that tiles are read from."""
        return list(dict.fromkeys(file.path for file in self.files.values()))

    def holes(self) -> list[Cell]:
        """Return cells without a tile."""
        return [cell for cell in self.grid.cells() if cell not in self.files]


def open_tiles(text: str, grid: Grid) -> TileSet:
    """Find the tiles of a grid.

    Parameters
    ----------
    text : str
        A folder; names with ``*``; names with ``{row}`` and ``{column}``, or ``{index}``, counted
        from 0 or 1 (MIST's ``{rr}``, ``{cc}`` and ``{ppp}`` too), whose missing numbers are holes;
        or a TIFF of several pages or, as OME-TIFF, of several images.
    grid : Grid
        With the order in which a folder, a list, or pages are laid on it.

    Raises
    ------
    SourceError
        When nothing is there, or it cannot be read.
    ArgumentError
        When the count does not fit the grid.
    """
    if _FIELD.search(text):
        return TileSet(grid, _numbered(text, grid))
    path = Path(text)
    if path.is_dir():
        found = sorted(files_in(path, image_suffixes()), key=_natural)
        if not found:
            raise SourceError(f"{path}: holds no pictures; name the folder of the tiles")
    elif any(sign in text for sign in "*?["):
        root = Path(path.anchor)
        pattern = str(path.relative_to(root)) if path.anchor else text
        found = sorted(root.glob(pattern), key=_natural)
        if not found:
            raise SourceError(f"{text}: no file has such a name; check the pattern")
    elif not path.exists():
        raise SourceError(f"{path}: is not there; check the path")
    elif path.suffix.lower() in _TIFF:
        return _of_tiff(path, grid)
    else:
        found = [path]
    return TileSet(grid, _in_order([TileFile(one) for one in found], grid, text))


def _in_order(files: list[TileFile], grid: Grid, what: str) -> dict[Cell, TileFile]:
    count = grid.rows * grid.columns
    if len(files) != count:
        rest = (
            "; name tiles by {row} and {column}, or by {index}, so that holes are known"
            if len(files) < count
            else "; check --grid"
        )
        raise ArgumentError(
            f"{what}: holds {counted(len(files), 'tile')}, a grid of {grid} has {count}{rest}"
        )
    return dict(zip(grid.cells(), files, strict=True))


def _natural(path: Path) -> list[Any]:
    return [int(part) if part.isdigit() else part for part in _DIGITS.split(path.name)]


def _numbered(text: str, grid: Grid) -> dict[Cell, TileFile]:
    """Return tiles by the numbers in their names."""
    kinds = [
        {"r": "row", "c": "column", "p": "index", "i": "index"}[name[0]]
        for name in _FIELD.findall(text)
    ]
    if sorted(kinds) not in (["column", "row"], ["index"]):
        raise ArgumentError(f"{text}: name both {{row}} and {{column}}, or {{index}}")
    pattern, at = "", 0
    for one in _FIELD.finditer(text):
        pattern += re.escape(text[at : one.start()]) + r"(\d+)"
        at = one.end()
    pattern += re.escape(text[at:])
    folder = Path(text).parent
    if _FIELD.search(str(folder)):
        raise ArgumentError(f"{text}: numbers belong in the names of files, not of folders")
    found: dict[tuple[int, ...], Path] = {}
    with translated(SourceError, folder):
        entries = sorted(folder.iterdir())
    for path in entries:
        matched = re.fullmatch(pattern, str(path))
        if matched:
            found[tuple(int(number) for number in matched.groups())] = path
    if not found:
        raise SourceError(f"{text}: no file has such a name; check the pattern")
    least = [min(numbers[axis] for numbers in found) for axis in range(len(kinds))]
    # Counted from 0 or 1; a first row that is not there is a hole, not another origin.
    first = [0 if one == 0 else 1 for one in least]
    cells = list(grid.cells())
    tiles: dict[Cell, TileFile] = {}
    for numbers, path in found.items():
        place = dict(zip(kinds, (n - f for n, f in zip(numbers, first, strict=True)), strict=True))
        if "index" in place:
            cell = cells[place["index"]] if place["index"] < len(cells) else (grid.rows, 0)
        else:
            cell = (place["row"], place["column"])
        if cell not in grid:
            raise ArgumentError(f"{path}: lies outside a grid of {grid}; check --grid")
        tiles[cell] = TileFile(path)
    return {cell: tiles[cell] for cell in cells if cell in tiles}


class _Opened:
    """TIFF that is open, with its errors as ours. A context manager."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Any:
        import tifffile

        with translated(SourceError, self._path):
            try:
                self._file = tifffile.TiffFile(self._path)
            except tifffile.TiffFileError as error:
                raise SourceError(f"{self._path}: is no TIFF ({first_line(error)})") from error
        return self._file

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: object
    ) -> None:
        self._file.close()
        if isinstance(error, Exception) and not isinstance(error, (SourceError, ArgumentError)):
            raise SourceError(
                f"{self._path}: its TIFF cannot be read"
                f" ({type(error).__name__}: {first_line(error)})"
            ) from error


def _of_tiff(path: Path, grid: Grid) -> TileSet:
    """Return pages as tiles; of an OME-TIFF, images with what it states of the stage."""
    with silenced(), _Opened(path) as file:
        count = len(file.pages)
        xml = file.ome_metadata if file.is_ome else None
        pages = list(range(count))
        if xml and len(file.series) > 1:
            pages = [int(series.pages[0].index) for series in file.series]
    files = [TileFile(path, page) for page in pages]
    placed = _in_order(files, grid, str(path))
    if not xml:
        return TileSet(grid, placed)
    stage, pixel = _stated(xml, len(files))
    by_cell = dict(zip(placed, stage, strict=False)) if len(stage) == len(files) else {}
    return TileSet(grid, placed, by_cell, pixel)


def _stated(xml: str, count: int) -> tuple[list[tuple[float, float]], tuple[float, float] | None]:
    """Return positions and pixel size of OME-XML, in micrometres; nothing where units are not."""
    positions = []
    planes = re.findall(r"<(?:\w+:)?Plane\b([^>]*)>", xml)
    for text in planes:
        known = dict(re.findall(r'(\w+)="([^"]*)"', text))
        try:
            units = [_UM[known.get(f"Position{axis}Unit", "reference frame")] for axis in "XY"]
            positions.append(
                (float(known["PositionX"]) * units[0], float(known["PositionY"]) * units[1])
            )
        except (KeyError, ValueError):
            return [], _pixel(xml)
    return (positions if len(positions) == count else []), _pixel(xml)


def _pixel(xml: str) -> tuple[float, float] | None:
    found = re.search(r"<(?:\w+:)?Pixels\b([^>]*)>", xml)
    known = dict(re.findall(r'(\w+)="([^"]*)"', found[1])) if found else {}
    try:
        x, y = (
            float(known[f"PhysicalSize{axis}"]) * _UM[known.get(f"PhysicalSize{axis}Unit", "µm")]
            for axis in "XY"
        )
    except (KeyError, ValueError):
        return None
    return (x, y) if x > 0 and y > 0 else None


def in_raster(tiles: TileSet) -> Iterator[tuple[Cell, TileFile]]:
    """Yield tiles row by row, so that few borders wait for a neighbour."""
    yield from sorted(tiles.files.items())
