"""Recipe that finishes ``deblur-motion``: its weights, a falling rate, and part of the PSNR."""

from __future__ import annotations

from dataclasses import replace

from ..objectives import Supervised
from .deblur_motion import RECIPE as DEBLUR_MOTION

__all__ = ["RECIPE"]

RECIPE = replace(
    DEBLUR_MOTION,
    name="deblur-motion-finish",
    summary="the last steps of deblur-motion, from its weights (--initial OUT/model.pth)",
    # The loss in pixels costs pictures that are nearly sharp up to 2 dB; the PSNR weighs them more.
    objective=Supervised({"charbonnier": 1.0, "psnr": 0.04}),
    schedule=replace(DEBLUR_MOTION.schedule, steps=3_000, learning_rate=4e-4, warmup_steps=100),
)
