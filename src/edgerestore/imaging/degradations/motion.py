"""Layered motion: camera shake and moving objects, with occlusion, as a long exposure sees them.

Real motion blur differs from a convolution in two ways: it varies over the picture, and moving
edges cover and uncover what is behind them. High-speed cameras show how it comes about: frames
averaged over the exposure (Nah, Kim and Lee, "Deep Multi-scale Convolutional Neural Network for
Dynamic Scene Deblurring", CVPR 2017). Here the frames are made: layers move on smooth paths and are
composited and averaged in linear light. The truth is the frame in the middle of the exposure.

Images are f32 ``[H, W, C]`` in [0, 1], sRGB-like (gamma 2.2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .light import from_light, to_light

__all__ = ["Layer", "LayeredMotion", "Path", "draw_path", "soft_polygon"]

Image = NDArray[np.float32]

_SMOOTHING = 1 / 8  # of the exposure: the correlation time of a hand's velocity
_ROTATION = 0.6  # degrees at 10 px of translation, one standard deviation
_SCALE = 0.004  # relative, at 10 px of translation, one standard deviation


@dataclass(frozen=True)
class Path:
    """Movement of a layer over the exposure, zero at its middle.

    Parameters
    ----------
    shift_px : ndarray, f64, shape (N, 2)
        Translation (x, y) at each sub-frame; N is odd.
    rotation_deg, scale : ndarray, f64, shape (N,)
        Rotation about the centre of the picture, and magnification.
    """

    shift_px: NDArray[np.float64]
    rotation_deg: NDArray[np.float64]
    scale: NDArray[np.float64]

    def __add__(self, other: Path) -> Path:
        """Return the movement of a layer that another one carries along."""
        return Path(
            self.shift_px + other.shift_px,
            self.rotation_deg + other.rotation_deg,
            self.scale * other.scale,
        )

    def at_rest(self, frame: int) -> bool:
        """Return whether a sub-frame is where the middle of the exposure is."""
        return not (
            self.shift_px[frame].any() or self.rotation_deg[frame] or self.scale[frame] != 1
        )

    def matrix(self, frame: int, size: tuple[int, int]) -> NDArray[np.float64]:
        """Return the affine matrix (2, 3) of a sub-frame, for a picture of ``size`` (W, H)."""
        centre = ((size[0] - 1) / 2, (size[1] - 1) / 2)
        matrix = cv2.getRotationMatrix2D(centre, self.rotation_deg[frame], self.scale[frame])
        matrix[:, 2] += self.shift_px[frame]
        return np.asarray(matrix, np.float64)


@dataclass(frozen=True)
class Layer:
    """Foreground of a scene.

    Parameters
    ----------
    image : ndarray, f32, shape (H, W, C)
    alpha : ndarray, f32, shape (H, W)
        Opacity in [0, 1].
    """

    image: Image
    alpha: NDArray[np.float32]


def draw_path(rng: np.random.Generator, length_px: float, frames: int) -> Path:
    """Draw a smooth random movement whose translation is ``length_px`` long.

    The velocity is a drift plus white noise smoothed by a gaussian of an eighth of the exposure,
    in shares that are drawn: some hands move straight, some tremble. Rotation and magnification
    are smooth too, and grow with the length.

    Parameters
    ----------
    rng : numpy.random.Generator
    length_px : float
        Length of the path of the picture's centre, at least 0.
    frames : int
        Number of sub-frames, odd.
    """
    velocity = _smooth(rng, frames - 1, 4)
    angle = rng.uniform(0, 2 * math.pi)
    drift = rng.uniform(0, 3)
    step = velocity[:, :2] + drift * np.array([math.cos(angle), math.sin(angle)])
    step *= length_px / max(1e-9, float(np.linalg.norm(step, axis=1).sum()))
    other = np.cumsum(np.vstack([np.zeros((1, 2)), velocity[:, 2:]]), axis=0)
    other *= length_px / 10 / max(1e-9, float(np.abs(other).max()))
    turn, grow = rng.normal(0, [_ROTATION, _SCALE])
    shift = np.cumsum(np.vstack([np.zeros((1, 2)), step]), axis=0)
    shift, other = shift - shift[frames // 2], other - other[frames // 2]
    return Path(shift, turn * other[:, 0], 1 + grow * other[:, 1])


def _smooth(rng: np.random.Generator, count: int, columns: int) -> NDArray[np.float64]:
    reach = max(1, math.ceil(3 * count * _SMOOTHING))
    lag = np.arange(-reach, reach + 1) / (count * _SMOOTHING)
    window = np.exp(-0.5 * lag * lag)
    window /= math.sqrt(float((window * window).sum()))
    noise = rng.standard_normal((count + 2 * reach, columns))
    return np.stack([np.convolve(noise[:, c], window, "valid") for c in range(columns)], axis=1)


def soft_polygon(rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.float32]:
    """Draw the alpha of an object: a rounded polygon inside a picture of ``size`` (H, W)."""
    height, width = size
    corners = int(rng.integers(5, 14))
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    radius = rng.uniform(0.08, 0.33) * min(size) * rng.uniform(0.5, 1.3, corners)
    centre = np.array([rng.uniform(0, width), rng.uniform(0, height)])
    spread = np.array([rng.uniform(0.6, 1.6), 1.0])
    points = centre + spread * radius[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
    alpha = np.zeros(size, np.uint8)
    cv2.fillPoly(alpha, [np.rint(points * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    if rng.random() < 0.7:  # round the corners: blur widely, then cut at the half
        wide = cv2.GaussianBlur(alpha, (0, 0), rng.uniform(2, 7)).astype(np.float32) / 255
        return np.clip((wide - 0.5) * np.float32(rng.uniform(4, 12)) + 0.5, 0, 1)
    return cv2.GaussianBlur(alpha, (0, 0), 0.7).astype(np.float32) / np.float32(255)


@dataclass(frozen=True)
class LayeredMotion:
    """Distribution of camera shake and moving objects.

    Parameters
    ----------
    length_px : (float, float)
        Range of the background's path; a draw is its upper end times a power of a uniform number,
        so that short paths are commoner.
    power : float
    still_share : float
        Probability of a camera that stands still, when only the objects move.
    object_length_px : (float, float)
        Range of an object's own path, which comes on top of the camera's.
    sub_frames : (int, int)
        Range of their number; it grows with the longest path.
    highlight_share : float
        Probability that what is nearly white was brighter than white, as lamps and skies are:
        averaged in linear light they leave white streaks.
    """

    length_px: tuple[float, float] = (0.0, 45.0)
    power: float = 1.4
    still_share: float = 0.15
    object_length_px: tuple[float, float] = (0.0, 30.0)
    sub_frames: tuple[int, int] = (15, 33)
    highlight_share: float = 0.2

    def expose(
        self,
        background: Image,
        layers: Sequence[Layer],
        rng: np.random.Generator,
        *,
        margin_px: int = 0,
    ) -> tuple[Image, Image]:
        """Return what a camera takes of a moving scene.

        Parameters
        ----------
        background : ndarray, f32, shape (H, W, C)
        layers : sequence of Layer
            From the farthest to the nearest; the same size.
        rng : numpy.random.Generator
        margin_px : int
            Cut off every side of the outcome, where only `background` is seen.

        Returns
        -------
        blurred, sharp : ndarray, f32, shape (H - 2 margin_px, W - 2 margin_px, C)
            The exposure, and the frame in its middle. Near the border, where the camera would have
            seen what the picture does not hold, the picture is continued by reflection.
        """
        low, high = self.length_px
        length = (
            0.0
            if rng.random() < self.still_share
            else low + (high - low) * rng.random() ** (self.power)
        )
        own = [rng.uniform(*self.object_length_px) * rng.integers(2) for _ in layers]
        least, most = self.sub_frames
        frames = int(np.clip(length + max(own, default=0.0), least, most)) // 2 * 2 + 1
        frames = min(frames, most)
        camera = draw_path(rng, length, frames)
        boost = np.float32(rng.uniform(1, 4) if rng.random() < self.highlight_share else 1)
        height, width = background.shape[:2]
        view = _View((width, height), margin_px)
        behind = _linear(background, boost)
        moving = [
            _Cutting.of(layer, boost, camera + draw_path(rng, more, frames))
            for layer, more in zip(layers, own, strict=True)
        ]
        total = sharp = np.zeros(view.shape(background.shape[2]), np.float32)
        for frame in range(frames):
            picture = view.background(behind, camera, frame)
            for cutting in moving:
                view.lay(cutting, picture, frame)
            total += picture
            if frame == frames // 2:
                sharp = picture
        return from_light(total / np.float32(frames)), from_light(sharp)


@dataclass(frozen=True)
class _Cutting:
    """Layer cut to where it is not transparent, its light multiplied by its alpha.

    Parameters
    ----------
    light : ndarray, f32, shape (h, w, C)
    cover : ndarray, f32, shape (h, w)
        Share of what is behind that is seen: 1 less alpha.
    corner : (int, int)
        Place (x, y) of its first pixel in the picture.
    path : Path
    """

    light: Image
    cover: NDArray[np.float32]
    corner: tuple[int, int]
    path: Path

    @classmethod
    def of(cls, layer: Layer, boost: np.float32, path: Path) -> _Cutting:
        left, top, width, height = cv2.boundingRect((layer.alpha > 0).astype(np.uint8))
        inside = slice(top, top + height), slice(left, left + width)
        alpha = layer.alpha[inside]
        light = np.ascontiguousarray(layer.image[inside])
        if alpha.size:  # else nothing of it is to be seen
            light = _linear(light, boost) * alpha[..., None]
        return cls(light, 1 - alpha, (left, top), path)


@dataclass(frozen=True)
class _View:
    """Part of a picture that an exposure returns.

    Parameters
    ----------
    size_px : (int, int)
        Width and height of the picture.
    margin_px : int
        Cut off every side.
    """

    size_px: tuple[int, int]
    margin_px: int

    def shape(self, channels: int) -> tuple[int, int, int]:
        """Return the shape (h, w, C) of its pictures."""
        width, height = (side - 2 * self.margin_px for side in self.size_px)
        return height, width, channels

    def background(self, light: Image, path: Path, frame: int) -> Image:
        """Return the view of a moved background, a new array."""
        height, width, _ = self.shape(1)
        if path.at_rest(frame):
            first = self.margin_px
            return light[first : first + height, first : first + width].copy()
        matrix = path.matrix(frame, self.size_px)
        matrix[:, 2] -= self.margin_px
        return _warped(light, matrix, (width, height), cv2.BORDER_REFLECT)

    def lay(self, cutting: _Cutting, picture: Image, frame: int) -> None:
        """Composite a moved layer over a picture of the view, in place."""
        matrix = cutting.path.matrix(frame, self.size_px)
        height, width = cutting.cover.shape
        matrix[:, 2] += matrix[:, :2] @ cutting.corner - self.margin_px
        corners = np.array([[-1, -1], [width, -1], [-1, height], [width, height]])
        moved = corners @ matrix[:, :2].T + matrix[:, 2]
        limits = np.array(picture.shape[1::-1])
        first = np.clip(np.floor(moved.min(axis=0)).astype(int), 0, limits)
        end = np.clip(np.ceil(moved.max(axis=0)).astype(int) + 1, 0, limits)
        if not cutting.cover.size or (end <= first).any():
            return
        matrix[:, 2] -= first
        size = tuple(end - first)
        cover = cv2.warpAffine(cutting.cover, matrix, size, flags=cv2.INTER_LINEAR, borderValue=1)
        under = picture[first[1] : end[1], first[0] : end[0]]
        # Merging planes is far faster than broadcasting over the channels.
        under *= cv2.merge([cover] * picture.shape[2]).reshape(under.shape)
        under += _warped(cutting.light, matrix, size, cv2.BORDER_CONSTANT)


def _warped(image: Image, matrix: NDArray[np.float64], size: tuple[int, ...], border: int) -> Image:
    moved = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=border)
    return np.asarray(moved, np.float32).reshape(size[1], size[0], image.shape[2])


def _linear(image: Image, boost: np.float32) -> Image:
    light = to_light(image)
    if boost > 1:
        light = light * (1 + (boost - 1) * np.clip((image - 0.85) / np.float32(0.15), 0, 1) ** 2)
    return np.asarray(light, np.float32)
