"""Seeded mix of uniform blur, noise and JPEG: the test protocol, and what training widens."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from ..arrays import Depth, rounded
from .compression import jpeg
from .kernels import Image, Kernel, convolved, defocus_kernel, gaussian_kernel, motion_kernel

__all__ = ["PROTOCOL", "Blur", "DegradationModel", "degrade"]


class Blur(StrEnum):
    """Kinds of blur that a degradation model draws from."""

    MOTION = "motion"
    DEFOCUS = "defocus"
    GAUSSIAN = "gaussian"


@dataclass(frozen=True)
class DegradationModel:
    """Distribution of blur, noise and JPEG compression.

    Parameters
    ----------
    motion_share, defocus_share : float
        Probability of each kind of blur; what is left is gaussian.
    motion_length_px, defocus_radius_px, gaussian_sigma_px : (float, float)
        Uniform ranges.
    noise_sigma : float
        Largest standard deviation of the sensor noise, in units of [0, 1]; drawn from
        [0, noise_sigma].
    jpeg_share : float
        Probability of a JPEG round trip.
    jpeg_quality : (int, int)
        Inclusive range of its quality.
    """

    motion_share: float = 0.45
    defocus_share: float = 0.35
    motion_length_px: tuple[float, float] = (2.0, 10.0)
    defocus_radius_px: tuple[float, float] = (0.6, 2.8)
    gaussian_sigma_px: tuple[float, float] = (0.4, 2.0)
    noise_sigma: float = 2 / 255
    jpeg_share: float = 0.0
    jpeg_quality: tuple[int, int] = (85, 98)

    def kernel(self, rng: np.random.Generator) -> tuple[Blur, Kernel]:
        """Draw a kind of blur and its kernel (odd-sided, sums to 1)."""
        draw = rng.random()
        if draw < self.motion_share:
            return Blur.MOTION, motion_kernel(rng, rng.uniform(*self.motion_length_px))
        if draw < self.motion_share + self.defocus_share:
            return Blur.DEFOCUS, defocus_kernel(rng.uniform(*self.defocus_radius_px))
        return Blur.GAUSSIAN, gaussian_kernel(rng.uniform(*self.gaussian_sigma_px))


PROTOCOL = DegradationModel()
"""The test protocol: blur, then normal noise, rounded to 8 bits."""


def degrade(
    image: Image, model: DegradationModel, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], Blur]:
    """Degrade a clean picture by a draw from a degradation model.

    Parameters
    ----------
    image : ndarray, f32, shape (H, W, C)
        Clean, in [0, 1].
    model : DegradationModel
    rng : numpy.random.Generator

    Returns
    -------
    degraded : ndarray, u8, same shape
    blur : Blur
        The kind that was drawn.
    """
    kind, kernel = model.kernel(rng)
    blurred = convolved(image, kernel)
    sigma = np.float32(rng.uniform(0.0, model.noise_sigma))
    blurred = blurred + sigma * rng.standard_normal(image.shape, dtype=np.float32)
    degraded = rounded(np.asarray(blurred, np.float32), Depth.U8)
    if model.jpeg_share and rng.random() < model.jpeg_share:
        low, high = model.jpeg_quality
        # The first channel is taken for blue, as the published weights were trained.
        degraded = jpeg(degraded, int(rng.integers(low, high + 1)), rgb=False)
    return degraded, kind
