"""Quantizable operations of a graph: kind, cost, weights, ranges.

A bundle's graph is a core in a signature, which stays in float at every precision: it holds the
strength blend, which is exact at every precision.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import opset13 as ops

__all__ = [
    "CONVOLUTIONS",
    "SIGNATURE_PREFIX",
    "WEIGHTED",
    "Operation",
    "channel_shares",
    "input_ranges",
    "nodes_by_name",
    "operations_of",
    "rounded_weights",
    "shared_weights",
    "stored_weights",
    "weights_of",
]

SIGNATURE_PREFIX = "face/"

WEIGHTED = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "MatMul")
"""Kinds with a matrix of weights: nearly all of the arithmetic."""

CONVOLUTIONS = ("Convolution", "GroupConvolution")
"""Kinds whose weights and biases are ours, and whose input channels may have own ranges."""

_ELEMENTWISE = ("Add", "Subtract", "Multiply", "Divide")
_OTHER = ("AvgPool", "ReduceMean", "Interpolate", "MVN", "NormalizeL2", "Sigmoid", "Concat")

# A multiplication that is one of many in a convolution, against touching one number of an
# elementwise operation, in time: measured on two cores, about 60 GMAC and 2.5 G numbers a second.
_MACS_PER_NUMBER = 24


# Data-movement operations: values pass unchanged, so one quantizer serves both sides.
_DATA_MOVEMENT = {
    *("Concat", "DepthToSpace", "Gather", "MaxPool", "Pad", "ReduceMax", "Reshape", "Slice"),
    *("SpaceToDepth", "Split", "Squeeze", "StridedSlice", "Transpose", "Unsqueeze"),
    "VariadicSplit",
}


@dataclass(frozen=True)
class Operation:
    """Operation that can be quantized.

    Parameters
    ----------
    name, kind : str
        OpenVINO's friendly name and type.
    macs : int
        Multiply-accumulates for the frame that the graph was sized to.
    numbers : int
        Numbers that it writes.
    """

    name: str
    kind: str
    macs: int
    numbers: int

    @property
    def benefit(self) -> int:
        """Time that INT8 saves, in multiply-accumulates."""
        return self.macs + _MACS_PER_NUMBER * self.numbers


def operations_of(model: openvino.Model, height: int, width: int) -> list[Operation]:
    """List the quantizable operations of the core, in order of execution.

    Parameters
    ----------
    model : openvino.Model
        From `float_graph`.
    height, width : int
        Of the image that costs are counted for.
    """
    sized = model.clone()
    channels = sized.input("image").partial_shape[1].get_length()
    sized.reshape({"image": [1, channels, height, width], "strength": [1, 1, 1, 1]})
    return [
        Operation(
            node.get_friendly_name(),
            node.get_type_name(),
            _macs(node),
            int(np.prod(tuple(node.get_output_shape(0)))),
        )
        for node in sized.get_ordered_ops()
        if _can_be_quantized(node)
    ]


def weights_of(node: openvino.Node) -> NDArray[np.float32] | None:
    """Return the constant weights of a weighted operation, or None."""
    if node.get_type_name() not in WEIGHTED:
        return None
    source = _stored(node, 1)
    return _floats(source) if source.get_type_name() == "Constant" else None


def rounded_weights(node: openvino.Node) -> NDArray[np.float32]:
    """Return the values of an operation's weights in a quantized graph."""
    return _value(node.input_value(1).get_node())


def _value(node: openvino.Node) -> NDArray[np.float32]:
    if node.get_type_name() == "Constant":
        return _floats(node)
    sides = [_value(value.get_node()) for value in node.input_values()]
    if node.get_type_name() == "Convert":
        return sides[0]
    return sides[0] * sides[1] if node.get_type_name() == "Multiply" else sides[0] - sides[1]


def _can_be_quantized(node: openvino.Node) -> bool:
    kind = node.get_type_name()
    if node.get_friendly_name().startswith(SIGNATURE_PREFIX):
        return False
    if kind in WEIGHTED:
        return weights_of(node) is not None
    if kind in _ELEMENTWISE:
        # A constant side is a bias or a scale; it is folded into its neighbour.
        sides = [value.get_node().get_type_name() for value in node.input_values()]
        return node.get_output_element_type(0).is_real() and "Constant" not in sides
    return kind in _OTHER and node.get_output_element_type(0).is_real()


def _macs(node: openvino.Node) -> int:
    weights = weights_of(node)
    if weights is None:
        return 0
    made = tuple(node.get_output_shape(0))
    if node.get_type_name() == "MatMul":
        return int(np.prod(made)) * int(node.get_input_shape(0)[-1])
    if node.get_type_name() == "ConvolutionBackpropData":
        read = node.get_input_shape(0)  # every input pixel meets the whole kernel
        return int(np.prod(read[2:])) * weights.size
    return int(np.prod(made[2:])) * weights.size


