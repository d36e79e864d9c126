"""Contact sheet of training pairs, to be looked at."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from .dataset import Split
from .pictures import Photograph

__all__ = ["contact_sheet"]

_SIDE_PX, _GAP_PX, _COLUMNS = 160, 8, 10
_LINES = 4, 1, 1  # of training, validation and test pairs


def contact_sheet(splits: Sequence[Split]) -> Photograph:
    """Return pairs of a dataset's three splits, inputs above their targets.

    Four lines of training pairs, one of validation, one of test. What is transparent is green.

    Parameters
    ----------
    splits : sequence of Split
        In the order of `SplitName`.

    Returns
    -------
    ndarray, u8, shape (H, W, 3)
    """
    rows: list[Photograph] = []
    for split, lines in zip(splits, _LINES, strict=True):
        indices = np.linspace(0, len(split) - 1, lines * _COLUMNS).astype(int)
        for line in indices.reshape(lines, _COLUMNS):
            rows += [
                np.hstack([_thumbnail(pixels[index]) for index in line])
                for pixels in (split.inputs, split.targets)
            ]
            rows.append(np.full((_GAP_PX, *rows[-1].shape[1:]), 255, np.uint8))
    return np.vstack(rows)


def _thumbnail(pixels: Photograph) -> Photograph:
    """Return a picture in RGB, at the size of the sheet."""
    if pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    if pixels.shape[2] == 4:
        alpha = pixels[..., 3:].astype(np.float32) / 255
        green = np.array([0, 200, 0], np.float32)
        pixels = np.rint(pixels[..., :3] * alpha + green * (1 - alpha)).astype(np.uint8)
    smaller = pixels.shape[0] > _SIDE_PX
    how = cv2.INTER_AREA if smaller else cv2.INTER_NEAREST
    whole = np.ascontiguousarray(pixels)
    return np.asarray(cv2.resize(whole, (_SIDE_PX, _SIDE_PX), interpolation=how), np.uint8)
