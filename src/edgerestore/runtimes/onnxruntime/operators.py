"""ONNX operators for the operations of an OpenVINO graph of static shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import openvino
from numpy.typing import NDArray

from ...errors import InferenceError

__all__ = ["Emitter", "emit", "refusal"]


class Emitter(Protocol):
    """What operators are added to."""

    def add(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add an operator of one output; return the output's name."""

    def constant(self, values: NDArray[Any]) -> str:
        """Add a constant; return its name."""


_Emit = Callable[[Emitter, openvino.Node, list[str]], str | list[str]]


def emit(graph: Emitter, node: openvino.Node, inputs: list[str]) -> list[str]:
    """Add the operators of a node.

    Parameters
    ----------
    graph : Emitter
    node : openvino.Node
        All its shapes static.
    inputs : list of str
        Names of the values that it reads.

    Returns
    -------
    list of str
        Names of its outputs.

    Raises
    ------
    InferenceError
        When its type or attributes have no equivalent here; names the node.
    """
    kind = node.get_type_name()
    if kind in _SAME:
        return [graph.add(_SAME[kind], inputs)]
    if kind not in _BUILT:
        raise refusal(node)
    made = _BUILT[kind](graph, node, inputs)
    return made if isinstance(made, list) else [made]


def refusal(node: openvino.Node, why: str = "") -> InferenceError:
    """Return the error for an operation without an equivalent here."""
    what = f"{node.get_friendly_name()} of type {node.get_type_name()}"
    return InferenceError(f"ONNX Runtime: cannot run {what}{' ' if why else ''}{why}")


# Operations without attributes that matter, by ONNX's name.
_SAME = {
    **{kind: kind for kind in ("Abs", "Add", "Exp", "Log", "Mish", "Relu", "Sigmoid", "Sqrt")},
    "Divide": "Div",
    "HSwish": "HardSwish",
    "Maximum": "Max",
    "Minimum": "Min",
    "Multiply": "Mul",
    "Negative": "Neg",
    "Power": "Pow",
    "SoftPlus": "Softplus",
    "Subtract": "Sub",
    "Tanh": "Tanh",
    "Floor": "Floor",
}


def _numbers(graph: Emitter, *values: int) -> str:
    return graph.constant(np.array(values, np.int64))


def _float(graph: Emitter, value: float) -> str:
    return graph.constant(np.array(value, np.float32))


def _constant_at(node: openvino.Node, port: int) -> NDArray[Any]:
    source = node.input_value(port).get_node()
    if source.get_type_name() != "Constant":
        raise refusal(node, f"whose input {port} is computed")
    return np.asarray(source.get_data())


def _shaped(graph: Emitter, node: openvino.Node, inputs: list[str]) -> str:
    return graph.add("Reshape", [inputs[0], _numbers(graph, *node.get_output_shape(0))])


def _padding(node: openvino.Node) -> dict[str, Any]:
    """Return the attributes of a window's padding."""
    attributes = node.get_attributes()
    auto = attributes["auto_pad"]
    names = {"same_upper": "SAME_UPPER", "same_lower": "SAME_LOWER", "valid": "VALID"}
    if auto in names:
        return {"auto_pad": names[auto]}
    return {"pads": [*attributes["pads_begin"], *attributes["pads_end"]]}


def _convolution(graph: Emitter, node: openvino.Node, inputs: list[str]) -> str:
    attributes, shape = node.get_attributes(), list(node.get_input_shape(1))
    grouped = node.get_type_name() == "GroupConvolution"
    return graph.add(
        "Conv",
        inputs,
        strides=list(attributes["strides"]),
        dilations=list(attributes["dilations"]),
        group=shape[0] if grouped else 1,
        **_padding(node),
    )


def _transposed(graph: Emitter, node: openvino.Node, inputs: list[str]) -> str:
    attributes = node.get_attributes()
    if attributes["auto_pad"] not in ("explicit", "valid") or node.get_input_size() > 2:
        raise refusal(node, "with a computed output size")
    return graph.add(
        "ConvTranspose",
        inputs,
        strides=list(attributes["strides"]),
        dilations=list(attributes["dilations"]),
        output_padding=list(attributes["output_padding"]),
        **_padding(node),
    )


