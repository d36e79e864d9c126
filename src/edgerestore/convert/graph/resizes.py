"""Resizing by a constant factor as convolution and pixel shuffle.

A resize computes each pixel's place in f32 from its distance to the frame's first one, so that by
a factor like 3 the same neighbourhood comes out differently far away: 2e-4 at 5,000 px, and a
tile is not the whole. Its taps repeat, though: by p/q they are those of p phases for each q
elements, which is a convolution of stride q with p outputs and a pixel shuffle by p. Factors
whose p is a power of two have places without rounding and stay as they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction

import numpy as np
import openvino
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

__all__ = ["resize_taps", "with_exact_resizes"]

_PREFIX = "resize"
_REACH = {"linear": 0, "cubic": 1}
_FRAMES = ("half_pixel", "pytorch_half_pixel")  # unlike at a single pixel alone


def resize_taps(
    mode: str, factor: Fraction, cubic: float = -0.75
) -> tuple[NDArray[np.float64], int]:
    """Return the weights of a resize with half-pixel centres, phase by phase.

    Parameters
    ----------
    mode : str
        ``linear`` or ``cubic``.
    factor : Fraction
        p/q: p outputs for each q elements.
    cubic : float
        Coefficient of the cubic kernel; PyTorch's and OpenCV's.

    Returns
    -------
    ndarray, shape (p, taps), and int
        And the first tap's place before the first of q elements.
    """
    up, down = factor.as_integer_ratio()
    places = (np.arange(up) + 0.5) * down / up - 0.5
    reach = _REACH[mode]
    first = math.floor(places.min()) - reach
    away = np.abs(places[:, None] - np.arange(first, math.floor(places.max()) + reach + 2))
    if mode == "linear":
        return np.maximum(0.0, 1 - away), -first
    near = ((cubic + 2) * away - (cubic + 3)) * away**2 + 1
    far = (((away - 5) * away + 8) * away - 4) * cubic
    return np.where(away <= 1, near, np.where(away < 2, far, 0.0)), -first


def with_exact_resizes(
    core: ModelProto, steps: Iterable[tuple[openvino.Node, openvino.Node]]
) -> ModelProto | None:
    """Return a copy of a graph whose resizes are the same everywhere.

    Parameters
    ----------
    core : onnx.ModelProto
        Exact in tiles but for the rounding of its resizes.
    steps : iterable of (openvino.Node, openvino.Node)
        Its operations at two sizes of input.

    Returns
    -------
    onnx.ModelProto or None
        None where there is nothing to rewrite.
    """
    places = {name: index for index, node in enumerate(core.graph.node) for name in node.output}
    written: dict[int, list[NodeProto]] = {}
    weights: list[TensorProto] = []
    for pair in steps:
        named = pair[0].output(0).get_names() & places.keys()
        factor = _factor(*pair)
        if named and factor is not None:
            place = places[min(named)]
            written[place], own = _rewritten(core.graph.node[place], pair[0], factor)
            weights += own
    if not written:
        return None
    made = ModelProto()
    made.CopyFrom(core)
    del made.graph.node[:]
    for index, node in enumerate(core.graph.node):
        made.graph.node.extend(written.get(index, [node]))
    made.graph.initializer.extend(weights)
    return made


def _factor(node: openvino.Node, other: openvino.Node) -> Fraction | None:
    """Return the factor of a resize whose places are rounded, at two sizes of its input."""
    if node.get_type_name() != "Interpolate":
        return None
    settings = node.get_attributes()
    if (
        _mode(node) not in _REACH
        or settings["coordinate_transformation_mode"] not in _FRAMES
        or settings["antialias"]
        or any([*settings["pads_begin"], *settings["pads_end"]])
    ):
        return None
    shapes = [
        (list(n.input_value(0).get_shape()), list(n.output(0).get_shape())) for n in (node, other)
    ]
    if any(len(had) != 4 or had[:2] != made[:2] for had, made in shapes):
        return None
    factors = {Fraction(made[d], had[d]) for had, made in shapes for d in (2, 3)}
    factor = factors.pop()
    # Halves, quarters and so on are exact in f32.
    return None if factors or factor.numerator.bit_count() == 1 else factor


def _mode(node: openvino.Node) -> str:
    return str(node.get_attributes()["mode"]).removesuffix("_onnx")


def _rewritten(
    node: NodeProto, resize: openvino.Node, factor: Fraction
) -> tuple[list[NodeProto], list[TensorProto]]:
    taps, before = resize_taps(_mode(resize), factor, resize.get_attributes()["cube_coeff"])
    channels = resize.input_value(0).get_shape()[1]
    up, down = factor.as_integer_ratio()
    after = taps.shape[1] - before - down
    name = f"{_PREFIX}/{node.output[0]}"
    shape = (channels, 1, 1, 1)
    constants: dict[str, NDArray[np.generic]] = {
        "pads": np.array([0, 0, before, before, 0, 0, after, after], np.int64),
        "tall": np.tile(taps[:, None, :, None], shape).astype(np.float32),
        "wide": np.tile(taps[:, None, None, :], (channels * up, 1, 1, 1)).astype(np.float32),
    }
    held = {key: f"{name}/{key}" for key in constants}
    padded, rows, columns = (f"{name}/{part}" for part in ("padded", "rows", "columns"))
    nodes = [
        helper.make_node("Pad", [node.input[0], held["pads"]], [padded], padded, mode="edge"),
        helper.make_node(
            "Conv", [padded, held["tall"]], [rows], rows, group=channels, strides=[down, 1]
        ),
        helper.make_node(
            "Conv", [rows, held["wide"]], [columns], columns, group=channels * up, strides=[1, down]
        ),
        helper.make_node(
            "DepthToSpace", [columns], node.output, f"{name}/shuffled", blocksize=up, mode="CRD"
        ),
    ]
    return nodes, [numpy_helper.from_array(values, held[key]) for key, values in constants.items()]
