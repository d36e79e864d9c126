"""Cutting a frame so that the tiled result equals the whole-frame result, byte for byte.

Three facts make it so. A tile starts on the model's ``multiple_of`` grid, so strided
layers sample the same phase. Only pixels at least a halo away from a cut are kept, so no
kept pixel has seen one. And the last row and column move inward instead of being padded,
so the model meets a border exactly where the frame has one.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from ...errors import ArgumentError
from ...imaging.arrays import round_up

__all__ = ["Grid", "Span", "Tile", "smallest_tile"]


@dataclass(frozen=True)
class Span:
    """One tile along one axis: where it reads, and the range it keeps, in the frame.

    Parameters
    ----------
    read, length : int
        First pixel and number of pixels.
    start, end : int
        Of what is kept.
    """

    read: int
    length: int
    start: int
    end: int


@dataclass(frozen=True)
class Tile:
    """One tile. Every rectangle is (top, left, height, width).

    Parameters
    ----------
    read : rectangle in the frame, input pixels
        May reach past the frame's bottom or right edge by less than ``multiple_of``.
    keep : rectangle in the tile's own output, output pixels
    place : rectangle in the restored frame, output pixels
        As large as ``keep``. The places of a grid cover the frame once.
    """

    read: tuple[int, int, int, int]
    keep: tuple[int, int, int, int]
    place: tuple[int, int, int, int]

    @classmethod
    def of(cls, row: Span, column: Span, upscale: int) -> Tile:
        """Return the tile that is one span high and another wide."""
        kept = (row.end - row.start, column.end - column.start)
        return cls(
            read=(row.read, column.read, row.length, column.length),
            keep=_scaled(upscale, row.start - row.read, column.start - column.read, *kept),
            place=_scaled(upscale, row.start, column.start, *kept),
        )


@dataclass(frozen=True)
class Grid:
    """The tiles of one frame size.

    Parameters
    ----------
    height, width : int
        The frame, input pixels.
    tile_height, tile_width : int
        The one static shape of all its tiles.
    tiles : tuple of Tile
        Row by row.
    """

    height: int
    width: int
    tile_height: int
    tile_width: int
    tiles: tuple[Tile, ...]

    @classmethod
    def plan(
        cls,
        height: int,
        width: int,
        tile: int | tuple[int, int],
        *,
        halo: int,
        multiple: int,
        upscale: int = 1,
    ) -> Grid:
        """Cut a frame into tiles of one shape.

        Parameters
        ----------
        height, width : int
            The frame, input pixels, at least 1.
        tile : int or (int, int)
            The longest sides of a tile, height and width; rounded down to ``multiple``. An
            axis on which the frame is no longer than this is not cut, and the tile is then as
            long as the frame.
        halo : int
            Input pixels around a kept pixel that may influence it.
        multiple : int
            Tile origins are multiples of this.
        upscale : int
            Output pixels per input pixel.

        Raises
        ------
        ArgumentError
            When the tile is too small to keep anything.
        """
        sides = (tile, tile) if isinstance(tile, int) else tile
        rows, columns = (
            _cut(length, side, halo=halo, multiple=multiple)
            for length, side in zip((height, width), sides, strict=True)
        )
        tiles = tuple(
            Tile.of(row, column, upscale) for row, column in itertools.product(rows, columns)
        )
        return cls(height, width, rows[0].length, columns[0].length, tiles)


def smallest_tile(halo: int, multiple: int) -> int:
    """Return the smallest tile side that keeps at least one grid step."""
    return round_up(2 * halo + multiple, multiple)


def _cut(length: int, tile: int, *, halo: int, multiple: int) -> list[Span]:
    if length <= tile:
        return [Span(0, length, 0, length)]
    tile = tile // multiple * multiple
    step = (tile - 2 * halo) // multiple * multiple
    if step < multiple:
        raise ArgumentError(
            f"a tile of {tile} px is too small for this model's halo of {halo} px:"
            f" use at least {smallest_tile(halo, multiple)}"
        )
    last = round_up(length, multiple) - tile
    origins = [*range(0, last, step), last]
    # A cut lies where the next tile's pixels have just become valid.
    cuts = [0, *(origin + halo for origin in origins[1:]), length]
    return [
        Span(origin, tile, start, end)
        for origin, (start, end) in zip(origins, itertools.pairwise(cuts), strict=True)
    ]


def _scaled(factor: int, *values: int) -> tuple[int, int, int, int]:
    top, left, height, width = (factor * value for value in values)
    return top, left, height, width
