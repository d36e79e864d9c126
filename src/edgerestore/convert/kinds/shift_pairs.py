"""Pairs of tiles at known shifts, cut from the pictures that a conversion is checked on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...imaging.arrays import Planes
from ..samples import Samples

__all__ = ["Pair", "cut_pairs"]

_USUAL_PX = 150
# (dx, dy) for tiles of the usual side, in every direction and not at all; smaller tiles
# take less, so that they still overlap.
_SHIFTS = ((3, -2), (-7, 5), (12, 9), (0, 0), (-15, -11), (8, -14))


@dataclass(frozen=True)
class Pair:
    """Two tiles of one picture.

    Parameters
    ----------
    tiles : ndarray, f32 [1, 2, side, side] in [0, 1]
        The reference, and the one whose content is moved.
    name : str
        Of the picture.
    shift : (int, int)
        (dx, dy): what lies at (x, y) in the reference lies at (x + dx, y + dy) in the other.
    """

    tiles: Planes
    name: str
    shift: tuple[int, int]


def cut_pairs(samples: Samples, side: int) -> list[Pair]:
    """Cut six pairs from the middles of the pictures, taking these in turn.

    Parameters
    ----------
    samples : Samples
        Of one channel.
    side : int
        Of the tiles, in pixels.
    """
    shifts = [(_scaled(dx, side), _scaled(dy, side)) for dx, dy in _SHIFTS]
    reach = max(abs(step) for shift in shifts for step in shift)
    pairs = []
    for index, (dx, dy) in enumerate(shifts):
        around = samples.crop(index, side + 2 * reach, side + 2 * reach)
        tiles = [
            around[:, :, reach - y : reach - y + side, reach - x : reach - x + side]
            for x, y in ((0, 0), (dx, dy))
        ]
        name = samples.names[index % len(samples.names)]
        pairs.append(Pair(np.concatenate(tiles, axis=1), name, (dx, dy)))
    return pairs


def _scaled(step: int, side: int) -> int:
    return round(step * min(1.0, side / _USUAL_PX))
