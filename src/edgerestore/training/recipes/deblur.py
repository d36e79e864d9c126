"""Recipe of the default model ``deblur``: camera shake and moving objects, defocus, light noise."""

from __future__ import annotations

from ...convert.architectures.shuffle_unet import ShuffleUNet
from ..objectives import Supervised
from . import Recipe, Schedule

__all__ = ["RECIPE"]


def network() -> ShuffleUNet:
    """Return the network: most layers see the picture at 1/8 and 1/16, where long blur is short."""
    return ShuffleUNet(factor=4, widths=(32, 56, 80), encode_depths=(0, 1, 2), decode_depths=(1, 1))


RECIPE = Recipe(
    name="deblur",
    task="deblur",
    summary="motion, defocus and gaussian blur, and light noise",
    network=network,
    schedule=Schedule(steps=100_000, batch=8, crop_px=160, learning_rate=1.5e-3),
    objective=Supervised({"charbonnier": 1.0}),
    color_orders=True,
)
