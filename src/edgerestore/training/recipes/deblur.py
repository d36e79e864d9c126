"""Recipe of the default model ``deblur``: motion of up to 10 px, defocus and light noise."""

from __future__ import annotations

from ...convert.architectures.edge_unet import EdgeUNet
from ..objectives import Supervised
from ..pairs import MildBlurPairs
from . import Recipe, Schedule

__all__ = ["RECIPE"]


def _network() -> EdgeUNet:
    """Return the network: 3.0 GMAC per 1280x720 frame, at 1/2 and 1/4 of the resolution."""
    return EdgeUNet(widths=(16, 32), encode_depths=(1, 2), decode_depths=(1,))


RECIPE = Recipe(
    name="deblur",
    task="deblur",
    summary="motion of up to 10 px, defocus and gaussian blur, and light noise",
    network=_network,
    pairs=MildBlurPairs(),
    schedule=Schedule(steps=40_000, batch=12, crop_px=128, learning_rate=1e-3, clip_norm=0.1),
    # Part of the PSNR, or more clean pictures, and blurred ones are hardly restored any more.
    objective=Supervised({"charbonnier": 1.0}),
    color_orders=True,
    uses=(
        "Photographs and video frames in colour that motion of up to 10 px or defocus made soft,"
        " with light noise at most.",
        "It is blind: neither the kind of blur nor its length has to be known.",
    ),
    limits=(
        "Camera shake longer than 10 px at 1280x720: deblur-motion is for that.",
        "Strong noise, and JPEG below quality 70: training has none of them.",
        "Text, faces and number plates that cannot be read: what looks sharper is not what was"
        " there.",
        "Fluorescence, X-ray and other pictures that are no photographs.",
    ),
)
