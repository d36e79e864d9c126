"""Search space of a recipe: settings that `edgerestore search` varies, and their bounds."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from torch import nn

from ..errors import ArgumentError

if TYPE_CHECKING:
    from .recipes import Recipe

__all__ = ["Bounds", "Settings", "Shape", "Space"]

_SHRINKING = 64  # steps from a shape to the least one

Bounds = tuple[float, float]
"""The least value and the most; equal ones fix it."""

Shape = Mapping[str, tuple[int, ...]]
"""``widths``, ``encode_depths`` and ``decode_depths`` of a network, a number for each level."""


@dataclass(frozen=True)
class Space:
    """Search space of a recipe.

    Parameters
    ----------
    learning_rate : Bounds or None
        Of the peak, drawn logarithmically; None keeps the recipe's.
    losses : mapping of str to Bounds
        Of the weight of each loss, drawn logarithmically; other losses keep the recipe's.
    shares : Bounds
        Of the weight of each dataset, drawn logarithmically, where there are several.
    network : callable or None
        Takes a shape's names as keywords, as `EdgeUNet` and `ShuffleUNet` do; None keeps the
        recipe's network.
    widths, encode_depths, decode_depths : tuple of (int, int)
        Bounds at each level, from the highest resolution to the lowest.
    width_step : int
        Widths grow from their least in steps of this.
    steps : int
        Length of a trial.
    """

    learning_rate: Bounds | None = None
    losses: Mapping[str, Bounds] = field(default_factory=dict)
    shares: Bounds = (0.1, 1.0)
    network: Callable[..., nn.Module] | None = None
    widths: tuple[tuple[int, int], ...] = ()
    encode_depths: tuple[tuple[int, int], ...] = ()
    decode_depths: tuple[tuple[int, int], ...] = ()
    width_step: int = 8
    steps: int = 2000

    def __post_init__(self) -> None:
        weights = {"learning_rate": self.learning_rate or (1, 1), "shares": self.shares}
        weights |= {f"losses {name}": bounds for name, bounds in self.losses.items()}
        for name, (low, high) in weights.items():
            if not 0 < low <= high < float("inf"):
                raise ArgumentError(f"space: {name} ({low}, {high}): write (least, most), above 0")
        for name, levels in self.shape_bounds.items():
            step, least = (self.width_step, 1) if name == "widths" else (1, 0)
            for low, high in levels:
                if not least <= low <= high or (high - low) % step:
                    raise ArgumentError(
                        f"space: {name} ({low}, {high}): write (least, most), {least} or more,"
                        f" apart by a multiple of {step}"
                    )

    @property
    def shape_bounds(self) -> dict[str, tuple[tuple[int, int], ...]]:
        """Bounds of a shape; empty where the network is the recipe's."""
        names = ("widths", "encode_depths", "decode_depths") if self.network else ()
        return {name: getattr(self, name) for name in names}

    @property
    def least_shape(self) -> Shape:
        """Shape of the smallest network."""
        return {name: tuple(low for low, _ in levels) for name, levels in self.shape_bounds.items()}

    def shrunk(self, shape: Shape, most: float, cost: Callable[[Shape], float]) -> Shape:
        """Return a shape moved towards the least one until it costs no more than a budget.

        Parameters
        ----------
        shape : Shape
        most : float
        cost : callable
            Grows with every number of the shape.
        """

        def part(tried: int) -> Shape:
            return {
                name: tuple(
                    low + step * round((value - low) * tried / _SHRINKING / step)
                    for value, (low, _) in zip(shape[name], levels, strict=True)
                )
                for name, levels in self.shape_bounds.items()
                for step in [self.width_step if name == "widths" else 1]
            }

        fitting = bisect_right(range(_SHRINKING + 1), most, key=lambda tried: cost(part(tried)))
        return part(max(0, fitting - 1))


@dataclass(frozen=True)
class Settings:
    """Settings of one trial of a search.

    Parameters
    ----------
    schedule : dict
        Fields of the recipe's schedule that take other values.
    losses : dict of str to float
        Weights of losses.
    network : dict of str to tuple of int
        Keywords of the network of the recipe's space; without any, the network is the recipe's.
    """

    schedule: dict[str, float | int | tuple[float, ...]] = field(default_factory=dict)
    losses: dict[str, float] = field(default_factory=dict)
    network: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def applied_to(self, recipe: Recipe) -> Recipe:
        """Return a recipe with these settings.

        Raises
        ------
        ArgumentError
            When the recipe has no such settings.
        """
        schedule: Any = self.schedule
        changed = replace(recipe, schedule=replace(recipe.schedule, **schedule))
        if self.losses:
            objective: Any = recipe.objective
            if not hasattr(objective, "losses"):
                raise ArgumentError(
                    f"recipe {recipe.name}: its objective has no losses to weigh; leave them out"
                    " of its space"
                )
            losses = {**objective.losses, **self.losses}
            changed = replace(changed, objective=replace(objective, losses=losses))
        if self.network:
            space, shape = recipe.space, self.network
            if space is None or space.network is None:
                raise ArgumentError(f"recipe {recipe.name}: its space has no network")
            build = space.network
            changed = replace(changed, network=lambda: build(**shape))
        return changed
