"""Batches of a training run: random crops of memory-mapped pairs, prepared ahead in threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, SourceError
from .dataset import Split

__all__ = ["Crops", "PixelPair"]

_TURNS = (cv2.ROTATE_90_COUNTERCLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_CLOCKWISE)
_AHEAD = 4  # batches that are prepared while one is trained on

Pixels = NDArray[np.uint8]
PixelPair = tuple[Pixels, Pixels]


@dataclass(frozen=True)
class Crops:
    """Random crops of a split; the batch of a step depends on the seed and the step alone.

    Parameters
    ----------
    splits : sequence of Split
    crop_px : int
        Side of the inputs' crops.
    batch, seed : int
    orientations, color_orders : bool
        Turn and mirror crops; permute their colours.
    shares : sequence of float
        Weight of each split; without any, their pairs are drawn as if they were one.
    """

    splits: Sequence[Split]
    crop_px: int
    batch: int
    seed: int
    orientations: bool = True
    color_orders: bool = False
    shares: Sequence[float] = ()

    def __post_init__(self) -> None:
        if self.shares and len(self.shares) != len(self.splits):
            raise ArgumentError(
                f"the recipe has shares of {len(self.shares)} datasets, and {len(self.splits)}"
                " are given; give each with --data, in the order of the shares"
            )
        for split in self.splits:
            least = min(split.inputs.shape[1:3])
            if least < self.crop_px:
                raise SourceError(
                    f"pairs of {least} px are smaller than the recipe's crops of {self.crop_px} px;"
                    " make larger ones"
                )

    def at(self, step: int) -> PixelPair:
        """Return the inputs and targets of a step, u8 ``[N, crop, crop, C]``."""
        rng = np.random.default_rng([self.seed, step])
        pairs = [self._crop(*place, rng) for place in self._places(rng)]
        return np.stack([pair[0] for pair in pairs]), np.stack([pair[1] for pair in pairs])

    def _places(self, rng: np.random.Generator) -> list[tuple[Split, int]]:
        """Return the split of each crop, and the index of its pair."""
        if self.shares:
            weights = np.array(self.shares) / sum(self.shares)
            chosen = rng.choice(len(self.splits), self.batch, p=weights)
            return [(self.splits[one], int(rng.integers(len(self.splits[one])))) for one in chosen]
        ends = np.cumsum([len(split) for split in self.splits])
        places = []
        for index in rng.integers(ends[-1], size=self.batch):
            number = int(np.searchsorted(ends, index, side="right"))
            places.append((self.splits[number], int(index - ends[number])))
        return places

    def _crop(self, split: Split, index: int, rng: np.random.Generator) -> PixelPair:
        side, scale = self.crop_px, split.upscale
        height, width = split.inputs.shape[1:3]
        top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
        turns, mirrored, order = int(rng.integers(4)), rng.random() < 0.5, rng.permutation(3)

        def cut(pictures: Pixels, times: int) -> Pixels:
            rows = slice(top * times, (top + side) * times)
            columns = slice(left * times, (left + side) * times)
            crop = np.array(pictures[index, rows, columns])
            if self.orientations:
                crop = _oriented(crop, turns, mirrored=mirrored)
            return crop[..., order] if self.color_orders and crop.shape[2] == 3 else crop

        return cut(split.inputs, 1), cut(split.targets, scale)

    def ahead(self, first: int, steps: int, threads: int = 1) -> Iterator[PixelPair]:
        """Yield the batches of the steps from the first on, prepared ahead in threads."""
        with ThreadPoolExecutor(threads, "edgerestore-batches") as pool:
            waiting: deque[Future[PixelPair]] = deque()
            try:
                for step in range(first, steps):
                    waiting.append(pool.submit(self.at, step))
                    if len(waiting) > _AHEAD * threads:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)


def _oriented(crop: Pixels, turns: int, *, mirrored: bool) -> Pixels:
    """Return a crop turned by quarters, then mirrored."""
    channels = crop.shape[2]
    # OpenCV is twenty times as fast here as copying NumPy's views.
    if turns:
        crop = np.asarray(cv2.rotate(crop, _TURNS[turns - 1]), np.uint8)
    if mirrored:
        crop = np.asarray(cv2.flip(crop, 1), np.uint8)
    return crop.reshape(*crop.shape[:2], channels)  # OpenCV drops an axis of one channel