def nodes_by_name(model: openvino.Model) -> dict[str, openvino.Node]:
    """Return a graph's nodes by their friendly names."""
    return {node.get_friendly_name(): node for node in model.get_ordered_ops()}


def stored_weights(
    name: str, integers: NDArray[np.int8], steps: NDArray[np.float32], *, in_float: bool
) -> openvino.Node:
    """Return weights for an operation: i8 constants times steps.

    Parameters
    ----------
    name : str
        The operation's; the nodes are named after it.
    integers : ndarray, i8
    steps : ndarray, f32, broadcastable to ``integers``
    in_float : bool
        The operation computes in float; i8 is storage only.
    """
    numbers = ops.constant(integers, openvino.Type.i8)
    numbers.set_friendly_name(f"{name}/integers")
    if in_float:
        # The type between keeps OpenVINO from taking these for the weights of an INT8
        # operation and carrying them through its INT8 passes: with 2026.4, one compilation
        # in twenty or so then came out wrong beyond recognition. Like this they are folded
        # into floats before anything else.
        numbers = ops.convert(numbers, "i32")
        numbers.set_friendly_name(f"{name}/whole")
    converted = ops.convert(numbers, "f32")
    converted.set_friendly_name(f"{name}/converted")
    sized = ops.constant(np.ascontiguousarray(steps))
    sized.set_friendly_name(f"{name}/steps")
    made: openvino.Node = ops.multiply(converted, sized)
    made.set_friendly_name(f"{name}/weights")
    return made


def input_ranges(node: openvino.Node) -> dict[int, tuple[float, float]]:
    """Return the range that each quantized input of an operation is rounded over.

    Parameters
    ----------
    node : openvino.Node
        In a quantized graph.

    Returns
    -------
    dict of int to (float, float)
        By input; empty where the operation works in float. Channels may have parts of it
        (`channel_shares`).
    """
    found: dict[int, tuple[float, float]] = {}
    inputs = range(1) if node.get_type_name() in WEIGHTED else range(node.get_input_size())
    for at in inputs:
        sources = list(_producers(node.input_value(at)))
        if all(source.get_type_name() == "FakeQuantize" for source in sources):
            low = min(float(np.min(_floats(_stored(source, 3)))) for source in sources)
            high = max(float(np.max(_floats(_stored(source, 4)))) for source in sources)
            found[at] = (low, high)
    return found


def channel_shares(node: openvino.Node) -> NDArray[np.float32] | None:
    """Return the part of its range that each input channel of a convolution is rounded over.

    Parameters
    ----------
    node : openvino.Node
        In a quantized graph.

    Returns
    -------
    ndarray, f32, shape (C,), or None
        None where all channels have the whole range, and for other operations.
    """
    if node.get_type_name() not in CONVOLUTIONS:
        return None
    source = node.input_value(0).get_node()
    if source.get_type_name() != "FakeQuantize":
        return None
    within, whole = (_floats(_stored(source, port)) for port in (2, 4))
    return None if within.size == 1 else (within / whole).reshape(-1)


def shared_weights(
    weights: NDArray[np.float32], shares: NDArray[np.float32] | None, *, grouped: bool
) -> NDArray[np.float32]:
    """Return weights for inputs whose channels are divided by their shares.

    Parameters
    ----------
    weights : ndarray, f32
        (O, I, ...); (G, O, I, ...) where `grouped`.
    shares : ndarray, f32, shape (C,), or None
    """
    if shares is None:
        return weights
    shape = (weights.shape[0], 1, weights.shape[2]) if grouped else (1, weights.shape[1])
    return weights * shares.reshape(*shape, *[1] * (weights.ndim - len(shape)))


def _producers(output: openvino.Output) -> Iterator[openvino.Node]:
    """Yield the nodes that compute an output's values, through data-movement operations."""
    node = output.get_node()
    if node.get_type_name() not in _DATA_MOVEMENT:
        yield node
        return
    moved = node.input_values() if node.get_type_name() == "Concat" else node.input_values()[:1]
    for value in moved:
        yield from _producers(value)


def _stored(node: openvino.Node, port: int) -> openvino.Node:
    source = node.input_value(port).get_node()
    return source.input_value(0).get_node() if source.get_type_name() == "Convert" else source


def _floats(constant: openvino.Node) -> NDArray[np.float32]:
    return np.asarray(constant.get_data(), np.float32)
