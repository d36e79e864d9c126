"""Trainable form of a quantized graph: its weights, biases and ranges, and their way back into it.

One vector is trained: how far every weight, bias and range has moved from its start, in units of
its own size, so that one learning rate fits them all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import openvino
import torch
from numpy.typing import NDArray
from openvino import opset13 as ops
from torch import Tensor, nn

from ...runtimes.openvino.graph import shared_core
from ...runtimes.pytorch.operations import tensor_of, torch_function
from ..operations import (
    SIGNATURE_PREFIX,
    WEIGHTED,
    channel_shares,
    input_ranges,
    nodes_by_name,
    shared_weights,
    stored_weights,
)
from ..weights import Rounding, quantize_weights, round_channels, round_weights
from .torch_graph import Slot, sized_graph

__all__ = ["Student"]


_ALIKE = 0.25  # weights further apart than this are not one another's rounding
_SMALLEST = 1e-12
_CUTTERS = ("Slice", "Split", "StridedSlice", "VariadicSplit")
_MOST = 255  # the highest of 256 levels


class Student(nn.Module):
    """Trainable weights, biases and activation ranges of a quantized graph.

    Parameters
    ----------
    quantized : openvino.Model
        Quantized weights are rounded again by `quantize_weights`; float ones
        are trained as floats.
    teacher : openvino.Model
        The float graph; operations of the same name start from its weights.
    image : ndarray, f32, shape (1, C, h, w)
        A crop on which the scale of the operations' outputs is measured.

    Attributes
    ----------
    shift : torch.nn.Parameter, f32, shape (n,)
        How far everything has moved, in units of its own size; starts at 0.
    """

    def __init__(
        self, quantized: openvino.Model, teacher: openvino.Model, image: NDArray[np.float32]
    ) -> None:
        super().__init__()
        self._quantized = quantized
        # Nothing that is trained depends on the size; constants fold where it is known.
        size = (image.shape[2], image.shape[3])
        sized = sized_graph(quantized, size)
        weights = _find_weights(quantized, sized, sized_graph(teacher, size))
        self._parts: tuple[_Weights | _Bias | _Range, ...] = (
            *weights,
            *_find_biases(sized, image),
            *_find_ranges(sized),
        )
        self._counts = [
            1 + part.moves if isinstance(part, _Range) else part.start.numel()
            for part in self._parts
        ]
        self.shift = nn.Parameter(torch.zeros(sum(self._counts)))

    def values(self) -> tuple[dict[Slot, Tensor], dict[str, Callable[[Tensor], Tensor]]]:
        """Return the current constants and quantizers, for `TorchGraph.forward`."""
        given: dict[Slot, Tensor] = {}
        quantizers: dict[str, Callable[[Tensor], Tensor]] = {}
        for part, moved in self._moved():
            if isinstance(part, _Range):
                scale, zero = _range_at(part, moved)
                quantizer = partial(_round_activation, part=part, scale=scale, zero=zero)
                quantizers.update(dict.fromkeys(part.names, quantizer))
                continue
            value = _value_at(part, moved)
            if isinstance(part, _Bias):
                given[part.slot] = value
            elif part.rounding:
                integers, steps = part.integers(value)
                given[part.name, 1] = _take_rounded(value, torch.from_numpy(integers * steps))
            else:
                given[part.name, 1] = value
        return given, quantizers

    @torch.no_grad()
    def export(self) -> openvino.Model:
        """Return a copy of the quantized graph with the current values.

        Quantized weights are i8 constants with a step per output channel, whatever their form
        was before.
        """
        model = self._quantized.clone()
        nodes = nodes_by_name(model)
        for part, moved in self._moved():
            if isinstance(part, _Range):
                _write_range(part, moved, nodes)
                continue
            value = _value_at(part, moved)
            if isinstance(part, _Bias):
                name, port = part.slot
                _put(nodes[name], port, _stored(value.numpy(), f"{name}/bias"))
            elif part.rounding:
                _put(nodes[part.name], 1, _rounded_weights(part, value))
            else:
                _put(nodes[part.name], 1, _stored(value.numpy(), f"{part.name}/weights"))
        return model

    def digest(self) -> str:
        """Return a sha256 of the initial values."""
        found = hashlib.sha256()
        for part in self._parts:
            if isinstance(part, _Range):
                found.update(repr(part).encode())
            else:
                found.update(part.start.contiguous().numpy().tobytes())
        return found.hexdigest()

    def _moved(self) -> Iterator[tuple[_Weights | _Bias | _Range, Tensor]]:
        return zip(self._parts, torch.split(self.shift, self._counts), strict=True)


def _value_at(part: _Weights | _Bias, moved: Tensor) -> Tensor:
    return part.start + part.unit * moved.reshape(part.start.shape)


def _range_at(part: _Range, moved: Tensor) -> tuple[Tensor, Tensor]:
    """Return the step, which changes by factors, and the zero point, which stays whole."""
    scale = part.scale * torch.exp(moved[0])
    if not part.moves:
        return scale, torch.tensor(float(part.zero))
    zero = part.zero + _MOST * moved[1]
    return scale, _take_rounded(zero, zero.detach().round().clamp(0, _MOST))


def _write_range(part: _Range, moved: Tensor, nodes: Mapping[str, openvino.Node]) -> None:
    scale, zero = _range_at(part, moved)
    low, high = float(-zero * scale), float((_MOST - zero) * scale)
    for name in part.names:
        for port, value in enumerate((low, high, low, high), 1):
            shape = tuple(nodes[name].get_input_shape(port))
            end = "input" if port < 3 else "output"
            stored = f"{name}/{end}_{'low' if port % 2 else 'high'}"
            values = np.full(shape, value, np.float32)
            if port < 3 and part.shares:
                values *= np.asarray(part.shares, np.float32).reshape(shape)
            _put(nodes[name], port, _stored(values, stored))


def _rounded_weights(part: _Weights, value: Tensor) -> openvino.Node:
    integers, steps = part.integers(value)
    return stored_weights(part.name, integers, steps, in_float=part.rounding is round_weights)


def _stored(values: NDArray[np.float32], name: str) -> openvino.Node:
    stored: openvino.Node = ops.constant(np.ascontiguousarray(values))
    stored.set_friendly_name(name)
    return stored


def _put(node: openvino.Node, port: int, source: openvino.Node) -> None:
    node.input(port).replace_source_output(source.output(0))


@dataclass(frozen=True)
class _Weights:
    """Constant weights of one operation, its second input."""

    name: str
    kind: str
    start: Tensor
    rounding: Rounding | None  # to INT8 with a step per output channel; None for floats
    by_columns: bool  # output channels come second: transposed convolutions, products

    @property
    def unit(self) -> float:
        """Root mean square of the weights."""
        return max(float(self.start.square().mean().sqrt()), _SMALLEST)

    def integers(self, weights: Tensor) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        """Round to i8 of the weights' shape, and steps that broadcast to it."""
        assert self.rounding is not None  # noqa: S101 - float weights are not rounded
        grouped = self.kind == "GroupConvolution"
        array = weights.detach().numpy()
        return round_channels(self.rounding, array, grouped=grouped, by_columns=self.by_columns)


