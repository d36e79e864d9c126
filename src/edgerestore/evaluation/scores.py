"""Pictures of any depth as fractions of white, and how far two of them are apart."""

from __future__ import annotations

import statistics

import numpy as np
from numpy.typing import NDArray

from ..bundle.kinds import OutputKind
from ..imaging.arrays import Depth, Image
from ..imaging.metrics import psnr, ssim

__all__ = ["LEAST_PX", "Fractions", "as_fractions", "measured", "studio_luma"]

Fractions = NDArray[np.float64]
"""A picture of shape (H, W, C) in [0, 1]."""

LEAST_PX = {OutputKind.IMAGE: 11, OutputKind.MASK: 1}
"""The smallest side that can be measured, the border cut off: SSIM's window."""


def as_fractions(image: Image) -> Fractions:
    """Return a picture as fractions of its own depth's white, with an axis of channels.

    In f64, 8 and 16 bits of the same fraction are the same number, so pictures of different
    depths can be equal.
    """
    fractions: Fractions = np.atleast_3d(image).astype(np.float64)
    fractions /= Depth(image.dtype.name).peak
    return fractions


def studio_luma(image: Fractions) -> Fractions:
    """Return luma as the super-resolution field measures it: BT.601, black 16, white 235, of 255.

    Parameters
    ----------
    image : ndarray, f64, shape (H, W, 1) or (H, W, 3), RGB
        Grey stands for three equal channels.
    """
    red, green, blue = (image[..., at if image.shape[2] == 3 else 0] for at in range(3))
    value: Fractions = (16 + 65.481 * red + 128.553 * green + 24.966 * blue) / 255
    return value


def measured(
    kind: OutputKind, made: Fractions, target: Fractions, border_px: int
) -> dict[str, float]:
    """Return every measure of an outcome.

    Parameters
    ----------
    kind : OutputKind
        Chooses the measures; see `findings.METRICS`.
    made, target : ndarray, f64, shape (H, W, C)
        Of the same size. Where one is grey and the other colour, the grey one stands for
        three equal channels.
    border_px : int
        Cut from every side of both.
    """
    rows, columns = (slice(border_px, side - border_px) for side in target.shape[:2])
    made, target = made[rows, columns], target[rows, columns]
    if kind is OutputKind.MASK:
        return _mask_scores(made, target)
    channels = max(made.shape[2], target.shape[2])
    made, target = (_with_channels(picture, channels) for picture in (made, target))
    made_y, target_y = studio_luma(made), studio_luma(target)
    # A channel at a time is the same mean, and takes a third of the memory.
    similar = (ssim(made[..., at], target[..., at]) for at in range(channels))
    return {
        "psnr_db": psnr(made, target),
        "ssim": statistics.fmean(similar),
        "psnr_y_db": psnr(made_y, target_y),
        "ssim_y": ssim(made_y, target_y),
    }


def _mask_scores(made: Fractions, target: Fractions) -> dict[str, float]:
    inside, wanted = made >= 0.5, target >= 0.5
    union = int((inside | wanted).sum())
    return {
        "mae": float(np.abs(made - target).mean()),
        "iou": int((inside & wanted).sum()) / union if union else 1.0,
    }


def _with_channels(image: Fractions, channels: int) -> Fractions:
    return image if image.shape[2] == channels else np.repeat(image, channels, axis=2)
