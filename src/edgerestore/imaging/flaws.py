"""What a clean picture is given so that it looks like what the model is for."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError
from .bicubic import resized
from .degradations import PROTOCOL, degrade

__all__ = ["KINDS", "Flaw"]

Image = NDArray[np.float32]

KINDS = ("none", "blur", "noise", "downscale")
"""The kinds of flaw, as they are spelled."""

_SIGMA = 25.0


@dataclass(frozen=True)
class Flaw:
    """A flaw that pictures are given.

    Parameters
    ----------
    kind : str
        One of `KINDS`. ``blur`` is the test protocol of `degradations`, ``noise`` is
        gaussian, ``downscale`` is bicubic with antialiasing, and ``none`` leaves pictures
        as they are.
    sigma : float
        Standard deviation of the noise of ``noise``, in units of 255.
    upscale : int
        How many times the model enlarges; ``downscale`` makes pictures smaller by it.

    Raises
    ------
    ArgumentError
        For another kind, a sigma that is not above 0 and finite, or a kind that does not
        go with `upscale`.
    """

    kind: str
    sigma: float = _SIGMA
    upscale: int = 1

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ArgumentError(f"flaw {self.kind!r} is not known; use one of {', '.join(KINDS)}")
        if not (math.isfinite(self.sigma) and self.sigma > 0):
            raise ArgumentError(
                f"flaw noise:{self.sigma:g}: the noise's sigma is a number above 0, in units of"
                f" 255; try noise:{_SIGMA:g}"
            )
        if self.upscale < 1:
            raise ArgumentError(f"a model enlarges 1, 2, 3, ... times, not {self.upscale}")
        if self.kind == "downscale" and self.upscale == 1:
            raise ArgumentError(
                "flaw downscale is for models that enlarge, and this one does not;"
                " use blur, noise or none"
            )
        if self.kind in ("blur", "noise") and self.upscale > 1:
            raise ArgumentError(
                f"flaw {self.kind} keeps the size, and this model enlarges {self.upscale} times;"
                " use downscale or none"
            )

    @classmethod
    def parse(cls, text: str, *, upscale: int) -> Flaw:
        """Read a flaw as it is written: ``none``, ``blur``, ``downscale``, ``noise:25``.

        ``noise`` alone has a sigma of 25 of 255.

        Raises
        ------
        ArgumentError
            For another spelling, or a flaw that does not go with `upscale`.
        """
        kind, colon, amount = text.strip().lower().partition(":")
        if not colon:
            return cls(kind, upscale=upscale)
        if kind != "noise":
            raise ArgumentError(f"flaw {text!r} is not known; only noise takes an amount: noise:25")
        try:
            sigma = float(amount)
        except ValueError:
            sigma = math.nan
        return cls(kind, sigma, upscale)

    @classmethod
    def for_task(cls, task: str, upscale: int) -> Flaw:
        """Return the flaw that a model of this task removes, ``none`` where it is not known.

        Parameters
        ----------
        task : str
            As a manifest states it: ``deblur``, ``denoise``, ...
        upscale : int
            Above 1 the flaw is ``downscale``, whatever the task.
        """
        if upscale > 1:
            return cls("downscale", upscale=upscale)
        for kind in ("noise", "blur"):
            if kind in task.lower():
                return cls(kind)
        return cls("none")

    def apply(self, clean: Image, rng: np.random.Generator) -> Image:
        """Give a clean picture the flaw.

        Parameters
        ----------
        clean : ndarray, f32, shape (H, W, C)
            In [0, 1]. `downscale` cuts it at the bottom and the right to a multiple of
            `upscale` first.
        rng : numpy.random.Generator

        Returns
        -------
        ndarray, f32, shape (h, w, C)
            A new array in [0, 1], rounded to 8 bits as a camera or a file would; with
            ``none`` the picture as it is, not rounded.
        """
        if self.kind == "none":
            return clean.copy()
        if self.kind == "blur":
            return degrade(clean, PROTOCOL, rng)[0].astype(np.float32) / np.float32(255)
        if self.kind == "noise":
            grain = rng.standard_normal(clean.shape, dtype=np.float32)
            return _rounded(clean + np.float32(self.sigma / 255) * grain)
        return _rounded(_reduced(clean, self.upscale))

    def describe(self) -> str:
        """Say in a few words what is done to the pictures."""
        return {
            "none": "none: the pictures as they are",
            "blur": "blur by motion, defocus or a gaussian, and noise of up to 2 of 255",
            "noise": f"gaussian noise, sigma {self.sigma:g} of 255",
            "downscale": f"made {self.upscale} times smaller, bicubic with antialiasing",
        }[self.kind]


def _rounded(image: Image) -> Image:
    """Round to 8 bits."""
    whole: Image = np.rint(np.clip(image, 0, 1) * np.float32(255)) / np.float32(255)
    return whole


def _reduced(clean: Image, factor: int) -> Image:
    height, width = (side // factor for side in clean.shape[:2])
    return resized(clean[: height * factor, : width * factor], height, width)
