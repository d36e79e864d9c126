"""Brightness, contrast and colour balance: set by hand, or estimated from the picture.

All three are linear in each colour, so together they are one gain and one offset for each
channel, which the runtime applies in the model's own graph before the one rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..bundle.bundle import Bundle
from ..errors import ArgumentError
from ..imaging.arrays import LUMA, ChannelOrder, Depth, Image

__all__ = ["Adjuster", "Adjustments", "Tone", "check_tones"]

Setting = float | Literal["auto"]

_LIMITS = {"brightness": 2.0, "contrast": 1.0, "balance": 1.0}
_THUMBNAIL_PX = 128
_MIDDLE = 0.46  # where a mean of brightness looks neither dark nor washed out
_MOST_STOPS = 1.0
_TAIL = 0.005  # of the pixels at either end, which may clip
_MOST_SLOPE = 1.6
_NORM = 6  # of the shades-of-grey estimate; 1 is grey world, infinity white patch
_MOST_CAST = 1.3
_LUMA = np.array(LUMA)
_ANY = np.full((1, 3), 0.5)  # a thumbnail, where nothing is estimated from it
_NEWS = 0.08  # weight of a frame's own estimate on a stream: a second to follow at 30 fps


@dataclass(frozen=True)
class Tone:
    """One gain and one offset for each channel, on levels in [0, 1], RGB.

    Parameters
    ----------
    gain, offset : (float, float, float)
    """

    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Adjustments:
    """Brightness, contrast and colour balance of what is restored.

    Parameters
    ----------
    brightness : float or ``auto``
        Stops of exposure, from -2 to 2: 1 doubles the light. ``auto`` brings the mean to the
        middle, by at most a stop and without clipping highlights.
    contrast : float or ``auto``
        From -1 (half the slope around middle grey) to 1 (double). ``auto`` stretches the
        darkest and the brightest half percent to black and white, by at most 1.6.
    balance : float or ``auto``
        From -1 (colder) to 1 (warmer). ``auto`` takes a colour cast off, estimated as shades of
        grey (Finlayson, Trezzi, "Shades of Gray and Colour Constancy", CIC 2004), by at most
        1.3 in a channel.

    Raises
    ------
    ArgumentError
        On a number out of range, or another word.
    """

    brightness: Setting = 0.0
    contrast: Setting = 0.0
    balance: Setting = 0.0

    def __post_init__(self) -> None:
        for name, limit in _LIMITS.items():
            value = getattr(self, name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if value != "auto" and not (number and -limit <= value <= limit):
                raise ArgumentError(
                    f"{name} is auto or a number from {-limit:g} to {limit:g}, got {value!r}"
                )

    @property
    def neutral(self) -> bool:
        """Whether nothing is changed at all."""
        return not (self.brightness or self.contrast or self.balance)

    @property
    def estimates(self) -> bool:
        """Whether anything is estimated from the picture."""
        return "auto" in (self.brightness, self.contrast, self.balance)

    def tone_for(self, thumbnail: NDArray[np.float64]) -> Tone:
        """Return the tone for a picture.

        Parameters
        ----------
        thumbnail : ndarray, f64, shape (N, 3)
            Some of its pixels, RGB in [0, 1]; all equal columns where it is grey.
        """
        gain = self._balance(thumbnail)
        gain = gain * self._exposure(np.clip(thumbnail * gain, 0, 1) @ _LUMA)
        slope, offset = self._stretch(np.clip(thumbnail * gain, 0, 1) @ _LUMA)
        red, green, blue = (gain * slope).tolist()
        return Tone((red, green, blue), (offset,) * 3)

    def _balance(self, pixels: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.balance == "auto":
            # What clipped has lost its colour, and black never had one.
            known = pixels[(pixels.max(axis=1) < 0.98) & (pixels.max(axis=1) > 0.02)]
            if not len(known):
                return np.ones(3)
            cast = np.maximum(((known**_NORM).mean(axis=0)) ** (1 / _NORM), 1e-6)
            gain = np.clip(cast.mean() / cast, 1 / _MOST_CAST, _MOST_CAST)
        else:
            gain = np.exp2(np.array([0.25, 0.0, -0.25]) * self.balance)
        # Brightness is another setting.
        balanced: NDArray[np.float64] = gain / float(_LUMA @ gain)
        return balanced

    def _exposure(self, luma: NDArray[np.float64]) -> float:
        if self.brightness != "auto":
            return float(2.0**self.brightness)
        mean = max(float(luma.mean()), 1e-3)
        headroom = np.log2(1 / max(float(np.quantile(luma, 1 - _TAIL)), 1e-3))
        stops = np.clip(np.log2(_MIDDLE / mean), -_MOST_STOPS, min(_MOST_STOPS, headroom))
        return float(2.0**stops)

    def _stretch(self, luma: NDArray[np.float64]) -> tuple[float, float]:
        if self.contrast != "auto":
            slope = 2.0**self.contrast
            return slope, 0.5 - 0.5 * slope
        low, high = np.quantile(luma, [_TAIL, 1 - _TAIL])
        slope = float(np.clip(1 / max(high - low, 1e-3), 1, _MOST_SLOPE))
        # Anchored so that the darker end lands on black, or the spare is shared evenly.
        return slope, float((1 - slope * (low + high)) / 2) if slope > 1 else 0.0


def check_tones(adjustments: Adjustments, bundle: Bundle) -> None:
    """Refuse adjustments of what a model makes where that has no tones.

    Raises
    ------
    ArgumentError
    """
    manifest = bundle.manifest
    traits = manifest.output.kind.traits
    if not adjustments.neutral and not traits.toned:
        raise ArgumentError(f"{manifest.name} {traits.does}, whose tones are not adjusted")


class Adjuster:
    """Tone estimator for one picture after another; on a stream tones follow slowly.

    `tone` is called by one thread at a time.

    Parameters
    ----------
    adjustments : Adjustments
    """

    def __init__(self, adjustments: Adjustments) -> None:
        self.adjustments = adjustments
        self._latest: Tone | None = None

    def tone(self, image: Image, order: ChannelOrder, *, steady: bool) -> Tone | None:
        """Return the tone of an image, or None where nothing is adjusted.

        Parameters
        ----------
        image : ndarray
        order : ChannelOrder
            Of its channels.
        steady : bool
            The image is a frame of a stream: what is estimated changes over about a second, so
            that nothing pumps.
        """
        if self.adjustments.neutral:
            return None
        if not self.adjustments.estimates:
            return self.adjustments.tone_for(_ANY)
        own = self.adjustments.tone_for(_thumbnail(image, order))
        if steady and self._latest is not None:
            own = _between(self._latest, own)
        self._latest = own
        return own


def _between(before: Tone, own: Tone) -> Tone:
    def moved(old: tuple[float, ...], new: tuple[float, ...]) -> tuple[float, float, float]:
        red, green, blue = (a + _NEWS * (b - a) for a, b in zip(old, new, strict=True))
        return red, green, blue

    return Tone(moved(before.gain, own.gain), moved(before.offset, own.offset))


def _thumbnail(image: Image, order: ChannelOrder) -> NDArray[np.float64]:
    """Return some pixels of an image, RGB in [0, 1]."""
    step = max(1, min(image.shape[:2]) // _THUMBNAIL_PX)
    some = image[::step, ::step]
    colours = some[..., :3] if some.ndim == 3 else some[..., None]
    pixels = colours.reshape(-1, colours.shape[2]) / Depth(image.dtype.name).peak
    if pixels.shape[1] == 1:
        pixels = np.repeat(pixels, 3, axis=1)
    return pixels[:, ::-1] if order is ChannelOrder.BGR else pixels
