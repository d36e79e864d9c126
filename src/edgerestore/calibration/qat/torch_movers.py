"""The operations that move numbers about or resample them, in PyTorch."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import openvino
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ...errors import ConversionError

__all__ = ["MOVERS", "TorchFunction", "constant_at", "refusal", "takes_several"]

TorchFunction = Callable[..., Any]
"""Takes the tensors of all inputs; returns a tensor, or a tuple where there are more outputs."""


def constant_at(node: openvino.Node, port: int) -> Any:
    """Return an input that must be constant, as an array.

    Raises
    ------
    ConversionError
        When it is not constant.
    """
    source = node.input_value(port).get_node()
    if source.get_type_name() != "Constant":
        raise refusal(node, f"whose input {port} is computed")
    return source.get_data()


def refusal(node: openvino.Node, why: str = "") -> ConversionError:
    """Return the error for an operation that has no equivalent here; it names the operation."""
    what = f"{node.get_friendly_name()} of type {node.get_type_name()}"
    return ConversionError(f"cannot fine-tune {what}{' ' if why else ''}{why}")


def takes_several(node: openvino.Node, varying: Collection[str]) -> bool:
    """Return whether a node, sized to one image, can be run on several that are stacked.

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


# Where those kinds are told which axes they work along; a lost axis in front is none of theirs.
_BY_AXES = {
    "Gather": 2,
    "ReduceMax": 1,
    "ReduceMean": 1,
    "ReduceSum": 1,
    "Split": 1,
    "VariadicSplit": 1,
}


def _shape_of(node: openvino.Node) -> Callable[[Tensor], tuple[int, ...]]:
    """Return what gives the shape of the output for an input that holds one image or more."""
    read, made = tuple(node.get_input_shape(0)), tuple(node.get_output_shape(0))
    if read[:1] == made[:1] == (1,):
        return lambda x: (x.shape[0], *made[1:])
    return lambda _: made


def _concat(node: openvino.Node) -> TorchFunction:
    axis = int(node.get_attributes()["axis"])
    return lambda *xs: torch.cat(xs, axis)


def _split(node: openvino.Node) -> TorchFunction:
    axis = int(constant_at(node, 1))
    sizes = [node.get_output_shape(at)[axis] for at in range(node.get_output_size())]
    return lambda x, *_: torch.split(x, sizes, axis)


def _cut(node: openvino.Node, cuts: dict[int, slice]) -> TorchFunction:
    if any(cut.step < 1 for cut in cuts.values()):
        raise refusal(node, "backwards")
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
        raise refusal(node, "with an ellipsis or a new axis")
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
        raise refusal(node, "with batch dimensions")
    flat = torch.from_numpy(indices.astype(np.int64).reshape(-1) % node.get_input_shape(0)[axis])
    shape = _shape_of(node)
    return lambda x, *_: x.index_select(axis, flat).reshape(shape(x))


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
        raise refusal(node, "of a form before opset 4")
    attributes = node.get_attributes()
    read, made = list(node.get_input_shape(0)), list(node.get_output_shape(0))
    mode, place = attributes["mode"], attributes["coordinate_transformation_mode"]
    if len(read) != 4 or read[:2] != made[:2] or attributes["antialias"]:
        raise refusal(node, "of more than height and width, or with antialiasing")
    if any(attributes["pads_begin"]) or any(attributes["pads_end"]):
        raise refusal(node, "with padding")
    if attributes["shape_calculation_mode"] == "scales" and not _whole(node, read, made):
        raise refusal(node, "by a scale that is cut to whole pixels")
    if mode == "nearest":
        return _nearest(node, read, made, place, attributes["nearest_mode"])
    names = {"linear": "bilinear", "linear_onnx": "bilinear", "cubic": "bicubic"}
    corners = place == "align_corners"
    if mode not in names or not (corners or place in ("half_pixel", "pytorch_half_pixel")):
        raise refusal(node, f"in mode {mode}, {place}")
    if mode == "cubic" and not math.isclose(attributes["cube_coeff"], -0.75):
        raise refusal(node, f"with the cubic coefficient {attributes['cube_coeff']:g}")
    return lambda x, *_: functional.interpolate(
        x, size=made[2:], mode=names[mode], align_corners=corners
    )


def _whole(node: openvino.Node, read: list[int], made: list[int]) -> bool:
    """Return whether what is asked for as scales is the ratio of the sizes."""
    # Up to opset 4 sizes come before scales.
    port = 2 if node.get_type_info().version_id == "opset4" else 1
    scales = np.asarray(constant_at(node, port), np.float64)
    ratios = [after / before for before, after in zip(read, made, strict=True)]
    return bool(np.allclose(scales, ratios[-len(scales) :], rtol=1e-6))


def _nearest(
    node: openvino.Node, read: list[int], made: list[int], place: str, rounding: str
) -> TorchFunction:
    """Pick rows and columns by OpenVINO's own rule: there is one per way of rounding."""
    round_by: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
        "floor": np.floor,
        "simple": np.floor,
        "ceil": np.ceil,
        "round_prefer_floor": lambda at: np.ceil(at - 0.5),
        "round_prefer_ceil": lambda at: np.floor(at + 0.5),
    }
    if place not in ("half_pixel", "asymmetric") or rounding not in round_by:
        raise refusal(node, f"in mode nearest, {place}, {rounding}")
    picked = []
    for before, after in zip(read[2:], made[2:], strict=True):
        scale, shift = before / after, 0.5 if place == "half_pixel" else 0.0
        at = round_by[rounding]((np.arange(after) + shift) * scale - shift)
        picked.append(torch.from_numpy(np.clip(at, 0, before - 1).astype(np.int64)))
    return lambda x, *_: x.index_select(2, picked[0]).index_select(3, picked[1])


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
        raise refusal(node, f"in mode {mode}")
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
        raise refusal(node, "with an explicit mapping of axes")
    shape = _shape_of(node)
    return lambda x, *_: x.expand(shape(x))


MOVERS: dict[str, Callable[[openvino.Node], TorchFunction]] = {
    "Broadcast": _broadcast,
    "Concat": _concat,
    "DepthToSpace": _depth_to_space,
    "Gather": _gather,
    "Interpolate": _interpolate,
    "Pad": _pad,
    "Reshape": _reshape,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _reshape,
    "StridedSlice": _strided_slice,
    "Transpose": _transpose,
    "Unsqueeze": _reshape,
    "VariadicSplit": _split,
}
"""By OpenVINO's type: takes a node of static shapes and returns what computes it."""
