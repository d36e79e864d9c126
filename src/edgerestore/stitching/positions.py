"""Lists of positions: a stage's, Fiji's, MIST's and OME's, read and written."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping
from pathlib import Path
from xml.sax.saxutils import quoteattr

from ..errors import ArgumentError, SourceError
from ..imaging.error_translation import translated
from .grid import Cell, Grid

__all__ = ["check_list_name", "positions_text", "read_stage"]

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_FIJI = re.compile(rf"^\s*(.+?)\s*;.*;\s*\(\s*({_NUMBER})\s*,\s*({_NUMBER})[^)]*\)\s*$")
_MIST = re.compile(rf"file:\s*(.+?);.*position:\s*\(\s*({_NUMBER})\s*,\s*({_NUMBER})\s*\)")
_PER_UM = {"um": 1.0, "µm": 1.0, "nm": 1e-3, "mm": 1e3}
_FILES, _ROWS, _COLUMNS = ("file", "name", "filename", "tile"), ("row",), ("column", "col")

Positions = Mapping[Cell, tuple[float, float]]


def read_stage(
    path: Path,
    grid: Grid,
    names: Mapping[Cell, str],
    pixel_um: tuple[float, float] | None = None,
    unit: str | None = None,
) -> dict[Cell, tuple[float, float]]:
    """Return the origin (x, y) of tiles by a stage, in pixels.

    Parameters
    ----------
    path : Path
        Fiji's ``TileConfiguration.txt``, MIST's ``global-positions`` or a CSV with a header:
        ``file``, or ``row`` and ``column`` from 0, and x and y with their unit in the name, such
        as ``x_px`` or ``x_um``. A CSV without names is in the order of acquisition.
    grid : Grid
    names : mapping
        Cell -> name of its file.
    pixel_um : (float, float), optional
        Size of a pixel; needed where positions are lengths.
    unit : str, optional
        ``px``, ``nm``, ``um`` or ``mm`` of a CSV that does not say.

    Raises
    ------
    SourceError
        When the file cannot be read, has no positions, or lacks a tile.
    ArgumentError
        When its unit is not known, or the size of a pixel is needed.
    """
    with translated(SourceError, path):
        text = path.read_text(encoding="utf-8", errors="replace")
    lines = text.splitlines()
    cells = {name: cell for cell, name in names.items()}
    found: dict[Cell, tuple[float, float]] = {}
    for pattern in (_MIST, _FIJI):
        rows = [match for line in lines if (match := pattern.search(line))]
        if rows:
            for match in rows:
                if match[1] in cells:
                    found[cells[match[1]]] = (float(match[2]), float(match[3]))
            return _complete(path, found, names)
    return _complete(path, _of_csv(path, text, grid, names, pixel_um, unit), names)


def _complete(
    path: Path, found: dict[Cell, tuple[float, float]], names: Mapping[Cell, str]
) -> dict[Cell, tuple[float, float]]:
    lacking = [name for cell, name in names.items() if cell not in found]
    if lacking:
        raise SourceError(
            f"{path}: has no position of {lacking[0]} ({len(lacking)} tiles lack one)"
        )
    if not all(math.isfinite(value) for place in found.values() for value in place):
        raise SourceError(f"{path}: holds positions that are no numbers")
    return {cell: found[cell] for cell in names}


def _of_csv(
    path: Path,
    text: str,
    grid: Grid,
    names: Mapping[Cell, str],
    pixel_um: tuple[float, float] | None,
    unit: str | None,
) -> dict[Cell, tuple[float, float]]:
    rows = list(csv.DictReader(io.StringIO(text)))
    heads = {(head or "").strip().lower(): head for head in (rows[0] if rows else {})}
    axes = []
    for axis in "xy":
        head = next((head for head in heads if re.fullmatch(rf"{axis}([_ (]*\w+\)?)?", head)), None)
        if head is None:
            raise SourceError(
                f"{path}: has no positions; it is a CSV with x_px and y_px, Fiji's or MIST's list"
            )
        stated = re.sub(r"[_ ()]", "", head[1:]) or unit
        axes.append((heads[head], _scale(path, stated, pixel_um, "xy".index(axis))))

    def named(kinds: tuple[str, ...]) -> str | None:
        return next((heads[kind] for kind in kinds if kind in heads), None)

    file, row, column = named(_FILES), named(_ROWS), named(_COLUMNS)
    cells = {name: cell for cell, name in names.items()}
    order = [cell for cell in grid.cells() if cell in names]
    found = {}
    for at, one in enumerate(rows):
        try:
            if file is not None:
                cell = cells.get(Path(one[file].strip()).name)
            elif row is not None and column is not None:
                cell = (int(one[row]), int(one[column]))
            else:
                cell = order[at] if at < len(order) else None
            if cell in names:
                found[cell] = tuple(float(one[head]) * scale for head, scale in axes)
        except (TypeError, ValueError) as error:
            raise SourceError(f"{path}: line {at + 2} holds no position ({error})") from error
    return found  # type: ignore[return-value]


def _scale(path: Path, unit: str | None, pixel_um: tuple[float, float] | None, axis: int) -> float:
    """Return pixels per unit."""
    if unit in ("px", "pixel", "pixels"):
        return 1.0
    if unit not in _PER_UM:
        said = f"unit {unit!r} is not known" if unit else "does not say its unit"
        raise ArgumentError(f"{path}: {said}; add --stage-unit px, nm, um or mm")
    if pixel_um is None:
        raise ArgumentError(
            f"{path}: positions in {unit} need the size of a pixel: add --pixel-size"
        )
    return _PER_UM[unit] / pixel_um[axis]


def check_list_name(path: Path) -> None:
    """Refuse a name that says no list of positions.

    Raises
    ------
    ArgumentError
        On another ending.
    """
    if not path.name.lower().endswith((".txt", ".csv", ".ome.xml", ".companion.ome")):
        raise ArgumentError(f"{path}: positions are written as .txt, .csv or .ome.xml")


def positions_text(
    path: Path,
    positions: Positions,
    names: Mapping[Cell, str],
    correlated: Mapping[Cell, float],
    pixel_um: tuple[float, float] | None,
    shape: tuple[int, int],
    dtype: str,
) -> str:
    """Return a list of positions, in the format that its name asks for.

    Parameters
    ----------
    path : Path
        ``*.ome.xml`` is OME-XML, ``*.csv`` MIST's fields as CSV, ``*global-positions*.txt`` MIST's
        lines, and any other ``.txt`` Fiji's ``TileConfiguration``.
    positions : mapping
        Cell -> origin (x, y) in pixels.
    names : mapping
    correlated : mapping
        Cell -> best correlation with a neighbour.
    pixel_um : (float, float) or None
    shape : (int, int)
        Height and width of a tile.
    dtype : str

    Raises
    ------
    ArgumentError
        On another ending.
    """
    check_list_name(path)
    cells = sorted(positions)
    name = path.name.lower()
    if name.endswith((".ome.xml", ".companion.ome")):
        return _ome(positions, names, pixel_um, shape, dtype)
    if name.endswith(".csv"):
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("file", "corr", "x_px", "y_px", "column", "row"))
        for cell in cells:
            x, y = positions[cell]
            corr = f"{correlated.get(cell, -1.0):.10f}"
            writer.writerow((names[cell], corr, f"{x:.6f}", f"{y:.6f}", cell[1], cell[0]))
        return file.getvalue()
    if name.endswith(".txt") and "global-positions" in name:
        least = [math.floor(min(place[axis] for place in positions.values())) for axis in (0, 1)]
        return "".join(
            f"file: {names[cell]}; corr: {correlated.get(cell, -1.0):.10f};"
            f" position: ({round(positions[cell][0]) - least[0]},"
            f" {round(positions[cell][1]) - least[1]});"
            f" grid: ({cell[1]}, {cell[0]});\n"
            for cell in cells
        )
    lines = "".join(
        f"{names[cell]}; ; ({positions[cell][0]:.6f}, {positions[cell][1]:.6f})\n" for cell in cells
    )
    return (
        "# Define the number of dimensions we are working on\ndim = 2\n\n"
        f"# Define the image coordinates\n{lines}"
    )


def _ome(
    positions: Positions,
    names: Mapping[Cell, str],
    pixel_um: tuple[float, float] | None,
    shape: tuple[int, int],
    dtype: str,
) -> str:
    kind = {"float32": "float"}.get(dtype, dtype)
    size = (
        f' PhysicalSizeX="{pixel_um[0]:.9g}" PhysicalSizeXUnit="µm"'
        f' PhysicalSizeY="{pixel_um[1]:.9g}" PhysicalSizeYUnit="µm"'
        if pixel_um
        else ""
    )
    unit = "µm" if pixel_um else "pixel"
    images = []
    for at, cell in enumerate(sorted(positions)):
        x, y = (
            value * (pixel_um[axis] if pixel_um else 1.0)
            for axis, value in enumerate(positions[cell])
        )
        images.append(
            f'<Image ID="Image:{at}" Name={quoteattr(names[cell])}><Pixels ID="Pixels:{at}"'
            f' DimensionOrder="XYZCT" Type="{kind}" SizeX="{shape[1]}" SizeY="{shape[0]}" SizeZ="1"'
            f' SizeC="1" SizeT="1"{size}><Channel ID="Channel:{at}:0" SamplesPerPixel="1"/>'
            f'<TiffData FirstC="0" FirstT="0" FirstZ="0" IFD="0" PlaneCount="1">'
            f"<UUID FileName={quoteattr(names[cell])}>urn:uuid:00000000-0000-0000-0000-{at:012x}"
            f'</UUID></TiffData><Plane TheC="0" TheT="0" TheZ="0" PositionX="{x:.6f}"'
            f' PositionXUnit="{unit}" PositionY="{y:.6f}" PositionYUnit="{unit}"/>'
            "</Pixels></Image>\n"
        )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">\n'
        f"{''.join(images)}</OME>\n"
    )
