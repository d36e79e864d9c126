"""PyTorch functions for the operations of an OpenVINO graph of static shapes, with gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import numpy as np
import openvino
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ...errors import ConversionError

__all__ = ["TorchFunction", "constant_at", "takes_several", "tensor_of", "torch_function"]

TorchFunction = Callable[..., Any]
"""Takes the tensors of all inputs; returns a tensor, or a tuple for several outputs."""


def torch_function(node: openvino.Node) -> TorchFunction:
    """Return the PyTorch function of a node.

    Parameters
    ----------
    node : openvino.Node
        All its shapes static.

    Raises
    ------
    ConversionError
        When its type or attributes have no equivalent here; names the node.
    """
    kind = node.get_type_name()
    if kind in _PLAIN:
        return _PLAIN[kind]
    if kind in _BY_ATTRIBUTES:
        return _BY_ATTRIBUTES[kind](node.get_attributes())
    if kind not in _BUILT:
        raise _refusal(node)
    return _BUILT[kind](node)


def tensor_of(node: openvino.Node) -> Tensor:
    """Return a constant as a tensor: floats in f32, integers in i64, booleans."""
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


# Operations without attributes that matter.
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
    """Return the padding of height and width, before and after."""
    attributes = node.get_attributes()
    if len(kernel) != 2:
        raise _refusal(node, f"over {len(kernel)} dimensions")
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
        if x.device.type == "cpu" and torch.is_inference_mode_enabled():
            # PyTorch takes other kernels for small images, which add in another order: tiles
            # would no longer equal the whole.
            x = x.contiguous(memory_format=torch.channels_last)
            return torch.mkldnn_convolution(x, weight, None, padding, stride, dilation, groups)
        return functional.conv2d(x, weight, None, stride, padding, dilation, groups)

    return run


def _transposed(node: openvino.Node) -> TorchFunction:
    attributes = node.get_attributes()
    stride, dilation = tuple(attributes["strides"]), tuple(attributes["dilations"])
    kernel = list(node.get_input_shape(1))[2:]
    made = list(node.get_output_shape(0))[2:]
    if len(kernel) != 2:
        raise _refusal(node, f"over {len(kernel)} dimensions")
    if attributes["auto_pad"] not in ("explicit", "valid") or node.get_input_size() > 2:
        raise _refusal(node, "with a computed output size")
    top, left = attributes["pads_begin"] if attributes["auto_pad"] == "explicit" else (0, 0)

    def run(x: Tensor, weight: Tensor) -> Tensor:
        whole = functional.conv_transpose2d(x, weight, None, stride, dilation=dilation)
        # Output padding asks for rows that no input pixel reaches.
        below, right = top + made[0] - whole.shape[2], left + made[1] - whole.shape[3]
        whole = functional.pad(whole, [0, max(0, right), 0, max(0, below)])
        return whole[:, :, top : top + made[0], left : left + made[1]]

    return run


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

    # The second output, where there is one, holds indices that no graph here reads.
    return run if node.get_output_size() == 1 else lambda x: (run(x), None)


def _avg_pool(node: openvino.Node) -> TorchFunction:
    attributes = node.get_attributes()
    kernel, stride = list(attributes["kernel"]), tuple(attributes["strides"])
    begin, end = _padded(node, kernel)
    if attributes["rounding_type"] != "floor" or begin != end:
        raise _refusal(node, "with uneven padding or rounded up")
    counted = not attributes["exclude-pad"]
    return lambda x: functional.avg_pool2d(x, kernel, stride, begin, count_include_pad=counted)


def _reduce(reduce: Callable[..., Tensor], node: openvino.Node) -> TorchFunction:
    axes = tuple(int(axis) for axis in np.atleast_1d(constant_at(node, 1)))
    kept = bool(node.get_attributes()["keep_dims"])
    return lambda x, *_: reduce(x, dim=axes, keepdim=kept)


_SAMPLES = {"u8": torch.uint8, "u16": torch.uint16}


def _convert(node: openvino.Node) -> TorchFunction:
    made = node.get_output_element_type(0)
    floats = torch.float32 if made.is_real() else torch.int64
    kind = _SAMPLES.get(made.get_type_name(), floats)
    return lambda x: x.to(kind)


def _round(node: openvino.Node) -> TorchFunction:
    if node.get_attributes()["mode"] != "half_to_even":
        raise _refusal(node, "away from zero")
    return torch.round


def _fake_quantize(node: openvino.Node) -> TorchFunction:
    most = int(node.get_attributes()["levels"]) - 1

    def run(x: Tensor, low: Tensor, high: Tensor, made_low: Tensor, made_high: Tensor) -> Tensor:
        part = torch.clamp((x - low) / (high - low), 0, 1)
        return torch.round(part * most) / most * (made_high - made_low) + made_low

    return run


def constant_at(node: openvino.Node, port: int) -> Any:
    """Return a constant input as an array.

    Raises
    ------
    ConversionError
        When it is computed.
    """
    source = node.input_value(port).get_node()
    if source.get_type_name() != "Constant":
        raise _refusal(node, f"whose input {port} is computed")
    return source.get_data()


def _refusal(node: openvino.Node, why: str = "") -> ConversionError:
    """Return the error for an operation without an equivalent here."""
    what = f"{node.get_friendly_name()} of type {node.get_type_name()}"
    return ConversionError(f"PyTorch: cannot run {what}{' ' if why else ''}{why}")


def takes_several(node: openvino.Node, varying: Collection[str]) -> bool:
    """Return whether a node that is sized to one image can run a batch.

    Parameters
    ----------
    node : openvino.Node
    varying : collection of str
        Unique names of the nodes whose values depend on the image: of shape (1, ...) for one
        image, and stacked along their first axis for several.
    """
    inputs = [value for value in node.input_values() if value.get_node().get_name() in varying]
    ranks = {len(value.get_shape()) for value in inputs}
    made = [tuple(output.get_shape()) for output in node.outputs()]
    kind = node.get_type_name()
    if any(shape[:1] != (1,) for shape in made):
        return False
    if kind == "Transpose":
        return bool(constant_at(node, 1)[0] == 0)
    if kind == "MatMul":
        return len(inputs) == 1 or min(ranks) > 2
    if kind in _BY_AXES:
        axes = np.atleast_1d(constant_at(node, _BY_AXES[kind])) % max(ranks)
        return len(made[0]) in ranks and 0 not in axes
    if kind in ("Concat", "Softmax"):
        return int(node.get_attributes()["axis"]) not in (0, -len(made[0]))
    # What is broadcast is lined up from the right: the images stay where they are.
    return kind in ("Reshape", "Squeeze", "Unsqueeze", "StridedSlice") or ranks == {len(made[0])}


# The input that holds the axes of a kind.
_BY_AXES = {
    "Gather": 2,
    "ReduceMax": 1,
    "ReduceMean": 1,
    "ReduceSum": 1,
    "Split": 1,
    "VariadicSplit": 1,
}


def _shape_of(node: openvino.Node) -> Callable[[Tensor], tuple[int, ...]]:
    """Return a function from an input of one or more images to the output's shape."""
    read, made = tuple(node.get_input_shape(0)), tuple(node.get_output_shape(0))
    if read[:1] == made[:1] == (1,):
        return lambda x: (x.shape[0], *made[1:])
    return lambda _: made


