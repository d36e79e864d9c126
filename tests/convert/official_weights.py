"""Weights that anyone can make again from names and shapes alone, without the code they fit."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["filled"]


def filled(shapes: Mapping[str, tuple[int, ...]], scale: float = 1.0) -> dict[str, Tensor]:
    """Draw a state dict, each tensor from a seed that is the checksum of its name.

    Parameters
    ----------
    shapes : mapping of str to tuple of int
    scale : float
        Of the weights of layers; what they make of unit noise is about this loud.
    """
    return {name: _drawn(name, tuple(shape), scale) for name, shape in shapes.items()}


def _drawn(name: str, shape: tuple[int, ...], scale: float) -> Tensor:
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    kind = name.rpartition(".")[2]
    if kind == "num_batches_tracked":
        return torch.tensor(1)
    if kind == "running_var":
        return 0.5 + torch.rand(shape, generator=generator)
    noise = torch.randn(shape, generator=generator)
    if kind == "running_mean":
        return noise * 0.1
    if kind == "bias":
        return noise * 0.05
    if kind == "weight" and len(shape) == 1:
        return 1 + 0.1 * noise
    return noise * scale / math.sqrt(max(1, math.prod(shape[1:])))
