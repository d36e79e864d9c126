"""Metrics of an output against its target, for pictures of any depth."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..bundle.kinds import OutputKind
from ..errors import SourceError
from ..imaging.arrays import Depth, Image
from ..imaging.metrics import psnr, ssim

__all__ = [
    "SCORING",
    "Fractions",
    "Metric",
    "Scoring",
    "as_fractions",
    "measured",
    "studio_luma",
    "without_alpha",
]

Fractions = NDArray[np.float64]
"""A picture of shape (H, W, C) in [0, 1]."""


@dataclass(frozen=True)
class Metric:
    """Metric of an output against its target.

    Parameters
    ----------
    key : str
        In CSV, JSON and `ImageScore.values`.
    title, unit : str
        In tables.
    digits : int
        Behind the point, in tables.
    definition : str
        Exact definition, for the reports.
    more_is_better : bool
    """

    key: str
    title: str
    unit: str
    digits: int
    definition: str
    more_is_better: bool = True

    @property
    def head(self) -> str:
        """Head of its column: title and unit."""
        return f"{self.title} {self.unit}".strip()

    def shown(self, value: float) -> str:
        """Return a value without its unit; an infinite one as ``equal``."""
        return f"{value:.{self.digits}f}" if math.isfinite(value) else "equal"

    def named(self, value: float) -> str:
        """Return title, value and unit."""
        unit = self.unit if math.isfinite(value) else ""
        return f"{self.title} {self.shown(value)} {unit}".strip()


@dataclass(frozen=True)
class Scoring:
    """How outputs of one kind are compared with their targets.

    Parameters
    ----------
    metrics : tuple of Metric
        The first one ranks the pictures.
    measure : callable
        Takes output and target, f64 ``(H, W, C)`` of one size; returns values by `Metric.key`.
    target : callable
        Takes a target's path and its decoded picture; returns what the output is compared with.
        Raises `SourceError` for a picture that cannot be a target.
    least_px : int
        Least side that can be measured, the border cut off.
    note : str
        For the reports.
    """

    metrics: tuple[Metric, ...]
    measure: Callable[[Fractions, Fractions], dict[str, float]]
    target: Callable[[Path, Image], Image]
    least_px: int = 1
    note: str = ""


_SSIM = (
    "SSIM of Wang et al. 2004: 11x11 gaussian window of sigma 1.5, K1 0.01, K2 0.03, where the"
    " whole window fits"
)
_LUMA = "luma Y = (16 + 65.481 R + 128.553 G + 24.966 B) / 255 (BT.601), not rounded"


def as_fractions(image: Image) -> Fractions:
    """Return a picture as fractions of its own depth's white, with an axis of channels.

    In f64, 8 and 16 bits of the same fraction are the same number, so pictures of different
    depths can be equal.
    """
    fractions: Fractions = np.atleast_3d(image).astype(np.float64)
    fractions /= Depth(image.dtype.name).peak
    return fractions


def studio_luma(image: Fractions) -> Fractions:
    """Return BT.601 luma with black at 16 and white at 235 of 255, as super-resolution measures it.

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
    """Return every metric of an output.

    Parameters
    ----------
    kind : OutputKind
        Selects the metrics; see `SCORING`.
    made, target : ndarray, f64, shape (H, W, C)
        Of the same size. Where one is a grey image and the other a colour image, the grey one
        stands for three equal channels.
    border_px : int
        Cut from every side of both.
    """
    rows, columns = (slice(border_px, side - border_px) for side in target.shape[:2])
    return SCORING[kind].measure(made[rows, columns], target[rows, columns])


def _image_scores(made: Fractions, target: Fractions) -> dict[str, float]:
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


def without_alpha(_path: Path, image: Image) -> Image:
    """Return a picture without its transparency."""
    return np.ascontiguousarray(image[..., :3]) if image.ndim == 3 else image


def _mask_target(path: Path, image: Image) -> Image:
    """Return the alpha channel of a mask file, or the file itself where it is grey."""
    if image.ndim == 2:
        return image
    if image.shape[2] == 4:
        return np.ascontiguousarray(image[..., 3])
    if not (image == image[..., :1]).all():
        raise SourceError(f"{path}: is not a mask: it has colours and no alpha; use a grey picture")
    return np.ascontiguousarray(image[..., 0])


SCORING = {
    OutputKind.IMAGE: Scoring(
        (
            Metric("psnr_db", "PSNR", "dB", 2, "PSNR over all pixels and channels, peak 1"),
            Metric("ssim", "SSIM", "", 4, f"{_SSIM}; mean over channels"),
            Metric("psnr_y_db", "PSNR-Y", "dB", 2, f"PSNR, peak 1, of the {_LUMA}"),
            Metric("ssim_y", "SSIM-Y", "", 4, f"{_SSIM}; of the same luma"),
        ),
        _image_scores,
        without_alpha,
        least_px=11,  # the window of SSIM
        note="PSNR and SSIM are of RGB, -Y of BT.601 luma (black 16, white 235).",
    ),
    OutputKind.MASK: Scoring(
        (
            Metric("mae", "MAE", "", 4, "mean absolute error, where the full mask is 1", False),
            Metric(
                "iou",
                "IoU",
                "",
                4,
                "intersection over union of what is 0.5 or more; 1 for two empty",
            ),
        ),
        _mask_scores,
        _mask_target,
    ),
}
"""By kind of output; kinds without a row are not evaluated."""
