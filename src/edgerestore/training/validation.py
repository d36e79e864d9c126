"""Validation of a training run: figures over held-out pairs, and sheets of samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..bundle.kinds import OutputKind
from ..errors import SinkError
from ..evaluation.scores import SCORING, as_fractions
from ..imaging.bicubic import resized
from ..imaging.metrics import psnr
from .dataset import Split

__all__ = ["Scores", "sample_sheet", "score"]

Pixels = NDArray[np.uint8]
Restore = Callable[[Pixels], Pixels]
"""Restore pictures, u8 ``[N, h, w, C]`` to u8 ``[N, H, W, C']``."""

_BATCH = 4
# Of a pair. No eye sees more, and PSNR of equal pictures is infinite: a few clean pairs would else
# outweigh all others in the mean, and the search would find what changes nothing.
_HIGHEST_DB = 50.0
_SHEET_ROWS = 4


@dataclass(frozen=True)
class Scores:
    """Means over the pairs of a split.

    Parameters
    ----------
    figures : dict of str to float
        ``input_db``, ``output_db`` and ``gain_db``, the PSNR of the inputs (enlarged where the
        targets are), of what is restored, and their difference; or ``mae`` and ``iou`` of masks.
    """

    figures: dict[str, float]

    def __str__(self) -> str:
        """Return the figures in a few words."""
        found = self.figures
        if "iou" in found:
            return f"IoU {found['iou']:.4f}, MAE {found['mae']:.4f}"
        return f"{found['input_db']:.2f} -> {found['output_db']:.2f} dB ({found['gain_db']:+.2f})"


def score(restore: Restore, splits: Sequence[Split], most: int | None = None) -> Scores:
    """Return the scores of the first pairs of each split."""
    rows = []
    for split in splits:
        count = min(len(split), most or len(split))
        for first in range(0, count, _BATCH):
            part = slice(first, min(first + _BATCH, count))
            inputs, targets = np.array(split.inputs[part]), np.array(split.targets[part])
            for image, made, target in zip(inputs, restore(inputs), targets, strict=True):
                rows.append(_figures(image, made, target))
    return Scores({name: float(np.mean([row[name] for row in rows])) for name in rows[0]})


def sample_sheet(restore: Restore, split: Split, path: Path) -> None:
    """Write a picture of a few pairs: input, restored, truth."""
    chosen = np.linspace(0, len(split) - 1, min(_SHEET_ROWS, len(split))).astype(int)
    rows = []
    for index in chosen:
        image, target = np.array(split.inputs[index]), np.array(split.targets[index])
        made = restore(image[None])[0]
        target = _comparable(target, made)
        shown = image if _is_mask(made, image) else _enlarged(image, target)
        rows.append(np.hstack([_colour(one) for one in (shown, made, target)]))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet = np.vstack(rows)[..., ::-1]
    if not cv2.imwrite(str(path), sheet, [cv2.IMWRITE_JPEG_QUALITY, 92]):
        raise SinkError(f"{path}: cannot be written; is the disk full?")


def _figures(image: Pixels, made: Pixels, target: Pixels) -> dict[str, float]:
    target = _comparable(target, made)
    if _is_mask(made, image):
        return SCORING[OutputKind.MASK].measure(as_fractions(made), as_fractions(target))
    before, after = (_psnr(one, target) for one in (_enlarged(image, target), made))
    return {"input_db": before, "output_db": after, "gain_db": after - before}


def _comparable(target: Pixels, made: Pixels) -> Pixels:
    """Return the target of a network that makes a mask: the alpha of RGBA."""
    return target[..., 3:] if (target.shape[2], made.shape[2]) == (4, 1) else target


def _is_mask(made: Pixels, image: Pixels) -> bool:
    return int(made.shape[2]) == 1 < int(image.shape[2])


def _psnr(image: Pixels, target: Pixels) -> float:
    return min(_HIGHEST_DB, psnr(image, target))


def _enlarged(image: Pixels, target: Pixels) -> Pixels:
    """Return the channels and the size of the target: bicubic, where the input is smaller."""
    image = image[..., : target.shape[2]]
    if image.shape == target.shape:
        return image
    large = resized(image.astype(np.float32), *target.shape[:2])
    return np.rint(large).clip(0, 255).astype(np.uint8)


def _colour(image: Pixels) -> Pixels:
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image
