"""Intensity mapping: which values of an image the network sees as 0 to 1, and the way back.

A network knows pictures that reach from black to white. Twelve bits of a camera in 16 are a
sixteenth of that, so they are stretched over the range before the network, and brought back after.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError
from ..imaging.arrays import Depth, Image, out_of_range

__all__ = ["IntensityMapping", "IntensityRange", "RangeKind"]

_TAIL = 0.1  # percent of the values at either end that may be defects of the sensor
_MARGIN = 0.5  # of the range between the tails: what lies farther out is a defect
_WIDE = 0.25  # of the dtype's range: data that fill so much of it are seen as they are
_BAND_ROWS = 256
_LEAST_LEVELS = 16  # fewer are noise of the last bits
_LOOKED_AT = 1 << 18  # values that percentiles are estimated from
_NUMBER = r"([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)"
_VALUES = re.compile(f"{_NUMBER}:{_NUMBER}", re.IGNORECASE)
_PERCENTILES = re.compile(f"p{_NUMBER}:p{_NUMBER}", re.IGNORECASE)
_USE = "auto, full, LOW:HIGH such as 200:1000, or pLOW:pHIGH such as p0.1:p99.9"


class RangeKind(StrEnum):
    """Way in which the range of intensities is found."""

    AUTO = "auto"
    FULL = "full"
    VALUES = "values"
    PERCENTILES = "percentiles"


@dataclass(frozen=True)
class IntensityMapping:
    """Affine mapping of the values in a window to levels in [0, 1], and back.

    It acts on each value by itself, so it may be applied to an image or to any part of it.

    Parameters
    ----------
    low, high : float
        Values that become 0 and 1; what lies outside is no less black or white to the network,
        and keeps its value.
    """

    low: float
    high: float

    def levels(self, values: Image) -> NDArray[np.float32]:
        """Return values of any depth as levels, f32 in [0, 1], of the same shape."""
        moved = values.astype(np.float32) - np.float32(self.low)
        moved /= self._span
        return np.clip(moved, 0, 1, out=moved)

    def outside(self, values: Image) -> NDArray[np.bool_]:
        """Return where values lie outside the window."""
        return (values < np.float32(self.low)) | (values > np.float32(self.high))

    def values(
        self,
        restored: NDArray[np.float32],
        image: Image,
        strength: float | NDArray[np.float32] = 1.0,
        upscale: int = 1,
    ) -> Image:
        """Return restored levels as values, of the image's dtype.

        Parameters
        ----------
        restored : ndarray, f32 in [0, 1], shape (H * upscale, W * upscale) or with channels
        image : ndarray, shape (H, W) or with channels
            The values that `levels` made the network's input of. A value that lies outside the
            window, whose level was not changed, or whose strength is 0, comes back as it is;
            where the outcome is enlarged, what a value lies outside by is added.
        strength : float, or ndarray f32 of shape (H * upscale, W * upscale)
        upscale : int
        """
        outcome: Image = np.empty(restored.shape, image.dtype)
        for top in range(0, len(image), _BAND_ROWS):  # each with floats of its own
            rows = slice(top, top + _BAND_ROWS)
            large = slice(top * upscale, (top + _BAND_ROWS) * upscale)
            own = strength[large] if isinstance(strength, np.ndarray) else strength
            outcome[large] = self._band(restored[large], image[rows], own, upscale)
        return outcome

    def _band(
        self,
        restored: NDArray[np.float32],
        image: Image,
        strength: float | NDArray[np.float32],
        upscale: int,
    ) -> Image:
        made = np.float32(self.low) + restored * self._span
        if upscale > 1:
            window = np.float32(self.low), np.float32(self.high)
            excess = image.astype(np.float32) - np.clip(image, *window, dtype=np.float32)
            made += excess.repeat(upscale, 0).repeat(upscale, 1)
        if image.dtype != np.float32:
            np.clip(np.rint(made, out=made), 0, Depth(image.dtype.name).peak, out=made)
        outcome: Image = made.astype(image.dtype, copy=False)
        if upscale == 1:
            kept = self.outside(image) | (restored == self.levels(image))
            if isinstance(strength, np.ndarray):
                still = strength == 0
                kept |= still if image.ndim == 2 else still[..., None]
            np.copyto(outcome, image, where=kept)
        return outcome

    @property
    def _span(self) -> np.float32:
        return np.float32(self.high) - np.float32(self.low)

    def __str__(self) -> str:
        return f"{self.low:.9g}:{self.high:.9g}"


@dataclass(frozen=True)
class IntensityRange:
    """Range of intensities that the network sees as black to white.

    Parameters
    ----------
    kind : RangeKind
        ``AUTO`` looks at images of 16 bits and floats: where they fill less than a quarter of
        their dtype's range, the network sees their smallest to their largest value, defects of
        the sensor aside. ``FULL`` is the dtype's range, in floats 0 to 1.
    low, high : float
        Values, or percentiles of the whole image; of the other kinds without a meaning.

    Raises
    ------
    ArgumentError
        When there is nothing between the two.
    """

    kind: RangeKind = RangeKind.AUTO
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if self.kind is RangeKind.PERCENTILES and not 0 <= self.low < self.high <= 100:
            raise ArgumentError(f"percentiles rise, from 0 to 100, got {self}; use p0.1:p99.9")
        if not (math.isfinite(self.high - self.low) and self.low < self.high):
            raise ArgumentError(f"a range of intensities has its lower value first, got {self}")

    @classmethod
    def parse(cls, given: object) -> IntensityRange:
        """Read ``auto``, ``full``, ``LOW:HIGH``, ``pLOW:pHIGH``, or a pair of numbers.

        Raises
        ------
        ArgumentError
            On anything else.
        """
        if isinstance(given, cls):
            return given
        if isinstance(given, str):
            if given in (RangeKind.AUTO, RangeKind.FULL):
                return cls(RangeKind(given))
            for kind, form in (
                (RangeKind.VALUES, _VALUES),
                (RangeKind.PERCENTILES, _PERCENTILES),
            ):
                found = form.fullmatch(given.strip())
                if found:
                    return cls(kind, float(found[1]), float(found[2]))
        elif isinstance(given, tuple) and len(given) == 2:
            low, high = given
            if all(isinstance(one, (int, float, np.number)) for one in given):
                return cls(RangeKind.VALUES, float(low), float(high))
        raise ArgumentError(f"an intensity range is {_USE}, got {given!r}")

    def mapping(self, image: Image) -> IntensityMapping | None:
        """Return the mapping of an image; None where the network sees the dtype's full range.

        Parameters
        ----------
        image : ndarray, u8, u16 or finite f32
            Without its alpha.

        Raises
        ------
        ArgumentError
            When the values of floats are too far apart.
        """
        depth = Depth(image.dtype.name)
        if self.kind is RangeKind.FULL or (self.kind is RangeKind.AUTO and depth is Depth.U8):
            return None
        if self.kind is RangeKind.AUTO:
            return _looked_at(image, depth)
        low, high = self.low, self.high
        if self.kind is RangeKind.PERCENTILES:
            low, high = np.percentile(image, (low, high), method="nearest").tolist()
        # Floats may lie outside all the same: they pass through, as they do by any window.
        full = (low, high) == (0.0, depth.peak) and not out_of_range(image)
        return None if full else _widened(low, high, depth)

    def __str__(self) -> str:
        if self.kind in (RangeKind.AUTO, RangeKind.FULL):
            return self.kind.value
        mark = "p" if self.kind is RangeKind.PERCENTILES else ""
        return f"{mark}{self.low:.9g}:{mark}{self.high:.9g}"


def _looked_at(image: Image, depth: Depth) -> IntensityMapping | None:
    """Return the mapping of what an image holds; None where it is wide or constant."""
    low, high = float(image.min()), float(image.max())
    step = max(1, math.isqrt(image.size // _LOOKED_AT))
    first, last = np.percentile(image[::step, ::step], (_TAIL, 100 - _TAIL)).tolist()
    margin = _MARGIN * (last - first)
    fits = low >= 0 and high <= depth.peak  # else floats of another range
    low, high = max(low, first - margin), min(high, last + margin)
    if depth is not Depth.F32:
        low, high = math.floor(low), math.ceil(high)
    if fits and (low == high or high - low >= _WIDE * depth.peak):
        return None
    return _widened(low, high, depth)


def _widened(low: float, high: float, depth: Depth) -> IntensityMapping:
    """Return the mapping of a window, widened where it holds next to nothing."""
    least = max(abs(low) * 1e-5, 1e-30) if depth is Depth.F32 else _LEAST_LEVELS
    high = max(high, low + least)
    if not np.isfinite(np.float32(high) - np.float32(low)):
        raise ArgumentError(
            f"intensities from {low:g} to {high:g} are too far apart; give a range LOW:HIGH"
        )
    return IntensityMapping(low, high)