def _split(node: openvino.Node) -> TorchFunction:
    axis = int(constant_at(node, 1))
    sizes = [node.get_output_shape(at)[axis] for at in range(node.get_output_size())]
    return lambda x, *_: torch.split(x, sizes, axis)


def _cut(node: openvino.Node, cuts: dict[int, slice]) -> TorchFunction:
    if any(cut.step < 1 for cut in cuts.values()):
        raise _refusal(node, "backwards")
    if node.get_input_shape(0)[0] == 1:
        cuts = {axis: cut for axis, cut in cuts.items() if axis}  # images are left alone
    at = tuple(cuts.get(axis, slice(None)) for axis in range(max(cuts, default=0) + 1))
    return lambda x, *_: x[at]


def _slice(node: openvino.Node) -> TorchFunction:
    begin, end, step = (constant_at(node, port) for port in (1, 2, 3))
    rank = len(node.get_input_shape(0))
    axes = constant_at(node, 4) if node.get_input_size() > 4 else np.arange(len(begin))
    parts = zip(axes, begin, end, step, strict=True)
    return _cut(node, {int(a) % rank: slice(int(b), int(e), int(s)) for a, b, e, s in parts})


def _strided_slice(node: openvino.Node) -> TorchFunction:
    attributes = node.get_attributes()
    if any(any(attributes[f"{mask}_mask"]) for mask in ("new_axis", "ellipsis")):
        raise _refusal(node, "with an ellipsis or a new axis")
    begin, end = constant_at(node, 1), constant_at(node, 2)
    step = constant_at(node, 3) if node.get_input_size() > 3 else np.ones_like(begin)
    cuts = {}
    for axis in range(len(begin)):
        start = None if _masked(attributes, "begin", axis) else int(begin[axis])
        stop = None if _masked(attributes, "end", axis) else int(end[axis])
        if _masked(attributes, "shrink_axis", axis):
            start, stop = int(begin[axis]), int(begin[axis]) + 1 or None
        cuts[axis] = slice(start, stop, int(step[axis]))
    cut, shape = _cut(node, cuts), _shape_of(node)
    return lambda x, *_: cut(x).reshape(shape(x))


