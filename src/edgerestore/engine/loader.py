"""Opening of models by name, alone or as an ensemble, on a device at a precision."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from typing import Literal

from ..bundle.bundle import Bundle
from ..errors import ArgumentError
from ..runtimes.protocol import DEFAULT_TUNING, Runtime, Tuning
from .cancellation import check_cancelled
from .precision import ChosenPrecision, choose_precision, int8_pace
from .predictors.ensemble import ORIENTATIONS, EnsemblePredictor, Member, Orientation
from .predictors.model import ModelPredictor
from .predictors.protocol import Predictor
from .runtime_choice import choose_runtime
from .tiling.tile_size import TileChooser

__all__ = ["AUTO", "DEFAULT_MODEL", "Loader", "ModelName"]

AUTO, DEFAULT_MODEL = "auto", "deblur"

ModelName = str | os.PathLike[str]

_MOST_PARTS = 8  # each is a whole model in memory, with threads of its own
_LEAST_WEIGHT, _MOST_WEIGHT = 1e-3, 1e3


@dataclass(frozen=True)
class Loader:
    """Options of `load` that decide what is computed, and the opening of models with them.

    Parameters
    ----------
    model, device, runtime, precision, tile, memory_mb, live, tta, reuse_static, guard, tuning
        As `load` takes them.
    """

    model: ModelName = DEFAULT_MODEL
    device: str = "CPU"
    runtime: str = "auto"
    precision: str = "auto"
    tile: int | Literal["auto"] = "auto"
    memory_mb: int | None = None
    live: bool = False
    tta: bool = False
    reuse_static: float | None = None
    guard: bool = False
    tuning: Tuning = DEFAULT_TUNING

    @property
    def parts(self) -> list[tuple[ModelName, float]]:
        """Names and weights of the models."""
        return _parts(self.model)

    def open(self, model: ModelName | None = None, precision: str | None = None) -> Predictor:
        """Open a model, or several as an ensemble; None is what the loader says.

        Raises
        ------
        BundleError, DeviceError, ArgumentError
        """
        parts = _parts(model or self.model)
        if len(parts) == 1 and not self.tta:
            return self._opened(parts[0][0], precision)
        members: list[Member] = []
        try:
            members.extend(Member(self._opened(name, precision), weight) for name, weight in parts)
            return EnsemblePredictor(members, ORIENTATIONS if self.tta else (Orientation(),))
        except BaseException:
            for member in members:
                member.predictor.close()
            raise

    def find(self, model: ModelName | None = None) -> list[Bundle]:
        """Return the bundles of a model, or of several, without opening them.

        Raises
        ------
        BundleError, ArgumentError
        """
        return [Bundle.find(name) for name, _ in _parts(model or self.model)]

    def settled(
        self, bundle: Bundle, precision: str | None = None
    ) -> tuple[Runtime, ChosenPrecision]:
        """Return the runtime and the precision that a bundle runs in.

        Raises
        ------
        BundleError, DeviceError, ArgumentError
        """
        runtime = choose_runtime(bundle, self.device, self.runtime)
        pace = partial(int8_pace, bundle, runtime, self.device)
        native = runtime.precisions(self.device)
        return runtime, choose_precision(precision or self.precision, bundle.manifest, native, pace)

    def _opened(self, name: ModelName, precision: str | None) -> ModelPredictor:
        check_cancelled()
        bundle = Bundle.find(name)
        if bundle.manifest.refusal:
            raise ArgumentError(f"{bundle.manifest.name} {bundle.manifest.refusal}")
        runtime, chosen = self.settled(bundle, precision)
        opened = partial(runtime.load, bundle, self.device, live=self.live, tuning=self.tuning)
        return ModelPredictor(
            bundle,
            opened(chosen.precision),
            TileChooser(self.tile, self.memory_mb),
            reuse_static=self.reuse_static,
            guard=self.guard,
            precision_reason=chosen.reason,
            rival=None if chosen.rival is None else partial(opened, chosen.rival),
        )


def _parts(model: ModelName) -> list[tuple[ModelName, float]]:
    """Read ``a+b`` or ``a*0.7+b*0.3`` as names and weights; a path that is there is one name."""
    if model == AUTO:
        return [(DEFAULT_MODEL, 1.0)]
    # Of a name that no file can have, `Path.exists` raises.
    if isinstance(model, os.PathLike) or os.path.exists(model):  # noqa: PTH110
        return [(model, 1.0)]
    terms = model.split("+")
    if len(terms) > _MOST_PARTS:
        raise ArgumentError(
            f"model {model!r:.60}: averages {len(terms)} models, {_MOST_PARTS} are the most"
        )
    return [_part(model, term) for term in terms]


def _part(model: str, term: str) -> tuple[ModelName, float]:
    name, star, weight = term.rpartition("*")
    if not star:
        return term, 1.0
    where = f"model {model!r:.60}"
    try:
        value = float(weight)
    except ValueError:
        raise ArgumentError(f"{where}: {weight!r:.60} is no weight, use a*0.7+b") from None
    if not _LEAST_WEIGHT <= value <= _MOST_WEIGHT:  # NaN fails this too
        allowed = f"from {_LEAST_WEIGHT:g} to {_MOST_WEIGHT:g}"
        raise ArgumentError(f"{where}: a weight is a number {allowed}, got {weight:.20}")
    return name, value
