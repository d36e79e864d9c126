"""Pictures of reports: as data URIs, amplified differences, and the window with most error."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..imaging.arrays import Planes

__all__ = ["Picture", "amplified", "densest_window", "picture"]

_JPEG_QUALITY = 82
_GAINS = (1, 2, 5, 10, 20, 50, 100, 200, 500)


@dataclass(frozen=True)
class Picture:
    """An encoded picture with its caption.

    Parameters
    ----------
    uri : str
        ``data:`` URI, so that a page needs no other file.
    caption : str
    """

    uri: str
    caption: str


def picture(planes: Planes, caption: str, *, lossless: bool = False) -> Picture:
    """Encode a picture for a page.

    Parameters
    ----------
    planes : ndarray, f32 [1, C, H, W] in [0, 1]
        Values out of range are clipped, NaN is black.
    caption : str
    lossless : bool
        WebP with every pixel unchanged instead of JPEG.
    """
    levels = np.rint(np.clip(np.nan_to_num(planes[0]), 0, 1) * 255).astype(np.uint8)
    pixels = np.ascontiguousarray(levels.transpose(1, 2, 0)[..., ::-1])
    if lossless:
        kind, options = "webp", [cv2.IMWRITE_WEBP_QUALITY, 101]  # above 100 is lossless
    else:
        kind, options = "jpeg", [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    _, encoded = cv2.imencode(f".{kind}", pixels, options)
    data = base64.b64encode(encoded.tobytes()).decode()
    return Picture(f"data:image/{kind};base64,{data}", caption)


def amplified(difference: Planes) -> tuple[Planes, int]:
    """Return a difference as a picture around mid-grey, and its gain.

    The gain is a round number with which nearly all of the difference fits; 0 where
    there is no difference.

    Parameters
    ----------
    difference : ndarray, f32 [1, C, H, W] in [-1, 1]
    """
    size = np.abs(np.nan_to_num(difference))
    large = float(np.quantile(size, 0.995)) or float(size.max())
    if large == 0:
        return np.full_like(difference, 0.5), 0
    gain = max((gain for gain in _GAINS if gain * large <= 0.5), default=1)
    return np.clip(np.float32(0.5) + np.float32(gain) * difference, 0, 1), gain


def densest_window(error: NDArray[np.floating], most_px: int) -> tuple[slice, slice]:
    """Return rows and columns of the window with the largest sum of an error.

    Parameters
    ----------
    error : ndarray, shape (H, W)
        0 or more.
    most_px : int
        Side of the window, where the picture is not smaller.
    """
    rows, columns = (min(most_px, side) for side in error.shape)
    sums = cv2.integral(np.asarray(error, np.float64))
    inside = sums[rows:, columns:] - sums[:-rows, columns:] - sums[rows:, :-columns]
    inside = inside + sums[:-rows, :-columns]
    y, x = (int(at) for at in np.unravel_index(np.argmax(inside), inside.shape))
    return slice(y, y + rows), slice(x, x + columns)
