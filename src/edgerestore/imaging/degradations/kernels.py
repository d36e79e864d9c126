"""Blur kernels: camera shake, defocus, gaussian and box."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["box_kernel", "convolved", "defocus_kernel", "gaussian_kernel", "motion_kernel"]

Image = NDArray[np.float32]
Kernel = NDArray[np.float32]

_PATH_POINTS = 96
_SMOOTHING = 1 / 8  # of the exposure
_SUBSAMPLES = 8  # supersampling of the disk's edge, per pixel and axis


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


def box_kernel(side_px: float) -> Kernel:
    """Return a square of equal weights; a side between two odd numbers has fainter edges."""
    radius = max(0, int(np.ceil((side_px - 1) / 2)))
    line = np.clip(side_px / 2 - np.abs(np.arange(-radius, radius + 1)) + 0.5, 0, 1)
    return _normalised(np.outer(line, line))


def convolved(image: Image, kernel: Kernel) -> Image:
    """Return a picture, f32 (H, W, C), convolved with a kernel; borders reflect."""
    # filter2D correlates; flipping makes it the convolution that the kernel describes.
    blurred = cv2.filter2D(image, -1, kernel[::-1, ::-1], borderType=cv2.BORDER_REFLECT)
    return np.asarray(blurred.reshape(image.shape), np.float32)  # OpenCV drops an axis of length 1


def _normalised(kernel: NDArray[np.floating[Any]]) -> Kernel:
    return np.asarray(kernel / kernel.sum(), np.float32)