@dataclass(frozen=True)
class _Bias:
    """Constant that is added to the output of a weighted operation."""

    slot: Slot  # the input of the addition
    start: Tensor
    unit: float  # standard deviation of the output that it is added to


@dataclass(frozen=True)
class _Range:
    """Range of an activation quantizer, or of several that share one."""

    names: tuple[str, ...]  # of the FakeQuantize operations
    scale: float  # width of one of the 256 levels
    zero: int  # the level that stands for 0
    moves: bool  # whether ``zero`` may change: not where a range begins at 0 or is symmetric
    shares: tuple[float, ...]  # of the range, by channel; empty where all have the whole


def _find_weights(
    quantized: openvino.Model, sized: openvino.Model, teacher: openvino.Model
) -> Iterator[_Weights]:
    """Yield the constant weights of convolutions and products, in order of execution.

    The teacher's weights replace rounded ones where those are their rounding.
    """
    whole, masters = nodes_by_name(quantized), nodes_by_name(teacher)
    for node in _weighted(sized):
        name, kind = node.get_friendly_name(), node.get_type_name()
        start = _constant(node, 1)
        if start is None or (kind == "MatMul" and start.ndim != 2):
            continue
        rounding = _rounding_of(whole[name])
        master = _constant(masters[name], 1) if rounding and name in masters else None
        if master is not None:
            grouped = kind == "GroupConvolution"
            shares = channel_shares(whole[name])
            master = torch.from_numpy(shared_weights(master.numpy(), shares, grouped=grouped))
        if master is not None and _alike(master, start):
            start = master
        turned = kind == "MatMul" and not node.get_attributes()["transpose_b"]
        by_columns = turned or kind == "ConvolutionBackpropData"
        yield _Weights(name, kind, start, rounding, by_columns)


