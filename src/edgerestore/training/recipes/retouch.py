"""Recipe of ``retouch``: exposure, contrast and colour casts, by tables of colours."""

from __future__ import annotations

import torch

from ...convert.architectures.lut3d import AdaptiveLut
from ..objectives import Supervised
from ..pairs import RetouchPairs
from . import Recipe, Schedule

__all__ = ["RECIPE"]


def _network() -> AdaptiveLut:
    """Return the network: 0.07 GMAC on a thumbnail, and one look-up for each pixel."""
    made = AdaptiveLut(size=33, tables=3, width=16)
    # As the authors begin: the first table is the identity, with a weight of one.
    levels = torch.linspace(0, 1, 33)
    with torch.no_grad():
        blue, green, red = torch.meshgrid(levels, levels, levels, indexing="ij")
        made.get_parameter("LUTs.0.LUT").copy_(torch.stack([red, green, blue]))
        made.get_parameter("classifier.model.16.bias").copy_(torch.tensor([1.0, 0.0, 0.0]))
        made.get_parameter("classifier.model.16.weight").mul_(0.1)
    return made


RECIPE = Recipe(
    name="retouch",
    task="retouch",
    summary="exposure, contrast and colour casts",
    network=_network,
    pairs=RetouchPairs(),
    # Crops are whole pairs: a fault of exposure is one of the whole picture.
    schedule=Schedule(steps=40_000, batch=8, crop_px=256, learning_rate=3e-4, clip_norm=1.0),
    objective=Supervised({"l2": 10.0, "l1": 1.0}),
    uses=("Photographs that are too dark, too bright, flat, or tinted.",),
    limits=("Pictures whose colours are measurements: charts, prints, medical pictures.",),
)
