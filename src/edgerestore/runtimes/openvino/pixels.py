"""Pixel conversion inside an OpenVINO graph, so that bytes go in and bytes come out."""

from __future__ import annotations

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from ...bundle.manifest import Manifest
from ...imaging.arrays import ChannelOrder, Depth
from ..protocol import QueueSpec
from .precise import kept_in_f32

__all__ = ["attach_pixels"]

_TO_PLANES, _TO_ROWS = np.array([0, 3, 1, 2]), np.array([0, 2, 3, 1])
_SWAPPED = np.array([2, 1, 0])
_ELEMENT_TYPES = {Depth.U8: ov.Type.u8, Depth.U16: ov.Type.u16, Depth.F32: ov.Type.f32}


def attach_pixels(model: ov.Model, spec: QueueSpec, manifest: Manifest) -> ov.Model:
    """Fix a graph's shape and put the conversion from and to bytes inside it.

    Parameters
    ----------
    model : openvino.Model
        With the inputs and outputs of a bundle's graph; changed in place.
    spec : QueueSpec
    manifest : Manifest

    Returns
    -------
    openvino.Model
        Inputs ``image`` [1, H, W, C] of ``spec.depth``, ``strength`` [1, 1, H', W'] f32 and,
        where the spec says so, ``tone`` [1, 2, C'] f32; output ``restored`` [1, H', W', C'].
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
    channels = manifest.input.channels
    swap = spec.order is ChannelOrder.BGR and channels == 3
    former = _parameter(model, "image")
    # The network and the blend share the levels. If the network had its own, the compiler
    # would fold the division into the first weights of some shapes and not of others, and
    # tiles would no longer equal the whole.
    entry, levels, planes = _entrance(spec, channels, swap=swap, enlarged=upscale > 1)
    restored = _blended_in_rows(model, former, levels)
    for target in former.output(0).get_target_inputs():
        target.replace_source_output(planes)
    if restored is None:
        restored = ops.transpose(model.output(0).node.input_value(0), _TO_ROWS).output(0)
    if swap and manifest.output.channels == 3:
        restored = ops.gather(restored, _SWAPPED, np.array(3)).output(0)
    inputs = [entry, _parameter(model, "strength")]
    if spec.toned:
        tone = ops.parameter([1, 2, manifest.output.channels], np.float32, name="tone")
        tone.output(0).set_names({"tone"})
        inputs.append(tone)
        restored = _toned(restored, tone)
    depth = spec.output_depth or spec.depth
    if depth.peak != 1.0:
        scaled = ops.multiply(restored, np.float32(depth.peak))
        whole = ops.round(scaled, "half_to_even")
        restored = ops.convert(whole, _ELEMENT_TYPES[depth].get_type_name()).output(0)
    result = ops.result(restored)
    result.output(0).set_names({"restored"})
    return ov.Model([result], inputs, manifest.name)


def _toned(restored: ov.Output, tone: ov.Node) -> ov.Output:
    """Apply gain and offset to interleaved pixels."""
    gain, offset = ops.split(tone, np.array(1), 2).outputs()  # [1, 1, C'], against [1, H, W, C']
    return ops.clamp(ops.add(ops.multiply(restored, gain), offset), 0.0, 1.0).output(0)


def _parameter(model: ov.Model, name: str) -> ov.Node:
    return model.input(name).get_node()


def _entrance(
    spec: QueueSpec, channels: int, *, swap: bool, enlarged: bool
) -> tuple[ov.Node, ov.Output, ov.Output]:
    """Return the host's image, its levels as f32 in [0, 1], and those as planes."""
    entry = ops.parameter([1, spec.height, spec.width, channels], _ELEMENT_TYPES[spec.depth])
    entry.set_friendly_name("image")
    entry.output(0).set_names({"image"})
    levels = _levels(entry, spec.depth, swap)
    planes = ops.transpose(levels, _TO_PLANES).output(0)
    if enlarged:
        # What reaches the blend at the end directly is never computed in halves. Where the
        # base is made of the image first, that has to be said.
        parts = ov.Model([ops.result(levels), ops.result(planes)], [entry], "entrance")
        for place, node in enumerate(parts.get_ordered_ops()):
            if node.get_type_name() not in ("Parameter", "Result"):
                node.set_friendly_name(f"entrance/{place}")
        parts = kept_in_f32(parts, r"entrance/\d+")
        entry = _parameter(parts, "image")
        levels, planes = (parts.output(i).get_node().input_value(0) for i in (0, 1))
    return entry, levels, planes


