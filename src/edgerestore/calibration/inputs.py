"""What convolutions read on the calibration crops: extremes of their channels, and products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import opset13 as ops

from ..imaging.arrays import Planes
from ..runtimes.openvino.graph import shared_core
from .operations import CONVOLUTIONS, SIGNATURE_PREFIX, nodes_by_name, weights_of

__all__ = ["ConvolutionInputs", "measure_inputs"]

_WINDOW_PX = 16  # side of the part of an input, in its middle, that products are taken from
_MOST_TAPS = 1152  # products of 128 channels under a 3x3 kernel with each other; more is split


@dataclass(frozen=True, eq=False)
class ConvolutionInputs:
    """Inputs of a convolution on the calibration crops.

    Parameters
    ----------
    low, high : ndarray, f32, shape (crops, C)
        Extremes of each channel.
    products : ndarray, f64, shape (groups, blocks, K, K)
        Sums of products of the inputs under the kernel with each other: of each group of
        channels, in blocks of neighbouring channels, in the order (channel, tap).
    """

    low: NDArray[np.float32]
    high: NDArray[np.float32]
    products: NDArray[np.float64]


def measure_inputs(model: openvino.Model, images: Sequence[Planes]) -> dict[str, ConvolutionInputs]:
    """Measure the inputs of all convolutions with constant weights.

    Parameters
    ----------
    model : openvino.Model
        The float graph.
    images : sequence of ndarray, f32 [1, C, h, w] in [0, 1]
        All of one size.
    """
    probed = model.clone()
    channels, *size = images[0].shape[1:]
    probed.reshape({"image": [1, channels, *size], "strength": [1, 1, 1, 1]})
    nodes = {
        name: node
        for name, node in nodes_by_name(probed).items()
        if node.get_type_name() in CONVOLUTIONS
        and not name.startswith(SIGNATURE_PREFIX)
        and weights_of(node) is not None
    }
    axes = np.array([0, 2, 3])
    wanted: list[openvino.Output] = []
    for node in nodes.values():
        value = node.input_value(0)
        parts = (ops.reduce_min(value, axes), ops.reduce_max(value, axes), _middle(value))
        wanted += [part.output(0) for part in parts]
    probed.add_outputs(wanted)
    compiled = shared_core().compile_model(probed, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    strength = np.ones((1, 1, 1, 1), np.float32)
    extremes: dict[str, list[NDArray[np.float32]]] = {name: [] for name in nodes}
    products: dict[str, NDArray[np.float64]] = {}
    for image in images:
        made = list(compiled({"image": image, "strength": strength}).values())[1:]
        for at, (name, node) in enumerate(nodes.items()):
            low, high, middle = made[3 * at : 3 * at + 3]
            extremes[name].append(np.stack([low, high]))
            products[name] = products.get(name, 0.0) + _products(node, np.array(middle[0]))
    found = {}
    for name, rows in extremes.items():
        low, high = np.stack(rows, axis=1)
        found[name] = ConvolutionInputs(low, high, products[name])
    return found


def _middle(value: openvino.Output) -> openvino.Node:
    sides = np.array(value.get_shape()[2:])
    begin = np.maximum(0, (sides - _WINDOW_PX) // 2)
    one, axes = np.array([1, 1]), np.array([2, 3])
    made: openvino.Node = ops.slice(value, begin, begin + _WINDOW_PX, one, axes)
    return made


def _products(node: openvino.Node, window: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the products under the kernel at all its positions inside a window (C, h, w)."""
    weights, facts = weights_of(node), node.get_attributes()
    assert weights is not None  # noqa: S101 - those without were left out
    groups = len(weights) if node.get_type_name() == "GroupConvolution" else 1
    inside, taps = len(window) // groups, weights.shape[-2] * weights.shape[-1]
    blocks = next(n for n in range(1, inside + 1) if _fits(inside, taps, n))
    reach = [
        (taps - 1) * step + 1
        for taps, step in zip(weights.shape[-2:], facts["dilations"], strict=True)
    ]
    width = inside // blocks * taps
    if any(side < far for side, far in zip(window.shape[1:], reach, strict=True)):
        return np.zeros((groups, blocks, width, width))
    seen = np.lib.stride_tricks.sliding_window_view(window, reach, axis=(1, 2))
    down, across = facts["dilations"]
    seen = seen[..., ::down, ::across].transpose(0, 3, 4, 1, 2)
    rows = seen.reshape(groups, blocks, width, -1)
    return np.asarray(rows @ rows.swapaxes(2, 3), np.float64)


def _fits(channels: int, taps: int, blocks: int) -> bool:
    return blocks == channels or (not channels % blocks and channels // blocks * taps <= _MOST_TAPS)
