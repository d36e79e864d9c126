"""How far one picture is from another: PSNR and SSIM by their standard definitions."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError

__all__ = ["psnr", "ssim"]

Image = NDArray[np.generic]


def psnr(image: Image, reference: Image) -> float:
    """Return the peak signal-to-noise ratio over all pixels and channels, in dB.

    Parameters
    ----------
    image, reference : ndarray, u8, u16 or float, same shape and dtype
        The peak is 255, 65535 or 1.0, by dtype.

    Returns
    -------
    float
        ``inf`` for equal pictures.
    """
    peak = _peak(image, reference)
    error = image.astype(np.float64) - reference.astype(np.float64)
    mean_square = float(np.mean(error * error))
    return float("inf") if mean_square == 0 else float(10 * np.log10(peak * peak / mean_square))


def ssim(image: Image, reference: Image) -> float:
    """Return the structural similarity, mean over pixels and channels, in [-1, 1].

    Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility
    to structural similarity", IEEE TIP 2004: an 11x11 gaussian window of sigma 1.5,
    K1 = 0.01, K2 = 0.03, over the positions where the whole window fits.

    Parameters
    ----------
    image, reference : ndarray, u8, u16 or float, shape (H, W) or (H, W, C), H and W >= 11
    """
    peak = _peak(image, reference)
    if min(image.shape[:2]) < 11:
        raise ArgumentError(f"SSIM needs pictures of at least 11x11, got {image.shape[:2]}")
    first, second = image.astype(np.float64), reference.astype(np.float64)
    line = cv2.getGaussianKernel(11, 1.5)

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return cv2.sepFilter2D(values, -1, line, line)[5:-5, 5:-5]  # type: ignore[return-value]

    mean_1, mean_2 = mean(first), mean(second)
    var_1 = mean(first * first) - mean_1 * mean_1
    var_2 = mean(second * second) - mean_2 * mean_2
    covariance = mean(first * second) - mean_1 * mean_2
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    similarity = ((2 * mean_1 * mean_2 + c1) * (2 * covariance + c2)) / (
        (mean_1 * mean_1 + mean_2 * mean_2 + c1) * (var_1 + var_2 + c2)
    )
    return float(similarity.mean())


def _peak(image: Image, reference: Image) -> float:
    if image.shape != reference.shape or image.dtype != reference.dtype:
        raise ArgumentError(
            f"pictures differ in kind: {image.shape} {image.dtype}"
            f" and {reference.shape} {reference.dtype}"
        )
    if np.issubdtype(image.dtype, np.floating):
        return 1.0
    return float(np.iinfo(image.dtype).max)  # type: ignore[type-var]
