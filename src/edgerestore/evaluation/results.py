"""What an evaluation found: a row for each model and precision, a score for each picture."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle.kinds import OutputKind

__all__ = ["METRICS", "Evaluation", "ImageScore", "Metric", "Row", "WorstCrop"]

Planes = NDArray[np.float32]


@dataclass(frozen=True)
class Metric:
    """One measure of how far an outcome is from its target.

    Parameters
    ----------
    key : str
        In CSV, JSON and `ImageScore.values`.
    title, unit : str
        For people.
    digits : int
        Behind the point, for people.
    definition : str
        What exactly it is.
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
        """What stands above its column."""
        return f"{self.title} {self.unit}".strip()

    def shown(self, value: float) -> str:
        """Return a value for people, without the unit; an infinite one as ``equal``."""
        return f"{value:.{self.digits}f}" if math.isfinite(value) else "equal"

    def told(self, value: float) -> str:
        """Return name, value and unit."""
        unit = self.unit if math.isfinite(value) else ""
        return f"{self.title} {self.shown(value)} {unit}".strip()


_SSIM = (
    "SSIM of Wang et al. 2004: 11x11 gaussian window of sigma 1.5, K1 0.01, K2 0.03, where the"
    " whole window fits"
)
_LUMA = "luma Y = (16 + 65.481 R + 128.553 G + 24.966 B) / 255 (BT.601), not rounded"

METRICS: dict[OutputKind, tuple[Metric, ...]] = {
    OutputKind.IMAGE: (
        Metric("psnr_db", "PSNR", "dB", 2, "PSNR over all pixels and channels, peak 1"),
        Metric("ssim", "SSIM", "", 4, f"{_SSIM}; mean over channels"),
        Metric("psnr_y_db", "PSNR-Y", "dB", 2, f"PSNR, peak 1, of the {_LUMA}"),
        Metric("ssim_y", "SSIM-Y", "", 4, f"{_SSIM}; of the same luma"),
    ),
    OutputKind.MASK: (
        Metric("mae", "MAE", "", 4, "mean absolute error, where the full mask is 1", False),
        Metric(
            "iou", "IoU", "", 4, "intersection over union of what is 0.5 or more; 1 for two empty"
        ),
    ),
}
"""The measures by what a model gives; the first one says which pictures are the worst."""


@dataclass(frozen=True)
class ImageScore:
    """What one model made of one picture.

    Parameters
    ----------
    name : str
        The target's file name.
    width, height : int
        Of the target.
    values : mapping of str to float
        By `Metric.key`. PSNR is ``inf`` where outcome and target are equal.
    milliseconds : float or None
        To restore it, without reading the file; None for the input itself.
    megapixels : float
        Of the input.
    """

    name: str
    width: int
    height: int
    values: Mapping[str, float]
    milliseconds: float | None
    megapixels: float


@dataclass(frozen=True, eq=False)
class WorstCrop:
    """Where an outcome is farthest from its target; f32 [1, C, h, w] in [0, 1].

    Parameters
    ----------
    score : ImageScore
        Of the whole picture.
    x, y : int
        Left and top in the target.
    given, made, target : ndarray
        The input at the target's size, the outcome, and what it should be.
    """

    score: ImageScore
    x: int
    y: int
    given: Planes
    made: Planes
    target: Planes


@dataclass(frozen=True, eq=False)
class Row:
    """A model at a precision, or the input itself, on all pictures.

    Parameters
    ----------
    model : str
        Its name as the tables show it; ``input`` for the input.
    precision : str
        What was computed in; empty for the input.
    device, reason, plan : str
        Where, why this precision, and how the last picture was cut.
    images : list of ImageScore
        In the order of the names.
    worst : list of WorstCrop
        Up to three, the worst first; none for the input.
    """

    model: str
    precision: str = ""
    device: str = ""
    reason: str = ""
    plan: str = ""
    images: list[ImageScore] = field(default_factory=list)
    worst: list[WorstCrop] = field(default_factory=list)

    @property
    def label(self) -> str:
        """Model and precision in one."""
        return f"{self.model} {self.precision}".strip()

    @property
    def equal(self) -> int:
        """How many outcomes equal their targets in every sample, by an infinite PSNR."""
        return sum(math.inf in score.values.values() for score in self.images)

    def mean(self, key: str) -> float:
        """Return a measure's mean over its finite values; ``inf`` when there is none."""
        finite = [score.values[key] for score in self.images if math.isfinite(score.values[key])]
        return statistics.fmean(finite) if finite else math.inf

    @property
    def milliseconds(self) -> float | None:
        """Median over the pictures; None for the input."""
        taken = [score.milliseconds for score in self.images if score.milliseconds is not None]
        return statistics.median(taken) if taken else None

    @property
    def megapixels_per_second(self) -> float | None:
        """Median over the pictures, in pixels of the input; None for the input."""
        rates = [
            score.megapixels / score.milliseconds * 1000
            for score in self.images
            if score.milliseconds
        ]
        return statistics.median(rates) if rates else None


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What was found, and under which conditions.

    Parameters
    ----------
    kind : OutputKind
        What the models give, which chooses the measures.
    upscale : int
        How many times they enlarge.
    border_px : int
        Cut from every side of outcome and target before measuring.
    rows : list of Row
        The input first, where it can be compared, then the models as they were named.
    recipe : dict
        Where the pictures come from: folders, degradation, seed; strength and ``tta``.
    machine, tools : dict
        What it was measured on and with.
    """

    kind: OutputKind
    upscale: int
    border_px: int
    rows: list[Row]
    recipe: dict[str, Any]
    machine: dict[str, Any]
    tools: dict[str, str]

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The measures that every `ImageScore` has."""
        return METRICS[self.kind]
