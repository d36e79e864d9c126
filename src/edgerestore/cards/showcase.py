"""Pictures of a card: the one that a model gains most on, and the one it gains least on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from ..bundle.bundle import Bundle
from ..engine.load import load
from ..errors import ArgumentError
from ..evaluation.dataset import Dataset, find_pairs
from ..evaluation.scores import Fractions, as_fractions
from ..imaging.degradations import Degradation
from ..reports.pictures import densest_window
from .figures import DEVICE, Change, Measured, changes

__all__ = ["Shown", "showcase"]

_QUALITY = 85
_MOST_BYTES = 80_000
_SIDES_PX = (256, 224, 192, 160, 128, 96, 64)
_GAP_PX = 4


@dataclass(frozen=True)
class Shown:
    """Crop of a picture as input, restored and truth, side by side.

    Parameters
    ----------
    jpeg : bytes
    measured : Measured
        The evaluation that the picture was chosen from.
    change : Change
        Of the whole picture.
    """

    jpeg: bytes
    measured: Measured
    change: Change


class _Chosen(NamedTuple):
    measured: Measured
    change: Change


def showcase(bundle: Bundle, measured: Sequence[Measured]) -> tuple[Shown, Shown]:
    """Return pictures of success and of failure.

    Parameters
    ----------
    bundle : Bundle
    measured : sequence of Measured
        At one precision; pictures are chosen from all of them.

    Raises
    ------
    ArgumentError
        When nothing can be gained on any picture.
    """
    ends = [
        _Chosen(one, change)
        for one in measured
        for change in changes(one.found, one.found.rows[-1])
    ]
    if not ends:
        raise ArgumentError("--pictures: all are clean; use --degrade, or pairs of pictures")
    best = max(ends, key=lambda chosen: chosen.change.gain)
    worst = min(ends, key=lambda chosen: chosen.change.gain)
    return _shown(bundle, best, success=True), _shown(bundle, worst, success=False)


def _shown(bundle: Bundle, chosen: _Chosen, *, success: bool) -> Shown:
    found, held_out = chosen.measured.found, chosen.measured.held_out
    degrade = found.recipe["degrade"]
    degradation = None if degrade is None else Degradation.parse(degrade, upscale=found.upscale)
    pairs = find_pairs(held_out.targets, held_out.inputs)
    pair = next(pair for pair in pairs if pair.target.name == chosen.change.image.name)
    dataset = Dataset(
        pairs, found.kind, found.upscale, found.border_px, degradation, found.recipe["seed"] or 0
    )
    sample = dataset.sample(pair)
    precision = found.rows[-1].precision
    with load(
        bundle.folder, device=DEVICE, precision=precision, intensity_range="full"
    ) as restorer:
        made = as_fractions(restorer(sample.given))
    given, target = sample.enlarged(), sample.target
    left = _error(made, target)
    if found.kind.traits.blended:
        gained = _error(given, target) - left
        if success:
            left = gained
        elif chosen.change.gain < 0:
            left = -gained
    elif success:
        left = -left
    return Shown(_jpeg([given, made, target], left), *chosen)


def _error(picture: Fractions, target: Fractions) -> Fractions:
    difference: Fractions = np.square(picture - target).sum(axis=2)
    return difference


def _jpeg(pictures: Sequence[Fractions], weight: Fractions) -> bytes:
    """Cut pictures to where a weight is largest, and encode them side by side."""
    for side in _SIDES_PX:
        window = densest_window(weight, side)
        crops = [_bgr(picture[window]) for picture in pictures]
        gap = np.full((crops[0].shape[0], _GAP_PX, 3), 255, np.uint8)
        strip = np.hstack([crops[0], gap, crops[1], gap, crops[2]])
        _, encoded = cv2.imencode(".jpg", strip, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
        if len(encoded) <= _MOST_BYTES:
            break
    return encoded.tobytes()


def _bgr(picture: Fractions) -> np.ndarray:
    levels = np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
    return np.repeat(levels, 3, axis=2) if levels.shape[2] == 1 else levels[..., ::-1]
