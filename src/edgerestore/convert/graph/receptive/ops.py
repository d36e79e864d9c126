"""How each OpenVINO operation carries a view of the picture from its inputs to its outputs."""

from __future__ import annotations

import numpy as np

from .movers import MOVERS
from .resizing import RESIZING
from .step import GlobalContextError, Rule, Step, View
from .windows import WINDOWS

__all__ = ["RULES", "GlobalContextError", "Step", "View"]


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
    **WINDOWS,
    **MOVERS,
    **RESIZING,
    **dict.fromkeys(
        ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceL1", "ReduceL2"), _reduce
    ),
    **dict.fromkeys(("MVN", "NormalizeL2"), _normalise),
    **dict.fromkeys(("Softmax", "LogSoftmax"), _softmax),
    "Concat": _concat,
    "MatMul": _matmul,
}
"""The operations that are understood, by OpenVINO's name."""
