"""Rules of the receptive field: how each OpenVINO operation carries a view to its outputs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from .axis_view import AxisView, GlobalContextError, Rule, Step, View

__all__ = ["RULES"]


def _spatial(step: Step) -> Iterator[tuple[int, int, AxisView]]:
    """Yield dimension, place among the spatial dimensions, and view of each axis of the picture."""
    for dimension, axis in step.views[0].items():
        if dimension < 2:
            raise GlobalContextError("mixes positions")
        yield dimension, dimension - 2, axis


def _kernel(step: Step) -> list[int]:
    """Return the spatial sides of a layer's weights."""
    if step.views[1]:
        raise GlobalContextError("has weights made from the picture")
    return step.shape_in(1)[-(len(step.shape_in(0)) - 2) :]


def _windowed(step: Step, kernel: Sequence[int]) -> list[View]:
    """Follow a sliding window over the dimensions from the third on."""
    settings = step.attributes
    dilations = settings.get("dilations")
    view: View = {}
    for dimension, at, axis in _spatial(step):
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
    return _windowed(step, _kernel(step))


def _pool(step: Step) -> list[View]:
    count: int = step.node.get_output_size()
    return _windowed(step, step.attributes["kernel"]) * count


def _transposed(step: Step) -> list[View]:
    settings, kernel = step.attributes, _kernel(step)
    view: View = {}
    for dimension, at, axis in _spatial(step):
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


def _interpolate(step: Step) -> list[View]:
    settings = step.attributes
    view: View = {}
    for dimension, (small, large) in enumerate(step.shapes_out()):
        axis = step.views[0].get(dimension)
        if axis is None:
            continue
        before = step.shape_in(0)[dimension]
        if small * step.other.input_value(0).get_shape()[dimension] != large * before:
            if small == large:
                raise GlobalContextError("resizes to a fixed size")
            raise GlobalContextError("resizes by a factor that depends on the size of the frame")
        view[dimension] = _resized(axis, Fraction(small, before), settings)
    return [view]


def _resized(axis: AxisView, scale: Fraction, settings: dict[str, Any]) -> AxisView:
    if scale == 1:
        return axis
    mode, frame = settings["mode"], settings["coordinate_transformation_mode"]
    if frame == "align_corners":
        raise GlobalContextError("aligns corners, so it depends on the size of the frame")
    half = Fraction(1, 2)
    reach = {"nearest": 0, "cubic": 1}.get(mode.removesuffix("_pillow").removesuffix("_onnx"), 0)
    wide = max(Fraction(1), 1 / scale) if settings.get("antialias") or "pillow" in mode else None

    def sources(element: int) -> range:
        if frame == "asymmetric":
            place = element / scale
        elif frame == "tf_half_pixel_for_nn":
            place = (element + half) / scale
        else:
            place = (element + half) / scale - half
        if wide is not None:
            radius = wide * (reach + 1)
            return range(math.floor(place - radius), math.ceil(place + radius) + 1)
        if mode == "nearest":
            return _nearest(place, settings["nearest_mode"])
        return range(math.floor(place) - reach, math.ceil(place) + reach + 1)

    return axis.resampled(axis.px_per_element / scale, sources)


def _nearest(place: Fraction, rounding: str) -> range:
    half = Fraction(1, 2)
    chosen = {
        "floor": math.floor(place),
        "ceil": math.ceil(place),
        "simple": math.floor(place),
        "round_prefer_floor": math.ceil(place - half),
        "round_prefer_ceil": math.floor(place + half),
    }.get(rounding)
    if chosen is None:
        return range(math.floor(place), math.ceil(place) + 1)
    return range(chosen, chosen + 1)


def _depth_to_space(step: Step) -> list[View]:
    block = step.attributes["block_size"]
    return [{d: _spread(axis, block) for d, axis in step.views[0].items()}]


def _space_to_depth(step: Step) -> list[View]:
    block = step.attributes["block_size"]
    return [{d: _gathered(axis, block) for d, axis in step.views[0].items()}]


