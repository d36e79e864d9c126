"""Halo and grid of a network, read off its graph.

The graph is looked at twice, at two sizes of input. Whatever differs between the two is
spatial: a dimension that grows is an axis of the picture, and a constant that changes
depends on the frame's size, which no tile can reproduce. From the input on, each tensor's
view of the picture is followed through the operations. Where an operation mixes all
positions, or is not understood, the network is `windowed` and the reason names it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import openvino
from openvino import passes

from ...bundle.manifest import TilingMode
from .axis_view import AxisView, GlobalContextError, Step, View
from .receptive_rules import RULES

__all__ = ["ReceptiveField", "at_two_sizes", "find_receptive_field"]


# Multiples of every stride and window in use, growing by different factors, so that the
# two axes are told apart.
_SIZES = ((192, 384), (384, 576))


@dataclass
class ReceptiveField:
    """Halo, grid and smallest side of a network.

    Parameters
    ----------
    mode : TilingMode
        ``exact`` where every output depends on a bounded part of the input.
    halo_px : int
        Input pixels around an output whose absence could change it; 0 when windowed.
    multiple_of : int
        Grid in input pixels on which the network repeats itself.
    minimum_px : int
        Smallest side that the graph runs at.
    reason : str
        Where the halo comes from, or the operations that need the whole picture.
    """

    mode: TilingMode
    halo_px: int
    multiple_of: int
    minimum_px: int
    reason: str


@dataclass
class _Walk:
    multiple: int = 1
    minimum_px: int = 1
    reasons: list[str] = field(default_factory=list)
    views: dict[tuple[str, int], View] = field(default_factory=dict)


def find_receptive_field(model: openvino.Model) -> ReceptiveField:
    """Read halo, grid and smallest size off a graph.

    Parameters
    ----------
    model : openvino.Model
        A core graph: one image ``[1, C, H, W]`` in with dynamic H and W, one tensor out.

    Returns
    -------
    ReceptiveField
    """
    try:
        pairs = at_two_sizes(model)
    except RuntimeError:
        return ReceptiveField(
            TilingMode.WINDOWED, 0, 1, 1, "the graph does not take sides that are multiples of 192"
        )
    if any(out.partial_shape.is_dynamic for node, _ in pairs for out in node.outputs()):
        reason = "a shape inside the network depends on the picture"
        return ReceptiveField(TilingMode.WINDOWED, 0, 1, 1, reason)
    walk, final = _Walk(multiple=_own_multiple(model, pairs)), View()
    for node, other in pairs:
        kind = node.get_type_name()
        if kind == "Parameter":
            walk.views[node.get_friendly_name(), 0] = dict.fromkeys((2, 3), AxisView.identity())
        elif kind == "Result":
            final = _view(walk, node.input_value(0))
        elif kind != "Constant":
            _follow(walk, node, other)
    return _conclude(walk, final)


def _own_multiple(
    model: openvino.Model, pairs: Sequence[tuple[openvino.Node, openvino.Node]]
) -> int:
    """Return the multiple that a network pads its image to by itself; 1 where it pads to none.

    At multiples of it the padding is nothing, so the two sizes do not show it. At a size that is
    larger by one it is one less than the multiple.
    """
    if all(node.get_type_name() != "Pad" for node, _ in pairs):
        return 1
    try:
        odd = _at_size(model, *(side + 1 for side in _SIZES[0]))
    except RuntimeError:
        return 1  # it does not take such sides, so it pads to nothing
    padded = {n.get_friendly_name(): n for n in odd.get_ordered_ops() if n.get_type_name() == "Pad"}
    multiple = 1
    for node, _ in pairs:
        if other := padded.get(node.get_friendly_name()):
            grown = [
                [made - had for had, made in zip(*shapes, strict=True)][2:]
                for shapes in (_sides(node), _sides(other))
            ]
            more = {late - early for early, late in zip(*grown, strict=True)}
            if len(more) == 1 and min(more) > 0:
                multiple = math.lcm(multiple, more.pop() + 1)
    return multiple


def _sides(node: openvino.Node) -> tuple[list[int], list[int]]:
    return list(node.input_value(0).get_shape()), list(node.output(0).get_shape())


def at_two_sizes(model: openvino.Model) -> list[tuple[openvino.Node, openvino.Node]]:
    """Return the operations of a graph in order, each at two sizes of the input.

    Raises
    ------
    RuntimeError
        When it does not take them.
    """
    small, large = (_at_size(model, *size) for size in _SIZES)
    return list(zip(small.get_ordered_ops(), large.get_ordered_ops(), strict=True))


def _at_size(model: openvino.Model, height: int, width: int) -> openvino.Model:
    fixed = model.clone()
    channels = fixed.input(0).partial_shape[1].get_length()
    fixed.reshape([1, channels, height, width])
    manager = passes.Manager()
    # Sizes computed inside the graph become constants that can be read.
    manager.register_pass(passes.ConstantFolding())
    manager.run_passes(fixed)
    return fixed


def _view(walk: _Walk, output: openvino.Output) -> View:
    return walk.views.get((output.get_node().get_friendly_name(), output.get_index()), {})


def _touched(walk: _Walk, output: openvino.Output) -> bool:
    return (output.get_node().get_friendly_name(), output.get_index()) in walk.views


def _follow(walk: _Walk, node: openvino.Node, other: openvino.Node) -> None:
    inputs = node.input_values()
    if not any(_touched(walk, value) for value in inputs):
        return
    kind = node.get_type_name()
    step = Step(node, other, [_view(walk, value) for value in inputs])
    try:
        rule = RULES.get(kind)
        if rule is None:
            raise GlobalContextError("is not known to keep positions apart")
        views = rule(step)
    except (GlobalContextError, ValueError) as error:
        colon = ":" if isinstance(error, ValueError) else ""
        _note(walk, f"{kind}{colon} {error}")
        views = [_guess(step, index) for index in range(node.get_output_size())]
    walk.minimum_px = max(walk.minimum_px, step.minimum_px)
    for index, view in enumerate(views):
        walk.views[node.get_friendly_name(), index] = view
        for axis in view.values():
            walk.multiple = math.lcm(walk.multiple, axis.group_px)


def _note(walk: _Walk, reason: str) -> None:
    if reason not in walk.reasons:
        walk.reasons.append(reason)


def _guess(step: Step, index: int) -> View:
    """Find the axes of a tensor by which of its sides grow with the input's."""
    view: View = {}
    for dimension, (small, large) in enumerate(step.shapes_out(index)):
        for given, taken in zip(_SIZES[0], _SIZES[1], strict=True):
            if small * taken == large * given and small != large:
                stride = Fraction(given, small)
                # Two axes at one scale cannot be told apart by growth alone; what matters
                # here is only the stride, which is then the same.
                view.setdefault(dimension, AxisView.identity().resampled(stride, _nothing))
    return view


def _nothing(element: int) -> tuple[int, ...]:  # noqa: ARG001
    return (0,)


def _conclude(walk: _Walk, final: View) -> ReceptiveField:
    least = max(walk.minimum_px, walk.multiple)
    if not walk.reasons and sorted(final) != [2, 3]:
        _note(walk, "the output is not an image")
    if walk.reasons:
        more = f" and {len(walk.reasons) - 1} more" if len(walk.reasons) > 1 else ""
        return ReceptiveField(TilingMode.WINDOWED, 0, walk.multiple, least, walk.reasons[0] + more)
    halo = max(axis.halo_px for axis in final.values())
    return ReceptiveField(
        TilingMode.EXACT, halo, walk.multiple, least, "receptive field of the graph"
    )
