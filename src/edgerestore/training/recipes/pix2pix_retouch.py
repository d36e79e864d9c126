"""Recipe of retouching by pix2pix, the teacher of ``pix2pix-retouch-third``."""

from __future__ import annotations

from ..pairs import RetouchPairs
from . import Recipe
from .pix2pix_deblur import OBJECTIVE, SCHEDULE, generator

__all__ = ["RECIPE"]

RECIPE = Recipe(
    name="pix2pix-retouch",
    task="retouch",
    summary="pix2pix: exposure, contrast and colour at 256x256, L1 and a GAN",
    network=generator,
    pairs=RetouchPairs(side_px=256),
    schedule=SCHEDULE,
    objective=OBJECTIVE,
)
