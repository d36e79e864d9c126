"""What each operation of an OpenVINO graph of static shapes is in PyTorch, with its gradient."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import openvino
import torch
from torch import Tensor
from torch.nn import functional

from .torch_movers import MOVERS, TorchFunction, constant_at, refusal

__all__ = ["tensor_of", "torch_function"]


def torch_function(node: openvino.Node) -> TorchFunction:
    """Return what computes a node.

    Parameters
    ----------
    node : openvino.Node
        All its shapes static.

    Raises
    ------
    ConversionError
        When there is nothing for its type, or not for its attributes; names the node.
    """
    kind = node.get_type_name()
    if kind in _PLAIN:
        return _PLAIN[kind]
    if kind not in _BUILT:
        raise refusal(node)
    return _BUILT[kind](node)


def tensor_of(node: openvino.Node) -> Tensor:
    """Return a constant as a tensor: floats of all kinds in f32, integers in i64."""
    data = np.asarray(node.get_data())
    kind = np.float32 if np.issubdtype(data.dtype, np.floating) else np.int64
    return torch.from_numpy(np.array(data, data.dtype if data.dtype == np.bool_ else kind))


def _swish(x: Tensor, beta: Tensor | None = None) -> Tensor:
    return functional.silu(x) if beta is None else x * torch.sigmoid(x * beta)


def _prelu(x: Tensor, slope: Tensor) -> Tensor:
    if slope.numel() == 1:
        return functional.leaky_relu(x, float(slope))
    # A slope of one dimension belongs to the channels.
    shaped = slope.reshape(1, -1, *[1] * (x.ndim - 2)) if slope.ndim == 1 else slope
    return torch.where(x > 0, x, x * shaped)


# What has no attributes that matter.
_PLAIN: dict[str, TorchFunction] = {
    "Abs": torch.abs,
    "Add": torch.add,
    "Divide": torch.div,
    "Exp": torch.exp,
    "HSigmoid": functional.hardsigmoid,
    "HSwish": functional.hardswish,
    "Log": torch.log,
    "Maximum": torch.maximum,
    "Minimum": torch.minimum,
    "Mish": functional.mish,
    "Multiply": torch.mul,
    "Negative": torch.neg,
    "PRelu": _prelu,
    "Power": torch.pow,
    "Relu": torch.relu,
    "Result": lambda x: x,
    "Sigmoid": torch.sigmoid,
    "SoftPlus": functional.softplus,
    "Sqrt": torch.sqrt,
    "SquaredDifference": lambda a, b: (a - b).square(),
    "Subtract": torch.sub,
    "Swish": _swish,
    "Tanh": torch.tanh,
}


def _padded(node: openvino.Node, kernel: list[int]) -> tuple[list[int], list[int]]:
    """Return what pads the two sides of the picture, before and after."""
    attributes = node.get_attributes()
    if len(kernel) != 2:
        raise refusal(node, f"over {len(kernel)} dimensions")
    auto = attributes["auto_pad"]
    if auto == "explicit":
        return list(attributes["pads_begin"]), list(attributes["pads_end"])
    if auto == "valid":
        return [0, 0], [0, 0]
    # The same formula that shape inference uses: the odd pixel goes to one named side.
    read, made = node.get_input_shape(0)[2:], node.get_output_shape(0)[2:]
    dilations = attributes.get("dilations", [1, 1])
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    steps = zip(made, attributes["strides"], spans, read, strict=True)
    totals = [max(0, (m - 1) * s + span - r) for m, s, span, r in steps]
    less, more = [t // 2 for t in totals], [t - t // 2 for t in totals]
    return (less, more) if auto == "same_upper" else (more, less)


def _convolution(node: openvino.Node) -> TorchFunction:
    attributes = node.get_attributes()
    grouped = node.get_type_name() == "GroupConvolution"
    shape = list(node.get_input_shape(1))
    begin, end = _padded(node, shape[3 if grouped else 2 :])
    uneven = begin != end
    sides = [begin[1], end[1], begin[0], end[0]]
    groups = shape[0] if grouped else 1
    stride, dilation = tuple(attributes["strides"]), tuple(attributes["dilations"])

    def run(x: Tensor, weight: Tensor) -> Tensor:
        if grouped:
            weight = weight.flatten(0, 1)
        if uneven:
            x = functional.pad(x, sides)
        padding = (0, 0) if uneven else tuple(begin)
        return functional.conv2d(x, weight, None, stride, padding, dilation, groups)

    return run


def _transposed(node: openvino.Node) -> TorchFunction:
    attributes = node.get_attributes()
    stride, dilation = tuple(attributes["strides"]), tuple(attributes["dilations"])
    kernel = list(node.get_input_shape(1))[2:]
    made = list(node.get_output_shape(0))[2:]
    if len(kernel) != 2:
        raise refusal(node, f"over {len(kernel)} dimensions")
    if attributes["auto_pad"] not in ("explicit", "valid") or node.get_input_size() > 2:
        raise refusal(node, "with a computed output size")
    top, left = attributes["pads_begin"] if attributes["auto_pad"] == "explicit" else (0, 0)

    def run(x: Tensor, weight: Tensor) -> Tensor:
        whole = functional.conv_transpose2d(x, weight, None, stride, dilation=dilation)
        # Output padding asks for rows that no input pixel reaches.
        below, right = top + made[0] - whole.shape[2], left + made[1] - whole.shape[3]
        whole = functional.pad(whole, [0, max(0, right), 0, max(0, below)])
        return whole[:, :, top : top + made[0], left : left + made[1]]

    return run


def _matmul(node: openvino.Node) -> TorchFunction:
    attributes = node.get_attributes()
    first, second = attributes["transpose_a"], attributes["transpose_b"]
    return lambda a, b: torch.matmul(a.mT if first else a, b.mT if second else b)


def _clamp(node: openvino.Node) -> TorchFunction:
    attributes = node.get_attributes()
    low, high = attributes["min"], attributes["max"]
    return lambda x: torch.clamp(x, low, high)


def _gelu(node: openvino.Node) -> TorchFunction:
    mode = str(node.get_attributes().get("approximation_mode", "ERF")).lower()
    return lambda x: functional.gelu(x, approximate="tanh" if mode == "tanh" else "none")


def _elu(node: openvino.Node) -> TorchFunction:
    alpha = float(node.get_attributes()["alpha"])
    return lambda x: functional.elu(x, alpha)


def _softmax(node: openvino.Node) -> TorchFunction:
    axis = int(node.get_attributes()["axis"])
    return lambda x: torch.softmax(x, axis)


def _max_pool(node: openvino.Node) -> TorchFunction:
    attributes = node.get_attributes()
    kernel, stride = list(attributes["kernel"]), tuple(attributes["strides"])
    begin, end = _padded(node, kernel)
    dilation = tuple(attributes.get("dilations", (1, 1)))
    ceiled = attributes["rounding_type"] != "floor"
    sides = [begin[1], end[1], begin[0], end[0]]

    def run(x: Tensor) -> Tensor:
        if any(sides):
            x = functional.pad(x, sides, value=-math.inf)
        return functional.max_pool2d(x, kernel, stride, 0, dilation, ceiled)

    # The second output, where there is one, holds indices that nobody here reads.
    return run if node.get_output_size() == 1 else lambda x: (run(x), None)


def _avg_pool(node: openvino.Node) -> TorchFunction:
    attributes = node.get_attributes()
    kernel, stride = list(attributes["kernel"]), tuple(attributes["strides"])
    begin, end = _padded(node, kernel)
    if attributes["rounding_type"] != "floor" or begin != end:
        raise refusal(node, "with uneven padding or rounded up")
    counted = not attributes["exclude-pad"]
    return lambda x: functional.avg_pool2d(x, kernel, stride, begin, count_include_pad=counted)


_REDUCE: dict[str, Callable[..., Tensor]] = {
    "ReduceMax": torch.amax,
    "ReduceMean": torch.mean,
    "ReduceSum": torch.sum,
}


def _reduce(node: openvino.Node) -> TorchFunction:
    reduce = _REDUCE[node.get_type_name()]
    axes = tuple(int(axis) for axis in np.atleast_1d(constant_at(node, 1)))
    kept = bool(node.get_attributes()["keep_dims"])
    return lambda x, *_: reduce(x, dim=axes, keepdim=kept)


def _convert(node: openvino.Node) -> TorchFunction:
    kind = torch.float32 if node.get_output_element_type(0).is_real() else torch.int64
    return lambda x: x.to(kind)


def _fake_quantize(node: openvino.Node) -> TorchFunction:
    most = int(node.get_attributes()["levels"]) - 1

    def run(x: Tensor, low: Tensor, high: Tensor, made_low: Tensor, made_high: Tensor) -> Tensor:
        part = torch.clamp((x - low) / (high - low), 0, 1)
        return torch.round(part * most) / most * (made_high - made_low) + made_low

    return run


_BUILT: dict[str, Callable[[openvino.Node], TorchFunction]] = {
    **MOVERS,
    "AvgPool": _avg_pool,
    "Clamp": _clamp,
    "Convert": _convert,
    "Convolution": _convolution,
    "ConvolutionBackpropData": _transposed,
    "Elu": _elu,
    "FakeQuantize": _fake_quantize,
    "Gelu": _gelu,
    "GroupConvolution": _convolution,
    "MatMul": _matmul,
    "MaxPool": _max_pool,
    "ReduceMax": _reduce,
    "ReduceMean": _reduce,
    "ReduceSum": _reduce,
    "Softmax": _softmax,
}
