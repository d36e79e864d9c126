"""Recipe of ``pix2pix-retouch`` at a third of the weights, to be distilled with ``--teacher``."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from .pix2pix_deblur import generator
from .pix2pix_retouch import RECIPE as WHOLE

__all__ = ["RECIPE"]

RECIPE = replace(
    WHOLE,
    name="pix2pix-retouch-third",
    summary="pix2pix-retouch at a third of the size, to distil with --teacher",
    network=partial(generator, width=37),
    teacher_weight=100.0,
)
