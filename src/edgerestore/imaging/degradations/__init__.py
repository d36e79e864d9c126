"""Image degradations: a registry of them, and the seeded blur, noise and JPEG that training draws.

Every function takes a NumPy generator, so that a seed names a degraded picture exactly.
Images are f32 ``[H, W, C]`` in [0, 1] unless a docstring says otherwise; borders reflect.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ...errors import ArgumentError
from ...extensions import extension, extension_names
from ..arrays import Depth, rounded
from ..bicubic import resized

__all__ = [
    "PROTOCOL",
    "Amount",
    "Blur",
    "Degradation",
    "DegradationKind",
    "DegradationModel",
    "defocus_kernel",
    "degradation_kinds",
    "degrade",
    "gaussian_kernel",
    "motion_kernel",
]

Image = NDArray[np.float32]
Kernel = NDArray[np.float32]

_PATH_POINTS = 96
_SMOOTHING = 1 / 8  # of the exposure
_GROUP = "edgerestore.degradations"
_SUBSAMPLES = 8  # supersampling of the disk's edge, per pixel and axis


class Blur(StrEnum):
    """Kinds of blur that a degradation model draws from."""

    MOTION = "motion"
    DEFOCUS = "defocus"
    GAUSSIAN = "gaussian"


@dataclass(frozen=True)
class DegradationModel:
    """Distribution of blur, noise and JPEG compression.

    Parameters
    ----------
    motion_share, defocus_share : float
        Probability of each kind of blur; what is left is gaussian.
    motion_length_px, defocus_radius_px, gaussian_sigma_px : (float, float)
        Uniform ranges.
    noise_sigma : float
        Largest standard deviation of the sensor noise, in units of [0, 1]; drawn from
        [0, noise_sigma].
    jpeg_share : float
        Probability of a JPEG round trip.
    jpeg_quality : (int, int)
        Inclusive range of its quality.
    """

    motion_share: float = 0.45
    defocus_share: float = 0.35
    motion_length_px: tuple[float, float] = (2.0, 10.0)
    defocus_radius_px: tuple[float, float] = (0.6, 2.8)
    gaussian_sigma_px: tuple[float, float] = (0.4, 2.0)
    noise_sigma: float = 2 / 255
    jpeg_share: float = 0.0
    jpeg_quality: tuple[int, int] = (85, 98)

    def kernel(self, rng: np.random.Generator) -> tuple[Blur, Kernel]:
        """Draw a kind of blur and its kernel (odd-sided, sums to 1)."""
        draw = rng.random()
        if draw < self.motion_share:
            return Blur.MOTION, motion_kernel(rng, rng.uniform(*self.motion_length_px))
        if draw < self.motion_share + self.defocus_share:
            return Blur.DEFOCUS, defocus_kernel(rng.uniform(*self.defocus_radius_px))
        return Blur.GAUSSIAN, gaussian_kernel(rng.uniform(*self.gaussian_sigma_px))


PROTOCOL = DegradationModel()
"""The test protocol: blur, then normal noise, rounded to 8 bits."""


def motion_kernel(rng: np.random.Generator, length_px: float) -> Kernel:
    """Draw a camera shake: a smooth random path of ``length_px`` pixels, centred on its mean.

    The velocity is white noise smoothed by a gaussian of an eighth of the exposure, so the
    path bends a few times, as a hand's does. It is laid on the grid with bilinear weights.
    """
    noise = rng.standard_normal((3 * _PATH_POINTS, 2))
    lag = np.arange(-_PATH_POINTS, _PATH_POINTS + 1) / (_PATH_POINTS * _SMOOTHING)
    window = np.exp(-0.5 * lag * lag)
    velocity = np.stack([np.convolve(noise[:, axis], window, "valid") for axis in (0, 1)], axis=1)
    velocity *= length_px / np.linalg.norm(velocity, axis=1).sum()
    path = np.cumsum(velocity, axis=0)
    path -= path.mean(axis=0)
    radius = int(np.ceil(np.abs(path).max())) + 1
    kernel = np.zeros((2 * radius + 1, 2 * radius + 1), np.float64)
    corner = np.floor(path).astype(int)
    part = path - corner
    for dy in (0, 1):
        for dx in (0, 1):
            weight = np.abs(1 - dy - part[:, 0]) * np.abs(1 - dx - part[:, 1])
            at = (corner[:, 0] + radius + dy, corner[:, 1] + radius + dx)
            np.add.at(kernel, at, weight)
    return _normalised(kernel)


def defocus_kernel(radius_px: float) -> Kernel:
    """Return an anti-aliased disk: the image of a point out of focus."""
    radius = int(np.ceil(radius_px + 0.5))
    side = 2 * radius + 1
    axis = (np.arange(side * _SUBSAMPLES) + 0.5) / _SUBSAMPLES - side / 2
    inside = axis[:, None] ** 2 + axis[None, :] ** 2 <= radius_px**2
    return _normalised(inside.reshape(side, _SUBSAMPLES, side, _SUBSAMPLES).mean(axis=(1, 3)))


def gaussian_kernel(sigma_px: float) -> Kernel:
    """Return a gaussian cut at four sigmas."""
    radius = max(1, int(np.ceil(4 * sigma_px)))
    line = cv2.getGaussianKernel(2 * radius + 1, sigma_px)
    return _normalised(line @ line.T)


def _normalised(kernel: NDArray[np.floating[Any]]) -> Kernel:
    return np.asarray(kernel / kernel.sum(), np.float32)


def degrade(
    image: Image, model: DegradationModel, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], Blur]:
    """Degrade a clean picture by a draw from a degradation model.

    Parameters
    ----------
    image : ndarray, f32, shape (H, W, C)
        Clean, in [0, 1].
    model : DegradationModel
    rng : numpy.random.Generator

    Returns
    -------
    degraded : ndarray, u8, same shape
    blur : Blur
        The kind that was drawn.
    """
    kind, kernel = model.kernel(rng)
    # filter2D correlates; flipping makes it the convolution that the kernel describes.
    blurred = cv2.filter2D(image, -1, kernel[::-1, ::-1], borderType=cv2.BORDER_REFLECT)
    blurred = blurred.reshape(image.shape)  # OpenCV drops a channel axis of length 1
    sigma = np.float32(rng.uniform(0.0, model.noise_sigma))
    blurred = blurred + sigma * rng.standard_normal(image.shape, dtype=np.float32)
    degraded = rounded(np.asarray(blurred, np.float32), Depth.U8)
    if model.jpeg_share and rng.random() < model.jpeg_share:
        low, high = model.jpeg_quality
        degraded = _jpeg(degraded, int(rng.integers(low, high + 1)))
    return degraded, kind


def _jpeg(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    _, packed = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    back = cv2.imdecode(packed, cv2.IMREAD_UNCHANGED)
    return np.asarray(back, np.uint8).reshape(image.shape)


@dataclass(frozen=True)
class Amount:
    """Parameter of a degradation, written after a colon: ``noise:25``.

    Parameters
    ----------
    name : str
    unit : str
        ``of 255``, say.
    default : float
    low, high : float
        Open range of valid values.
    """

    name: str
    unit: str
    default: float
    low: float = 0.0
    high: float = math.inf


@dataclass(frozen=True)
class DegradationKind:
    """Row of the registry of degradations.

    A package adds a row by an entry point of the group ``edgerestore.degradations`` that refers
    to a `DegradationKind` of the same name.

    Parameters
    ----------
    name : str
        Lower case; how it is written on a command line.
    summary : str
        A few words for reports; ``{amount}`` stands for the amount.
    function : callable
        Takes a clean image, f32 (H, W, C) in [0, 1], the amount and a generator; returns a new
        array, f32 (h, w, C).
    amount : Amount or None
        None for kinds without a parameter of their own. Where ``enlarged`` is set, the function
        gets the model's upscale as the amount.
    task : str
        Word in a model's task that makes this kind the default for it; empty for none.
    enlarged : bool or None
        True for models that enlarge, False for models that keep the size, None for both.
    """

    name: str
    summary: str
    function: Callable[[Image, float, np.random.Generator], Image]
    amount: Amount | None = None
    task: str = ""
    enlarged: bool | None = False


def degradation_kinds() -> Mapping[str, DegradationKind]:
    """Return the registry of degradations by name: built-in rows, then those of entry points.

    Raises
    ------
    ArgumentError
        When an entry point cannot be loaded; names it.
    """
    added = sorted(extension_names(_GROUP) - _KINDS.keys())
    return _KINDS | {name: row for name in added if (row := extension(_GROUP, name))}


@dataclass(frozen=True)
class Degradation:
    """Degradation of clean pictures, with its amount.

    Parameters
    ----------
    kind : str
        A name of `degradation_kinds`.
    amount : float or None
        The kind's parameter; None for its default, or where it has none.
    upscale : int
        How many times the model enlarges.

    Raises
    ------
    ArgumentError
        For another kind, an amount out of range, or a kind that does not fit `upscale`.
    """

    kind: str
    amount: float | None = None
    upscale: int = 1

    def __post_init__(self) -> None:
        row, amount = self._row, self._row.amount
        if amount is None:
            if self.amount is not None:
                raise ArgumentError(f"degradation {self.kind} takes no amount; noise:25 does")
        elif self.amount is None:
            object.__setattr__(self, "amount", amount.default)
        elif not amount.low < self.amount < amount.high:
            most = f" and below {amount.high:g}" if amount.high < math.inf else ""
            raise ArgumentError(
                f"degradation {self.kind}:{self.amount:g}: the {amount.name} is a number above"
                f" {amount.low:g}{most}, {amount.unit}; try {self.kind}:{amount.default:g}"
            )
        if self.upscale < 1:
            raise ArgumentError(f"a model enlarges 1, 2, 3, ... times, not {self.upscale}")
        if row.enlarged is None or row.enlarged == (self.upscale > 1):
            return
        fitting = [
            name
            for name, kind in degradation_kinds().items()
            if kind.enlarged in (None, self.upscale > 1)
        ]
        does = f"enlarges {self.upscale} times" if self.upscale > 1 else "keeps the size"
        raise ArgumentError(
            f"degradation {self.kind} does not fit a model that {does}; use {', '.join(fitting)}"
        )

    @classmethod
    def parse(cls, text: str, *, upscale: int) -> Degradation:
        """Parse a spelling: ``none``, ``blur``, ``downscale``, ``noise``, ``noise:25``.

        Raises
        ------
        ArgumentError
            For another spelling, or a degradation that does not fit `upscale`.
        """
        kind, colon, amount = text.strip().lower().partition(":")
        if not colon:
            return cls(kind, upscale=upscale)
        try:
            number = float(amount)
        except ValueError:
            number = math.nan
        return cls(kind, number, upscale)

    @classmethod
    def for_task(cls, task: str, upscale: int) -> Degradation:
        """Return the degradation that a model of this task removes, ``none`` where unknown.

        Parameters
        ----------
        task : str
            As a manifest states it: ``deblur``, ``denoise``, ...
        upscale : int
            Above 1 it is ``downscale``, whatever the task.
        """
        if upscale > 1:
            return cls("downscale", upscale=upscale)
        for kind in degradation_kinds().values():
            if kind.task and kind.enlarged is not True and kind.task in task.lower():
                return cls(kind.name)
        return cls("none")

    def apply(self, clean: Image, rng: np.random.Generator) -> Image:
        """Degrade a clean picture.

        Parameters
        ----------
        clean : ndarray, f32, shape (H, W, C)
            In [0, 1]. ``downscale`` cuts it at the bottom and the right to a multiple of
            `upscale` first.
        rng : numpy.random.Generator

        Returns
        -------
        ndarray, f32, shape (h, w, C)
            A new array in [0, 1], rounded to 8 bits as a camera or a file would; with ``none``
            a copy of the picture, not rounded.
        """
        if self.kind == "none":
            return clean.copy()
        degraded = self._row.function(clean, self._strength, rng)
        return rounded(degraded, Depth.U8).astype(np.float32) / np.float32(255)

    def describe(self) -> str:
        """Return a few words for reports: ``gaussian noise, sigma 25 of 255``."""
        return self._row.summary.format(amount=f"{self._strength:g}")

    def __str__(self) -> str:
        """Return the spelling that `parse` reads."""
        return self.kind if self.amount is None else f"{self.kind}:{self.amount:g}"

    @property
    def _row(self) -> DegradationKind:
        # A built-in kind does not depend on other packages.
        row = _KINDS.get(self.kind) or degradation_kinds().get(self.kind)
        if row is None:
            names = ", ".join(degradation_kinds())
            raise ArgumentError(f"degradation {self.kind!r} is not known; use one of {names}")
        return row

    @property
    def _strength(self) -> float:
        """The amount that the function gets: the upscale for kinds of models that enlarge."""
        return float(self.upscale if self._row.enlarged else self.amount or 0)


def _protocol(clean: Image, _: float, rng: np.random.Generator) -> Image:
    return degrade(clean, PROTOCOL, rng)[0].astype(np.float32) / np.float32(255)


def _noise(clean: Image, sigma: float, rng: np.random.Generator) -> Image:
    return clean + np.float32(sigma / 255) * rng.standard_normal(clean.shape, dtype=np.float32)


def _downscale(clean: Image, factor: float, _: np.random.Generator) -> Image:
    times = int(factor)
    height, width = (side // times for side in clean.shape[:2])
    return resized(clean[: height * times, : width * times], height, width)


_ROWS = (
    DegradationKind("none", "none: the pictures as they are", lambda x, *_: x, enlarged=None),
    DegradationKind(
        "noise",
        "gaussian noise, sigma {amount} of 255",
        _noise,
        Amount("sigma", "in units of 255", 25.0),
        task="noise",
    ),
    DegradationKind(
        "blur",
        "blur by motion, defocus or a gaussian, and noise of up to 2 of 255",
        _protocol,
        task="blur",
    ),
    DegradationKind(
        "downscale",
        "made {amount} times smaller, bicubic with antialiasing",
        _downscale,
        enlarged=True,
    ),
)
_KINDS = {row.name: row for row in _ROWS}
