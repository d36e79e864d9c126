"""Grid of tiles: its size, the order of acquisition, and planned positions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import ArgumentError

__all__ = ["Cell", "Grid", "Order", "parse_grid", "parse_overlap"]

Cell = tuple[int, int]
"""Row and column of a tile, from 0."""

_CORNERS = ("top-left", "top-right", "bottom-left", "bottom-right")
_LARGEST = 1_000_000


@dataclass(frozen=True)
class Order:
    """Order in which the stage visited a grid.

    Parameters
    ----------
    along_columns : bool
        Down a column first, then the next; else along a row.
    snake : bool
        Every second row or column runs back.
    corner : str
        Where it began: ``top-left``, ``top-right``, ``bottom-left`` or ``bottom-right``.
    """

    along_columns: bool = False
    snake: bool = False
    corner: str = "top-left"

    @classmethod
    def parse(cls, text: str) -> Order:
        """Return an order of words such as ``row,raster,top-left``; each may be left out.

        Raises
        ------
        ArgumentError
            On other words, and two of a kind.
        """
        kinds = (("row", "column"), ("raster", "snake"), _CORNERS)
        words = [word.strip().lower() for word in text.split(",") if word.strip()]
        for word in words:
            if not any(word in kind for kind in kinds):
                known = "row|column, raster|snake, and a corner such as top-left"
                raise ArgumentError(f"--order takes {known}, got {word!r}")
        chosen = []
        for kind in kinds:
            named = [word for word in words if word in kind]
            if len(named) > 1:
                raise ArgumentError(f"--order names both {named[0]} and {named[1]}; keep one")
            chosen.append(named[0] if named else kind[0])
        return cls(chosen[0] == "column", chosen[1] == "snake", chosen[2])


@dataclass(frozen=True)
class Grid:
    """Grid of tiles.

    Parameters
    ----------
    rows, columns : int
    order : Order
    """

    rows: int
    columns: int
    order: Order = Order()

    def cells(self) -> Iterator[Cell]:
        """Yield cells in the order of acquisition."""
        outer, inner = (
            (self.columns, self.rows) if self.order.along_columns else (self.rows, self.columns)
        )
        bottom, right = (
            self.order.corner.startswith("bottom"),
            self.order.corner.endswith("right"),
        )
        for first in range(outer):
            for step in range(inner):
                second = inner - 1 - step if self.order.snake and first % 2 else step
                row, column = (second, first) if self.order.along_columns else (first, second)
                yield (
                    self.rows - 1 - row if bottom else row,
                    self.columns - 1 - column if right else column,
                )

    def __contains__(self, cell: Cell) -> bool:
        return 0 <= cell[0] < self.rows and 0 <= cell[1] < self.columns

    def __str__(self) -> str:
        return f"{self.rows}x{self.columns}"


def parse_grid(text: str, order: Order | None = None) -> Grid:
    """Return a grid of ``ROWSxCOLUMNS``.

    Raises
    ------
    ArgumentError
        For any other text.
    """
    found = re.fullmatch(r"(\d{1,6})x(\d{1,6})", text.strip().lower())
    if not found or not 0 < int(found[1]) * int(found[2]) <= _LARGEST:
        raise ArgumentError(f"--grid is ROWSxCOLUMNS such as 5x4, got {text!r}")
    return Grid(int(found[1]), int(found[2]), order or Order())


def parse_overlap(text: str, height: int, width: int) -> tuple[float, float]:
    """Return the planned overlap in pixels, of neighbours in a row and in a column.

    Parameters
    ----------
    text : str
        Pixels, or per cent of the tile such as ``10%``; ``20,15`` for the two directions.
    height, width : int
        Of a tile.

    Raises
    ------
    ArgumentError
        For any other text, no overlap, and an overlap as large as the tile.
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) == 1:
        parts *= 2
    sides, overlaps = (width, height), []
    for part, side in zip(parts, sides, strict=False):
        found = re.fullmatch(r"(\d+(?:\.\d+)?)(%|px)?", part)
        if not found or len(parts) != 2:
            raise ArgumentError(f"--overlap is pixels or per cent such as 150 or 10%, got {text!r}")
        value = float(found[1]) * (side / 100 if found[2] == "%" else 1)
        if value <= 0:
            raise ArgumentError(
                "--overlap is 0: tiles that share nothing are placed by the stage, not stitched"
            )
        if value >= side:
            raise ArgumentError(
                f"--overlap {part} is {value:g} px, as large as the tile ({width}x{height} px)"
            )
        overlaps.append(value)
    return overlaps[0], overlaps[1]
