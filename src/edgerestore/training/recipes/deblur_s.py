"""Recipe of ``deblur-s``: half the arithmetic of ``deblur``, for processors without VNNI."""

from __future__ import annotations

from dataclasses import replace

from ...convert.architectures.edge_unet import EdgeUNet
from ..objectives import Supervised
from ..pairs import MotionPairs
from .deblur import RECIPE as DEBLUR

__all__ = ["RECIPE"]


def _network() -> EdgeUNet:
    """Return the network: 2.6 GMAC per 1280x720 frame."""
    return EdgeUNet(widths=(12, 24, 40, 48), encode_depths=(1, 1, 0, 1), decode_depths=(1, 1, 1))


RECIPE = replace(
    DEBLUR,
    name="deblur-s",
    summary="motion of up to 10 px, defocus and light noise, at half the size",
    network=_network,
    # Long motion is more than so small a network can undo; it must only not be made worse.
    pairs=MotionPairs(mild_share=0.7, clean_share=0.1),
    objective=Supervised({"charbonnier": 1.0, "psnr": 0.04}),
    limits=(
        "Camera shake longer than 10 px at 1280x720: deblur-motion is for that.",
        "Strong noise, and JPEG below quality 70: training has none of them.",
        *DEBLUR.limits[1:],
    ),
    space=None,
)