def _spread(axis: AxisView, factor: int) -> AxisView:
    return axis.resampled(axis.px_per_element / factor, lambda element: [element // factor])


def _gathered(axis: AxisView, factor: int) -> AxisView:
    return axis.resampled(
        axis.px_per_element * factor,
        lambda element: range(element * factor, (element + 1) * factor),
    )


def _reshape(step: Step) -> list[View]:
    """Follow splits and merges: pixel shuffles written out, channel groups, added ones."""
    before, after = step.shape_in(0), step.shape_out()
    if not step.views[0]:
        return [{}]
    growing = [small != large for small, large in step.shapes_out()]
    view: View = {}
    for sources, targets in _groups(before, after):
        axes = [d for d in sources if d in step.views[0]]
        if not axes:
            continue
        wide = [d for d in sources if before[d] > 1]
        fresh = [d for d in targets if after[d] > 1]
        # The axis has to stand before what it is merged with or split into; anything else
        # lays positions out in an order that is no picture.
        if len(axes) > 1 or wide[:1] != axes or [d for d in fresh if growing[d]] != fresh[:1]:
            raise GlobalContextError("flattens positions")
        axis = _spread(step.views[0][axes[0]], math.prod(before[d] for d in wide[1:]))
        view[fresh[0]] = _gathered(axis, math.prod(after[d] for d in fresh[1:]))
    return [view]


def _groups(before: Sequence[int], after: Sequence[int]) -> Iterable[tuple[list[int], list[int]]]:
    """Pair the smallest runs of dimensions that hold the same elements."""
    i = j = 0
    while i < len(before) or j < len(after):
        sources: list[int] = []
        targets: list[int] = []
        held, made = 1, 1
        while not (held == made and (sources or targets)):
            if (held <= made and i < len(before)) or j >= len(after):
                held *= before[i]
                sources.append(i)
                i += 1
            else:
                made *= after[j]
                targets.append(j)
                j += 1
        # A dimension of 1 closes its group at once, so an axis never ends up in one.
        yield sources, targets


def _transpose(step: Step) -> list[View]:
    order = [int(d) for d in step.constant(1)]
    return [{order.index(d): axis for d, axis in step.views[0].items()}]


def _split(step: Step) -> list[View]:
    along = int(step.constant(1).item()) % len(step.shape_in(0))
    if along in step.views[0]:
        raise GlobalContextError("cuts the picture apart")
    return [dict(step.views[0]) for _ in range(step.node.get_output_size())]


def _pad(step: Step) -> list[View]:
    begins, ends = step.constant(1), step.constant(2)
    reflects = step.attributes["pad_mode"].lower() in ("reflect", "symmetric")
    view: View = {}
    for dimension, axis in step.views[0].items():
        pad = int(begins[dimension])
        if reflects:
            step.require(max(pad, int(ends[dimension])) + 1, axis)

        def sources(element: int, pad: int = pad) -> list[int]:
            return [element - pad]

        px = axis.px_per_element
        grown = step.grown_px(dimension, axis, px)
        view[dimension] = axis.resampled(px, sources, pad * px, grown)
    return [view]


def _slice(step: Step) -> list[View]:
    starts, steps = np.atleast_1d(step.constant(1)), np.atleast_1d(step.constant(3))
    rank = len(step.shape_in(0))
    named = step.constant(4) if len(step.views) > 4 else np.arange(len(starts))
    cuts = {int(d) % rank: (int(a), int(b)) for d, a, b in zip(named, starts, steps, strict=True)}
    return [_cut(step, cuts)]


def _strided_slice(step: Step) -> list[View]:
    settings = step.attributes
    if any(any(settings[mask]) for mask in ("new_axis_mask", "ellipsis_mask", "shrink_axis_mask")):
        raise GlobalContextError("cuts the picture apart")
    starts = step.constant(1)
    steps = step.constant(3) if len(step.views) > 3 else np.ones_like(starts)
    free = settings["begin_mask"]
    cuts = {
        d: (0 if d < len(free) and free[d] else int(starts[d]), int(steps[d]))
        for d in range(len(starts))
    }
    return [_cut(step, cuts)]


def _cut(step: Step, cuts: dict[int, tuple[int, int]]) -> View:
    view: View = {}
    for dimension, axis in step.views[0].items():
        start, stride = cuts.get(dimension, (0, 1))
        if start < 0 or stride < 1:
            raise GlobalContextError("counts from the far border")

        def sources(element: int, start: int = start, stride: int = stride) -> list[int]:
            return [start + element * stride]

        px = axis.px_per_element * stride
        moved = -start * axis.px_per_element if stride == 1 else 0
        view[dimension] = axis.resampled(px, sources, moved, step.grown_px(dimension, axis, px))
    return view


def _gather(step: Step) -> list[View]:
    along = int(step.constant(2).item()) % len(step.shape_in(0))
    chosen = step.constant(1)
    if along in step.views[0] or chosen.ndim > 1:
        raise GlobalContextError("picks positions")
    kept = dict(step.views[0])
    if chosen.ndim == 1:
        return [kept]
    return [{d - (d > along): axis for d, axis in kept.items()}]


def _tile(step: Step) -> list[View]:
    repeats = list(step.constant(1))
    shift = len(step.shape_out()) - len(step.shape_in(0))
    view = {d + shift: axis for d, axis in step.views[0].items()}
    if any(repeats[d - len(step.shape_out())] != 1 for d in view):
        raise GlobalContextError("repeats the picture")
    return [view]


def _broadcast(step: Step) -> list[View]:
    shift = len(step.shape_out()) - len(step.shape_in(0))
    if step.attributes.get("mode") == "explicit":
        raise GlobalContextError("is not known to keep positions apart")
    return [{d + shift: axis for d, axis in step.views[0].items()}]


def _elementwise(step: Step) -> list[View]:
    rank = len(step.shape_out())
    merged: View = {}
    for index, view in enumerate(step.views):
        if not view:
            _check_constant(step, index)
        for dimension, axis in view.items():
            place = dimension + rank - len(step.shape_in(index))
            merged[place] = merged[place].united(axis) if place in merged else axis
    return [merged]


def _check_constant(step: Step, index: int) -> None:
    """Refuse operands whose values depend on the frame's size, such as position grids."""
    source = step.node.input_value(index).get_node()
    if source.get_type_name() == "Constant":
        first = source.get_data()
        second = step.other.input_value(index).get_node().get_data()
        if first.shape == second.shape:
            same = np.array_equal(first, second)
        else:
            same = first.min() == first.max() == second.min() == second.max()
        if not same:
            raise GlobalContextError("uses values that depend on the position in the frame")


def _concat(step: Step) -> list[View]:
    along = step.attributes["axis"] % len(step.shape_out())
    if any(along in view for view in step.views):
        raise GlobalContextError("joins pictures side by side")
    return _elementwise(step)


def _reduce(step: Step) -> list[View]:
    rank = len(step.shape_in(0))
    reduced = {int(d) % rank for d in np.atleast_1d(step.constant(1))}
    if reduced & step.views[0].keys():
        raise GlobalContextError("looks at the whole picture")
    if step.attributes.get("keep_dims"):
        return [dict(step.views[0])]
    return [{d - sum(r < d for r in reduced): axis for d, axis in step.views[0].items()}]


def _normalise(step: Step) -> list[View]:
    """Follow operations that work along the axes their second input names."""
    rank = len(step.shape_in(0))
    if {int(d) % rank for d in np.atleast_1d(step.constant(1))} & step.views[0].keys():
        raise GlobalContextError("looks at the whole picture")
    return [dict(step.views[0])]


def _softmax(step: Step) -> list[View]:
    if step.attributes["axis"] % len(step.shape_in(0)) in step.views[0]:
        raise GlobalContextError("attends across positions")
    return [dict(step.views[0])]


def _matmul(step: Step) -> list[View]:
    left, right = step.views
    settings = step.attributes
    for view, index, flipped in ((left, 0, "transpose_a"), (right, 1, "transpose_b")):
        rank = len(step.shape_in(index))
        contracted = (rank - 1 if index == 0 else rank - 2) if rank > 1 else 0
        if settings[flipped] and rank > 1:
            contracted = 2 * rank - 3 - contracted
        if contracted in view:
            raise GlobalContextError("attends across positions")
    if (left and right) or right or settings["transpose_a"]:
        raise GlobalContextError("combines positions")
    _check_constant(step, 1)
    shift = len(step.shape_out()) - len(step.shape_in(0))
    return [{d + shift: axis for d, axis in left.items()}]


_POINTWISE = (
    "Abs Add BatchNormInference Ceiling Clamp Convert ConvertLike Cos Divide Elu Equal Erf Exp"
    " FakeConvert FakeQuantize Floor FloorMod Gelu Greater GreaterEqual HSigmoid HSwish"
    " HardSigmoid Identity IsNaN Less LessEqual Log LogicalAnd LogicalNot LogicalOr Maximum"
    " Minimum Mish Mod Multiply Negative NotEqual PRelu Power Relu Round Select Selu Sigmoid"
    " Sign Sin SoftPlus SoftSign Sqrt SquaredDifference Subtract Swish Tan Tanh"
)

RULES: dict[str, Rule] = {
    **dict.fromkeys(_POINTWISE.split(), _elementwise),
    **dict.fromkeys(("Convolution", "GroupConvolution"), _convolution),
    **dict.fromkeys(("ConvolutionBackpropData", "GroupConvolutionBackpropData"), _transposed),
    **dict.fromkeys(("MaxPool", "AvgPool"), _pool),
    "Interpolate": _interpolate,
    **dict.fromkeys(("Reshape", "Squeeze", "Unsqueeze"), _reshape),
    **dict.fromkeys(("Split", "VariadicSplit"), _split),
    "Broadcast": _broadcast,
    "DepthToSpace": _depth_to_space,
    "Gather": _gather,
    "Pad": _pad,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "StridedSlice": _strided_slice,
    "Tile": _tile,
    "Transpose": _transpose,
    **dict.fromkeys(
        ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceL1", "ReduceL2"), _reduce
    ),
    **dict.fromkeys(("MVN", "NormalizeL2"), _normalise),
    **dict.fromkeys(("Softmax", "LogSoftmax"), _softmax),
    "Concat": _concat,
    "MatMul": _matmul,
}
"""The operations that are understood, by OpenVINO's name."""
