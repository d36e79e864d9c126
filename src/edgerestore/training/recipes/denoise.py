"""Recipe of ``denoise``: blind denoising in colour, sigma 0 to 50, and the noise of sensors."""

from __future__ import annotations

from ...convert.architectures.shuffle_unet import ShuffleUNet
from ..objectives import Supervised
from ..pairs import DenoisePairs
from . import Recipe, Schedule

__all__ = ["RECIPE", "network"]


def network(channels: int = 3) -> ShuffleUNet:
    """Return the network: 5.3 GMAC per 1280x720 frame in colour, from 1/2 down to 1/8."""
    return ShuffleUNet(
        channels, channels, 2, widths=(16, 32, 56), encode_depths=(0, 0, 2), decode_depths=(1, 1)
    )


RECIPE = Recipe(
    name="denoise",
    task="denoise",
    summary="noise of sigma 0 to 50, and of sensors, in colour",
    network=network,
    pairs=DenoisePairs(),
    schedule=Schedule(steps=60_000, batch=8, crop_px=128, learning_rate=1e-3, clip_norm=0.1),
    # Half of it is the PSNR: light noise counts as much as strong noise.
    objective=Supervised({"charbonnier": 1.0, "psnr": 0.04}),
    color_orders=True,
    uses=("Photographs and video in colour with noise up to sigma 50 of 255, or a sensor's.",),
    limits=("Noise with a pattern, such as banding or hum, and dead pixels: training has none.",),
)
