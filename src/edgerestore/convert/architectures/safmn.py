"""SAFMN: super-resolution by features modulated at several scales.

Sun, Dong, Tang and Pan, "Spatially-Adaptive Feature Modulation for Efficient Image
Super-Resolution", ICCV 2023.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .layers import ChannelNorm, named
from .registry import Architecture

__all__ = ["ARCHITECTURE", "SAFMN"]

_SCALES = 4


class _Modulation(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        part = width // _SCALES
        self.mfr = nn.ModuleList(
            nn.Conv2d(part, part, 3, padding=1, groups=part) for _ in range(_SCALES)
        )
        self.aggr = nn.Conv2d(width, width, 1)

    def forward(self, features: Tensor) -> Tensor:
        made = []
        for scale, part in enumerate(features.chunk(_SCALES, dim=1)):
            # The authors pool to a size of (H // 2 ** scale, ...): the same where it divides.
            times = 2**scale
            small = functional.max_pool2d(part, times) if scale else part
            small = self.mfr[scale](small)
            if scale:
                small = functional.interpolate(small, scale_factor=times, mode="nearest")
            made.append(small)
        return functional.gelu(self.aggr(torch.cat(made, dim=1))) * features


class _Block(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = ChannelNorm(width), ChannelNorm(width)
        self.safm = _Modulation(width)
        mixer = nn.Sequential(
            nn.Conv2d(width, hidden, 3, padding=1), nn.GELU(), nn.Conv2d(hidden, width, 1)
        )
        self.ccm = named(ccm=mixer)

    def forward(self, features: Tensor) -> Tensor:
        features = features + self.safm(self.norm1(features))
        mixed: Tensor = features + self.ccm(self.norm2(features))
        return mixed


class SAFMN(nn.Module):
    """Modulation blocks at the small resolution, and one pixel shuffle.

    Parameters
    ----------
    channels : int
        Colour channels of the image.
    width : int
        Feature channels; a multiple of 4.
    blocks : int
    hidden : int
        Channels inside a block's mixer.
    upscale : int
        Output pixels per input pixel and side.
    """

    def __init__(
        self,
        channels: int = 3,
        width: int = 36,
        blocks: int = 8,
        hidden: int = 72,
        upscale: int = 4,
    ) -> None:
        super().__init__()
        self.to_feat = nn.Conv2d(channels, width, 3, padding=1)
        self.feats = nn.Sequential(*(_Block(width, hidden) for _ in range(blocks)))
        self.to_img = nn.Sequential(
            nn.Conv2d(width, channels * upscale**2, 3, padding=1), nn.PixelShuffle(upscale)
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return f32 ``[N, C, H * upscale, W * upscale]``; sides are multiples of 8."""
        shallow = self.to_feat(image)
        made: Tensor = self.to_img(shallow + self.feats(shallow))
        return made

    @staticmethod
    def arguments_from(state: Mapping[str, Tensor]) -> dict[str, Any]:
        """Read the constructor's arguments off the shapes of a state dict."""
        width, channels = state["to_feat.weight"].shape[:2]
        return {
            "channels": int(channels),
            "width": int(width),
            "blocks": sum(name.endswith(".safm.aggr.weight") for name in state),
            "hidden": int(state["feats.0.ccm.ccm.0.weight"].shape[0]),
            "upscale": isqrt(int(state["to_img.0.weight"].shape[0]) // int(channels)),
        }


ARCHITECTURE = Architecture(
    name="safmn",
    task="super-resolve",
    network=SAFMN,
    required=("to_feat.weight", "feats.0.safm.mfr.3.weight", "to_img.0.weight"),
    allowed=(
        r"(to_feat|to_img\.0|feats\.\d+\.(norm[12]|safm\.(mfr\.[0-3]|aggr)|ccm\.ccm\.[02]))"
        r"\.(weight|bias)"
    ),
)
