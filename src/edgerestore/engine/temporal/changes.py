"""Change detection between two frames: exact, or beyond a threshold."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from ...errors import ArgumentError
from ...imaging.arrays import Depth, Image
from .cover import CELL_PX

__all__ = ["Changes", "check_threshold", "sampled_rows"]

_SAMPLED_ROWS = 24
_MOSTLY = 0.6  # share of the sampled words above which the whole frame counts as changed
_WORDS = {8: np.uint64, 4: np.uint32, 2: np.uint16, 1: np.uint8}
_LEVELS = 255.0


def check_threshold(threshold: object) -> float:
    """Return a threshold as a float in [0, 255].

    Raises
    ------
    ArgumentError
        When it is no such number.
    """
    number = isinstance(threshold, (int, float)) and not isinstance(threshold, bool)
    if not (number and 0 <= threshold <= _LEVELS):  # type: ignore[operator]  # NaN fails this too
        raise ArgumentError(
            f"reuse_static is None or a number of levels from 0 to 255, got {threshold!r}"
        )
    return float(threshold)  # type: ignore[arg-type]


class Changes:
    """Change detector: compares planes with those inferred last.

    Parameters
    ----------
    threshold : float
        In levels of 8 bits, 0 to 255, whatever the depth: 2 is 514 of 65535 and 0.0078 of 1.
        Differences up to it, that very one included, are none. At 0 planes are compared byte
        by byte.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold

    def cells(self, plane: Image, reference: Image) -> NDArray[np.bool_] | None:
        """Return which cells of 8 x 8 pixels hold a change; None where none does.

        Parameters
        ----------
        plane, reference : ndarray, shape (H, W, C), C-contiguous
            Of one shape and dtype.

        Returns
        -------
        ndarray, bool, shape (ceil(H / 8), ceil(W / 8)), or None
        """
        if self.threshold and plane.dtype != np.float32:
            # One pass that writes nothing; in floats it would not see a NaN.
            most = cv2.norm(_rows(plane), _rows(reference), cv2.NORM_INF)
            if most <= self._limit(plane):
                return None
        differ, per_cell = self._differ(plane, reference)
        if not differ.any():
            return None
        return _in_cells(differ, per_cell)

    def mostly(self, plane: Image, reference: Image) -> bool:
        """Return whether most of a plane changed, by a sample of its rows."""
        rows = sampled_rows(plane)
        some, before = (np.ascontiguousarray(a[rows]) for a in (plane, reference))
        differ, _ = self._differ(some, before)
        return bool(np.count_nonzero(differ) > _MOSTLY * differ.size)

    def _differ(self, plane: Image, reference: Image) -> tuple[NDArray[np.bool_], int]:
        """Return which words differ, shape (H, words), and how many words make a cell's row."""
        if not self.threshold:
            ours, theirs = _words(plane), _words(reference)
            return ours != theirs, _per_cell(plane, ours)
        apart = np.asarray(cv2.absdiff(_rows(plane), _rows(reference)))
        limit = self._limit(plane)
        # Of a NaN nothing is within the limit, so it counts as changed.
        beyond = ~(apart <= limit) if plane.dtype == np.float32 else apart > limit
        beyond = beyond.reshape(plane.shape)
        words = _words(beyond)
        return words != 0, _per_cell(beyond, words)

    def _limit(self, plane: Image) -> float | int:
        depth = Depth(plane.dtype.name)
        limit = self.threshold * depth.peak / _LEVELS
        return limit if depth is Depth.F32 else math.floor(limit)


def sampled_rows(plane: Image) -> slice:
    """Return the rows of a plane that `Changes.mostly` looks at."""
    step = max(1, plane.shape[0] // _SAMPLED_ROWS)
    return slice(step // 2, None, step)


def _rows(plane: Image) -> Image:
    return plane.reshape(plane.shape[0], -1)


def _words(plane: Image) -> NDArray[np.unsignedinteger]:
    """Return a plane's rows as the widest words that they divide into."""
    rows = np.ascontiguousarray(_rows(plane)).view(np.uint8)
    width = math.gcd(rows.shape[1], 8)
    words: NDArray[np.unsignedinteger] = rows.view(_WORDS[width])
    return words


def _per_cell(plane: Image, words: NDArray[np.unsignedinteger]) -> int:
    return int(CELL_PX * plane.shape[2] * plane.dtype.itemsize // words.dtype.itemsize)


def _in_cells(differ: NDArray[np.bool_], per_cell: int) -> NDArray[np.bool_]:
    """Gather words that differ into cells."""
    height, words = differ.shape
    even = height // CELL_PX * CELL_PX
    bands = np.zeros((-(-height // CELL_PX), -(-words // per_cell) * per_cell), np.bool_)
    if even:
        stacked = differ[:even].reshape(-1, CELL_PX, words)
        np.logical_or.reduce(stacked, axis=1, out=bands[: even // CELL_PX, :words])
    if even < height:
        np.logical_or.reduce(differ[even:], axis=0, out=bands[-1, :words])
    cells = np.zeros((bands.shape[0], bands.shape[1] // per_cell), np.bool_)
    for place in range(per_cell):
        cells |= bands[:, place::per_cell]
    return cells
