"""Training recipes: a module each, whose ``RECIPE`` says how one model is trained."""

from __future__ import annotations

import math
import pkgutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ...errors import ArgumentError, first_line
from ..objectives import Objective, Supervised
from ..pairs import Pairs
from ..space import Space

__all__ = ["Decay", "Recipe", "Schedule", "load_recipe", "recipes"]


class Decay(StrEnum):
    """Course of the learning rate after the warm-up.

    ``COSINE`` falls to zero along half a cosine; ``LINEAR`` stays constant for
    `Schedule.constant_share` of the steps and then falls to zero along a line.
    """

    COSINE = "cosine"
    LINEAR = "linear"


@dataclass(frozen=True)
class Schedule:
    """Optimization schedule of Adam.

    Parameters
    ----------
    steps : int
    batch : int
        Crops per step.
    crop_px : int
        Side of the crops of the inputs; those of the targets are larger by the upscale.
    learning_rate : float
        The peak, after a linear warm-up.
    warmup_steps : int
    decay : Decay
    constant_share : float
        Share of the steps before a linear decay begins.
    betas : (float, float)
        Adam's decay of its averages of gradients, and of their squares.
    average_decay : float
        Decay of the exponential moving average of the weights, which is what is kept.
    clip_norm : float
        Largest norm of the gradients; ``inf`` for none.
    every : int
        Steps between validations, each of which writes a checkpoint.
    seed : int
    shares : tuple of float
        Weight of each dataset in the batches, in the order of ``--data``; without any, every pair
        is as likely as every other.
    """

    steps: int = 100_000
    batch: int = 8
    crop_px: int = 160
    learning_rate: float = 1.5e-3
    warmup_steps: int = 300
    decay: Decay = Decay.COSINE
    constant_share: float = 0.5
    betas: tuple[float, float] = (0.9, 0.99)
    average_decay: float = 0.999
    clip_norm: float = 0.5
    every: int = 500
    seed: int = 1
    shares: tuple[float, ...] = ()

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        if self.decay is Decay.COSINE:
            return self.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        left = (1 - done) / max(1e-9, 1 - self.constant_share)
        return self.learning_rate * min(1.0, max(0.0, left))


def _one_output(network: nn.Module, image: Tensor) -> tuple[Tensor]:
    return (network(image),)


@dataclass(frozen=True)
class Recipe:
    """Training recipe of one model.

    Parameters
    ----------
    name : str
    task : str
        As in a manifest: ``deblur``, ``denoise``, ...
    summary : str
        One line for ``train --list``.
    network : callable
        Returns a fresh network.
    pairs : Pairs or None
        What ``edgerestore dataset`` makes; None where the pairs come from elsewhere.
    schedule : Schedule
    objective : Objective
    outputs : callable
        Takes the network and a batch, f32 ``[N, C, h, w]``; returns the output that counts, then
        those that only guide the training.
    teacher_weight : float
        Weight of the distance to a teacher's outcome, where there is one.
    orientations : bool
        Crops are turned and mirrored, eight ways.
    color_orders : bool
        The three colours of a crop are permuted.
    uses, limits : tuple of str
        What the model is for and what it must not be used for, a sentence each, for its card.
    space : Space or None
        What `edgerestore search` may vary.
    """

    name: str
    task: str
    summary: str
    network: Callable[[], nn.Module]
    pairs: Pairs | None = None
    schedule: Schedule = Schedule()
    objective: Objective = field(default_factory=Supervised)
    outputs: Callable[[Any, Tensor], Sequence[Tensor]] = _one_output
    teacher_weight: float = 1.0
    orientations: bool = True
    color_orders: bool = False
    uses: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    space: Space | None = None


def recipes() -> Iterator[Recipe]:
    """Yield the recipes of this package, by name."""
    for module in _modules():
        yield load_recipe(module)


def _modules() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load_recipe(reference: str) -> Recipe:
    """Return a recipe by the name of its module, or from a file of one's own.

    Parameters
    ----------
    reference : str
        ``deblur``, say, or a path that ends in ``.py``. The file's code runs.

    Raises
    ------
    ArgumentError
        When there is no such recipe, or the file fails or has no ``RECIPE``.
    """
    if reference.endswith(".py"):
        return _own_recipe(Path(reference))
    module = reference.replace("-", "_")
    if module not in _modules():
        known = ", ".join(recipe.name for recipe in recipes())
        raise ArgumentError(f"recipe {reference!r} is not known; use FILE.py or one of {known}")
    recipe: Recipe = import_module(f"{__name__}.{module}").RECIPE
    return recipe


def _own_recipe(path: Path) -> Recipe:
    spec = spec_from_file_location(f"edgerestore_recipe_{path.stem}", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise ArgumentError(f"{path}: no such recipe file")
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up by name
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ArgumentError(f"{path}: {type(error).__name__}: {first_line(error)}") from error
    recipe = getattr(module, "RECIPE", None)
    if not isinstance(recipe, Recipe):
        raise ArgumentError(f"{path}: has no RECIPE that is a Recipe; see training/recipes")
    return recipe
