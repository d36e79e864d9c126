"""Operations that hand numbers on as they are, to other places or in other shapes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from .axis import AxisView
from .step import GlobalContextError, Rule, Step, View

__all__ = ["MOVERS"]


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


MOVERS: dict[str, Rule] = {
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
}
"""Their rules, by OpenVINO's name."""
