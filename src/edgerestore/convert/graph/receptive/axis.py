"""What one element of a tensor sees of the input, along one axis of the picture.

Positions repeat: behind a stride or a pixel shuffle, element ``j`` and element
``j + period`` see the same thing ``group_px`` input pixels apart. So a view is a table of
one period, and every operation on it is exact, phase by phase.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction

__all__ = ["AxisView"]

_LONGEST_PERIOD = 4096


@dataclass(frozen=True)
class AxisView:
    """The input pixels that the elements of a tensor depend on, along height or width.

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
        """The farthest that an element sees from its own place, in input pixels."""
        places = [math.floor(j * self.px_per_element) for j in range(self.period)]
        below = max(place - low for place, low in zip(places, self.lowest, strict=True))
        above = max(high - place for place, high in zip(places, self.highest, strict=True))
        return max(below, above, 0)
