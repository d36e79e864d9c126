"""Signature of every bundle's graph: ``image`` and ``strength`` in, ``restored`` out.

Around a core graph of any origin stand padding, value range, colour order, crop and the
strength blend, so that a host in any language runs the model with a runtime alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, compose, helper, numpy_helper

from ...bundle.kinds import OutputKind
from ...errors import ConversionError
from ...imaging.arrays import round_up
from .resizes import resize_taps

__all__ = ["BASE_REACH_PX", "KEPT_IN_F32", "Signature", "attach_signature"]

PREFIX = "face/"

BASE_REACH_PX = 2
"""How far the enlarged base looks."""

KEPT_IN_F32 = r"face/base(_padded|_rows|_columns)?"
"""The names of the signature's operations that stay in f32 at half precision."""
CORE_PREFIX = "core/"


@dataclass(frozen=True)
class Signature:
    """Pixel format, padding, scale and blend around a core graph.

    Parameters
    ----------
    channels, out_channels : int
        Of the image and of what comes out.
    color : str
        Order the core wants its channels in: ``rgb``, ``bgr`` or ``gray``.
    black, value_range : float
        What black and white are to the core: 0 and 1, 0 and 255, or -1 and 1.
    multiple_of, minimum_px : int
        What the core wants of the image's sides; the rest is padded by repeating the edge.
    upscale : int
        Output pixels per input pixel and side.
    residual : bool
        The core returns what is to be added to the base rather than the restored image.
    kind : OutputKind
        A mask has no base to blend with: strength scales it.
    """

    channels: int
    out_channels: int
    color: str = "rgb"
    black: float = 0.0
    value_range: float = 1.0
    multiple_of: int = 1
    minimum_px: int = 1
    upscale: int = 1
    residual: bool = False
    kind: OutputKind = OutputKind.IMAGE

    @property
    def span(self) -> float:
        """From black to white, in the core's numbers."""
        return self.value_range - self.black