def _pool(graph: Emitter, node: openvino.Node, inputs: list[str]) -> str | list[str]:
    attributes, kind = node.get_attributes(), node.get_type_name()
    more: dict[str, Any] = {}
    if kind == "AvgPool":
        more["count_include_pad"] = int(not attributes["exclude-pad"])
    else:
        more["dilations"] = list(attributes.get("dilations", (1, 1)))
    made = graph.add(
        "AveragePool" if kind == "AvgPool" else "MaxPool",
        inputs,
        kernel_shape=list(attributes["kernel"]),
        strides=list(attributes["strides"]),
        ceil_mode=int(attributes["rounding_type"] != "floor"),
        **_padding(node),
        **more,
    )
    return [made, ""] if node.get_output_size() > 1 else made


def _reduce(graph: Emitter, node: openvino.Node, inputs: list[str]) -> str:
    axes = _numbers(graph, *(int(a) for a in np.atleast_1d(_constant_at(node, 1))))
    kept = int(bool(node.get_attributes()["keep_dims"]))
    return graph.add(node.get_type_name(), [inputs[0], axes], keepdims=kept)


def _fake_quantize(graph: Emitter, node: openvino.Node, inputs: list[str]) -> str:
    """Round to levels: as a pair of QuantizeLinear and DequantizeLinear where that is the same."""
    steps = int(node.get_attributes()["levels"]) - 1
    low, high, made_low, made_high = (_constant_at(node, port) for port in range(1, 5))
    step = (high - low) / np.float32(steps)
    zero = -low / step
    same = np.array_equal(low, made_low) and np.array_equal(high, made_high)
    axes = [axis for axis, length in enumerate(low.shape) if length > 1]
    grid = np.abs(zero - np.round(zero)).max() < 1e-2 and zero.min() > -0.5 and zero.max() < 255.5
    if steps == 255 and same and grid and len(axes) < 2 and low.shape == high.shape:
        scale = graph.constant(step.astype(np.float32).reshape(-1 if axes else ()))
        point = graph.constant(np.round(zero).astype(np.uint8).reshape(-1 if axes else ()))
        along = {"axis": axes[0]} if axes else {}
        rounded = graph.add("QuantizeLinear", [inputs[0], scale, point], **along)
        return graph.add("DequantizeLinear", [rounded, scale, point], **along)
    part = graph.add("Sub", [inputs[0], inputs[1]])
    part = graph.add("Div", [part, graph.constant(np.asarray(high - low, np.float32))])
    zero_, one = (_float(graph, value) for value in (0, 1))
    levels = graph.add("Mul", [graph.add("Clip", [part, zero_, one]), _float(graph, steps)])
    rounded = graph.add("Div", [graph.add("Round", [levels]), _float(graph, steps)])
    span = graph.constant(np.asarray(made_high - made_low, np.float32))
    return graph.add("Add", [graph.add("Mul", [rounded, span]), inputs[3]])


def _split(graph: Emitter, node: openvino.Node, inputs: list[str]) -> list[str]:
    axis = int(_constant_at(node, 1))
    ends = np.cumsum([node.get_output_shape(at)[axis] for at in range(node.get_output_size())])
    begins = [0, *ends[:-1]]
    at, one = _numbers(graph, axis), _numbers(graph, 1)
    return [
        graph.add("Slice", [inputs[0], _numbers(graph, int(b)), _numbers(graph, int(e)), at, one])
        for b, e in zip(begins, ends, strict=True)
    ]


def _cut(graph: Emitter, source: str, cuts: dict[int, tuple[int, int, int]]) -> str:
    axes = sorted(cuts)
    parts = [[cuts[axis][place] for axis in axes] for place in range(3)]
    begin, end, step = (_numbers(graph, *part) for part in parts)
    return graph.add("Slice", [source, begin, end, _numbers(graph, *axes), step])


def _slice(graph: Emitter, node: openvino.Node, inputs: list[str]) -> str:
    begin, end, step = (_constant_at(node, port) for port in (1, 2, 3))
    rank = len(node.get_input_shape(0))
    axes = _constant_at(node, 4) if node.get_input_size() > 4 else np.arange(len(begin))
    rows = zip(axes, begin, end, step, strict=True)
    return _cut(graph, inputs[0], {int(a) % rank: (int(b), int(e), int(s)) for a, b, e, s in rows})