def _levels(image: ov.Node, depth: Depth, swap: bool) -> ov.Output:
    """Return interleaved pixels as f32 in [0, 1], RGB."""
    numbers = image
    if depth is not Depth.F32:
        # In an INT8 graph the compiler takes a conversion and a scale for quantized data and
        # pushes them through the network, at some shapes as 16-bit data that it then cannot
        # run. It stops at an absolute value, which changes nothing here and costs nothing.
        numbers = ops.abs(ops.convert(image, "f32"))
    if swap:
        numbers = ops.gather(numbers, _SWAPPED, np.array(3))
    if depth.peak != 1.0:
        numbers = ops.divide(numbers, np.float32(depth.peak))
    return numbers.output(0)


def _blended_in_rows(model: ov.Model, image: ov.Node, levels: ov.Output) -> ov.Output | None:
    """Rebuild the blend of the graph's signature on interleaved pixels.

    The blend is the one part that touches every output pixel in float. On pixels that lie as
    the host's do, it goes from bytes to bytes in a single pass; on planes three more passes
    over floats go by, a tenth of the default model's time. The numbers are the same ones in
    the same order.
    """
    nodes = {node.get_friendly_name(): node for node in model.get_ordered_ops()}
    blended, scaled = nodes.get("face/blended"), nodes.get("face/scaled")
    if blended is None or scaled is None:
        return None
    planes = blended.input_value(0)
    base = levels if planes.get_node() == image else _interleaved(planes)
    net = scaled.input_value(0)
    if net.get_node() == nodes.get("face/change"):
        change = ops.subtract(_interleaved(net.get_node().input_value(0)), base)
    else:
        change = _interleaved(net)
    strength = ops.transpose(scaled.input_value(1), _TO_ROWS)
    return ops.clamp(ops.add(base, ops.multiply(change, strength)), 0.0, 1.0).output(0)


def _interleaved(planes: ov.Output) -> ov.Output:
    """Return planes as interleaved pixels, a pixel shuffle at their end done on the way.

    The convolution before the shuffle leaves interleaved features. Brought to planes,
    shuffled there, and interleaved again, a small network's last picture is moved three
    times, at INT8 for a fifth of the whole time; here it is moved once.
    """
    node = planes.get_node()
    if node.get_friendly_name() == "face/cropped" and node.input_value(0).shape == planes.shape:
        return _interleaved(node.input_value(0))  # the crop of a frame that was not padded
    if node.get_friendly_name() == "face/from_range":
        scaled = node.input_value(1).get_node()
        return ops.divide(_interleaved(node.input_value(0)), scaled).output(0)
    if node.get_type_name() != "DepthToSpace":
        return ops.transpose(planes, _TO_ROWS).output(0)
    block = node.get_attributes()["block_size"]
    features = ops.transpose(node.input_value(0), _TO_ROWS)
    _, height, width, deep = features.shape
    channels = deep // block**2
    if node.get_attributes()["mode"] == "depth_first":
        parts, order = [height, width, channels, block, block], [0, 3, 1, 4, 2]
    else:
        parts, order = [height, width, block, block, channels], [0, 2, 1, 3, 4]
    moved = ops.transpose(ops.reshape(features, np.array(parts), False), np.array(order))
    size = np.array([1, height * block, width * block, channels])
    return ops.reshape(moved, size, False).output(0)
