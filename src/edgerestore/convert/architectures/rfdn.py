"""RFDN: super-resolution by residual feature distillation.

Liu, Tang, Wu, "Residual Feature Distillation Network for Lightweight Image Super-Resolution",
ECCV workshops 2020: the winner of the AIM 2020 challenge on efficient super-resolution.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .esa import SpatialAttention
from .registry import Architecture

__all__ = ["ARCHITECTURE", "RFDN"]

_SLOPE = 0.05


def _active(features: Tensor) -> Tensor:
    return functional.leaky_relu(features, _SLOPE)


class _Distillation(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        kept = width // 2
        self.c1_d = nn.Conv2d(width, kept, 1)
        self.c1_r = nn.Conv2d(width, width, 3, padding=1)
        self.c2_d = nn.Conv2d(width, kept, 1)
        self.c2_r = nn.Conv2d(width, width, 3, padding=1)
        self.c3_d = nn.Conv2d(width, kept, 1)
        self.c3_r = nn.Conv2d(width, width, 3, padding=1)
        self.c4 = nn.Conv2d(width, kept, 3, padding=1)
        self.c5 = nn.Conv2d(kept * 4, width, 1)
        self.esa = SpatialAttention(width, inner, deep=True)

    def forward(self, features: Tensor) -> Tensor:
        kept = []
        steps = ((self.c1_d, self.c1_r), (self.c2_d, self.c2_r), (self.c3_d, self.c3_r))
        for distil, refine in steps:
            kept.append(_active(distil(features)))
            features = _active(refine(features) + features)
        kept.append(_active(self.c4(features)))
        attended: Tensor = self.esa(self.c5(torch.cat(kept, dim=1)))
        return attended


class RFDN(nn.Module):
    """Four distillation blocks, fused, and one pixel shuffle at the end.

    Parameters
    ----------
    channels : int
        Colour channels of the image.
    width : int
        Feature channels; even.
    inner : int
        Channels of the attention's coarse look.
    upscale : int
        Output pixels per input pixel and side.
    """

    def __init__(
        self, channels: int = 3, width: int = 50, inner: int = 12, upscale: int = 4
    ) -> None:
        super().__init__()
        self.fea_conv = nn.Conv2d(channels, width, 3, padding=1)
        self.B1 = _Distillation(width, inner)
        self.B2 = _Distillation(width, inner)
        self.B3 = _Distillation(width, inner)
        self.B4 = _Distillation(width, inner)
        self.c = nn.Sequential(nn.Conv2d(width * 4, width, 1), nn.LeakyReLU(_SLOPE))
        self.LR_conv = nn.Conv2d(width, width, 3, padding=1)
        self.upsampler = nn.Sequential(
            nn.Conv2d(width, channels * upscale**2, 3, padding=1), nn.PixelShuffle(upscale)
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return f32 ``[N, C, H * upscale, W * upscale]`` for f32 ``[N, C, H, W]``."""
        shallow = self.fea_conv(image)
        made = [self.B1(shallow)]
        for block in (self.B2, self.B3, self.B4):
            made.append(block(made[-1]))
        deep = self.LR_conv(self.c(torch.cat(made, dim=1)))
        enlarged: Tensor = self.upsampler(deep + shallow)
        return enlarged

    @staticmethod
    def arguments_from(state: Mapping[str, Tensor]) -> dict[str, Any]:
        """Read the constructor's arguments off the shapes of a state dict."""
        width, channels = state["fea_conv.weight"].shape[:2]
        return {
            "channels": int(channels),
            "width": int(width),
            "inner": int(state["B1.esa.conv1.weight"].shape[0]),
            "upscale": isqrt(int(state["upsampler.0.weight"].shape[0]) // int(channels)),
        }


ARCHITECTURE = Architecture(
    name="rfdn",
    task="super-resolve",
    network=RFDN,
    required=("fea_conv.weight", "B1.c1_d.weight", "B4.esa.conv3_.weight", "c.0.weight"),
    allowed=(
        r"(fea_conv|LR_conv|upsampler\.0|c\.0"
        r"|B[1-4]\.(c[123]_[dr]|c[45]|esa\.conv(1|2|3|3_|4|_f|_max)))\.(weight|bias)"
    ),
    value_range=255.0,
    window_px=96,
)