def _strided_slice(graph: Emitter, node: openvino.Node, inputs: list[str]) -> str:
    attributes = node.get_attributes()
    if any(any(attributes[f"{mask}_mask"]) for mask in ("new_axis", "ellipsis")):
        raise refusal(node, "with an ellipsis or a new axis")

    def masked(mask: str, axis: int) -> bool:
        marks = attributes[f"{mask}_mask"]
        return axis < len(marks) and bool(marks[axis])

    begin, end = _constant_at(node, 1), _constant_at(node, 2)
    step = _constant_at(node, 3) if node.get_input_size() > 3 else np.ones_like(begin)
    far = np.iinfo(np.int64).max
    cuts = {}
    for axis in range(len(begin)):
        start = 0 if masked("begin", axis) else int(begin[axis])
        stop = far if masked("end", axis) else int(end[axis])
        if masked("shrink_axis", axis):
            start = int(begin[axis])
            stop = start + 1 or far
        if int(step[axis]) < 1:
            raise refusal(node, "backwards")
        cuts[axis] = (start, stop, int(step[axis]))
    return _shaped(graph, node, [_cut(graph, inputs[0], cuts)])


def _gather(graph: Emitter, node: openvino.Node, inputs: list[str]) -> str:
    axis = int(_constant_at(node, 2)) % len(node.get_input_shape(0))
    if node.get_attributes().get("batch_dims", 0):
        raise refusal(node, "with batch dimensions")
    picked = graph.constant(np.asarray(_constant_at(node, 1), np.int64))
    return graph.add("Gather", [inputs[0], picked], axis=axis)


def _depth_to_space(graph: Emitter, node: openvino.Node, inputs: list[str]) -> str:
    attributes = node.get_attributes()
    mode = "CRD" if attributes["mode"] == "depth_first" else "DCR"
    return graph.add("DepthToSpace", inputs, blocksize=int(attributes["block_size"]), mode=mode)


def _interpolate(graph: Emitter, node: openvino.Node, inputs: list[str]) -> str:
    attributes = node.get_attributes()
    read, made = list(node.get_input_shape(0)), list(node.get_output_shape(0))
    modes = {"nearest": "nearest", "linear": "linear", "linear_onnx": "linear", "cubic": "cubic"}
    places = {
        **{name: name for name in ("half_pixel", "asymmetric", "align_corners")},
        "pytorch_half_pixel": "pytorch_half_pixel",
    }
    place = attributes["coordinate_transformation_mode"]
    if attributes["mode"] not in modes or place not in places or read[:2] != made[:2]:
        raise refusal(node, f"in mode {attributes['mode']}, {place}")
    if any(attributes["pads_begin"]) or any(attributes["pads_end"]) or attributes["antialias"]:
        raise refusal(node, "with padding or antialiasing")
    rounding = {"simple": "floor"}.get(attributes["nearest_mode"], attributes["nearest_mode"])
    return graph.add(
        "Resize",
        [inputs[0], "", "", _numbers(graph, *made)],
        mode=modes[attributes["mode"]],
        coordinate_transformation_mode=places[place],
        nearest_mode=rounding,
        cubic_coeff_a=float(attributes["cube_coeff"]),
    )


def _pad(graph: Emitter, node: openvino.Node, inputs: list[str]) -> str:
    begin, end = _constant_at(node, 1), _constant_at(node, 2)
    mode = str(node.get_attributes()["pad_mode"])
    if not (begin.any() or end.any()):
        return inputs[0]
    if mode not in ("constant", "edge", "reflect"):
        raise refusal(node, f"in mode {mode}")
    sides = _numbers(graph, *(int(side) for side in (*begin, *end)))
    filled = [inputs[3]] if mode == "constant" and len(inputs) > 3 else []
    return graph.add("Pad", [inputs[0], sides, *filled], mode=mode)


def _matmul(graph: Emitter, node: openvino.Node, inputs: list[str]) -> str:
    attributes, sides = node.get_attributes(), list(inputs)
    for port, turned in enumerate((attributes["transpose_a"], attributes["transpose_b"])):
        rank = len(node.get_input_shape(port))
        if turned and rank > 1:
            order = [*range(rank - 2), rank - 1, rank - 2]
            sides[port] = graph.add("Transpose", [sides[port]], perm=order)
    return graph.add("MatMul", sides)


