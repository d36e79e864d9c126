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

__all__ = ["Compare", "CompareSink", "compared"]

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
            item = replace(item, image=compared(item.original, item.image, self._how))
        self._sink.write(item)


def compared(original: Image, restored: Image, how: Compare) -> Image:
    """Return one picture of an original and its restoration.

    Parameters
    ----------
    original : ndarray, u8, u16 or f32, shape (H, W) or (H, W, C), RGB order
        Scaled to the restored picture's size where it has another.
    restored : ndarray of the same dtype, shape (H', W') or (H', W', C')

    Returns
    -------
    ndarray of the same dtype, shape (H', W', C'') or, for ``side``, (H', 2 W', C'')
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
    if how is Compare.SIDE:
        return np.concatenate([original, restored], axis=1)
    both, middle, thick = restored.copy(), width // 2, max(1, width // 640)
    both[:, :middle] = original[:, :middle]
    both[:, middle : middle + thick] = 1 if both.dtype == np.float32 else np.iinfo(both.dtype).max
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
