"""Objectives: what a training step minimises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import ArgumentError
from .discriminators import Discriminator

__all__ = ["LOSSES", "Adversarial", "Batch", "Distilled", "Objective", "Supervised"]


@dataclass(frozen=True)
class Batch:
    """Pairs of one step, on the training's device; all f32 ``[N, C, H, W]`` in [0, 1].

    Parameters
    ----------
    degraded : Tensor
    truth : Tensor
    taught : Tensor or None
        A teacher's outcome of the degraded pictures.
    """

    degraded: Tensor
    truth: Tensor
    taught: Tensor | None = None


class Objective(ABC):
    """Quantity that a training step minimises.

    Outputs are the network's, black to white in [0, 1]: the one that counts first, then those
    that only guide the training. An adversarial objective has a discriminator, which the trainer
    keeps, and trains before the network in every step.
    """

    @abstractmethod
    def loss(
        self, outputs: Sequence[Tensor], batch: Batch, discriminator: Discriminator | None = None
    ) -> Tensor:
        """Return the network's loss, a scalar."""

    def discriminator(self, batch: Batch) -> Discriminator | None:  # noqa: ARG002
        """Return a fresh discriminator for pictures like these; None where there is none."""
        return None

    def discriminator_loss(
        self, discriminator: Discriminator, outputs: Sequence[Tensor], batch: Batch
    ) -> Tensor:
        """Return the discriminator's loss, a scalar; the outputs get no gradient."""
        # Only of an objective whose `discriminator` returns one.
        raise NotImplementedError(f"{type(self).__name__} has no loss for a discriminator")


def _charbonnier(made: Tensor, truth: Tensor) -> Tensor:
    return torch.sqrt((made - truth).square() + 1e-6).mean()


def _psnr(made: Tensor, truth: Tensor) -> Tensor:
    """Half the logarithm of each picture's mean square; above 50 dB it flattens."""
    return 0.5 * torch.log((made - truth).square().mean((1, 2, 3)) + 1e-5).mean()


def _fft(made: Tensor, truth: Tensor) -> Tensor:
    """Mean distance of the spectra, normalised so that their mean square is that of the pixels."""
    spectrum: Tensor = torch.fft.rfft2(made - truth, norm="ortho")
    return spectrum.abs().mean()


def _bce(made: Tensor, truth: Tensor) -> Tensor:
    return functional.binary_cross_entropy(made.clamp(0, 1), truth)


def _iou(made: Tensor, truth: Tensor) -> Tensor:
    """One minus the intersection of two masks over their union, mean over pictures."""
    both = (made * truth).sum((1, 2, 3))
    either = (made + truth - made * truth).sum((1, 2, 3))
    return (1 - (both + 1) / (either + 1)).mean()


LOSSES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = MappingProxyType(
    {
        "l1": functional.l1_loss,
        "l2": functional.mse_loss,
        "charbonnier": _charbonnier,
        "psnr": _psnr,
        "fft": _fft,
        "bce": _bce,
        "iou": _iou,
    }
)
"""Losses by name: functions of the output and the truth, f32 ``[N, C, H, W]``."""


@dataclass(frozen=True)
class Supervised(Objective):
    """Weighted sum of losses against the truth, over all outputs (deep supervision).

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

    def loss(
        self,
        outputs: Sequence[Tensor],
        batch: Batch,
        discriminator: Discriminator | None = None,  # noqa: ARG002
    ) -> Tensor:
        """Return the weighted sum."""
        terms = [
            weight * LOSSES[name](made, batch.truth)
            for made in outputs
            for name, weight in self.losses.items()
        ]
        return torch.stack(terms).sum()


@dataclass(frozen=True)
class Adversarial(Objective):
    """Objective of a generative adversarial network, beside losses against the truth.

    Parameters
    ----------
    supervised : Supervised
    critic : callable
        Takes the numbers of channels of inputs and of targets; returns a fresh discriminator.
    weight : float
        Of the adversarial loss.
    content_weight : float
        Of the content loss: the mean distance of the discriminator's features of the outcome to
        those of the truth. It stands in for the features of a VGG network in SRGAN; Larsen and
        others, "Autoencoding beyond pixels using a learned similarity metric", ICML 2016.
    conditional : bool
        The discriminator also sees the input, as pix2pix's does.
    least_squares : bool
        Mao and others, "Least Squares Generative Adversarial Networks", ICCV 2017; else the
        cross entropy.
    """

    supervised: Supervised
    critic: Callable[[int, int], Discriminator]
    weight: float = 1.0
    content_weight: float = 0.0
    conditional: bool = False
    least_squares: bool = False

    def discriminator(self, batch: Batch) -> Discriminator:
        """Return a fresh discriminator."""
        return self.critic(batch.degraded.shape[1], batch.truth.shape[1])

    def discriminator_loss(
        self, discriminator: Discriminator, outputs: Sequence[Tensor], batch: Batch
    ) -> Tensor:
        """Return the mean of the losses of calling the truth made, and the outcome true."""
        truth = discriminator(self._seen(batch.truth, batch))
        made = discriminator(self._seen(outputs[0].detach(), batch))
        return (self._judged(truth, real=True) + self._judged(made, real=False)) / 2

    def loss(
        self, outputs: Sequence[Tensor], batch: Batch, discriminator: Discriminator | None = None
    ) -> Tensor:
        """Return the losses against the truth, and those by the discriminator."""
        total = self.supervised.loss(outputs, batch)
        if discriminator is None:
            return total
        *made, verdict = discriminator.layers(self._seen(outputs[0], batch))
        total = total + self.weight * self._judged(verdict, real=True)
        if self.content_weight:
            with torch.no_grad():
                *true, _ = discriminator.layers(self._seen(batch.truth, batch))
            apart = [functional.l1_loss(*pair) for pair in zip(made, true, strict=True)]
            total = total + self.content_weight * torch.stack(apart).mean()
        return total

    def _seen(self, image: Tensor, batch: Batch) -> Tensor:
        """Return what the discriminator sees, from -1 to 1."""
        seen = torch.cat([batch.degraded, image], dim=1) if self.conditional else image
        return seen * 2 - 1

    def _judged(self, verdict: Tensor, *, real: bool) -> Tensor:
        wanted = torch.full_like(verdict, float(real))
        if self.least_squares:
            return functional.mse_loss(verdict, wanted)
        return functional.binary_cross_entropy_with_logits(verdict, wanted)


@dataclass(frozen=True)
class Distilled(Objective):
    """Another objective, and the distance to a teacher's outcome.

    Parameters
    ----------
    objective : Objective
    weight : float
        Of the mean absolute difference to what the teacher makes.
    """

    objective: Objective
    weight: float = 1.0

    def discriminator(self, batch: Batch) -> Discriminator | None:
        """Return the other objective's."""
        return self.objective.discriminator(batch)

    def discriminator_loss(
        self, discriminator: Discriminator, outputs: Sequence[Tensor], batch: Batch
    ) -> Tensor:
        """Return the other objective's."""
        return self.objective.discriminator_loss(discriminator, outputs, batch)

    def loss(
        self, outputs: Sequence[Tensor], batch: Batch, discriminator: Discriminator | None = None
    ) -> Tensor:
        """Return the weighted sum."""
        total = self.objective.loss(outputs, batch, discriminator)
        if batch.taught is None:
            return total
        return total + self.weight * functional.l1_loss(outputs[0], batch.taught)
