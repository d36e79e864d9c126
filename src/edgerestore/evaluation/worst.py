"""The pictures that a model does worst on, cut to where the error is largest."""

from __future__ import annotations

import heapq

import cv2
import numpy as np
from numpy.typing import NDArray

from .results import ImageScore, Metric, WorstCrop
from .scores import Fractions

__all__ = ["WorstOnes"]

_MOST = 3
_MOST_PX = 160


class WorstOnes:
    """Keeps crops of the few worst pictures of many.

    Parameters
    ----------
    metric : Metric
        By which they are worse.
    border_px : int
        Not looked at on each side.
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
        if len(self._heap) == _MOST and badness <= self._heap[0][0]:
            return
        crop = _cut(score, given, made, target, self._border)
        self._count -= 1  # of equal ones the first is the worst
        keep = heapq.heappush if len(self._heap) < _MOST else heapq.heapreplace
        keep(self._heap, (badness, self._count, crop))

    def crops(self) -> list[WorstCrop]:
        """Return them, the worst first."""
        return [crop for _, _, crop in sorted(self._heap, key=lambda one: one[:2], reverse=True)]


def _cut(
    score: ImageScore, given: Fractions, made: Fractions, target: Fractions, border_px: int
) -> WorstCrop:
    height, width = (side - 2 * border_px for side in target.shape[:2])
    inner = slice(border_px, border_px + height), slice(border_px, border_px + width)
    error = np.square(made[inner] - target[inner]).sum(axis=2)
    rows, columns = min(_MOST_PX, height), min(_MOST_PX, width)
    sums = cv2.integral(error)
    inside = sums[rows:, columns:] - sums[:-rows, columns:] - sums[rows:, :-columns]
    inside = inside + sums[:-rows, :-columns]
    y, x = (int(at) + border_px for at in np.unravel_index(np.argmax(inside), inside.shape))
    part = slice(y, y + rows), slice(x, x + columns)
    given, made, target = (picture[part] for picture in (given, made, target))
    return WorstCrop(score, x, y, _planes(given), _planes(made), _planes(target))


def _planes(image: Fractions) -> NDArray[np.float32]:
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32)
