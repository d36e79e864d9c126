"""What of a quantized graph can be trained: weights, biases and the ranges of activations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import openvino
from numpy.typing import NDArray
from torch import Tensor

from ..operations import FACE_PREFIX, WEIGHTED, input_ranges, nodes_by_name
from ..quantizer import quantize_weights, round_weights
from .straight_through import MOST
from .torch_graph import Slot
from .torch_ops import tensor_of, torch_function

__all__ = ["Bias", "Range", "Weights", "find_biases", "find_ranges", "find_weights"]

Rounding = Callable[[NDArray[np.float32]], tuple[NDArray[np.int8], NDArray[np.float32]]]

_ALIKE = 0.25  # weights further apart than this are not one another's rounding
_SMALLEST = 1e-12
_CUTTERS = ("Slice", "Split", "StridedSlice", "VariadicSplit")


@dataclass(frozen=True)
class Weights:
    """Weights of one operation.

    Parameters
    ----------
    name, kind : str
        Of the operation; they are its second input.
    start : Tensor, f32
    rounding : callable or None
        Of `saturation`: rounds to INT8 with a step per output channel. None for floats.
    by_columns : bool
        Output channels come second: transposed convolutions, products.
    """

    name: str
    kind: str
    start: Tensor
    rounding: Rounding | None
    by_columns: bool

    @property
    def unit(self) -> float:
        """How large a weight is."""
        return max(float(self.start.square().mean().sqrt()), _SMALLEST)

    def integers(self, weights: Tensor) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        """Round weights to INT8, where they are rounded.

        Returns
        -------
        integers : ndarray, i8, shape of the weights
        steps : ndarray, f32
            One for each output channel; broadcasts to the shape of the weights.
        """
        if self.rounding is None:
            raise ValueError(f"{self.name} has float weights")
        rows = weights.detach().numpy()
        if self.kind == "GroupConvolution":
            rows = rows.reshape(-1, *rows.shape[2:])
        if self.by_columns:
            rows = np.ascontiguousarray(rows.swapaxes(0, 1))
        integers, steps = self.rounding(rows)
        steps = steps.reshape(-1, *[1] * (rows.ndim - 1))
        if self.by_columns:
            integers, steps = integers.swapaxes(0, 1), steps.swapaxes(0, 1)
        if self.kind == "GroupConvolution":
            steps = steps.reshape(*weights.shape[:2], *[1] * (weights.ndim - 2))
        return np.ascontiguousarray(integers.reshape(weights.shape)), np.ascontiguousarray(steps)


@dataclass(frozen=True)
class Bias:
    """A constant that is added to what a weighted operation returns.

    Parameters
    ----------
    slot : Slot
        The input of the addition.
    start : Tensor, f32
    unit : float
        Standard deviation of what it is added to.
    """

    slot: Slot
    start: Tensor
    unit: float


@dataclass(frozen=True)
class Range:
    """The range of one quantizer of activations, or of several that must share it.

    Parameters
    ----------
    names : tuple of str
        Of the ``FakeQuantize`` operations.
    scale : float
        Width of one of the 256 levels.
    zero : int
        The level that stands for 0.
    moves : bool
        Whether ``zero`` may change: a range that begins at 0 stays there, and a symmetric
        one stays symmetric.
    """

    names: tuple[str, ...]
    scale: float
    zero: int
    moves: bool


def find_weights(
    quantized: openvino.Model, sized: openvino.Model, teacher: openvino.Model
) -> Iterator[Weights]:
    """Yield the constant weights of convolutions and products, in order of execution.

    Parameters
    ----------
    quantized, sized : openvino.Model
        The graph as it came and from `sized_graph`.
    teacher : openvino.Model
        The float graph from `sized_graph`: its weights are taken in place of rounded ones
        where they are what was rounded.
    """
    whole, masters = nodes_by_name(quantized), nodes_by_name(teacher)
    for node in _weighted(sized):
        name, kind = node.get_friendly_name(), node.get_type_name()
        start = _constant(node, 1)
        if start is None or (kind == "MatMul" and start.ndim != 2):
            continue
        rounding = _rounding_of(whole[name])
        master = _constant(masters[name], 1) if rounding and name in masters else None
        if master is not None and _alike(master, start):
            start = master
        turned = kind == "MatMul" and not node.get_attributes()["transpose_b"]
        by_columns = turned or kind == "ConvolutionBackpropData"
        yield Weights(name, kind, start, rounding, by_columns)


def find_biases(sized: openvino.Model, image: NDArray[np.float32]) -> Iterator[Bias]:
    """Yield the constants that are added right after weighted operations.

    Parameters
    ----------
    sized : openvino.Model
        From `sized_graph`.
    image : ndarray, f32
        A picture of its size.
    """
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
        yield Bias(slot, bias, size)


def find_ranges(sized: openvino.Model) -> Iterator[Range]:
    """Yield the ranges of activations that have 256 levels, one range, and hold 0.

    The image's own is left alone: its levels are those of a picture of 8 bits.

    Parameters
    ----------
    sized : openvino.Model
        From `sized_graph`.
    """
    limits = {}
    for node in sized.get_ordered_ops():
        if node.get_type_name() == "FakeQuantize" and not _reads_image(node):
            limits[node.get_friendly_name()] = _limits(node)
    known = {name: limit for name, limit in limits.items() if limit is not None}
    for names in _together(sized, known):
        low, high = known[names[0]]
        scale = (high - low) / MOST
        zero = round(-low / scale)
        symmetric = abs(low + high) < 1.5 * scale
        yield Range(names, scale, zero, 0 < zero < MOST and not symmetric)


def _weighted(model: openvino.Model) -> Iterator[openvino.Node]:
    return (node for node in model.get_ordered_ops() if node.get_type_name() in WEIGHTED)


def _constant(node: openvino.Node, port: int) -> Tensor | None:
    """Return what an input always is, None where that is not known."""
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
    """Return how the weights of an operation are rounded, None where they are floats."""
    waiting = [node.input_value(1).get_node()]
    while waiting:
        source = waiting.pop()
        kind = source.get_type_name()
        if kind == "FakeQuantize" or (kind == "Constant" and source.get_element_type().size == 1):
            # Without rounded activations integers are a way to store, and cannot overflow.
            return quantize_weights if input_ranges(node) else round_weights
        waiting += [value.get_node() for value in source.input_values()]
    return None


def _output_sizes(
    sized: openvino.Model, names: list[str], image: NDArray[np.float32]
) -> list[float]:
    """Return the standard deviation of what some operations make of a picture."""
    probed = sized.clone()
    nodes = nodes_by_name(probed)
    probed.add_outputs([nodes[name].output(0) for name in names])
    compiled = openvino.Core().compile_model(probed, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    made = compiled({"image": image, "strength": np.ones((1, 1, 1, 1), np.float32)})
    return [max(float(made[1 + at].std()), _SMALLEST) for at in range(len(names))]


def _reads_image(node: openvino.Node) -> bool:
    """Return whether nothing but the face, or nothing at all, is before a quantizer."""
    source = node.input_value(0).get_node()
    while source.get_friendly_name().startswith(FACE_PREFIX) and source.get_input_size():
        source = source.input_value(0).get_node()
    return source.get_type_name() in ("Parameter", "Constant")


def _limits(node: openvino.Node) -> tuple[float, float] | None:
    """Return the range of a quantizer, None where it is not one that can be trained."""
    bounds = [bound for port in range(1, 5) if (bound := _constant(node, port)) is not None]
    if node.get_attributes()["levels"] != MOST + 1 or [b.numel() for b in bounds] != [1] * 4:
        return None
    low, high, made_low, made_high = (float(bound) for bound in bounds)
    same = np.allclose([low, high], [made_low, made_high], rtol=1e-4, atol=0)
    return (low, high) if same and low <= 0 <= high and low < high else None


def _together(
    sized: openvino.Model, limits: Mapping[str, tuple[float, float]]
) -> list[tuple[str, ...]]:
    """Group quantizers whose numbers are joined: NNCF gives them one range, to join them as INT8.

    Parameters
    ----------
    sized : openvino.Model
    limits : mapping of str to (float, float)
        Ranges by name; only those that are the same are put together.
    """
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
    """Yield the quantizers whose numbers a concatenation joins, changed by nothing since."""
    for value in node.input_values():
        source = value.get_node()
        while source.get_type_name() in _CUTTERS:
            source = source.input_value(0).get_node()
        if source.get_type_name() == "Concat":
            yield from _quantizers_above(source)
        elif source.get_type_name() == "FakeQuantize":
            yield source.get_friendly_name()
