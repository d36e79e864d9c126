"""Recipe of ``denoise-gray``: blind denoising of one channel, such as a microscope's."""

from __future__ import annotations

from functools import partial

from ..objectives import Supervised
from ..pairs import GreyDenoisePairs
from . import Recipe, Schedule
from .denoise import network

__all__ = ["RECIPE"]

RECIPE = Recipe(
    name="denoise-gray",
    task="denoise",
    summary="noise of sigma 0 to 50, and Poisson noise of few photons, in one channel",
    network=partial(network, channels=1),
    pairs=GreyDenoisePairs(),
    schedule=Schedule(steps=60_000, batch=8, crop_px=128, learning_rate=1e-3, clip_norm=0.1),
    # Half of it is the PSNR: light noise counts as much as strong noise.
    objective=Supervised({"charbonnier": 1.0, "psnr": 0.04}),
    uses=("Pictures of one channel with normal noise up to sigma 50 of 255, or Poisson noise.",),
    limits=("To count or to measure in: what looks like a structure may be none.",),
)
