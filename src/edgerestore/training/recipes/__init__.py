"""Training recipes: a module each, whose ``RECIPE`` says how one model is trained."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

import numpy as np
from torch import nn

from ...errors import ArgumentError
from ...imaging.degradations import DegradationModel

__all__ = ["Recipe", "Schedule", "load_recipe"]


@dataclass(frozen=True)
class Schedule:
    """Optimization schedule; with the photographs and the seed it decides the outcome.

    Parameters
    ----------
    steps : int
    batch : int
        Crops per step.
    crop_px : int
    learning_rate : float
        The peak, after a linear warm-up; a cosine brings it to zero.
    warmup_steps : int
    average_decay : float
        Decay of the exponential moving average of the weights, which is what is kept.
    seed : int
    """

    steps: int = 24_000
    batch: int = 16
    crop_px: int = 128
    learning_rate: float = 2e-3
    warmup_steps: int = 500
    average_decay: float = 0.999
    seed: int = 1

    def rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return float(self.learning_rate * 0.5 * (1 + np.cos(np.pi * min(1.0, done))))


@dataclass(frozen=True)
class Recipe:
    """Training recipe of one model.

    Parameters
    ----------
    network : callable
        Returns a fresh network, ``[N, 3, H, W]`` f32 in [0, 1] to the same.
    degradation : DegradationModel
        Of the training pairs. Validation uses the test protocol.
    schedule : Schedule
    added, validation : tuple of str
        Photographs of ``skimage.data`` to train on beside the given ones, and to validate on.
    """

    network: Callable[[], nn.Module]
    degradation: DegradationModel
    schedule: Schedule
    added: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()


def load_recipe(name: str) -> Recipe:
    """Return the recipe of a model by its module's name.

    Raises
    ------
    ArgumentError
        When there is none of that name; lists those there are.
    """
    known = sorted(module.name for module in pkgutil.iter_modules(__path__))
    if name not in known:
        raise ArgumentError(f"recipe {name!r} is not known; use one of {', '.join(known)}")
    recipe: Recipe = import_module(f"{__name__}.{name}").RECIPE
    return recipe
