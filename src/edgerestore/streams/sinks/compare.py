"""Sink that puts the original beside the restored, in the picture that another sink writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum

import cv2
import numpy as np

from ...imaging.arrays import Image
from ..media.frames import Frame, Item
from ..protocols import Sink

__all__ = ["Compare", "CompareSink", "compared", "left_of"]

_GRAY, _ALPHA = 1, 4


class Compare(StrEnum):
    """How the original stands beside the restored."""

    SPLIT = "split"  # left half original, right half restored, a line between them
    SIDE = "side"  # the whole original to the left of the whole restored


class CompareSink:
    """`Sink` that hands frames with their original beside them on to another sink.

    Parameters
    ----------
    sink : Sink
    how : Compare
    """

    wants_original = True

    def __init__(self, sink: Sink, how: Compare) -> None:
        self._sink, self._how = sink, how
        self.skips = sink.skips
        self.close, self.abort = sink.close, sink.abort

    @property
    def dropped(self) -> Mapping[str, int]:
        """Frames that the other sink went without, by output or cause."""
        return getattr(self._sink, "dropped", {})

    def write(self, item: Item) -> None:
        """Write a frame with its original, or a packet as it is."""
        if isinstance(item, Frame) and item.original is not None:
            matrix = None if item.info is None else item.info.display_matrix
            image = compared(item.original, item.image, self._how, left_of(matrix))
            item = replace(item, image=image)
        self._sink.write(item)


def left_of(display_matrix: tuple[int, ...] | None) -> tuple[int, bool]:
    """Return the axis of stored pixels that runs across the display, and whether it runs back.

    Parameters
    ----------
    display_matrix : tuple of 9 int, or None
        As in `VideoInfo`: a stored point (x, y) is shown at (a x + c y, b x + d y).
    """
    if display_matrix is None:
        return 1, False
    a, c = display_matrix[0], display_matrix[3]
    return (1, a < 0) if abs(a) >= abs(c) else (0, c < 0)


def compared(
    original: Image, restored: Image, how: Compare, left: tuple[int, bool] = (1, False)
) -> Image:
    """Return one picture of an original and its restoration.

    Parameters
    ----------
    original : ndarray, u8, u16 or f32, shape (H, W) or (H, W, C), RGB order
        Scaled to the restored picture's size where it has another.
    restored : ndarray of the same dtype, shape (H', W') or (H', W', C')
    how : Compare
    left : (int, bool)
        As `left_of` has it: a film that is turned when it is shown is joined so that the original
        is at the left there.

    Returns
    -------
    ndarray of the same dtype, shape (H', W', C'') or, for ``side``, twice as long on that axis
        C'' is the larger number of channels; without a third axis where both have none.
    """
    height, width = restored.shape[:2]
    if original.shape[:2] != (height, width):
        way = cv2.INTER_AREA if original.shape[0] > height else cv2.INTER_CUBIC
        original = np.asarray(cv2.resize(original, (width, height), interpolation=way))
        if original.dtype == np.float32:
            original = original.clip(0, 1)
    channels = max(_channels(original), _channels(restored))
    if original.ndim != restored.ndim or channels > 1:
        original, restored = (_widened(one, channels) for one in (original, restored))
    axis, back = left
    if how is Compare.SIDE:
        return np.concatenate([restored, original] if back else [original, restored], axis=axis)
    both = restored.copy()
    length, white = both.shape[axis], 1 if both.dtype == np.float32 else np.iinfo(both.dtype).max
    middle, thick = length // 2, max(1, length // 640)
    # Views along the axis, from the display's left.
    shown, before = (np.moveaxis(one, axis, 0)[:: -1 if back else 1] for one in (both, original))
    shown[:middle] = before[:middle]
    shown[middle : middle + thick] = white
    return both


def _channels(image: Image) -> int:
    return 1 if image.ndim == 2 else image.shape[2]


def _widened(image: Image, channels: int) -> Image:
    """Return an image with as many channels: grey in each colour, opaque where it had no alpha."""
    planes = image if image.ndim == 3 else image[:, :, None]
    color = min(channels, 3)
    if planes.shape[2] == _GRAY:
        planes = np.repeat(planes, color, axis=2)
    if channels == _ALPHA and planes.shape[2] < _ALPHA:
        opaque = 1 if image.dtype == np.float32 else np.iinfo(image.dtype).max
        alpha = np.full((*planes.shape[:2], 1), opaque, image.dtype)
        planes = np.concatenate([planes, alpha], axis=2)
    return planes
