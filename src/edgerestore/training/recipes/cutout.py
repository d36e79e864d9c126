"""Recipe of ``cutout``: the mask of an object, by a narrow U²-Net with side losses."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ...convert.architectures.u2net import U2Net
from ..objectives import Supervised
from ..pairs import CutoutPairs
from . import Recipe, Schedule

__all__ = ["RECIPE", "maps"]


def _network() -> U2Net:
    """Return the network: 1.1 GMAC on a thumbnail of 320x320, few features where it is large."""
    return U2Net(
        inner=(4, 6, 8, 12, 16, 16, 16, 12, 8, 6, 4),
        outer=(8, 16, 24, 32, 48, 48, 48, 32, 24, 16, 8),
    )


def maps(trained: U2Net, image: Tensor) -> Sequence[Tensor]:
    """Return the mask of a thumbnail, and the side outputs, before the guided filter."""
    return trained.maps(trained.normalised(image))


RECIPE = Recipe(
    name="cutout",
    task="cut-out",
    summary="cuts out objects, animals and goods",
    network=_network,
    pairs=CutoutPairs(side_px=U2Net.side_px),
    schedule=Schedule(steps=40_000, batch=8, crop_px=U2Net.side_px, learning_rate=1e-3),
    objective=Supervised({"bce": 1.0, "l1": 1.0, "iou": 0.5}),
    outputs=maps,
    color_orders=True,
    uses=("Photographs of one object, an animal, or goods before a ground.",),
    limits=("Glass, smoke and hair strand by strand; pictures without a subject.",),
)
