"""Noise: gaussian, and a sensor's, which is counts of photons and the noise of reading them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .light import from_light, to_light

__all__ = ["SensorNoise", "gaussian_noise", "poisson_gaussian"]

Image = NDArray[np.float32]


def gaussian_noise(image: Image, sigma: float, rng: np.random.Generator) -> Image:
    """Return a picture with normal noise of a standard deviation in units of [0, 1]."""
    return image + np.float32(sigma) * rng.standard_normal(image.shape, dtype=np.float32)


def poisson_gaussian(
    image: Image, photons: float, read: float, rng: np.random.Generator, *, linear: bool = False
) -> Image:
    """Return a picture as a sensor takes it: photons are counted, and reading them adds noise.

    Parameters
    ----------
    image : ndarray, f32, shape (H, W, C)
    photons : float
        Count of a white pixel, so that the noise of linear light x is sqrt(x / photons).
    read : float
        Standard deviation of the noise of reading, in photons.
    rng : numpy.random.Generator
    linear : bool
        The picture is linear light, as a microscope's is; else it is brought there and back.

    Returns
    -------
    ndarray, f32, shape (H, W, C)
        Clipped to [0, 1].
    """
    light = np.clip(image, 0, 1) if linear else to_light(np.clip(image, 0, 1))
    counted = rng.poisson(light * np.float32(photons)).astype(np.float32)
    counted += np.float32(read) * rng.standard_normal(image.shape, dtype=np.float32)
    counted /= np.float32(photons)
    return np.clip(counted, 0, 1) if linear else from_light(counted)


@dataclass(frozen=True)
class SensorNoise:
    """Distribution of a camera's light noise: photons in linear light, then normal noise.

    Parameters
    ----------
    shot : float
        Largest variance of white in linear light by its photons: 1 over their count.
    shotless_share : float
        Probability of no noise of photons.
    sigma : float
        Largest standard deviation of the normal noise that is added after gamma.
    """

    shot: float = 6e-4
    shotless_share: float = 0.3
    sigma: float = 2 / 255

    def apply(self, image: Image, rng: np.random.Generator) -> Image:
        """Return a picture with a draw of the noise, not clipped.

        So many photons are counted that their noise is drawn as normal.
        """
        shot, sigma = rng.uniform(0, self.shot), rng.uniform(0, self.sigma)
        if rng.random() >= self.shotless_share:
            light = to_light(image)
            grain = rng.standard_normal(image.shape, dtype=np.float32)
            image = from_light(light + np.sqrt(np.float32(shot) * light) * grain)
        return gaussian_noise(image, sigma, rng)
