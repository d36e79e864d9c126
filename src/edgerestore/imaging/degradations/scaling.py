"""Down-scaling, with and without antialiasing."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import NDArray

from ..bicubic import resized

__all__ = ["Scaling", "ScalingMix", "downscaled"]

Image = NDArray[np.float32]


class Scaling(StrEnum):
    """Kinds of down-scaling.

    ``BICUBIC`` is the field's standard, antialiased. ``ALIASED`` is bicubic without antialiasing,
    centred. ``NEAREST`` keeps one pixel of each block, the one right of and below its centre.
    """

    BICUBIC = "bicubic"
    ALIASED = "aliased"
    NEAREST = "nearest"


def downscaled(image: Image, factor: int, kind: Scaling = Scaling.BICUBIC) -> Image:
    """Make a picture smaller by a whole number.

    Parameters
    ----------
    image : ndarray, f32, shape (H, W, C)
        Cut at the bottom and the right to a multiple of the factor first.
    factor : int
    kind : Scaling

    Returns
    -------
    ndarray, f32, shape (H // factor, W // factor, C)
        Not clipped: bicubic kinds overshoot beside edges.
    """
    height, width = (side // factor for side in image.shape[:2])
    image = image[: height * factor, : width * factor]
    if kind is Scaling.NEAREST:
        return np.ascontiguousarray(image[factor // 2 :: factor, factor // 2 :: factor])
    if kind is Scaling.BICUBIC:
        return resized(image, height, width)
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(small, np.float32).reshape(height, width, image.shape[2])


@dataclass(frozen=True)
class ScalingMix:
    """Distribution of kinds of down-scaling.

    Parameters
    ----------
    aliased_share, nearest_share : float
        Probabilities; what is left is antialiased.
    """

    aliased_share: float = 0.1
    nearest_share: float = 0.05

    def draw(self, rng: np.random.Generator) -> Scaling:
        """Draw a kind."""
        draw = rng.random()
        if draw < self.aliased_share:
            return Scaling.ALIASED
        aliased = self.aliased_share + self.nearest_share
        return Scaling.NEAREST if draw < aliased else Scaling.BICUBIC
