"""Lossy compression of pictures."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["jpeg"]


def jpeg(image: NDArray[np.uint8], quality: int, *, rgb: bool = True) -> NDArray[np.uint8]:
    """Return a picture after a JPEG round trip, its chroma at half the resolution.

    Parameters
    ----------
    image : ndarray, u8, shape (H, W, C), C in 1, 3
    quality : int
        1 to 100.
    rgb : bool
        The channels are RGB; else BGR, OpenCV's order.
    """
    given = np.ascontiguousarray(image[..., ::-1] if rgb else image)
    _, packed = cv2.imencode(".jpg", given, [cv2.IMWRITE_JPEG_QUALITY, quality])
    back = np.asarray(cv2.imdecode(packed, cv2.IMREAD_UNCHANGED), np.uint8).reshape(image.shape)
    return np.ascontiguousarray(back[..., ::-1]) if rgb else back
