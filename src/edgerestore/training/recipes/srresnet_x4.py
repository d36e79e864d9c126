"""Recipe of SRResNet, trained by pixels: what ``srgan-x4`` starts from."""

from __future__ import annotations

from dataclasses import replace

from ..objectives import Supervised
from . import Schedule
from .srgan_x4 import RECIPE as SRGAN

__all__ = ["RECIPE"]

RECIPE = replace(
    SRGAN,
    name="srresnet-x4",
    summary="SRResNet by pixels, which srgan-x4 starts from",
    schedule=Schedule(steps=100_000, batch=8, crop_px=48, learning_rate=5e-4, clip_norm=1.0),
    objective=Supervised({"l1": 1.0}),
)
