"""Composites of cut-out objects over photographs and plain grounds, with their true alpha."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..imaging.degradations.light import from_light, to_light
from .pictures import Photograph, Pictures

__all__ = ["Composites", "placed"]

Image = NDArray[np.float32]
Alpha = NDArray[np.float32]
Range = tuple[float, float]

_VIEWS = 0.4  # share of photographs behind that are seen as a whole
_FAINT = 1e-3  # alpha below which an object has no colour


def placed(
    cutout: Photograph,
    size: tuple[int, int],
    rng: np.random.Generator,
    *,
    longest_px: float,
    centre: NDArray[np.float64],
    most_turned_deg: float = 20.0,
) -> tuple[Image, Alpha]:
    """Place an object in an empty picture: scaled, turned, and mirrored half of the time.

    Parameters
    ----------
    cutout : ndarray, u8, shape (h, w, 4)
        RGBA, not multiplied by alpha.
    size : (int, int)
        Height and width of the picture.
    rng : numpy.random.Generator
    longest_px : float
        Longer side of the object in the picture.
    centre : ndarray, f64, shape (2,)
        Place (x, y) of its centre.
    most_turned_deg : float

    Returns
    -------
    image : ndarray, f32, shape (H, W, 3)
        Colours, not multiplied by alpha; black where nothing of it is.
    alpha : ndarray, f32, shape (H, W)
    """
    pixels = cutout.astype(np.float32) / np.float32(255)
    pixels[..., :3] *= pixels[..., 3:]  # so that what is transparent lends no colour
    if rng.random() < 0.5:
        pixels = pixels[:, ::-1]
    scale = longest_px / max(pixels.shape[:2])
    if scale < 1:  # averaged, where a warp would alias
        height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
        small = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
        pixels, scale = np.asarray(small, np.float32), 1.0
    middle = ((pixels.shape[1] - 1) / 2, (pixels.shape[0] - 1) / 2)
    turned = rng.uniform(-most_turned_deg, most_turned_deg)
    matrix = cv2.getRotationMatrix2D(middle, turned, scale)
    matrix[:, 2] += centre - middle
    moved = cv2.warpAffine(np.ascontiguousarray(pixels), matrix, size[::-1], flags=cv2.INTER_LINEAR)
    alpha = np.asarray(np.clip(moved[..., 3], 0, 1), np.float32)
    image = np.clip(moved[..., :3] / np.maximum(alpha, np.float32(_FAINT))[..., None], 0, 1)
    return np.asarray(image, np.float32), alpha


@dataclass(frozen=True)
class Composites:
    """Distribution of composites.

    Parameters
    ----------
    second_share : float
        Probability of a second object; both are foreground.
    longest : (float, float)
        Range of an object's longer side, in sides of the picture.
    plain_share : float
        Probability of a plain ground, as goods are photographed before; else a photograph.
    defocus_share : float
        Probability that a photograph behind is out of focus.
    defocus_sigma_px : (float, float)
    shadow_share : float
    match : (float, float)
        Range of how far an object's mean colour goes to the ground's.
    """

    second_share: float = 0.2
    longest: Range = (0.35, 1.05)
    plain_share: float = 0.3
    defocus_share: float = 0.45
    defocus_sigma_px: Range = (1.0, 6.0)
    shadow_share: float = 0.6
    match: Range = (0.0, 0.4)

    def draw(
        self, pictures: Pictures, side_px: int, rng: np.random.Generator
    ) -> tuple[Image, Image, Alpha]:
        """Draw a composite.

        Returns
        -------
        image : ndarray, f32, shape (side_px, side_px, 3)
        foreground : ndarray, f32, same shape
            Colours of the objects; black where alpha is 0.
        alpha : ndarray, f32, shape (side_px, side_px)
        """
        ground = self._ground(pictures, side_px, rng)
        light = np.zeros_like(ground)
        alpha: Alpha = np.zeros((side_px, side_px), np.float32)
        behind, softest = to_light(ground), 0.0
        for _ in range(1 + (rng.random() < self.second_share)):
            cutout = pictures.object(rng)
            longest_px = side_px * rng.uniform(*self.longest)
            # An object is as soft as its pixels are enlarged.
            softest = max(softest, 0.4 * longest_px / max(cutout.shape[:2]) - 0.4)
            reach = max(0.0, side_px - longest_px) / 2 + 0.15 * side_px
            centre = side_px / 2 + rng.uniform(-reach, reach, 2)
            size = (side_px, side_px)
            image, own = placed(cutout, size, rng, longest_px=longest_px, centre=centre)
            image = self._matched(image, own, ground, rng)
            if rng.random() < self.shadow_share:
                behind *= 1 - _shadow(own, rng)[..., None]
            share = own[..., None]
            light = to_light(image) * share + light * (1 - share)
            alpha = own + alpha * (1 - own)
        if softest > 0 and rng.random() < 0.6:
            behind = _blurred(behind, softest * rng.uniform(0.5, 1.2))
        image = from_light(light + behind * (1 - alpha[..., None]))
        colours = light / np.maximum(alpha, np.float32(_FAINT))[..., None]
        return image, from_light(np.asarray(colours, np.float32)), alpha

    def _ground(self, pictures: Pictures, side_px: int, rng: np.random.Generator) -> Image:
        if rng.random() < self.plain_share:
            return _plain_ground(side_px, rng)
        # A crop is less of a subject of its own than a view.
        take = pictures.view if rng.random() < _VIEWS else pictures.crop
        ground = take(rng, side_px).astype(np.float32) / np.float32(255)
        if rng.random() < self.defocus_share:
            ground = _blurred(ground, rng.uniform(*self.defocus_sigma_px))
        return ground

    def _matched(
        self, image: Image, alpha: Alpha, ground: Image, rng: np.random.Generator
    ) -> Image:
        """Return an object's colours drawn to the ground's, and its exposure varied."""
        if not alpha.any():
            return image
        own = np.average(image.reshape(-1, 3), axis=0, weights=alpha.ravel())
        share, gain = rng.uniform(*self.match), rng.uniform(0.8, 1.2)
        ratio = (ground.mean(axis=(0, 1)) + 0.05) / (own + 0.05)
        return np.asarray(np.clip(image * (gain * ratio**share), 0, 1), np.float32)


def _plain_ground(side_px: int, rng: np.random.Generator) -> Image:
    """Draw a ground of one colour, mostly light, that grows darker along a direction."""
    light = rng.random() < 0.7
    grey = rng.uniform(0.75, 1.0) if light else rng.uniform(0.05, 0.75)
    colour = grey * (1 - rng.random() ** 3 * rng.random(3) * (0.15 if light else 0.7))
    angle, fall = rng.uniform(0, 2 * math.pi), rng.uniform(0, 0.35) * rng.integers(2)
    y, x = np.mgrid[:side_px, :side_px] / side_px - 0.5
    shade = 1 - fall * (0.5 + math.cos(angle) * x + math.sin(angle) * y)
    return np.asarray(np.clip(shade[..., None] * colour, 0, 1), np.float32)


def _shadow(alpha: Alpha, rng: np.random.Generator) -> Alpha:
    """Draw the share of light that an object takes from what is behind: cast or laid down."""
    rows = np.flatnonzero(alpha.max(axis=1) > 0.5)
    foot = float(rows[-1]) if len(rows) else alpha.shape[0] / 2
    squash = rng.uniform(0.15, 0.5) if rng.random() < 0.5 else 1.0
    lean = rng.uniform(-0.6, 0.6) * (squash < 1)
    shift = rng.uniform(-0.04, 0.04, 2) * alpha.shape[0]
    # Rows are drawn to the object's foot, and lean sideways with their height above it.
    matrix = np.array(
        [[1, -lean, lean * foot + shift[0]], [0, squash, foot * (1 - squash) + abs(shift[1])]]
    )
    cast = cv2.warpAffine(alpha, matrix, alpha.shape[::-1], flags=cv2.INTER_LINEAR)
    soft = _blurred(np.asarray(cast, np.float32), alpha.shape[0] * rng.uniform(0.008, 0.04))
    return soft * np.float32(rng.uniform(0.2, 0.7))


def _blurred(image: NDArray[np.float32], sigma_px: float) -> NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma_px), np.float32)
