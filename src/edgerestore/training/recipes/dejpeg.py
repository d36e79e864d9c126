"""Recipe of ``dejpeg``: the artefacts of JPEG, quality 10 to 60."""

from __future__ import annotations

from ..objectives import Supervised
from ..pairs import DejpegPairs
from . import Recipe, Schedule
from .denoise import network

__all__ = ["RECIPE"]

RECIPE = Recipe(
    name="dejpeg",
    task="dejpeg",
    summary="artefacts of JPEG, quality 10 to 60",
    network=network,
    pairs=DejpegPairs(),
    schedule=Schedule(steps=60_000, batch=8, crop_px=128, learning_rate=1e-3, clip_norm=0.1),
    objective=Supervised({"charbonnier": 1.0, "psnr": 0.04}),
    # Colours are not permuted: JPEG keeps green better than blue.
    uses=("Photographs that were stored as JPEG of quality 10 to 60, at any phase of its grid.",),
    limits=("JPEG that was scaled afterwards: the blocks of training are 8 px wide.",),
)
