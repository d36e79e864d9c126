"""One operation of a graph as the rules see it, and what they refuse it with."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from .axis import AxisView

__all__ = ["GlobalContextError", "Rule", "Step", "View"]

View = dict[int, AxisView]
"""The axes of the picture among a tensor's dimensions."""

Rule = Callable[["Step"], list[View]]


class GlobalContextError(Exception):
    """An operation's output depends on all positions, or on where it stands in the frame."""


@dataclass
class Step:
    """One operation, seen at two sizes of input."""

    node: openvino.Node
    other: openvino.Node
    views: list[View]
    minimum_px: int = 1

    @property
    def attributes(self) -> dict[str, Any]:
        """The operation's settings."""
        settings: dict[str, Any] = self.node.get_attributes()
        return settings

    def shape_in(self, index: int) -> list[int]:
        """Shape of an input at the smaller size."""
        return list(self.node.input_value(index).get_shape())

    def shape_out(self, index: int = 0) -> list[int]:
        """Shape of an output at the smaller size."""
        return list(self.node.output(index).get_shape())

    def shapes_out(self, index: int = 0) -> list[tuple[int, int]]:
        """Each dimension of an output, at both sizes."""
        return list(zip(self.shape_out(index), self.other.output(index).get_shape(), strict=True))

    def grown_px(self, dimension: int, axis: AxisView, stride: Fraction) -> Fraction:
        """Input pixels by which the output is longer than the first input."""
        before = self.shape_in(0)[dimension] * axis.px_per_element
        return self.shape_out()[dimension] * stride - before

    def require(self, elements: int, axis: AxisView) -> None:
        """Note that the first input has to be this long."""
        needed = elements * axis.px_per_element - axis.excess_px
        self.minimum_px = max(self.minimum_px, math.ceil(needed))

    def constant(self, index: int) -> NDArray[Any]:
        """Value of an input that does not depend on the picture nor on its size."""
        value = self._value(self.node, index)
        if not np.array_equal(value, self._value(self.other, index)):
            raise GlobalContextError("depends on the size of the frame")
        return value

    @staticmethod
    def _value(node: openvino.Node, index: int) -> NDArray[Any]:
        source = node.input_value(index).get_node()
        if source.get_type_name() != "Constant":
            raise GlobalContextError("takes its settings from the picture")
        value: NDArray[Any] = source.get_data()
        return value
