"""Range of what a graph computes: whether 16-bit floats hold it."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import openvino
from onnx import ModelProto
from openvino import opset13

from ...errors import ConversionError
from ...imaging.arrays import Planes
from ...runtimes.openvino.graph import last_line, shared_core
from .ir import half_precision_exclusions, read_proto

__all__ = ["HALF_LIMIT", "largest_activation"]

HALF_LIMIT = float(np.finfo(np.float16).max) / 2
"""Largest activation that is left to 16-bit floats: half of where they end, for other pictures."""


def largest_activation(
    graph: ModelProto, images: Iterable[Planes], *, whole: bool
) -> tuple[float, str]:
    """Measure the largest activation that would be computed in 16-bit floats.

    Parameters
    ----------
    graph : onnx.ModelProto
        A bundle's, with the signature.
    images : iterable of ndarray, f32 [1, C, H, W] in [0, 1]
    whole : bool
        The network runs on a thumbnail.

    Returns
    -------
    float, str
        Its magnitude, and the operation; NaN where there is one.

    Raises
    ------
    ConversionError
        When OpenVINO does not run the graph.
    """
    model = read_proto(graph)
    kept = re.compile(half_precision_exclusions(model, whole=whole))
    names, peaks = [], []
    for node in model.get_ordered_ops():
        name = node.get_friendly_name()
        if node.get_type_name() in ("Constant", "Parameter", "Result") or kept.fullmatch(name):
            continue
        for output in node.outputs():
            rank = output.get_partial_shape().rank
            if output.get_element_type() == openvino.Type.f32 and rank.is_static:
                axes = opset13.constant(np.arange(rank.get_length(), dtype=np.int64))
                peaks.append(opset13.result(opset13.reduce_max(opset13.absolute(output), axes)))
                names.append(name)
    model.add_results(peaks)
    try:
        compiled = shared_core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        fed = {"strength": np.ones((1, 1, 1, 1), np.float32)}
        runs = [list(compiled(fed | {"image": image}).values())[-len(names) :] for image in images]
    except RuntimeError as error:
        raise ConversionError(f"OpenVINO: {last_line(error)}") from error
    found = np.array(runs, np.float64).max(axis=0)
    largest = int(np.argmax(found))  # the first NaN, where there is one
    return float(found[largest]), names[largest].rpartition("/")[2]