def _prelu(graph: Emitter, node: openvino.Node, inputs: list[str]) -> str:
    slope = _constant_at(node, 1)
    if slope.size == 1:
        return graph.add("LeakyRelu", inputs[:1], alpha=float(slope.reshape(-1)[0]))
    if slope.ndim == 1:
        slope = slope.reshape(-1, *[1] * (len(node.get_input_shape(0)) - 2))
    return graph.add("PRelu", [inputs[0], graph.constant(slope.astype(np.float32))])


def _convert(graph: Emitter, node: openvino.Node, inputs: list[str]) -> str:
    names = {"f32": 1, "f16": 1, "u8": 2, "u16": 4, "i64": 7, "i32": 6, "boolean": 9}
    name = node.get_output_element_type(0).get_type_name()
    if name not in names:
        raise refusal(node, f"to {name}")
    return graph.add("Cast", inputs, to=names[name])


def _swish(graph: Emitter, _: openvino.Node, inputs: list[str]) -> str:
    scaled = graph.add("Mul", inputs) if len(inputs) > 1 else inputs[0]
    return graph.add("Mul", [inputs[0], graph.add("Sigmoid", [scaled])])


def _gelu(graph: Emitter, node: openvino.Node, inputs: list[str]) -> str:
    mode = str(node.get_attributes().get("approximation_mode")).lower()
    return graph.add("Gelu", inputs, approximate="tanh" if mode == "tanh" else "none")


def _round(graph: Emitter, node: openvino.Node, inputs: list[str]) -> str:
    if node.get_attributes()["mode"] != "half_to_even":
        raise refusal(node, "away from zero")
    return graph.add("Round", inputs)


def _clamp(graph: Emitter, node: openvino.Node, inputs: list[str]) -> str:
    attributes = node.get_attributes()
    ends = (_float(graph, attributes[name]) for name in ("min", "max"))
    return graph.add("Clip", [inputs[0], *ends])


def _difference(graph: Emitter, _: openvino.Node, inputs: list[str]) -> str:
    change = graph.add("Sub", inputs)
    return graph.add("Mul", [change, change])


def _transpose(graph: Emitter, node: openvino.Node, inputs: list[str]) -> str:
    order = [int(axis) for axis in _constant_at(node, 1)]
    return graph.add("Transpose", inputs[:1], perm=order)


def _broadcast(graph: Emitter, node: openvino.Node, inputs: list[str]) -> str:
    if node.get_attributes()["mode"] == "explicit":
        raise refusal(node, "with an explicit mapping of axes")
    return graph.add("Expand", [inputs[0], _numbers(graph, *node.get_output_shape(0))])


_BUILT: dict[str, _Emit] = {
    "AvgPool": _pool,
    "Broadcast": _broadcast,
    "Clamp": _clamp,
    "Concat": lambda g, n, x: g.add("Concat", x, axis=int(n.get_attributes()["axis"])),
    "Convert": _convert,
    "Convolution": _convolution,
    "ConvolutionBackpropData": _transposed,
    "DepthToSpace": _depth_to_space,
    "Elu": lambda g, n, x: g.add("Elu", x, alpha=float(n.get_attributes()["alpha"])),
    "FakeQuantize": _fake_quantize,
    "Gather": _gather,
    "Gelu": _gelu,
    "GroupConvolution": _convolution,
    "HSigmoid": lambda g, _, x: g.add("HardSigmoid", x, alpha=1 / 6, beta=0.5),
    "Interpolate": _interpolate,
    "MatMul": _matmul,
    "MaxPool": _pool,
    "PRelu": _prelu,
    "Pad": _pad,
    "ReduceMax": _reduce,
    "ReduceMean": _reduce,
    "ReduceSum": _reduce,
    "Reshape": _shaped,
    "Result": lambda _, __, x: x[0],
    "Round": _round,
    "Slice": _slice,
    "Softmax": lambda g, n, x: g.add("Softmax", x, axis=int(n.get_attributes()["axis"])),
    "Split": _split,
    "SquaredDifference": _difference,
    "Squeeze": _shaped,
    "StridedSlice": _strided_slice,
    "Swish": _swish,
    "Transpose": _transpose,
    "Unsqueeze": _shaped,
    "VariadicSplit": _split,
}
