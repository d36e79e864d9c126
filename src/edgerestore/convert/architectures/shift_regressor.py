"""ShiftRegressor: the shift between two overlapping microscope tiles.

Packs of convolutions that halve the pair of tiles, and dense layers that read the shift off
what is left. Stitching a mosaic needs the shift alone, so nothing comes out but two numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from .layers import NORM_NAMES, named
from .registry import Architecture

__all__ = ["ARCHITECTURE", "ShiftRegressor"]

_SIDE_PX = 150
_SLOPE = 0.2
_OUTPUTS = 2  # dx, dy


def _pack(inputs: int, outputs: int) -> nn.Sequential:
    conv, norm = nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs)
    return named(conv=conv, norm=norm, act=nn.LeakyReLU(_SLOPE), pool=nn.MaxPool2d(2))


class ShiftRegressor(nn.Module):
    """Estimates the shift between two overlapping grey tiles.

    Parameters
    ----------
    widths : sequence of int
        Channels of each pack; every pack halves the side and drops what is left over.
    dense : sequence of int
        Widths of the hidden dense layers.
    side_px : int
        Side of the tiles, at least 2 to the power of the number of packs.
    """

    def __init__(
        self,
        widths: Sequence[int] = (64, 96, 128, 160),
        dense: Sequence[int] = (1024, 512),
        side_px: int = _SIDE_PX,
    ) -> None:
        super().__init__()
        left = side_px >> len(widths)
        if left < 1:
            raise ValueError(f"tiles of {side_px} px are too small for {len(widths)} packs")
        self.pair_px = side_px
        self.packs = nn.Sequential(*(_pack(*sides) for sides in pairwise([2, *widths])))
        sides = [widths[-1] * left * left, *dense, _OUTPUTS]
        self.dense = nn.ModuleList(nn.Linear(*ends) for ends in pairwise(sides))
        self.act = nn.LeakyReLU(_SLOPE)

    def forward(self, image: Tensor) -> Tensor:
        """Return the shift, f32 ``[N, 2]``: (dx, dy) in pixels, right and down positive.

        Parameters
        ----------
        image : Tensor, f32 [N, 2, side_px, side_px] in [0, 1]
            The reference tile and the one whose content is moved by the shift.
        """
        features: Tensor = self.packs(image).flatten(1)
        *hidden, last = self.dense
        for layer in hidden:
            features = self.act(layer(features))
        shift: Tensor = last(features)
        return shift

    @staticmethod
    def arguments_from(state: Mapping[str, Tensor]) -> dict[str, Any]:
        """Read the constructor's arguments off the shapes of a state dict.

        Pooling drops what does not halve, so several sides leave the same weights: the usual
        one is taken where it does, else the smallest.
        """
        packs = sum(name.endswith(".conv.weight") for name in state)
        layers = sum(name.startswith("dense.") and name.endswith(".weight") for name in state)
        widths = [int(state[f"packs.{at}.conv.weight"].shape[0]) for at in range(packs)]
        left = round((int(state["dense.0.weight"].shape[1]) / widths[-1]) ** 0.5)
        return {
            "widths": widths,
            "dense": [int(state[f"dense.{at}.weight"].shape[0]) for at in range(layers - 1)],
            "side_px": _SIDE_PX if _SIDE_PX >> packs == left else left << packs,
        }


ARCHITECTURE = Architecture(
    name="shift_regressor",
    task="register",
    network=ShiftRegressor,
    required=("packs.0.conv.weight", "packs.0.norm.running_mean", "dense.0.weight"),
    allowed=rf"packs\.\d+\.(conv\.(weight|bias)|norm\.{NORM_NAMES})|dense\.\d+\.(weight|bias)",
    pair_px=_SIDE_PX,
)
