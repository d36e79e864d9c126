"""Photographs and cut-out objects that training pairs are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["REDUCTION", "Photograph", "Pictures", "reduced"]

Photograph = NDArray[np.uint8]
"""RGB, u8, shape (H, W, 3); objects are RGBA, (H, W, 4)."""

REDUCTION = 0.6
"""Scale of the second copy of each photograph, which is sharper per pixel."""

_REDUCED_SHARE = 0.35  # of crops
_VIEW = 0.6, 1.0  # side of a view, in shorter sides of the photograph


def reduced(photograph: Photograph) -> Photograph:
    """Return a photograph made smaller by `REDUCTION`, by averaging areas."""
    return np.asarray(
        cv2.resize(photograph, None, fx=REDUCTION, fy=REDUCTION, interpolation=cv2.INTER_AREA),
        np.uint8,
    )


@dataclass(frozen=True)
class Pictures:
    """Photographs and objects of one split.

    Parameters
    ----------
    photographs : sequence of ndarray, u8, shape (H, W, 3)
    objects : sequence of ndarray, u8, shape (H, W, 4)
        Cut-outs in RGBA, their colours not multiplied by alpha.
    reduced : sequence of ndarray, u8, shape (H, W, 3)
        The photographs made smaller; made here where they are not given.
    """

    photographs: Sequence[Photograph]
    objects: Sequence[Photograph] = ()
    reduced: Sequence[Photograph] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if not self.reduced:
            object.__setattr__(self, "reduced", [reduced(p) for p in self.photographs])

    def crop(self, rng: np.random.Generator, side_px: int) -> Photograph:
        """Draw a square crop, turned and mirrored; a third of them from reduced photographs.

        Parameters
        ----------
        rng : numpy.random.Generator
        side_px : int
            No photograph is smaller; those whose reduced copy is give crops of the whole one.

        Returns
        -------
        ndarray, u8, shape (side_px, side_px, 3)
        """
        small = rng.random() < _REDUCED_SHARE
        large_enough = [p for p in self.reduced if min(p.shape[:2]) >= side_px] if small else ()
        choice = large_enough or self.photographs
        photograph = choice[int(rng.integers(len(choice)))]
        top, left = (int(rng.integers(side - side_px + 1)) for side in photograph.shape[:2])
        crop = photograph[top : top + side_px, left : left + side_px]
        crop = np.rot90(crop, int(rng.integers(4)))
        return np.ascontiguousarray(crop[:, ::-1] if rng.random() < 0.5 else crop)

    def view(self, rng: np.random.Generator, side_px: int) -> Photograph:
        """Draw a square of most of a photograph, made smaller, mirrored half of the time.

        Returns
        -------
        ndarray, u8, shape (side_px, side_px, 3)
        """
        photograph = self.photographs[int(rng.integers(len(self.photographs)))]
        shortest = min(photograph.shape[:2])
        side = max(side_px, round(shortest * rng.uniform(*_VIEW)))
        top, left = (int(rng.integers(whole - side + 1)) for whole in photograph.shape[:2])
        square = photograph[top : top + side, left : left + side]
        if rng.random() < 0.5:
            square = square[:, ::-1]
        small = cv2.resize(
            np.ascontiguousarray(square), (side_px, side_px), interpolation=cv2.INTER_AREA
        )
        return np.asarray(small, np.uint8)

    def object(self, rng: np.random.Generator) -> Photograph:
        """Draw an object, in RGBA."""
        return self.objects[int(rng.integers(len(self.objects)))]
