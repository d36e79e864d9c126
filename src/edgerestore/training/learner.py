"""One training step: network, averaged weights, discriminator, and their optimizers."""

from __future__ import annotations

import copy
import math
import time
from enum import StrEnum
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from .discriminators import Discriminator
from .networks import Levels
from .objectives import Batch
from .recipes import Recipe

__all__ = ["Learner", "TrainingPrecision", "to_pictures", "to_tensor"]

_TIMED_STEPS = 3
_STEP_SEED = 1_000_003  # apart from each other for every seed and step

Pixels = NDArray[np.uint8]


class TrainingPrecision(StrEnum):
    """Precision of a step's arithmetic; weights stay f32. ``AUTO`` takes the faster one."""

    AUTO = "auto"
    F32 = "f32"
    BF16 = "bf16"


def to_tensor(pictures: Pixels, device: torch.device) -> Tensor:
    """Return f32 ``[N, C, H, W]`` in [0, 1], channels last, of u8 ``[N, H, W, C]``."""
    sent = torch.from_numpy(pictures).to(device, non_blocking=True)
    return sent.permute(0, 3, 1, 2).float() / 255


def to_pictures(made: Tensor) -> Pixels:
    """Return u8 ``[N, H, W, C]``, rounded, of f32 ``[N, C, H, W]``."""
    levels = (made.clamp(0, 1) * 255).round().byte()
    return np.ascontiguousarray(levels.permute(0, 2, 3, 1).cpu().numpy())


class Learner:
    """State of a training run that a step changes.

    Parameters
    ----------
    recipe : Recipe
    network : nn.Module
    device : torch.device
    """

    def __init__(self, recipe: Recipe, network: nn.Module, device: torch.device) -> None:
        schedule = recipe.schedule
        self._recipe, self._device, self._levels = recipe, device, Levels.of(network)
        self.network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        decay = get_ema_multi_avg_fn(schedule.average_decay)  # type: ignore[no-untyped-call]
        self._average = AveragedModel(self.network, multi_avg_fn=decay)
        self._optimizer = self._adam(self.network)
        self.discriminator: Discriminator | None = None
        self._discriminator_optimizer: torch.optim.Optimizer | None = None
        self.half = False

    @property
    def averaged(self) -> nn.Module:
        """The network with the averaged weights."""
        return self._average.module

    def prepare(self, batch: Batch) -> None:
        """Make what the shapes of the pairs decide: the discriminator."""
        made = self._recipe.objective.discriminator(batch)
        if made is not None:
            self.discriminator = made
            made.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            self._discriminator_optimizer = self._adam(self.discriminator)

    def step(self, number: int, batch: Batch) -> Tensor:
        """Make a step of a number; return the loss, the gradients' norm, the discriminator's loss.

        The three are on the training's device and may not be finite.
        """
        torch.manual_seed(self._recipe.schedule.seed * _STEP_SEED + number)  # of drop-out
        rate = self._recipe.schedule.rate(number)
        self.network.train()
        outputs = self._outputs(batch.degraded)
        judged = self._step_discriminator(outputs, batch, rate)
        loss = self._loss(outputs, batch)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self._recipe.schedule.clip_norm)
        _make_step(self._optimizer, rate)
        self._average.update_parameters(self.network)
        return torch.stack([loss.detach(), norm.detach(), judged])

    def restore(self, pictures: Pixels) -> Pixels:
        """Restore pictures, u8 ``[N, h, w, C]``, by the averaged weights, in f32."""
        with torch.inference_mode():
            image = self._levels.to_network(to_tensor(pictures, self._device))
            return to_pictures(self._levels.from_network(self.averaged.eval()(image)))

    def choose_precision(self, batch: Batch, precision: TrainingPrecision) -> str:
        """Time a step on a copy, keep the precision of that name or the faster one, and tell it."""
        if precision is not TrainingPrecision.AUTO:
            self.half = precision is TrainingPrecision.BF16
            return f"{precision}: {self._timed(batch, half=self.half) * 1e3:.0f} ms a step"
        times_s = {TrainingPrecision.F32: self._timed(batch, half=False)}
        if _has_bf16(self._device):
            times_s[TrainingPrecision.BF16] = self._timed(batch, half=True)
        chosen = min(times_s, key=times_s.__getitem__)
        self.half = chosen is TrainingPrecision.BF16
        told = (f"{one_s * 1e3:.0f} ms a step in {name}" for name, one_s in times_s.items())
        return f"{chosen}: {', '.join(told)}"

    def state(self) -> dict[str, Any]:
        """Return everything that `load_state` goes on from."""
        parts = self._parts()
        return {"half": self.half, **{name: part.state_dict() for name, part in parts.items()}}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Raises
        ------
        RuntimeError, ValueError, KeyError
            When it is of other networks.
        """
        self.half = state["half"]
        for name, part in self._parts().items():
            part.load_state_dict(state[name])

    def _parts(self) -> dict[str, Any]:
        parts: dict[str, Any] = {
            "network": self.network,
            "average": self._average,
            "optimizer": self._optimizer,
        }
        if self.discriminator is not None:
            parts["discriminator"] = self.discriminator
            parts["discriminator_optimizer"] = self._discriminator_optimizer
        return parts

    def _adam(self, network: nn.Module) -> torch.optim.Optimizer:
        schedule = self._recipe.schedule
        return torch.optim.Adam(
            network.parameters(), schedule.learning_rate, betas=schedule.betas, fused=True
        )

    def _outputs(self, degraded: Tensor) -> list[Tensor]:
        with self._autocast():
            made = self._recipe.outputs(self.network, self._levels.to_network(degraded))
        return [self._levels.from_network(one.float()) for one in made]

    def _loss(self, outputs: list[Tensor], batch: Batch) -> Tensor:
        if self.discriminator is None:
            return self._recipe.objective.loss(outputs, batch)
        # Its own gradients are not wanted here.
        self.discriminator.requires_grad_(False)
        with self._autocast():
            loss = self._recipe.objective.loss(outputs, batch, self.discriminator)
        self.discriminator.requires_grad_(True)
        return loss

    def _step_discriminator(self, outputs: list[Tensor], batch: Batch, rate: float) -> Tensor:
        if self.discriminator is None or self._discriminator_optimizer is None:
            return torch.zeros((), device=self._device)
        with self._autocast():
            loss = self._recipe.objective.discriminator_loss(self.discriminator, outputs, batch)
        self._discriminator_optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        _make_step(self._discriminator_optimizer, rate)
        return loss.detach()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self.half)

    def _timed(self, batch: Batch, *, half: bool) -> float:
        """Return the seconds of a step, made by a copy of everything."""
        trial = copy.deepcopy(self)
        trial.half = half
        best = math.inf
        for number in range(_TIMED_STEPS):
            began = time.perf_counter()
            trial.step(number, batch).cpu()
            best = min(best, time.perf_counter() - began)
        return best


def _make_step(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
