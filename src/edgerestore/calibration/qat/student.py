"""The numbers of a quantized graph that fine-tuning changes, and how they get back into it.

What is trained is one vector: how far every weight, bias and range has moved from where it
began, in units of its own size, so that one learning rate suits them all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import numpy as np
import openvino
import torch
from numpy.typing import NDArray
from openvino import opset13 as ops
from torch import Tensor, nn

from ..operations import nodes_by_name, stored_weights
from ..quantizer import round_weights
from .straight_through import MOST, round_activation, take_rounded
from .torch_graph import Slot, sized_graph
from .trainable import Bias, Range, Weights, find_biases, find_ranges, find_weights

__all__ = ["Student"]


class Student(nn.Module):
    """What of a quantized graph is trained.

    Parameters
    ----------
    quantized : openvino.Model
        With the face. Quantized weights are rounded anew, by `quantize_weights`; float ones
        are trained as they are.
    teacher : openvino.Model
        The float graph; gives the weights to begin with to operations of the same name.
    image : ndarray, f32, shape (1, C, h, w)
        A picture that tells how large the operations' outputs are.

    Attributes
    ----------
    shift : torch.nn.Parameter, f32, shape (n,)
        How far everything has moved, in units of its own size; 0 in the beginning.
    """

    def __init__(
        self, quantized: openvino.Model, teacher: openvino.Model, image: NDArray[np.float32]
    ) -> None:
        super().__init__()
        self._quantized = quantized
        # Nothing that is trained depends on the size; constants fold where it is known.
        size = (image.shape[2], image.shape[3])
        sized = sized_graph(quantized, size)
        weights = find_weights(quantized, sized, sized_graph(teacher, size))
        self._parts: tuple[Weights | Bias | Range, ...] = (
            *weights,
            *find_biases(sized, image),
            *find_ranges(sized),
        )
        self._counts = [
            1 + part.moves if isinstance(part, Range) else part.start.numel()
            for part in self._parts
        ]
        self.shift = nn.Parameter(torch.zeros(sum(self._counts)))

    def values(self) -> tuple[dict[Slot, Tensor], dict[str, Callable[[Tensor], Tensor]]]:
        """Return the constants and the quantizers as they are now, for `TorchGraph.forward`."""
        given: dict[Slot, Tensor] = {}
        quantizers: dict[str, Callable[[Tensor], Tensor]] = {}
        for part, moved in self._moved():
            if isinstance(part, Range):
                scale, zero = _range_at(part, moved)
                quantizer = partial(round_activation, scale=scale, zero=zero)
                quantizers.update(dict.fromkeys(part.names, quantizer))
                continue
            value = _value_at(part, moved)
            if isinstance(part, Bias):
                given[part.slot] = value
            elif part.rounding:
                integers, steps = part.integers(value)
                given[part.name, 1] = take_rounded(value, torch.from_numpy(integers * steps))
            else:
                given[part.name, 1] = value
        return given, quantizers

    @torch.no_grad()
    def export(self) -> openvino.Model:
        """Return a copy of the quantized graph with everything as it is now.

        Quantized weights are i8 constants with a step per output channel, whatever the form
        they came in.
        """
        model = self._quantized.clone()
        nodes = nodes_by_name(model)
        for part, moved in self._moved():
            if isinstance(part, Range):
                _write_range(part, moved, nodes)
                continue
            value = _value_at(part, moved)
            if isinstance(part, Bias):
                name, port = part.slot
                _put(nodes[name], port, _stored(value.numpy(), f"{name}/bias"))
            elif part.rounding:
                _put(nodes[part.name], 1, _rounded_weights(part, value))
            else:
                _put(nodes[part.name], 1, _stored(value.numpy(), f"{part.name}/weights"))
        return model

    def digest(self) -> str:
        """Return what tells this student's beginning from another's."""
        found = hashlib.sha256()
        for part in self._parts:
            if isinstance(part, Range):
                found.update(repr(part).encode())
            else:
                found.update(part.start.contiguous().numpy().tobytes())
        return found.hexdigest()

    def _moved(self) -> Iterator[tuple[Weights | Bias | Range, Tensor]]:
        return zip(self._parts, torch.split(self.shift, self._counts), strict=True)


def _value_at(part: Weights | Bias, moved: Tensor) -> Tensor:
    return part.start + part.unit * moved.reshape(part.start.shape)


def _range_at(part: Range, moved: Tensor) -> tuple[Tensor, Tensor]:
    """Return the step, which changes by factors, and the zero point, which stays whole."""
    scale = part.scale * torch.exp(moved[0])
    if not part.moves:
        return scale, torch.tensor(float(part.zero))
    zero = part.zero + MOST * moved[1]
    return scale, take_rounded(zero, zero.detach().round().clamp(0, MOST))


def _write_range(part: Range, moved: Tensor, nodes: Mapping[str, openvino.Node]) -> None:
    scale, zero = _range_at(part, moved)
    low, high = float(-zero * scale), float((MOST - zero) * scale)
    for name in part.names:
        for port, value in enumerate((low, high, low, high), 1):
            shape = tuple(nodes[name].get_input_shape(port))
            end = "input" if port < 3 else "output"
            stored = f"{name}/{end}_{'low' if port % 2 else 'high'}"
            _put(nodes[name], port, _stored(np.full(shape, value, np.float32), stored))


def _rounded_weights(part: Weights, value: Tensor) -> openvino.Node:
    integers, steps = part.integers(value)
    return stored_weights(part.name, integers, steps, in_float=part.rounding is round_weights)


def _stored(values: NDArray[np.float32], name: str) -> openvino.Node:
    stored: openvino.Node = ops.constant(np.ascontiguousarray(values))
    stored.set_friendly_name(name)
    return stored


def _put(node: openvino.Node, port: int, source: openvino.Node) -> None:
    node.input(port).replace_source_output(source.output(0))
