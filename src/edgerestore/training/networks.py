"""Networks of a training run: their range of values, weights to start from, and teachers."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from ..bundle.bundle import Bundle
from ..bundle.manifest import Manifest
from ..convert.architectures import REGISTRY
from ..convert.checkpoint.files import load_state
from ..engine.load import load
from ..errors import ArgumentError, CheckpointError

__all__ = ["Levels", "Teacher", "load_teacher", "require_same_task", "start_from"]

_UNTRAINED = ("factor", "num_batches_tracked")  # buffers that a graph does not need
_NAMED = 3

Teacher = Callable[[Tensor], Tensor]
"""Restore a batch, f32 ``[N, C, h, w]`` in [0, 1] on any device."""


@dataclass(frozen=True)
class Levels:
    """Black and white in a network's numbers."""

    black: float = 0.0
    white: float = 1.0

    @classmethod
    def of(cls, network: nn.Module) -> Levels:
        """Return the levels of a known architecture; of others, black 0 and white 1."""
        rows = REGISTRY.fitting(network.state_dict())
        return cls(rows[0].black, rows[0].value_range) if len(rows) == 1 else cls()

    def to_network(self, image: Tensor) -> Tensor:
        """Return pictures in [0, 1] in the network's numbers."""
        if self == Levels():
            return image
        return image * (self.white - self.black) + self.black

    def from_network(self, made: Tensor) -> Tensor:
        """Return what the network makes, black to white in [0, 1]."""
        if self == Levels():
            return made
        return (made - self.black) / (self.white - self.black)


def start_from(network: nn.Module, source: str | os.PathLike[str], recipe: str) -> None:
    """Load weights to start from into a network.

    Parameters
    ----------
    network : nn.Module
    source : str or path
        A state dict's file, or a bundle's folder or name, whose graph keeps the names.
    recipe : str
        Named in errors.

    Raises
    ------
    CheckpointError
        When the weights do not fit.
    BundleError
        When there is neither such a file nor such a bundle.
    """
    path = Path(source)
    of_file = path.is_file()
    state = load_state(path) if of_file else _bundle_weights(Bundle.find(source))
    wanted = network.state_dict()
    untrained = {name for name in wanted if name.rpartition(".")[2] in _UNTRAINED}
    missing = sorted(wanted.keys() - state.keys() - untrained)
    other = sorted(
        name for name in wanted.keys() & state.keys() if wanted[name].shape != state[name].shape
    )
    unknown = sorted(state.keys() - wanted.keys()) if of_file else []
    # Of other networks' graphs, such as those with batch norm, conversion keeps no names.
    hint = "" if of_file else "; name the checkpoint that it was converted from, if it has one"
    for names, what in ((missing, "missing"), (other, "of another shape"), (unknown, "unknown")):
        if names:
            raise CheckpointError(
                f"{source}: does not fit the network of recipe {recipe}: {len(names)} weights"
                f" {what} ({', '.join(names[:_NAMED])}{', ...' if names[_NAMED:] else ''}){hint}"
            )
    network.load_state_dict({name: state.get(name, value) for name, value in wanted.items()})


def load_teacher(
    source: str | os.PathLike[str], *, task: str, upscale: int, channels: int, device: torch.device
) -> Teacher:
    """Load the model of a bundle as a teacher.

    It runs in PyTorch on the training's device where its architecture is known and its graph
    keeps the weights' names, else on the CPU as hosts run it, in f32.

    Parameters
    ----------
    source : str or path
        A bundle's folder or name.
    task : str
        The recipe's, which must be the teacher's.
    upscale, channels : int
        Of the recipe's pairs.
    device : torch.device

    Raises
    ------
    ArgumentError
        When it is of another task, size or number of channels.
    BundleError
        When there is no such bundle.
    """
    bundle = Bundle.find(source)
    require_same_task("--teacher", source, bundle.manifest, (task, upscale, channels))
    network = _rebuilt(bundle)
    if network is None:
        return _RestorerTeacher(bundle.folder)
    return _NetworkTeacher(network.to(device))


def require_same_task(
    option: str, source: str | os.PathLike[str], manifest: Manifest, wanted: tuple[str, int, int]
) -> None:
    """Refuse a model of another task, upscale or number of channels than a recipe's.

    Raises
    ------
    ArgumentError
    """
    given = (manifest.task, manifest.output.upscale, manifest.input.channels)
    for name, theirs, ours in zip(("task", "upscale", "channels"), given, wanted, strict=True):
        if theirs != ours:
            raise ArgumentError(
                f"{option} {source}: its {name} is {theirs}, the recipe's is {ours}; name a model"
                " that makes what the recipe makes"
            )


class _NetworkTeacher:
    def __init__(self, network: nn.Module) -> None:
        self._network, self._levels = network.eval().requires_grad_(False), Levels.of(network)

    def __call__(self, degraded: Tensor) -> Tensor:
        with torch.no_grad():
            made: Tensor = self._network(self._levels.to_network(degraded))
        return self._levels.from_network(made.float()).clamp(0, 1)


class _RestorerTeacher:
    def __init__(self, folder: Path) -> None:
        self._restorer = load(folder, precision="fp32", intensity_range="full")

    def __call__(self, degraded: Tensor) -> Tensor:
        pictures = degraded.permute(0, 2, 3, 1).cpu().numpy()
        made = np.stack([self._restorer(np.ascontiguousarray(one)) for one in pictures])
        return torch.from_numpy(made).to(degraded.device).permute(0, 3, 1, 2)


def _rebuilt(bundle: Bundle) -> nn.Module | None:
    """Return a bundle's network in PyTorch, None where its weights cannot be read back."""
    source: Mapping[str, Any] = bundle.manifest.source
    if source.get("architecture") not in REGISTRY:
        return None
    try:
        network = REGISTRY[source["architecture"]].build(**source.get("arguments", {}))
        start_from(network, bundle.folder, bundle.manifest.name)
    except (CheckpointError, TypeError, ValueError):
        return None
    return network


def _bundle_weights(bundle: Bundle) -> dict[str, Tensor]:
    """Return the weights of a bundle's float graph by the names that they had in PyTorch."""
    weights = {}
    for stored in onnx.load(bundle.variant_files("fp32")[0]).graph.initializer:
        name = stored.name.removeprefix("core/").removeprefix("network.")
        weights[name] = torch.from_numpy(numpy_helper.to_array(stored).copy())
    return weights
