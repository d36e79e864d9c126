"""How a picture is turned for display, and where that is written down."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from ...imaging.arrays import Image
from .facts import VideoFacts

__all__ = ["Display"]

# Containers whose header takes a display matrix, by FFmpeg's name.
_HOLD_MATRIX = {"mp4", "mov", "ipod", "3gp", "3g2", "psp", "ismv", "f4v"}
_ONE = 1 << 16


class Display:
    """Keeps a turned video turned: by the header where it can, else in the pixels.

    Parameters
    ----------
    facts : VideoFacts
    container : str
        FFmpeg's name of the output's format.

    Attributes
    ----------
    matrix : tuple of 9 int, or None
        What to write into the header; ``None`` where nothing is to be written.
    """

    def __init__(self, facts: VideoFacts, container: str) -> None:
        matrix = facts.display_matrix
        self.matrix = matrix if container in _HOLD_MATRIX else None
        self._turn = None
        if matrix is not None and self.matrix is None:
            self._turn = tuple(round(matrix[index] / _ONE) for index in (0, 1, 3, 4))

    @property
    def _swaps_sides(self) -> bool:
        return self._turn is not None and self._turn[0] == 0

    def stored_size(self, width: int, height: int) -> tuple[int, int]:
        """Return the size that a frame of ``width x height`` is encoded at."""
        return (height, width) if self._swaps_sides else (width, height)

    def stored_aspect(self, aspect: Fraction) -> Fraction:
        """Return the shape of an encoded pixel."""
        return 1 / aspect if self._swaps_sides and aspect else aspect

    def stored(self, image: Image) -> Image:
        """Return a frame as it is encoded: the same array, or a turned copy.

        A turn by anything but quarters (which no camera writes) is not applied.
        """
        if self._turn is None:
            return image
        a, b, c, d = self._turn
        if (a == 0) != (d == 0) or (b == 0) != (c == 0) or (a == 0) == (b == 0):
            return image
        # The matrix takes a stored point (x, y) to (a x + c y, b x + d y) on the screen.
        if a == 0:
            image = np.swapaxes(image, 0, 1)
            flip_x, flip_y = c < 0, b < 0
        else:
            flip_x, flip_y = a < 0, d < 0
        if flip_x:
            image = image[:, ::-1]
        if flip_y:
            image = image[::-1]
        return np.ascontiguousarray(image)
