"""Bytes in, bytes out: the conversion from and to pixels, inside an OpenVINO graph."""

from __future__ import annotations

import numpy as np
import openvino as ov
from openvino import opset13 as ops
from openvino.preprocess import PrePostProcessor

from ...manifest import Manifest
from ...pixels import ChannelOrder, Depth
from ..protocol import QueueSpec

__all__ = ["attach_pixels"]

_ELEMENT_TYPES = {Depth.U8: ov.Type.u8, Depth.U16: ov.Type.u16, Depth.F32: ov.Type.f32}


def attach_pixels(model: ov.Model, spec: QueueSpec, manifest: Manifest) -> ov.Model:
    """Fix a graph's shape and put the conversion from and to bytes inside it.

    Parameters
    ----------
    model : openvino.Model
        With the bundle's face; changed in place.
    spec : QueueSpec
    manifest : Manifest

    Returns
    -------
    openvino.Model
        Inputs ``image`` [1, H, W, C] of ``spec.depth`` and ``strength`` [1, 1, H', W'] f32;
        output ``restored`` [1, H', W', C'].
    """
    upscale = manifest.output.upscale
    model.reshape(
        {
            "image": [1, manifest.input.channels, spec.height, spec.width],
            # A full-size map always: measured no slower than one number, and a stream may
            # change from a number to a map without a second compiled model.
            "strength": [1, 1, spec.height * upscale, spec.width * upscale],
        }
    )
    swap = spec.order is ChannelOrder.BGR
    process = PrePostProcessor(model)
    image = process.input("image")
    image.tensor().set_element_type(_ELEMENT_TYPES[spec.depth]).set_layout(ov.Layout("NHWC"))
    image.model().set_layout(ov.Layout("NCHW"))
    # The layout first: bytes are a quarter of the traffic of floats.
    steps = image.preprocess().convert_layout(ov.Layout("NCHW")).convert_element_type(ov.Type.f32)
    if swap:
        steps.reverse_channels()
    if spec.depth.peak != 1.0:
        steps.scale(spec.depth.peak)
    model = process.build()
    restored = model.output(0).node.input_value(0)
    if swap and manifest.output.channels == 3:
        restored = ops.gather(restored, np.array([2, 1, 0]), np.array(1)).output(0)
    depth = spec.output_depth or spec.depth
    if depth.peak != 1.0:
        scaled = ops.multiply(restored, np.float32(depth.peak))
        whole = ops.round(scaled, "half_to_even")
        restored = ops.convert(whole, _ELEMENT_TYPES[depth].get_type_name()).output(0)
    result = ops.result(ops.transpose(restored, np.array([0, 2, 3, 1])))
    result.output(0).set_names({"restored"})
    return ov.Model([result], model.get_parameters(), manifest.name)
