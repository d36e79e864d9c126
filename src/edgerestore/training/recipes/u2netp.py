"""Recipe of U²-NetP as its authors train it: cross entropy of the mask and six side outputs.

Qin, Zhang, Huang, Dehghan, Zaiane, Jagersand, "U²-Net: Going Deeper with Nested U-Structure for
Salient Object Detection", Pattern Recognition 2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor

from ...convert.architectures.u2net import U2Net
from ..objectives import Supervised
from ..pairs import CutoutPairs
from . import Decay, Recipe, Schedule

__all__ = ["RECIPE"]


def _maps(trained: U2Net, image: Tensor) -> Sequence[Tensor]:
    """Return the mask of a thumbnail, and the side outputs, before the guided filter."""
    return trained.maps(trained.normalised(image))


RECIPE = Recipe(
    name="u2netp",
    task="cut-out",
    summary="U²-NetP with side losses",
    network=partial(U2Net, inner=(16,) * 11, outer=(64,) * 11),  # 1.1 million weights
    pairs=CutoutPairs(side_px=U2Net.side_px),
    schedule=Schedule(
        steps=50_000,
        batch=12,
        crop_px=288,
        learning_rate=1e-3,
        warmup_steps=0,
        decay=Decay.LINEAR,
        constant_share=1.0,
        betas=(0.9, 0.999),
        average_decay=0.0,
        clip_norm=float("inf"),
    ),
    objective=Supervised({"bce": 1.0}),
    outputs=_maps,
)
