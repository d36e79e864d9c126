"""Recipe of ``sr-x2``: enlarging twice, of bicubic down-scaling and light JPEG."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from ..pairs import UpscalePairs
from .sr_x4 import RECIPE as TIMES_FOUR
from .sr_x4 import network

__all__ = ["RECIPE"]

RECIPE = replace(
    TIMES_FOUR,
    name="sr-x2",
    summary="enlarges twice; bicubic down-scaling, light JPEG",
    network=partial(network, upscale=2),
    pairs=UpscalePairs(side_px=96, scale=2),
    schedule=replace(TIMES_FOUR.schedule, crop_px=64),
)
