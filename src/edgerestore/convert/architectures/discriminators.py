"""Recognition of discriminators by their weights: only training needs them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from .layers import NORM_NAMES

__all__ = ["DISCRIMINATORS", "Discriminator", "find_discriminator"]


@dataclass(frozen=True)
class Discriminator:
    """Family of discriminators, recognised by the names of its weights and by one kernel's shape.

    Parameters
    ----------
    name : str
        What errors call it.
    required : tuple of str
        Names that are always there; the first is a convolution's weight.
    kernel : int
        Side of that convolution's kernel. Names alone are not enough: a plain chain of
        convolutions and norms is numbered like a PatchGAN, and has kernels of 3.
    allowed : str
        Regular expression that every name matches in full.
    """

    name: str
    required: tuple[str, ...]
    kernel: int
    allowed: str

    def fits(self, state: Mapping[str, Tensor]) -> bool:
        """Return whether these are the weights of such a discriminator."""
        if not state.keys() >= set(self.required):
            return False
        first, pattern = state[self.required[0]], re.compile(self.allowed)
        square = (self.kernel, self.kernel)
        return tuple(first.shape[2:]) == square and all(map(pattern.fullmatch, state))


DISCRIMINATORS = (
    Discriminator(
        # pix2pix, CycleGAN, DeblurGAN: a convolution of stride 2, then norm and activation
        # behind each of the next ones, so layers with weights are at 0, 2, 3, 5, 6, 8, ...
        "PatchGAN",
        ("model.0.weight", "model.2.weight", "model.5.weight"),
        4,
        rf"model\.\d+\.{NORM_NAMES}",
    ),
    Discriminator(
        # pix2pixHD, one PatchGAN for each scale.
        "PatchGAN",
        ("layer0.0.weight", "layer0.2.weight", "layer0.5.weight"),
        4,
        rf"layer\d+\.\d+\.{NORM_NAMES}",
    ),
    Discriminator(
        # The same where training compares what its layers saw.
        "PatchGAN",
        ("scale0_layer0.0.weight", "scale0_layer1.0.weight", "scale0_layer2.0.weight"),
        4,
        rf"scale\d+_layer\d+\.[01]\.{NORM_NAMES}",
    ),
    Discriminator(
        # As pix2pixHD's single scale keeps it when its layers are compared.
        "PatchGAN",
        ("model0.0.weight", "model1.0.weight", "model2.0.weight"),
        4,
        rf"model\d+\.[01]\.{NORM_NAMES}",
    ),
    Discriminator(
        "PixelGAN",
        ("net.0.weight", "net.2.weight", "net.5.weight"),
        1,
        rf"net\.[0235]\.{NORM_NAMES}",
    ),
    Discriminator(
        "SRGAN",
        ("net.0.weight", "net.2.weight", "net.3.running_mean", "net.24.weight", "net.26.weight"),
        3,
        rf"net\.\d+\.{NORM_NAMES}",
    ),
)
"""The known families."""


def find_discriminator(state: Mapping[str, Tensor]) -> str | None:
    """Return the name of the family that weights belong to, if they are a discriminator's."""
    return next((row.name for row in DISCRIMINATORS if row.fits(state)), None)
