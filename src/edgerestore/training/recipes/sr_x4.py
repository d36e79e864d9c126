"""Recipe of ``sr-x4``: enlarging four times, of bicubic down-scaling and light JPEG."""

from __future__ import annotations

import torch

from ...convert.architectures.rlfn import RLFN
from ..objectives import Supervised
from ..pairs import UpscalePairs
from . import Recipe, Schedule

__all__ = ["RECIPE", "network"]


def network(upscale: int = 4) -> RLFN:
    """Return the network: 4.0 GMAC for 320x180 in. It begins by repeating each pixel."""
    made = RLFN(width=24, middle=20, inner=8, upscale=upscale)
    # Colours pass through the first features: what it makes is close from the first step on.
    with torch.no_grad():
        for colour in range(3):
            made.fea_conv.weight[colour] = 0
            made.fea_conv.weight[colour, colour, 1, 1] = 1
            made.LR_conv.weight[colour] = 0
            pixels = slice(colour * upscale**2, (colour + 1) * upscale**2)
            made.get_parameter("upsampler.0.weight")[pixels] *= 0.1
            made.get_parameter("upsampler.0.weight")[pixels, colour, 1, 1] = 1
    return made


RECIPE = Recipe(
    name="sr-x4",
    task="super-resolve",
    summary="enlarges four times; bicubic down-scaling, light JPEG",
    network=network,
    pairs=UpscalePairs(side_px=64, scale=4),
    schedule=Schedule(steps=80_000, batch=8, crop_px=48, learning_rate=5e-4, clip_norm=1.0),
    objective=Supervised({"l1": 1.0}),
    color_orders=True,
    uses=("Small photographs and video that were scaled down, with light JPEG at most.",),
    limits=("Faces, text and number plates that cannot be read: what it draws was not there.",),
)
