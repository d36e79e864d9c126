"""View of the input that one tensor has along one axis, and the step from tensor to tensor.

Positions repeat: behind a stride or a pixel shuffle, element ``j`` and element ``j + period`` see
the same thing ``group_px`` input pixels apart. So a view is a table of one period, and every
operation on it is exact, phase by phase.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

__all__ = ["AxisView", "GlobalContextError", "Rule", "Step", "View"]


_LONGEST_PERIOD = 4096


@dataclass(frozen=True)
class AxisView:
    """Input pixels that the elements of a tensor depend on, along height or width.

    Parameters
    ----------
    group_px : int
        Input pixels after which the pattern repeats; the tensor's stride, or a multiple.
    lowest, highest : tuple of int
        For each element of one period, the first and the last input pixel it sees, with
        the period's own first pixel at 0.
    offset_px : Fraction
        Input pixels that element 0 stands before pixel 0; padding in front adds to it.
    excess_px : Fraction
        How much longer the tensor is than the picture; padding adds to it, cropping and
        windows without padding take from it.
    """

    group_px: int
    lowest: tuple[int, ...]
    highest: tuple[int, ...]
    offset_px: Fraction = Fraction(0)
    excess_px: Fraction = Fraction(0)

    @classmethod
    def identity(cls) -> AxisView:
        """Return the view of the input itself."""
        return cls(1, (0,), (0,))

    @property
    def period(self) -> int:
        """Elements per ``group_px``."""
        return len(self.lowest)

    @property
    def px_per_element(self) -> Fraction:
        """The stride in input pixels."""
        return Fraction(self.group_px, self.period)

    def seen(self, element: int) -> tuple[int, int]:
        """Return the first and last input pixel that an element sees."""
        turn, phase = divmod(element, self.period)
        shift = turn * self.group_px
        return self.lowest[phase] + shift, self.highest[phase] + shift

    def resampled(
        self,
        px_per_element: Fraction,
        sources: Callable[[int], Iterable[int]],
        moved_px: Fraction | int = 0,
        grown_px: Fraction | int = 0,
    ) -> AxisView:
        """Return the view of a tensor made from this one.

        Parameters
        ----------
        px_per_element : Fraction
            The new tensor's stride in input pixels.
        sources : callable
            From an element of the new tensor to the elements of this one that it reads.
            Must repeat with the period of both tensors.
        moved_px, grown_px : Fraction or int
            What to add to the offset and the excess.

        Raises
        ------
        ValueError
            When the pattern repeats too seldom to be worth following.
        """
        offset, excess = self.offset_px + moved_px, self.excess_px + grown_px
        group = math.lcm(self.group_px, px_per_element.numerator)
        period = int(group / px_per_element)
        if period > _LONGEST_PERIOD:
            raise ValueError("the pattern repeats too seldom")
        lowest, highest = [], []
        for element in range(period):
            seen = [self.seen(source) for source in sources(element)]
            # An element's own place counts too: beyond the border of a tile the element
            # does not exist and padding stands in for it, whatever it would have seen. So
            # elements before the first must be seen to leave the picture, and those after
            # the last.
            place = element * px_per_element
            lowest.append(min(math.floor(place - max(offset, Fraction(0))), *(a for a, _ in seen)))
            highest.append(max(math.floor(place - min(offset, excess)), *(b for _, b in seen)))
        return AxisView(group, tuple(lowest), tuple(highest), offset, excess)

    def united(self, other: AxisView) -> AxisView:
        """Return what an element sees that is made from the same element of both.

        Raises
        ------
        ValueError
            When the strides differ.
        """
        if self.px_per_element != other.px_per_element:
            raise ValueError("tensors of different strides meet")
        group = math.lcm(self.group_px, other.group_px)
        period = int(group / self.px_per_element)
        pairs = [(*self.seen(element), *other.seen(element)) for element in range(period)]
        return AxisView(
            group,
            tuple(min(a, c) for a, _, c, _ in pairs),
            tuple(max(b, d) for _, b, _, d in pairs),
            self.offset_px,
            self.excess_px,
        )

    @property
    def halo_px(self) -> int:
        """Largest distance from an element to a pixel that it depends on, in input pixels."""
        places = [math.floor(j * self.px_per_element) for j in range(self.period)]
        below = max(place - low for place, low in zip(places, self.lowest, strict=True))
        above = max(high - place for place, high in zip(places, self.highest, strict=True))
        return max(below, above, 0)


View = dict[int, AxisView]
"""The axes of the picture among a tensor's dimensions."""

Rule = Callable[["Step"], list[View]]


class GlobalContextError(Exception):
    """Operation whose output depends on all positions, or on the position in the frame."""


@dataclass
class Step:
    """Operation at two sizes of input, with the views of its inputs."""

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
        """Record that the first input has to be this long."""
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
