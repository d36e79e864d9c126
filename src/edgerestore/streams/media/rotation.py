"""Geometry of display: rotation, in the header of a file or of the pixels; pixel shape."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import cv2
import numpy as np

from ...imaging.arrays import Image
from .frames import Frame, VideoInfo

__all__ = ["HOLD_MATRIX", "DisplayRotation", "as_shown", "upright"]

# Containers whose header takes a display matrix, by FFmpeg's name.
HOLD_MATRIX = {"mp4", "mov", "ipod", "3gp", "3g2", "psp", "ismv", "f4v"}
_ONE = 1 << 16


class DisplayRotation:
    """Rotation for display: kept in the header where the format can, else applied to pixels.

    Parameters
    ----------
    info : VideoInfo
    container : str
        FFmpeg's name of the output's format.

    Attributes
    ----------
    matrix : tuple of 9 int, or None
        What to write into the header; ``None`` where nothing is to be written.
    """

    def __init__(self, info: VideoInfo, container: str) -> None:
        matrix = info.display_matrix
        self.matrix = matrix if container in HOLD_MATRIX else None
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
        image = np.swapaxes(image, 0, 1) if a == 0 else image
        x, y = (c, b) if a == 0 else (a, d)
        return np.ascontiguousarray(image[:: -1 if y < 0 else 1, :: -1 if x < 0 else 1])


def as_shown(frame: Frame) -> Frame:
    """Return a frame as a screen shows it: upright, and of square pixels.

    The shorter way is stretched, so that nothing is lost; itself where nothing is to be done.
    """
    frame = upright(frame)
    info = frame.info
    aspect = info.sample_aspect_ratio if info is not None else None
    if info is None or not aspect or aspect == 1:
        return frame
    factor = float(aspect)
    height, width = frame.image.shape[:2]
    size = round(width * max(1.0, factor)), round(height * max(1.0, 1 / factor))

    def stretched(image: Image) -> Image:
        return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR))

    return replace(
        frame,
        image=stretched(frame.image),
        original=None if frame.original is None else stretched(frame.original),
        info=replace(
            info,
            width=round(info.width * max(1.0, factor)),
            height=round(info.height * max(1.0, 1 / factor)),
            sample_aspect_ratio=None,
        ),
    )


def upright(frame: Frame) -> Frame:
    """Return a frame turned for display: itself, or a copy whose info says that it is upright."""
    info = frame.info
    if info is None or info.display_matrix is None:
        return frame
    display = DisplayRotation(info, "")
    width, height = display.stored_size(info.width, info.height)
    aspect = info.sample_aspect_ratio
    return replace(
        frame,
        image=display.stored(frame.image),
        original=None if frame.original is None else display.stored(frame.original),
        info=replace(
            info,
            width=width,
            height=height,
            sample_aspect_ratio=aspect and display.stored_aspect(aspect),
            display_matrix=None,
        ),
    )