def _masked(attributes: dict[str, Any], mask: str, axis: int) -> bool:
    marks = attributes[f"{mask}_mask"]
    return axis < len(marks) and bool(marks[axis])


def _gather(node: openvino.Node) -> TorchFunction:
    indices, axis = np.asarray(constant_at(node, 1)), int(constant_at(node, 2))
    if node.get_attributes().get("batch_dims", 0):
        raise _refusal(node, "with batch dimensions")
    flat = _Indices(indices.astype(np.int64).reshape(-1) % node.get_input_shape(0)[axis])
    shape = _shape_of(node)
    return lambda x, *_: x.index_select(axis, flat.beside(x)).reshape(shape(x))


def _depth_to_space(node: openvino.Node) -> TorchFunction:
    attributes = node.get_attributes()
    block = int(attributes["block_size"])
    if attributes["mode"] == "depth_first":
        return lambda x: functional.pixel_shuffle(x, block)

    def blocks_first(x: Tensor) -> Tensor:
        count, channels, height, width = x.shape
        inner = channels // block**2
        parts = x.reshape(count, block**2, inner, height, width).transpose(1, 2)
        return functional.pixel_shuffle(parts.reshape(x.shape), block)

    return blocks_first


def _interpolate(node: openvino.Node) -> TorchFunction:
    if node.get_type_info().version_id not in ("opset4", "opset11"):
        raise _refusal(node, "of a form before opset 4")
    attributes = node.get_attributes()
    read, made = list(node.get_input_shape(0)), list(node.get_output_shape(0))
    mode, place = attributes["mode"], attributes["coordinate_transformation_mode"]
    if len(read) != 4 or read[:2] != made[:2] or attributes["antialias"]:
        raise _refusal(node, "of more than height and width, or with antialiasing")
    if any(attributes["pads_begin"]) or any(attributes["pads_end"]):
        raise _refusal(node, "with padding")
    if attributes["shape_calculation_mode"] == "scales" and not _whole(node, read, made):
        raise _refusal(node, "by a scale that is cut to whole pixels")
    if mode == "nearest":
        return _nearest(node, read, made, place, attributes["nearest_mode"])
    names = {"linear": "bilinear", "linear_onnx": "bilinear", "cubic": "bicubic"}
    corners = place == "align_corners"
    if mode not in names or not (corners or place in ("half_pixel", "pytorch_half_pixel")):
        raise _refusal(node, f"in mode {mode}, {place}")
    if mode == "cubic" and not math.isclose(attributes["cube_coeff"], -0.75):
        raise _refusal(node, f"with the cubic coefficient {attributes['cube_coeff']:g}")
    return lambda x, *_: functional.interpolate(
        x, size=made[2:], mode=names[mode], align_corners=corners
    )


def _whole(node: openvino.Node, read: list[int], made: list[int]) -> bool:
    """Return whether the scales are exactly the ratio of the sizes."""
    # Up to opset 4 sizes come before scales.
    port = 2 if node.get_type_info().version_id == "opset4" else 1
    scales = np.asarray(constant_at(node, port), np.float64)
    ratios = [after / before for before, after in zip(read, made, strict=True)]
    return bool(np.allclose(scales, ratios[-len(scales) :], rtol=1e-6))


