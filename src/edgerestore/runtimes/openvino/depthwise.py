"""Depthwise convolutions kept apart from the 1x1 convolution before them.

On CPUs of AVX2 alone OpenVINO (2026.4) computes a 1x1 convolution and the depthwise 3x3 behind it
as one kernel where their tensors exceed half of the last cache. That kernel adds in another order,
so a large frame would differ from its tiles. It is only done to depthwise convolutions that have a
bias. An activation that changes nothing, put before the bias, hides it from the compiler; both
are still computed while the outcome is in registers.
"""

from __future__ import annotations

import numpy as np
import openvino as ov
from openvino import opset13 as ops

__all__ = ["keep_depthwise_apart"]

_UNCHANGED = np.ones(1, np.float32)


def keep_depthwise_apart(model: ov.Model) -> None:
    """Keep what OpenVINO would fuse by the size of a tensor; quantized layers are left alone.

    Parameters
    ----------
    model : openvino.Model
        Changed in place.
    """
    for node in model.get_ordered_ops():
        if not _is_depthwise(node) or _is_quantized(node):
            continue
        targets = list(node.output(0).get_target_inputs())
        if any(target.get_node().get_type_name() == "Add" for target in targets):
            same = ops.prelu(node.output(0), _UNCHANGED)
            same.set_friendly_name(f"{node.get_friendly_name()}/apart")
            for target in targets:
                target.replace_source_output(same.output(0))


def _is_depthwise(node: ov.Node) -> bool:
    if node.get_type_name() != "GroupConvolution":
        return False
    shape = node.input_value(1).get_partial_shape()
    return shape.is_static and list(shape.to_shape())[1:] == [1, 1, 3, 3]


def _is_quantized(node: ov.Node) -> bool:
    kind: str = node.input_value(0).get_node().get_type_name()
    return kind == "FakeQuantize"
