"""Registry of degradations by name, as command lines spell them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...errors import ArgumentError
from ...extensions import extension, extension_names
from ..arrays import Depth, rounded
from .compression import jpeg
from .kernels import box_kernel, convolved, defocus_kernel
from .model import PROTOCOL, degrade
from .motion import LayeredMotion
from .noise import gaussian_noise, poisson_gaussian
from .scaling import Scaling, downscaled
from .tones import ToneFaults

__all__ = ["Amount", "Degradation", "DegradationKind", "degradation_kinds"]

Image = NDArray[np.float32]

_GROUP = "edgerestore.degradations"
_READ_PHOTONS = 2.0  # noise of reading of the poisson kind
_LONGEST_PX = 500.0


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
    return gaussian_noise(clean, sigma / 255, rng)


def _downscale(clean: Image, factor: float, _: np.random.Generator) -> Image:
    return downscaled(clean, int(factor))


def _aliased(clean: Image, factor: float, _: np.random.Generator) -> Image:
    return downscaled(clean, int(factor), Scaling.ALIASED)


def _nearest(clean: Image, factor: float, _: np.random.Generator) -> Image:
    return downscaled(clean, int(factor), Scaling.NEAREST)


def _jpeg(clean: Image, quality: float, _: np.random.Generator) -> Image:
    return jpeg(rounded(clean, Depth.U8), round(quality)).astype(np.float32) / np.float32(255)


def _poisson(clean: Image, photons: float, rng: np.random.Generator) -> Image:
    return poisson_gaussian(clean, photons, _READ_PHOTONS, rng)


def _shake(clean: Image, length_px: float, rng: np.random.Generator) -> Image:
    shake = LayeredMotion(length_px=(length_px, length_px), still_share=0, highlight_share=0)
    return shake.expose(clean, (), rng)[0]


def _defocus(clean: Image, radius_px: float, _: np.random.Generator) -> Image:
    return convolved(clean, defocus_kernel(radius_px))


def _box(clean: Image, side_px: float, _: np.random.Generator) -> Image:
    return convolved(clean, box_kernel(side_px))


def _exposure(clean: Image, _: float, rng: np.random.Generator) -> Image:
    return ToneFaults().apply(clean, rng)


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
    DegradationKind(
        "aliased",
        "made {amount} times smaller, bicubic without antialiasing",
        _aliased,
        enlarged=True,
    ),
    DegradationKind(
        "nearest", "made {amount} times smaller, a pixel of each block", _nearest, enlarged=True
    ),
    DegradationKind(
        "jpeg",
        "JPEG of quality {amount}",
        _jpeg,
        Amount("quality", "up to 100", 20.0, high=101),
        task="jpeg",
    ),
    DegradationKind(
        "poisson",
        "noise of a sensor whose white is {amount} photons",
        _poisson,
        Amount("photons", "of a white pixel", 500.0),
    ),
    DegradationKind(
        "shake",
        "camera shake along a path of {amount} px",
        _shake,
        Amount("length", "in pixels", 20.0, high=_LONGEST_PX),
    ),
    DegradationKind(
        "defocus",
        "defocus, a disk of radius {amount} px",
        _defocus,
        Amount("radius", "in pixels", 2.0, high=_LONGEST_PX),
    ),
    DegradationKind(
        "box",
        "blur by a square of {amount} px",
        _box,
        Amount("side", "in pixels", 14.0, high=_LONGEST_PX),
    ),
    DegradationKind("exposure", "bad exposure, contrast, gamma or a colour cast", _exposure),
)
_KINDS = {row.name: row for row in _ROWS}
