"""Results of an evaluation: a row for each model and precision, a score for each picture."""

from __future__ import annotations

import heapq
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..bundle.kinds import OutputKind
from ..imaging.arrays import Planes, planes_of
from ..reports.pictures import densest_window
from .scores import SCORING, Fractions, Metric

__all__ = ["Evaluation", "ImageScore", "Row", "WorstCrop", "WorstCrops"]

_WORST = 3
_CROP_PX = 160


@dataclass(frozen=True)
class ImageScore:
    """Metrics and time of one model on one picture.

    Parameters
    ----------
    name : str
        The target's file name.
    width, height : int
        Of the target.
    values : mapping of str to float
        By `Metric.key`. PSNR is ``inf`` where output and target are equal.
    milliseconds : float or None
        To restore it, without reading the file; None for the input.
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
    """Crop where an output is farthest from its target; f32 [1, C, h, w] in [0, 1].

    Parameters
    ----------
    score : ImageScore
        Of the whole picture.
    x, y : int
        Left and top in the target.
    given, made, target : ndarray
        Input at the target's size, output, and target.
    """

    score: ImageScore
    x: int
    y: int
    given: Planes
    made: Planes
    target: Planes


@dataclass(frozen=True, eq=False)
class Row:
    """Results of a model at a precision, or of the input itself, on all pictures.

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
    folder : Path or None
        The bundle's; None for the input.
    """

    model: str
    precision: str = ""
    device: str = ""
    reason: str = ""
    plan: str = ""
    images: list[ImageScore] = field(default_factory=list)
    worst: list[WorstCrop] = field(default_factory=list)
    folder: Path | None = None

    @property
    def label(self) -> str:
        """Model and precision in one."""
        return f"{self.model} {self.precision}".strip()

    @property
    def equal(self) -> int:
        """Number of outputs that equal their targets in every sample, by an infinite PSNR."""
        return sum(math.inf in score.values.values() for score in self.images)

    def mean(self, key: str) -> float:
        """Return the mean of a metric's finite values; ``inf`` when there is none."""
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
    """Results of an evaluation, and the conditions that they hold for.

    Parameters
    ----------
    kind : OutputKind
        Output of the models; selects the metrics.
    upscale : int
        Scale of the models.
    border_px : int
        Cut from every side of output and target before measuring.
    rows : list of Row
        The input first, where it can be compared, then the models as they were named.
    recipe : dict
        Where the pictures come from: folders, degradation, seed; strength and ``tta``.
    machine, tools : dict
        Machine and library versions of the measurement.
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
        """Metrics that every `ImageScore` has."""
        return SCORING[self.kind].metrics


class WorstCrops:
    """Crops of the three worst pictures; holds no more than these.

    Parameters
    ----------
    metric : Metric
        Ranks the pictures.
    border_px : int
        Ignored on each side.
    """

    def __init__(self, metric: Metric, border_px: int) -> None:
        self._metric, self._border = metric, border_px
        # The number is unique, so crops are never compared.
        self._heap: list[tuple[float, int, WorstCrop]] = []
        self._count = 0

    def offer(
        self, score: ImageScore, given: Fractions, made: Fractions, target: Fractions
    ) -> None:
        """Keep a crop of a picture if it is among the worst; arrays are copied."""
        value = score.values[self._metric.key]
        badness = -value if self._metric.more_is_better else value
        if len(self._heap) == _WORST and badness <= self._heap[0][0]:
            return
        self._count -= 1  # of equal ones the first is the worst
        keep = heapq.heappush if len(self._heap) < _WORST else heapq.heapreplace
        keep(self._heap, (badness, self._count, self._cut(score, given, made, target)))

    def crops(self) -> list[WorstCrop]:
        """Return the crops, the worst first."""
        return [crop for _, _, crop in sorted(self._heap, key=lambda one: one[:2], reverse=True)]

    def _cut(
        self, score: ImageScore, given: Fractions, made: Fractions, target: Fractions
    ) -> WorstCrop:
        height, width = target.shape[:2]
        cut = self._border
        inner = slice(cut, height - cut), slice(cut, width - cut)
        error = np.square(made[inner] - target[inner]).sum(axis=2)
        window = tuple(
            slice(part.start + cut, part.stop + cut) for part in densest_window(error, _CROP_PX)
        )
        parts = (planes_of(picture[window]) for picture in (given, made, target))
        return WorstCrop(score, window[1].start, window[0].start, *parts)
