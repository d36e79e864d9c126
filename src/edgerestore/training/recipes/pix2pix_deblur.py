"""Recipe of the pix2pix deblurring GAN: a box of 14 px, L1 times 100, one picture a step.

Isola, Zhu, Zhou, Efros, "Image-to-Image Translation with Conditional Adversarial Networks",
CVPR 2017: its generator, its discriminator of patches, its schedule.
"""

from __future__ import annotations

from functools import partial

from torch import nn

from ...convert.architectures.unet_generator import UnetGenerator
from ..discriminators import PatchGan
from ..objectives import Adversarial, Supervised
from ..pairs import BoxBlurPairs
from . import Decay, Recipe, Schedule

__all__ = ["OBJECTIVE", "RECIPE", "SCHEDULE", "generator"]

OBJECTIVE = Adversarial(Supervised({"l1": 100.0}), PatchGan, conditional=True)

SCHEDULE = Schedule(
    steps=80_000,  # 200 epochs of the authors' 400 facades
    batch=1,
    crop_px=256,
    learning_rate=2e-4,
    warmup_steps=0,
    decay=Decay.LINEAR,
    constant_share=0.5,
    betas=(0.5, 0.999),
    average_decay=0.0,
    clip_norm=float("inf"),
)


def generator(width: int = 64) -> UnetGenerator:
    """Return ``unet_256``, 54 million weights at a width of 64, as its authors begin."""
    made = UnetGenerator(width=width)
    for module in made.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(module.weight, std=0.02)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
    return made


RECIPE = Recipe(
    name="pix2pix-deblur",
    task="deblur",
    summary="pix2pix: a box of 14 px at 256x256, L1 and a GAN",
    network=partial(generator, width=64),
    pairs=BoxBlurPairs(side_px=256),
    schedule=SCHEDULE,
    objective=OBJECTIVE,
)
