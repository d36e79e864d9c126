"""Faults of tone: bad exposure, contrast, gamma, and colour casts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .light import from_light, to_light

__all__ = ["ToneFaults"]

Image = NDArray[np.float32]

_MIDDLE = np.float32(0.46)  # middle grey, 18 % of the light


@dataclass(frozen=True)
class ToneFaults:
    """Distribution of tone faults; each is there with its share, at least one always.

    Parameters
    ----------
    exposure_share, contrast_share, cast_share, gamma_share : float
    exposure_ev : (float, float)
        Stops, in linear light; what exceeds white is lost, as on a sensor.
    contrast : (float, float)
        Slope about middle grey.
    cast_ev : float
        Largest gain of a channel in linear light, in stops, up or down; the three add up to 0.
    gamma : (float, float)
    """

    exposure_share: float = 0.7
    contrast_share: float = 0.5
    cast_share: float = 0.5
    gamma_share: float = 0.3
    exposure_ev: tuple[float, float] = (-2.0, 1.0)
    contrast: tuple[float, float] = (0.5, 1.25)
    cast_ev: float = 0.6
    gamma: tuple[float, float] = (0.7, 1.45)

    def apply(self, image: Image, rng: np.random.Generator) -> Image:
        """Return a picture with drawn faults, in [0, 1].

        Parameters
        ----------
        image : ndarray, f32, shape (H, W, C), C in 1, 3
            In [0, 1].
        rng : numpy.random.Generator
        """
        shares = (self.exposure_share, self.contrast_share, self.cast_share, self.gamma_share)
        there = rng.random(4) < shares
        if not there.any():
            there[int(rng.integers(4))] = True
        stops = np.zeros(image.shape[2])
        exposure = rng.uniform(*self.exposure_ev)
        cast = np.asarray(rng.uniform(-1, 1, image.shape[2]))
        if there[0]:
            stops += exposure
        if there[2] and image.shape[2] > 1:
            stops += self.cast_ev * (cast - cast.mean())
        slope, power = rng.uniform(*self.contrast), rng.uniform(*self.gamma)
        image = from_light(to_light(image) * np.exp2(stops).astype(np.float32))
        if there[3]:
            image = image ** np.float32(power)
        if there[1]:
            image = _MIDDLE + (image - _MIDDLE) * np.float32(slope)
        return np.asarray(np.clip(image, 0, 1), np.float32)
