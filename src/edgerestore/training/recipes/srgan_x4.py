"""Recipe of SRGAN, 64 to 256: least squares, and content by the discriminator's features.

Ledig, Theis, Huszar and others, "Photo-Realistic Single Image Super-Resolution Using a Generative
Adversarial Network", CVPR 2017. Start from an SRResNet trained by pixels (``--initial``), as the
authors do; their content loss is by a VGG network, whose weights are not to be had.
"""

from __future__ import annotations

from functools import partial

from ...convert.architectures.srresnet import SRResNet
from ..discriminators import SrganDiscriminator
from ..objectives import Adversarial, Supervised
from ..pairs import UpscalePairs
from . import Decay, Recipe, Schedule

__all__ = ["RECIPE"]

RECIPE = Recipe(
    name="srgan-x4",
    task="super-resolve",
    summary="SRGAN: SRResNet, least squares, content by the discriminator's features",
    network=partial(SRResNet, width=64, blocks=5, doublings=2),
    pairs=UpscalePairs(side_px=64, scale=4),
    schedule=Schedule(
        steps=100_000,
        batch=8,
        crop_px=64,
        learning_rate=1e-4,
        warmup_steps=0,
        decay=Decay.LINEAR,
        constant_share=0.5,
        betas=(0.9, 0.999),
        clip_norm=float("inf"),
    ),
    objective=Adversarial(
        Supervised({"l1": 1.0}),
        SrganDiscriminator,
        weight=5e-3,
        content_weight=0.1,
        least_squares=True,
    ),
)
