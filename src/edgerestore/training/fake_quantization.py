"""Fake quantization: rounding to 8 bits in the forward pass, as INT8 does; gradients pass it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..convert.architectures import REGISTRY
from ..errors import ArgumentError

__all__ = ["fake_quantized"]

_LEVELS = 255  # of activations, above the lowest
_MOST = 127  # of weights, which are symmetric
_SMALLEST = 1e-8
_ON_LEVEL = 1e-3  # of a level


def fake_quantized(network: nn.Module, recipe: str) -> nn.Module:
    """Make a network's convolutions and products round, in place, and return it.

    Names and weights stay as they are, so its state dict is that of the network without rounding.
    Weights are rounded with a step per output channel. Activations are rounded over the widest
    values of the batch, input channel by input channel, which is what `edgerestore quantize` does
    with its calibration crops; the image is not, whose levels 8 bits hold. Jacob and others,
    "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
    Inference", CVPR 2018.

    Parameters
    ----------
    network : nn.Module
    recipe : str
        Named in errors.

    Raises
    ------
    ArgumentError
        When there is nothing to round, or the network is for f32 alone.
    """
    rows = REGISTRY.fitting(network.state_dict())
    if rows and not all(row.half_precision for row in rows):
        raise ArgumentError(f"--qat: the network of recipe {recipe} is for f32 alone")
    found = [module for module in network.modules() if type(module) in _ROUNDED]
    if not found:
        raise ArgumentError(f"--qat: the network of recipe {recipe} has no convolution to round")
    for module in found:
        module.__class__ = _ROUNDED[type(module)]
    return network


class _Rounding(nn.Module):
    """Layer whose input and weights are rounded; the parameter itself is not."""

    _output_axis = 0

    @property
    def weight(self) -> Tensor:
        weight = self._parameters["weight"]
        assert weight is not None  # noqa: S101 - these layers have one
        return _round_weights(weight, self._output_axis)

    def forward(self, features: Tensor) -> Tensor:
        made: Tensor = super().forward(_round_input(features))
        return made


class _RoundedConv2d(_Rounding, nn.Conv2d):  # type: ignore[override]
    pass


class _RoundedConvTranspose2d(_Rounding, nn.ConvTranspose2d):  # type: ignore[override,misc]
    _output_axis = 1


class _RoundedLinear(_Rounding, nn.Linear):  # type: ignore[override]
    pass


_ROUNDED: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: _RoundedConv2d,
    nn.ConvTranspose2d: _RoundedConvTranspose2d,
    nn.Linear: _RoundedLinear,
}


def _round_weights(weight: Tensor, axis: int) -> Tensor:
    """Round weights with a step per output channel."""
    others = [dim for dim in range(weight.ndim) if dim != axis]
    step = weight.detach().abs().amax(others, keepdim=True).clamp_min(_SMALLEST) / _MOST
    return _straight_through(weight, (weight / step).round() * step)


def _round_input(features: Tensor) -> Tensor:
    """Round features, ``[N, C, ...]``, channel by channel; an image of 8 bits stays as it is."""
    values = features.detach().float()
    levels = values * _LEVELS
    if torch.allclose(levels, levels.round(), rtol=0, atol=_ON_LEVEL):
        return features
    others = [dim for dim in range(values.ndim) if dim != 1]
    low = values.amin(others, keepdim=True).clamp_max(0)
    high = values.amax(others, keepdim=True).clamp_min(0)
    step = ((high - low) / _LEVELS).clamp_min(_SMALLEST)
    zero = (-low / step).round()
    rounded = ((values / step).round() + zero).clamp(0, _LEVELS).sub(zero).mul(step)
    return _straight_through(features, rounded.to(features.dtype))


def _straight_through(value: Tensor, rounded: Tensor) -> Tensor:
    """Return the rounded value, whose gradient is that of the value."""
    return value + (rounded - value).detach()