def _find_biases(sized: openvino.Model, image: NDArray[np.float32]) -> Iterator[_Bias]:
    """Yield the constants that are added right after weighted operations."""
    found = []
    for node in _weighted(sized):
        targets = list(node.output(0).get_target_inputs())
        if len(targets) != 1 or targets[0].get_node().get_type_name() != "Add":
            continue
        add, port = targets[0].get_node(), 1 - targets[0].get_index()
        bias = _constant(add, port)
        if bias is not None:
            found.append((node.get_friendly_name(), (add.get_friendly_name(), port), bias))
    sizes = _output_sizes(sized, [name for name, _, _ in found], image) if found else []
    for (_, slot, bias), size in zip(found, sizes, strict=True):
        yield _Bias(slot, bias, size)


def _find_ranges(sized: openvino.Model) -> Iterator[_Range]:
    """Yield the activation ranges with 256 levels that hold 0.

    The image's own is not trained: its levels are those of 8-bit pictures.
    """
    limits, shares = {}, {}
    for node in sized.get_ordered_ops():
        if node.get_type_name() == "FakeQuantize" and not _reads_image(node):
            name = node.get_friendly_name()
            limits[name], shares[name] = _limits(node)
    known = {name: limit for name, limit in limits.items() if limit is not None}
    for names in _together(sized, known):
        low, high = known[names[0]]
        scale = (high - low) / _MOST
        zero = round(-low / scale)
        symmetric = abs(low + high) < 1.5 * scale
        moves = 0 < zero < _MOST and not symmetric
        yield _Range(names, scale, zero, moves, shares[names[0]])


def _weighted(model: openvino.Model) -> Iterator[openvino.Node]:
    return (node for node in model.get_ordered_ops() if node.get_type_name() in WEIGHTED)


def _constant(node: openvino.Node, port: int) -> Tensor | None:
    """Return the constant value of an input, None where it is computed."""
    source = node.input_value(port).get_node()
    if source.get_type_name() == "Constant":
        return tensor_of(source)
    if source.get_type_name() != "FakeQuantize":
        return None
    # OpenVINO folds everything but quantizers.
    known = [_constant(source, at) for at in range(source.get_input_size())]
    if any(value is None for value in known):
        return None
    rounded: Tensor = torch_function(source)(*known)
    return rounded


def _alike(master: Tensor, rounded: Tensor) -> bool:
    if master.shape != rounded.shape:
        return False
    return float((master - rounded).norm()) < _ALIKE * float(master.norm())


def _rounding_of(node: openvino.Node) -> Rounding | None:
    """Return the rounding of an operation's weights, None where they are floats."""
    waiting = [node.input_value(1).get_node()]
    while waiting:
        source = waiting.pop()
        kind = source.get_type_name()
        if kind == "FakeQuantize" or (kind == "Constant" and source.get_element_type().size == 1):
            # Without rounded activations i8 is storage only, and cannot overflow.
            return quantize_weights if input_ranges(node) else round_weights
        waiting += [value.get_node() for value in source.input_values()]
    return None


