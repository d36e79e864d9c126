"""What trainers save around the weights, and finding the weights inside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ...errors import CheckpointError
from ..architectures import REGISTRY
from ..architectures.discriminators import find_discriminator

__all__ = ["SAVE_THE_WEIGHTS", "State", "unwrap"]

State = dict[str, Tensor]
"""Weights by name, as ``torch.nn.Module.load_state_dict`` takes them."""

SAVE_THE_WEIGHTS = "save the weights alone: torch.save(network.state_dict(), 'weights.pth')"

# Entries that hold the weights in checkpoints of the common trainers, best first: averaged
# weights are what a model is published with, so they come before the raw ones.
_ENTRIES = (
    "params_ema",
    "state_dict_ema",
    "model_ema",
    "ema",
    "average",
    "g_ema",
    "G_ema",
    "params",
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "network",
    "net",
    "net_g",
    "netG",
    "netG_state_dict",
    "generator",
    "generator_state_dict",
    "gen",
    "gen_state_dict",
    "g_state",
    "g_state_dict",
    "G",
    "G_state_dict",
    "weights",
)
_DEEPEST = 4


def unwrap(content: object, where: Path | str = "checkpoint") -> State:
    """Find the weights inside what a trainer saved.

    Parameters
    ----------
    content : object
        A state dict, or mappings around one (``state_dict``, ``params_ema``, ``model``, ...).
    where : Path or str
        Named in errors.

    Raises
    ------
    CheckpointError
        When there are no weights, or several sets and no way to tell which.
    """
    found = _find(content, where, 0)
    if marks := sorted(_quantized_names(content, 0)):
        more = f" and {len(marks) - 2} more" if len(marks) > 2 else ""
        raise CheckpointError(
            f"{where}: is quantized already ({', '.join(marks[:2])}{more}); convert the float"
            " checkpoint, edgerestore quantizes it"
        )
    if not found:
        raise CheckpointError(f"{where}: holds no weights; {SAVE_THE_WEIGHTS}")
    return _without_training_prefixes(found)


def _find(content: object, where: Path | str, depth: int) -> State:
    # An optimizer keeps tensors too, two levels down and named by number.
    if not isinstance(content, Mapping) or depth > _DEEPEST or "param_groups" in content:
        return {}
    for entry in _ENTRIES:
        inner = _find(content.get(entry), where, depth + 1)
        if inner:
            return inner
    nested = {
        str(name): inner
        for name, value in content.items()
        if "optim" not in str(name) and (inner := _find(value, where, depth + 1))
    }
    own = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if len(own) > 1 or not nested:
        return own
    if len(nested) > 1:
        if (known := _only_known(nested)) is not None:
            return known
        names = [f"{name}.{key}" for name, state in nested.items() for key in state]
        if whole := REGISTRY.whole_of(names, Path(where).stem):
            raise CheckpointError(
                f"{where}: is a part of {whole.name};"
                " name the folder that holds the other parts too"
            )
        raise CheckpointError(
            f"{where}: holds several sets of weights ({', '.join(sorted(nested)[:6])});"
            " save the one to convert alone"
        )
    return next(iter(nested.values()))


def _only_known(sets: Mapping[str, State]) -> State | None:
    """Choose the set of a known network, or the only one that is no discriminator."""
    clean = {name: _without_training_prefixes(state) for name, state in sets.items()}
    known = [name for name, state in clean.items() if REGISTRY.fitting(state)]
    others = [name for name, state in clean.items() if find_discriminator(state) is None]
    for left in (known, others):
        if len(left) == 1:
            return clean[left[0]]
    return None


def _quantized_names(content: object, depth: int) -> Iterator[str]:
    """Yield the names by which PyTorch's own quantization shows: packed weights, zero points."""
    if not isinstance(content, Mapping) or depth > _DEEPEST:
        return
    for key, value in content.items():
        name = str(key)
        stem, _, last = name.rpartition(".")
        beside = f"{stem}.scale" if stem else "scale"
        if (
            last == "_packed_params"
            or (last == "zero_point" and beside in content)
            or (isinstance(value, Tensor) and value.is_quantized)
        ):
            yield name
        yield from _quantized_names(value, depth + 1)


def _without_training_prefixes(state: Mapping[str, Any]) -> State:
    # AveragedModel counts its updates beside the weights.
    weights = {name: value for name, value in state.items() if name != "n_averaged"}
    for prefix in ("module.", "_orig_mod.", "module."):
        if weights and all(name.startswith(prefix) for name in weights):
            weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    return weights
