"""Operations that slide a window: convolutions, the transposed ones too, and pooling."""

from __future__ import annotations

from collections.abc import Sequence

from .step import GlobalContextError, Rule, Step, View

__all__ = ["WINDOWS"]


def _windowed(step: Step, kernel: Sequence[int], dilations: Sequence[int] | None) -> list[View]:
    """Follow a sliding window over the dimensions from the third on."""
    settings = step.attributes
    view: View = {}
    for dimension, axis in step.views[0].items():
        if dimension < 2:
            raise GlobalContextError("mixes positions")
        at = dimension - 2
        stride, pad = settings["strides"][at], settings["pads_begin"][at]
        spread = dilations[at] if dilations else 1
        taps = [tap * spread - pad for tap in range(kernel[at])]
        # The window has to fit once into the tensor and its padding.
        step.require(taps[-1] + 1 - settings["pads_end"][at], axis)

        def sources(element: int, stride: int = stride, taps: list[int] = taps) -> list[int]:
            return [element * stride + tap for tap in taps]

        px = axis.px_per_element * stride
        moved = -int((taps[0] + taps[-1]) / 2) * axis.px_per_element
        view[dimension] = axis.resampled(px, sources, moved, step.grown_px(dimension, axis, px))
    return [view]


def _convolution(step: Step) -> list[View]:
    if step.views[1]:
        raise GlobalContextError("has weights made from the picture")
    return _windowed(step, step.shape_in(1)[-(len(step.shape_in(0)) - 2) :], _dilations(step))


def _pool(step: Step) -> list[View]:
    views = _windowed(step, step.attributes["kernel"], _dilations(step))
    count: int = step.node.get_output_size()
    return views * count


def _dilations(step: Step) -> list[int] | None:
    dilations: list[int] | None = step.attributes.get("dilations")
    return dilations


def _transposed(step: Step) -> list[View]:
    if step.views[1]:
        raise GlobalContextError("has weights made from the picture")
    settings = step.attributes
    kernel = step.shape_in(1)[-(len(step.shape_in(0)) - 2) :]
    view: View = {}
    for dimension, axis in step.views[0].items():
        if dimension < 2:
            raise GlobalContextError("mixes positions")
        at = dimension - 2
        stride, pad = settings["strides"][at], settings["pads_begin"][at]
        taps = [tap * settings["dilations"][at] for tap in range(kernel[at])]

        def sources(
            element: int, stride: int = stride, pad: int = pad, taps: list[int] = taps
        ) -> list[int]:
            reached = [element + pad - tap for tap in taps]
            hits = [place // stride for place in reached if place % stride == 0]
            # Between the taps of a wide stride stand zeros, which see nothing.
            return hits or [element // stride]

        px = axis.px_per_element / stride
        moved = -int(pad - taps[-1] / 2) * px
        view[dimension] = axis.resampled(px, sources, moved, step.grown_px(dimension, axis, px))
    return [view]


WINDOWS: dict[str, Rule] = {
    **dict.fromkeys(("Convolution", "GroupConvolution"), _convolution),
    **dict.fromkeys(("ConvolutionBackpropData", "GroupConvolutionBackpropData"), _transposed),
    **dict.fromkeys(("MaxPool", "AvgPool"), _pool),
}
"""Their rules, by OpenVINO's name."""