def _output_sizes(
    sized: openvino.Model, names: list[str], image: NDArray[np.float32]
) -> list[float]:
    """Return the standard deviation of some operations' outputs on a picture."""
    probed = sized.clone()
    nodes = nodes_by_name(probed)
    probed.add_outputs([nodes[name].output(0) for name in names])
    compiled = shared_core().compile_model(probed, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    made = compiled({"image": image, "strength": np.ones((1, 1, 1, 1), np.float32)})
    return [max(float(made[1 + at].std()), _SMALLEST) for at in range(len(names))]


def _reads_image(node: openvino.Node) -> bool:
    """Return whether a quantizer reads the image, directly or through the signature."""
    source = node.input_value(0).get_node()
    while source.get_friendly_name().startswith(SIGNATURE_PREFIX) and source.get_input_size():
        source = source.input_value(0).get_node()
    return source.get_type_name() in ("Parameter", "Constant")


def _limits(node: openvino.Node) -> tuple[tuple[float, float] | None, tuple[float, ...]]:
    """Return a quantizer's range, None where it cannot be trained, and the channels' shares."""
    bounds = [bound for port in range(1, 5) if (bound := _constant(node, port)) is not None]
    if node.get_attributes()["levels"] != _MOST + 1 or [b.numel() for b in bounds[2:]] != [1] * 2:
        return None, ()
    low, high = (float(bound) for bound in bounds[2:])
    if not low <= 0 < high:
        return None, ()
    shares = bounds[1].reshape(-1) / high
    even = all(
        np.allclose(bound.reshape(-1), shares * whole, rtol=1e-4, atol=1e-12)
        for bound, whole in zip(bounds[:2], (low, high), strict=True)
    )
    if len(shares) > 1:
        return ((low, high) if even else None), tuple(shares.tolist())
    same = np.allclose([*map(float, bounds[:2])], [low, high], rtol=1e-4, atol=0)
    return ((low, high) if same else None), ()


def _together(
    sized: openvino.Model, limits: Mapping[str, tuple[float, float]]
) -> list[tuple[str, ...]]:
    """Group quantizers of equal limits whose outputs are concatenated: they keep one range."""
    group = {name: {name} for name in limits}
    for node in sized.get_ordered_ops():
        if node.get_type_name() != "Concat":
            continue
        joined = [name for name in _quantizers_above(node) if name in limits]
        for name in joined:
            if limits[name] == limits[joined[0]]:
                group[joined[0]] |= group[name]
                for member in group[joined[0]]:
                    group[member] = group[joined[0]]
    return list(dict.fromkeys(tuple(sorted(members)) for members in group.values()))


def _quantizers_above(node: openvino.Node) -> Iterator[str]:
    """Yield the quantizers whose outputs a concatenation joins unchanged."""
    for value in node.input_values():
        source = value.get_node()
        while source.get_type_name() in _CUTTERS:
            source = source.input_value(0).get_node()
        if source.get_type_name() == "Concat":
            yield from _quantizers_above(source)
        elif source.get_type_name() == "FakeQuantize":
            yield source.get_friendly_name()


def _take_rounded(value: Tensor, rounded: Tensor) -> Tensor:
    """Return ``rounded``; its gradient goes to ``value`` (straight-through estimator)."""
    taken: Tensor = _Taken.apply(value, rounded)  # type: ignore[no-untyped-call]
    return taken


def _round_activation(x: Tensor, part: _Range, scale: Tensor, zero: Tensor) -> Tensor:
    """Round to the 256 levels ``scale * (0 - zero), ..., scale * (255 - zero)``.

    Esser, McKinstry, Bablani, Appuswamy, Modha, "Learned Step Size Quantization", ICLR 2020;
    the zero point as in Bhalgat, Lee, Nagel, Blankevoort, Kwak, "LSQ+", CVPR workshops 2020.
    ``scale`` and ``zero`` are scalars, ``zero`` a whole number; ``x`` gets the gradient inside
    the range. Channels are divided by their shares of it first.
    """
    if part.shares:
        x = x / torch.tensor(part.shares).reshape(1, -1, 1, 1)
    rounded: Tensor = _Rounded.apply(x, scale, zero)  # type: ignore[no-untyped-call]
    return rounded


class _Taken(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, __: Tensor, rounded: Tensor) -> Tensor:
        return rounded

    @staticmethod
    def backward(_: Any, *gradients: Any) -> Any:
        return gradients[0], None


class _Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
        # In place: three times as fast as PyTorch's own, which also keeps a mask.
        made = (x / scale).round_().add_(zero).clamp_(0, _MOST).sub_(zero).mul_(scale)
        ctx.save_for_backward(x, made, scale, zero)
        return made

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (gradient,) = gradients
        x, made, scale, zero = ctx.saved_tensors
        low, high = -(zero + 0.5) * scale, (_MOST + 0.5 - zero) * scale
        inside = torch.ops.aten.hardtanh_backward(gradient, x, float(low), float(high))
        # The step's gradient is (made - x) / scale inside the range and made / scale outside.
        by_scale = (_dot(gradient, made) - _dot(inside, x)) / scale
        by_zero = scale * (inside.sum() - gradient.sum()) if ctx.needs_input_grad[2] else None
        return inside, by_scale, by_zero


def _dot(a: Tensor, b: Tensor) -> Tensor:
    # In the order of channels_last, which both mostly have: then flattening copies nothing.
    flat = [t.permute(0, 2, 3, 1).reshape(-1) if t.ndim == 4 else t.reshape(-1) for t in (a, b)]
    return torch.dot(flat[0], flat[1])
