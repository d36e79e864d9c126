"""Recipe of ``cutout``: the mask of an object, from a thumbnail."""

from __future__ import annotations

from torch import Tensor

from ...convert.architectures.cutout_unet import CutoutUNet
from ..objectives import Supervised
from ..pairs import CutoutPairs
from . import Recipe, Schedule

__all__ = ["RECIPE"]


def _mask(trained: CutoutUNet, image: Tensor) -> tuple[Tensor]:
    """Return the mask of a thumbnail, before the guided filter."""
    return (trained.predict(trained.normalised(image)),)


RECIPE = Recipe(
    name="cutout",
    task="cut-out",
    summary="cuts out objects, animals and goods",
    network=CutoutUNet,  # 0.5 GMAC on a thumbnail
    pairs=CutoutPairs(side_px=CutoutUNet.side_px),
    schedule=Schedule(steps=40_000, batch=8, crop_px=CutoutUNet.side_px, learning_rate=1e-3),
    objective=Supervised({"bce": 1.0, "l1": 1.0, "iou": 0.5}),
    outputs=_mask,
    color_orders=True,
    uses=("Photographs of one object, an animal, or goods before a ground.",),
    limits=("Glass, smoke and hair strand by strand; pictures without a subject.",),
)
