"""Objectives: what a training step minimises."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import ArgumentError

__all__ = ["LOSSES", "Batch", "Objective", "Supervised"]


@dataclass(frozen=True)
class Batch:
    """Pairs of one step, on the training's device.

    Parameters
    ----------
    degraded : Tensor
        f32 ``[N, C, h, w]`` in [0, 1].
    truth : Tensor
        f32 ``[N, C', H, W]`` in [0, 1].
    """

    degraded: Tensor
    truth: Tensor


class Objective(Protocol):
    """Quantity that a training step minimises."""

    def loss(self, restored: Tensor, batch: Batch) -> Tensor:
        """Return the loss, a scalar, of the network's output (f32, [0, 1] is black to white)."""
        ...


def _charbonnier(restored: Tensor, truth: Tensor) -> Tensor:
    return torch.sqrt((restored - truth).square() + 1e-6).mean()


def _psnr(restored: Tensor, truth: Tensor) -> Tensor:
    """Half the logarithm of each picture's mean square; the constant is a PSNR of 50 dB."""
    return 0.5 * torch.log((restored - truth).square().mean((1, 2, 3)) + 1e-5).mean()


def _fft(restored: Tensor, truth: Tensor) -> Tensor:
    """Mean distance of the spectra, scaled so that white errors cost what they cost in pixels."""
    spectrum: Tensor = torch.fft.rfft2(restored - truth, norm="ortho")
    return spectrum.abs().mean()


LOSSES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = MappingProxyType(
    {
        "l1": functional.l1_loss,
        "l2": functional.mse_loss,
        "charbonnier": _charbonnier,
        "psnr": _psnr,
        "fft": _fft,
    }
)
"""Losses by name: functions of the output and the truth, f32 ``[N, C, H, W]``."""


@dataclass(frozen=True)
class Supervised:
    """Weighted sum of losses against the truth.

    Parameters
    ----------
    losses : mapping of str to float
        Weight of each of `LOSSES` that takes part.
    """

    losses: Mapping[str, float] = field(default_factory=lambda: {"l1": 1.0})

    def __post_init__(self) -> None:
        unknown = self.losses.keys() - LOSSES.keys()
        if unknown or not self.losses:
            raise ArgumentError(
                f"loss {', '.join(sorted(unknown)) or 'missing'}: use {', '.join(LOSSES)}"
            )

    def loss(self, restored: Tensor, batch: Batch) -> Tensor:
        """Return the weighted sum."""
        truth = batch.truth
        terms = [weight * LOSSES[name](restored, truth) for name, weight in self.losses.items()]
        return torch.stack(terms).sum()