class _Builder:
    """Builder of nodes and constants under the signature's prefix."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def constant(self, name: str, values: object, dtype: type[np.generic]) -> str:
        array = np.asarray(values, dtype)
        self.constants.append(numpy_helper.from_array(array, PREFIX + name))
        return PREFIX + name

    def integers(self, name: str, *values: int) -> str:
        return self.constant(name, values, np.int64)

    def scalar(self, name: str, value: float) -> str:
        return self.constant(name, value, np.float32)

    def node(self, kind: str, name: str, *inputs: str, **attributes: Any) -> str:
        made = helper.make_node(
            kind, list(inputs), [PREFIX + name], name=PREFIX + name, **attributes
        )
        self.nodes.append(made)
        return PREFIX + name


def attach_signature(core: ModelProto, signature: Signature) -> ModelProto:
    """Put the signature around a core graph.

    Parameters
    ----------
    core : onnx.ModelProto
        One f32 input ``[1, C, H, W]`` and one f32 output ``[1, C', H*upscale, W*upscale]``.
    signature : Signature

    Returns
    -------
    onnx.ModelProto
        Inputs ``image`` f32 ``[1, C, H, W]`` in [0, 1] and ``strength`` f32, broadcastable to
        ``[1, 1, H*upscale, W*upscale]``; output ``restored`` f32
        ``[1, C', H*upscale, W*upscale]`` in [0, 1], clamped.

    Raises
    ------
    ConversionError
        When the result is not a valid graph.
    """
    inner = compose.add_prefix(core, CORE_PREFIX)
    weights = {initializer.name for initializer in inner.graph.initializer}
    (entry,) = [value.name for value in inner.graph.input if value.name not in weights]
    (leaving,) = [value.name for value in inner.graph.output]

    before, after = _Builder(), _Builder()
    size = before.node("Shape", "shape", "image")
    size = before.node("Slice", "size", size, before.integers("two", 2), before.integers("four", 4))
    fed = _feed(before, signature, size)
    for node in inner.graph.node:
        node.input[:] = [fed if name == entry else name for name in node.input]
    net = _unfeed(after, signature, leaving, size)
    _blend(after, signature, net)

    up = signature.upscale
    graph = helper.make_graph(
        [*before.nodes, *inner.graph.node, *after.nodes],
        "edgerestore",
        [
            _value("image", signature.channels, "height", "width"),
            _value("strength", 1, "strength_height", "strength_width"),
        ],
        [_value("restored", signature.out_channels, *(_scaled(side, up) for side in _SIDES))],
        [*inner.graph.initializer, *before.constants, *after.constants],
    )
    graph.sparse_initializer.extend(inner.graph.sparse_initializer)
    model = helper.make_model(
        graph,
        opset_imports=list(inner.opset_import),
        ir_version=inner.ir_version,
        functions=list(inner.functions),
        producer_name="edgerestore",
    )
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise ConversionError(f"the finished graph is not valid ONNX: {error}") from error
    return model


_SIDES = ("height", "width")


def _scaled(side: str, upscale: int) -> str:
    return side if upscale == 1 else f"{upscale}*{side}"


def _value(name: str, channels: int, height: str, width: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, height, width])


def _pads(signature: Signature) -> bool:
    return signature.multiple_of > 1 or signature.minimum_px > 1


def _feed(at: _Builder, signature: Signature, size: str) -> str:
    """Convert the host's image to the core's range, order and sides."""
    image = "image"
    if _pads(signature):
        multiple = at.integers("multiple", signature.multiple_of)
        raised = at.node("Add", "raised", size, at.integers("raise", signature.multiple_of - 1))
        steps = at.node("Div", "steps", raised, multiple)
        wanted = at.node("Mul", "wanted", steps, multiple)
        least = round_up(signature.minimum_px, signature.multiple_of)
        wanted = at.node("Max", "padded_size", wanted, at.integers("least", least))
        extra = at.node("Sub", "extra", wanted, size)
        pads = at.node("Concat", "pads", at.integers("none", *[0] * 6), extra, axis=0)
        image = at.node("Pad", "padded", image, pads, mode="edge")
    if signature.color == "bgr":
        image = at.node("Gather", "to_bgr", image, at.integers("swapped", 2, 1, 0), axis=1)
    if signature.span != 1:
        image = at.node("Mul", "to_range", image, at.scalar("range", signature.span))
    if signature.black:
        image = at.node("Add", "from_black", image, at.scalar("black_in", signature.black))
    return image


def _unfeed(at: _Builder, signature: Signature, net: str, size: str) -> str:
    """Convert the core's output to [0, 1], RGB and the size of the host's image."""
    if signature.kind.traits.blended:
        if signature.black and not signature.residual:
            net = at.node("Sub", "to_black", net, at.scalar("black_out", signature.black))
        if signature.span != 1:
            net = at.node("Div", "from_range", net, at.scalar("white", signature.span))
    if signature.color == "bgr" and signature.out_channels == 3:
        net = at.node("Gather", "to_rgb", net, at.integers("swapped_back", 2, 1, 0), axis=1)
    if _pads(signature):
        end = size
        if signature.upscale > 1:
            end = at.node("Mul", "crop_end", size, at.integers("upscale", signature.upscale))
        start, axes = at.integers("crop_start", 0, 0), at.integers("crop_axes", 2, 3)
        net = at.node("Slice", "cropped", net, start, end, axes)
    return net


def _blend(at: _Builder, signature: Signature, net: str) -> None:
    """Write ``restored = clamp(base + strength * (net - base))``."""
    if signature.kind.traits.blended:
        base = _base(at, signature)
        change = net if signature.residual else at.node("Sub", "change", net, base)
        scaled = at.node("Mul", "scaled", change, "strength")
        blended = at.node("Add", "blended", base, scaled)
    else:
        blended = at.node("Mul", "scaled", net, "strength")
    at.nodes.append(
        helper.make_node(
            "Clip",
            [blended, at.scalar("black", 0.0), at.scalar("one", 1.0)],
            ["restored"],
            name=PREFIX + "restored",
        )
    )


def _base(at: _Builder, signature: Signature) -> str:
    """Return the image, enlarged bicubically where the model enlarges.

    The kernel is that of PyTorch and OpenCV (a = -0.75, half-pixel centres). Enlarging by a
    whole number looks at the same few taps for every pixel, so it is two small convolutions
    and a pixel shuffle. Runtimes have kernels for those; the general resize took as long as
    a third of a whole super-resolution network.
    """
    if signature.upscale == 1:
        return "image"
    up, channels = signature.upscale, signature.channels
    taps, reach = resize_taps("cubic", Fraction(up))
    pads = at.integers("base_pads", 0, 0, reach, reach, 0, 0, reach, reach)
    image = at.node("Pad", "base_padded", "image", pads, mode="edge")
    tall = np.tile(taps[:, None, :, None], (channels, 1, 1, 1))
    wide = np.tile(taps[:, None, None, :], (channels * up, 1, 1, 1))
    image = at.node(
        "Conv", "base_rows", image, at.constant("base_tall", tall, np.float32), group=channels
    )
    image = at.node(
        "Conv",
        "base_columns",
        image,
        at.constant("base_wide", wide, np.float32),
        group=channels * up,
    )
    return at.node("DepthToSpace", "base", image, blocksize=up, mode="CRD")