def _nearest(
    node: openvino.Node, read: list[int], made: list[int], place: str, rounding: str
) -> TorchFunction:
    """Pick rows and columns by OpenVINO's rule for the rounding mode."""
    round_by: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
        "floor": np.floor,
        "simple": np.floor,
        "ceil": np.ceil,
        "round_prefer_floor": lambda at: np.ceil(at - 0.5),
        "round_prefer_ceil": lambda at: np.floor(at + 0.5),
    }
    if place not in ("half_pixel", "asymmetric") or rounding not in round_by:
        raise _refusal(node, f"in mode nearest, {place}, {rounding}")
    picked = []
    for before, after in zip(read[2:], made[2:], strict=True):
        scale, shift = before / after, 0.5 if place == "half_pixel" else 0.0
        at = round_by[rounding]((np.arange(after) + shift) * scale - shift)
        picked.append(_Indices(np.clip(at, 0, before - 1).astype(np.int64)))
    rows, columns = picked
    return lambda x, *_: x.index_select(2, rows.beside(x)).index_select(3, columns.beside(x))


class _Indices:
    """Constant indices, brought to each device once: a recorded launch may copy nothing."""

    def __init__(self, values: NDArray[np.int64]) -> None:
        self._here = {torch.device("cpu"): torch.from_numpy(values)}

    def beside(self, x: Tensor) -> Tensor:
        if x.device not in self._here:
            self._here[x.device] = self._here[torch.device("cpu")].to(x.device)
        return self._here[x.device]


def _pad(node: openvino.Node) -> TorchFunction:
    begin, end = constant_at(node, 1), constant_at(node, 2)
    mode = str(node.get_attributes()["pad_mode"])
    value = float(constant_at(node, 3)) if node.get_input_size() > 3 else 0.0
    if not (begin.any() or end.any()):
        return lambda x, *_: x
    if mode == "constant":
        sides = [int(side) for pair in zip(begin[::-1], end[::-1], strict=True) for side in pair]
        return lambda x, *_: functional.pad(x, sides, value=value)
    names = {"edge": "replicate", "reflect": "reflect"}
    if mode not in names or len(begin) != 4 or begin[:2].any() or end[:2].any():
        raise _refusal(node, f"in mode {mode}")
    sides = [int(side) for side in (begin[3], end[3], begin[2], end[2])]
    return lambda x, *_: functional.pad(x, sides, mode=names[mode])


def _reshape(node: openvino.Node) -> TorchFunction:
    shape = _shape_of(node)
    return lambda x, *_: x.reshape(shape(x))


def _transpose(node: openvino.Node) -> TorchFunction:
    order = [int(axis) for axis in constant_at(node, 1)]
    return lambda x, *_: x.permute(order)


def _broadcast(node: openvino.Node) -> TorchFunction:
    if node.get_attributes()["mode"] == "explicit":
        raise _refusal(node, "with an explicit mapping of axes")
    shape = _shape_of(node)
    return lambda x, *_: x.expand(shape(x))


_BY_ATTRIBUTES: dict[str, Callable[[dict[str, Any]], TorchFunction]] = {
    "Clamp": lambda a: partial(torch.clamp, min=a["min"], max=a["max"]),
    "Concat": lambda a: lambda *xs: torch.cat(xs, int(a["axis"])),
    "Elu": lambda a: partial(functional.elu, alpha=float(a["alpha"])),
    "Gelu": lambda a: partial(
        functional.gelu,
        approximate="tanh" if str(a.get("approximation_mode")).lower() == "tanh" else "none",
    ),
    "MatMul": lambda a: (
        lambda x, y: torch.matmul(x.mT if a["transpose_a"] else x, y.mT if a["transpose_b"] else y)
    ),
    "Softmax": lambda a: partial(torch.softmax, dim=int(a["axis"])),
}

_BUILT: dict[str, Callable[[openvino.Node], TorchFunction]] = {
    "AvgPool": _avg_pool,
    "Broadcast": _broadcast,
    "Convert": _convert,
    "Convolution": _convolution,
    "ConvolutionBackpropData": _transposed,
    "DepthToSpace": _depth_to_space,
    "FakeQuantize": _fake_quantize,
    "Gather": _gather,
    "GroupConvolution": _convolution,
    "Interpolate": _interpolate,
    "MaxPool": _max_pool,
    "Pad": _pad,
    "ReduceMax": partial(_reduce, torch.amax),
    "ReduceMean": partial(_reduce, torch.mean),
    "ReduceSum": partial(_reduce, torch.sum),
    "Reshape": _reshape,
    "Round": _round,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _reshape,
    "StridedSlice": _strided_slice,
    "Transpose": _transpose,
    "Unsqueeze": _reshape,
    "VariadicSplit": _split,
}
