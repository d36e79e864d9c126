"""What spoils a picture: seeded blur, sensor noise and JPEG, for training, tests and calibration.

Every function takes a NumPy generator, so that a seed names a degraded picture exactly.
Images are f32 ``[H, W, C]`` in [0, 1] unless a docstring says otherwise; borders reflect.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "PROTOCOL",
    "TRAINING",
    "Blur",
    "Recipe",
    "defocus_kernel",
    "degrade",
    "gaussian_kernel",
    "motion_kernel",
]

Image = NDArray[np.float32]
Kernel = NDArray[np.float32]

_PATH_POINTS = 96
_SMOOTHING = 1 / 8  # of the exposure
_SUBSAMPLES = 8  # supersampling of the disk's edge, per pixel and axis


class Blur(StrEnum):
    """The kinds of blur a recipe draws from."""

    MOTION = "motion"
    DEFOCUS = "defocus"
    GAUSSIAN = "gaussian"


@dataclass(frozen=True)
class Recipe:
    """A distribution of degradations.

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


PROTOCOL = Recipe()
"""The test protocol: blur, then normal noise, rounded to 8 bits."""

TRAINING = Recipe(jpeg_share=0.15)
"""The protocol's blur and noise, and a mild JPEG now and then."""


def motion_kernel(rng: np.random.Generator, length_px: float) -> Kernel:
    """Draw a camera shake: a smooth random path of ``length_px`` pixels, centred on its mean.

    The velocity is white noise smoothed by a gaussian of an eighth of the exposure, so the
    path bends a few times, as a hand's does. It is laid on the grid with bilinear weights.
    """
    noise = rng.standard_normal((3 * _PATH_POINTS, 2))
    lag = np.arange(-_PATH_POINTS, _PATH_POINTS + 1) / (_PATH_POINTS * _SMOOTHING)
    window = np.exp(-0.5 * lag * lag)
    velocity = np.stack([np.convolve(noise[:, axis], window, "valid") for axis in (0, 1)], axis=1)
    velocity *= length_px / np.linalg.norm(velocity, axis=1).sum()
    path = np.cumsum(velocity, axis=0)
    path -= path.mean(axis=0)
    radius = int(np.ceil(np.abs(path).max())) + 1
    kernel = np.zeros((2 * radius + 1, 2 * radius + 1), np.float64)
    corner = np.floor(path).astype(int)
    part = path - corner
    for dy in (0, 1):
        for dx in (0, 1):
            weight = np.abs(1 - dy - part[:, 0]) * np.abs(1 - dx - part[:, 1])
            at = (corner[:, 0] + radius + dy, corner[:, 1] + radius + dx)
            np.add.at(kernel, at, weight)
    return _normalised(kernel)


def defocus_kernel(radius_px: float) -> Kernel:
    """Return an anti-aliased disk: the image of a point out of focus."""
    radius = int(np.ceil(radius_px + 0.5))
    side = 2 * radius + 1
    axis = (np.arange(side * _SUBSAMPLES) + 0.5) / _SUBSAMPLES - side / 2
    inside = axis[:, None] ** 2 + axis[None, :] ** 2 <= radius_px**2
    return _normalised(inside.reshape(side, _SUBSAMPLES, side, _SUBSAMPLES).mean(axis=(1, 3)))


def gaussian_kernel(sigma_px: float) -> Kernel:
    """Return a gaussian cut at four sigmas."""
    radius = max(1, int(np.ceil(4 * sigma_px)))
    line = cv2.getGaussianKernel(2 * radius + 1, sigma_px)
    return _normalised(line @ line.T)


def _normalised(kernel: NDArray[np.floating[Any]]) -> Kernel:
    return np.asarray(kernel / kernel.sum(), np.float32)


def degrade(
    image: Image, recipe: Recipe, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], Blur]:
    """Degrade a clean picture.

    Parameters
    ----------
    image : ndarray, f32, shape (H, W, C)
        Clean, in [0, 1].
    recipe : Recipe
    rng : numpy.random.Generator

    Returns
    -------
    degraded : ndarray, u8, same shape
    blur : Blur
        The kind that was drawn.
    """
    kind, kernel = recipe.kernel(rng)
    # filter2D correlates; flipping makes it the convolution that the kernel describes.
    spoilt = cv2.filter2D(image, -1, kernel[::-1, ::-1], borderType=cv2.BORDER_REFLECT)
    spoilt = spoilt.reshape(image.shape)  # OpenCV drops a channel axis of length 1
    sigma = np.float32(rng.uniform(0.0, recipe.noise_sigma))
    spoilt = spoilt + sigma * rng.standard_normal(image.shape, dtype=np.float32)
    rounded = np.rint(np.clip(spoilt, 0, 1) * 255).astype(np.uint8)
    if recipe.jpeg_share and rng.random() < recipe.jpeg_share:
        low, high = recipe.jpeg_quality
        rounded = _jpeg(rounded, int(rng.integers(low, high + 1)))
    return rounded, kind


def _jpeg(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    _, packed = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    back = cv2.imdecode(packed, cv2.IMREAD_UNCHANGED)
    return np.asarray(back, np.uint8).reshape(image.shape)
