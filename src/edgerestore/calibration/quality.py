"""How good a graph is on held-out crops: against ground truth and against the float model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..imaging.metrics import psnr, ssim
from .dataset import Crop
from .results import Quality

__all__ = ["HeldOut", "loss_of_noise", "reference_error"]

Planes = NDArray[np.float32]
Graph = Callable[[Planes], Planes]

_SUPPOSED_MSE = 1e-3
"""Mean square error of a picture of 30 dB: what the float model is taken to leave where no
ground truth says it."""


@dataclass(frozen=True)
class _Reference:
    """What the float model makes of one crop, and how far that is from ground truth."""

    output: Planes
    psnr_db: float | None
    ssim: float | None


class HeldOut:
    """Crops that quantization never saw, with the float model's answers.

    Parameters
    ----------
    crops : sequence of Crop
    float_model : callable
        f32 [1, C, h, w] in [0, 1] to the restored crop.
    """

    def __init__(self, crops: Sequence[Crop], float_model: Graph) -> None:
        self.crops = tuple(crops)
        self._references = [_refer(crop, float_model(crop.image)) for crop in crops]

    @property
    def float_quality(self) -> Quality:
        """The float model's own quality: nothing lost."""
        references = self._references
        return Quality(
            psnr_db=_mean([r.psnr_db for r in references]),
            ssim=_mean([r.ssim for r in references]),
            loss_db=0.0,
            psnr_to_float_db=math.inf,
            ssim_to_float=1.0,
            worst_loss_db=0.0,
            worst_crop=0,
        )

    def output(self, at: int) -> Planes:
        """Return the float model's output for one crop."""
        return self._references[at].output

    def judge(self, graph: Graph) -> Quality:
        """Measure another form of the model.

        Parameters
        ----------
        graph : callable
            Like ``float_model``.
        """
        losses, to_float, like_float, to_truth, like_truth = [], [], [], [], []
        for crop, reference in zip(self.crops, self._references, strict=True):
            made = graph(crop.image)
            noise = _mse(made, reference.output)
            to_float.append(psnr(made, reference.output))
            like_float.append(ssim(_pixels(made), _pixels(reference.output)))
            if crop.truth is None or reference.psnr_db is None:
                losses.append(loss_of_noise(noise, _SUPPOSED_MSE))
                continue
            reached = psnr(made, crop.truth)
            losses.append(reference.psnr_db - reached)
            to_truth.append(reached)
            like_truth.append(ssim(_pixels(made), _pixels(crop.truth)))
        worst = int(np.argmax(losses))
        return Quality(
            psnr_db=_mean(to_truth),
            ssim=_mean(like_truth),
            loss_db=float(np.mean(losses)),
            psnr_to_float_db=float(np.mean(to_float)),
            ssim_to_float=float(np.mean(like_float)),
            worst_loss_db=losses[worst],
            worst_crop=worst,
        )


def loss_of_noise(noise: float, mse: float) -> float:
    """Return the PSNR in dB that independent noise costs a picture that is off by ``mse``."""
    return 10 * math.log10(1 + noise / max(mse, 1e-12))


def _refer(crop: Crop, output: Planes) -> _Reference:
    if crop.truth is None:
        return _Reference(output, None, None)
    return _Reference(output, psnr(output, crop.truth), ssim(_pixels(output), _pixels(crop.truth)))


def reference_error(output: Planes, truth: Planes | None) -> float:
    """Return the mean square error that a float output leaves; supposed where truth is unknown."""
    return _SUPPOSED_MSE if truth is None else _mse(output, truth)


def _mse(made: Planes, wanted: Planes) -> float:
    return float(np.mean(np.square(made.astype(np.float64) - wanted)))


def _pixels(planes: Planes) -> Planes:
    return np.ascontiguousarray(planes[0].transpose(1, 2, 0))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
