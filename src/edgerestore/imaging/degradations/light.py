"""Linear light: pictures are stored in a gamma, and light adds up without one."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["from_light", "to_light"]

Image = NDArray[np.float32]

_GAMMA = 2.2  # close to sRGB's curve


def to_light(image: Image) -> Image:
    """Return the linear light of a picture in [0, 1]."""
    return np.asarray(cv2.pow(image, _GAMMA), np.float32).reshape(image.shape)


def from_light(light: Image) -> Image:
    """Return the picture in [0, 1] of linear light, clipped to what it can hold."""
    clipped = np.clip(light, 0, 1)
    return np.asarray(cv2.pow(clipped, 1 / _GAMMA), np.float32).reshape(light.shape)
