"""Recipe of ``deblur-motion``: camera shake and moving objects, defocus, light noise."""

from __future__ import annotations

from ...convert.architectures.edge_unet import EdgeUNet
from ..objectives import Supervised
from ..pairs import MotionPairs
from ..space import Space
from . import Recipe, Schedule

__all__ = ["RECIPE"]


def _network() -> EdgeUNet:
    """Return the network: 5.5 GMAC per 1280x720 frame, down to 1/16, where long blur is short."""
    return EdgeUNet(widths=(16, 32, 64, 80), encode_depths=(1, 1, 0, 2), decode_depths=(1, 1, 1))


RECIPE = Recipe(
    name="deblur-motion",
    task="deblur",
    summary="motion, defocus and gaussian blur, and light noise",
    network=_network,
    pairs=MotionPairs(),
    # At three times the rate the ReLUs at 1/2 and 1/4 die within a thousand steps. The usual norm
    # of the gradients is a fifth of this.
    schedule=Schedule(
        steps=40_000, batch=8, crop_px=160, learning_rate=4e-4, betas=(0.9, 0.999), clip_norm=0.1
    ),
    # Tried: the PSNR as the loss, or part of it, from the start. The few pictures that are all but
    # sharp decide it, and less is learned of the others; `deblur_motion_finish` adds it at the end.
    objective=Supervised({"charbonnier": 1.0}),
    color_orders=True,
    uses=(
        "Photographs and video frames in colour that camera shake, moving objects or defocus made"
        " soft, with light noise at most.",
        "It is blind: neither the kind of blur nor its length has to be known.",
    ),
    limits=(
        "Blur longer than 45 px at 1280x720, strong noise, and JPEG below quality 70: training has"
        " none of them.",
        "Text, faces and number plates that cannot be read: what looks sharper is not what was"
        " there.",
        "Fluorescence, X-ray and other pictures that are no photographs.",
    ),
    space=Space(
        learning_rate=(1e-4, 1.2e-3),
        losses={"fft": (0.003, 0.3)},  # beside the charbonnier loss of weight 1
        network=EdgeUNet,
        widths=((8, 24), (16, 48), (32, 96), (48, 128)),
        encode_depths=((0, 2), (0, 2), (0, 2), (1, 4)),
        decode_depths=((0, 2), (0, 2), (0, 2)),
    ),
)
