"""Validation of a training run: PSNR over held-out pairs, and sheets of samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import SinkError
from ..imaging.bicubic import resized
from ..imaging.metrics import psnr
from .dataset import Split

__all__ = ["Scores", "sample_sheet", "score"]

Pixels = NDArray[np.uint8]
Restore = Callable[[Pixels], Pixels]
"""Restore a batch of pictures, u8 ``[N, h, w, C]`` to u8 ``[N, H, W, C']``."""

_BATCH = 4
_HIGHEST_DB = 100.0  # of equal pictures, whose PSNR is infinite
_SHEET_ROWS = 4


class Scores(NamedTuple):
    """Mean PSNR of a split, in dB: of its inputs (enlarged where the targets are) and restored."""

    input_db: float
    output_db: float

    @property
    def gain_db(self) -> float:
        """Gain over the inputs."""
        return self.output_db - self.input_db


def score(restore: Restore, splits: Sequence[Split], most: int | None = None) -> Scores:
    """Return the scores of the first pairs of each split."""
    rows = []
    for split in splits:
        count = min(len(split), most or len(split))
        for first in range(0, count, _BATCH):
            part = slice(first, min(first + _BATCH, count))
            inputs, targets = np.array(split.inputs[part]), np.array(split.targets[part])
            restored = restore(inputs)
            rows += [
                (_psnr(_enlarged(image, target), target), _psnr(made, target))
                for image, made, target in zip(inputs, restored, targets, strict=True)
            ]
    before, after = np.mean(rows, axis=0)
    return Scores(float(before), float(after))


def sample_sheet(restore: Restore, split: Split, path: Path) -> None:
    """Write a picture of a few pairs: input, restored, truth."""
    chosen = np.linspace(0, len(split) - 1, min(_SHEET_ROWS, len(split))).astype(int)
    rows = []
    for index in chosen:
        image, target = np.array(split.inputs[index]), np.array(split.targets[index])
        restored = restore(image[None])[0]
        rows.append(np.hstack([_enlarged(image, target), restored, target]))
    sheet = np.vstack(rows)
    if sheet.shape[2] == 3:
        sheet = sheet[..., ::-1]
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), sheet, [cv2.IMWRITE_JPEG_QUALITY, 92]):
        raise SinkError(f"{path}: cannot be written; is the disk full?")


def _psnr(image: Pixels, target: Pixels) -> float:
    return min(_HIGHEST_DB, psnr(image, target))


def _enlarged(image: Pixels, target: Pixels) -> Pixels:
    """Return the channels and the size of the target: bicubic, where the input is smaller."""
    image = image[..., : target.shape[2]]
    if image.shape == target.shape:
        return image
    large = resized(image.astype(np.float32), *target.shape[:2])
    return np.rint(large).clip(0, 255).astype(np.uint8)
