"""IMDN: super-resolution by distilling features step by step.

Hui, Gao, Yang, Wang, "Lightweight Image Super-Resolution with Information Multi-distillation
Network", ACM MM 2019, in the form that served as the baseline of the AIM 2020 and NTIRE 2022
challenges on efficient super-resolution: no channel attention, eight blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn

from .registry import Architecture

__all__ = ["ARCHITECTURE", "IMDN"]

_SLOPE = 0.05
_PARTS = 4  # steps of a block; each keeps one part of the channels and passes on the others


def _active(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.LeakyReLU(_SLOPE))


class _Distillation(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.kept = width // _PARTS
        passed = width - self.kept
        self.conv1 = _active(width, width)
        self.conv2 = _active(passed, width)
        self.conv3 = _active(passed, width)
        self.conv4 = nn.Conv2d(passed, self.kept, 3, padding=1)
        self.conv1x1 = nn.Conv2d(self.kept * _PARTS, width, 1)

    def forward(self, features: Tensor) -> Tensor:
        kept, passed = [], features
        for step in (self.conv1, self.conv2, self.conv3):
            made = step(passed)
            kept.append(made[:, : self.kept])
            passed = made[:, self.kept :]
        kept.append(self.conv4(passed))
        joined: Tensor = self.conv1x1(torch.cat(kept, dim=1))
        return features + joined


class _Shortcut(nn.Module):
    def __init__(self, body: nn.Sequential) -> None:
        super().__init__()
        self.sub = body

    def forward(self, features: Tensor) -> Tensor:
        changed: Tensor = self.sub(features)
        return features + changed


class IMDN(nn.Module):
    """Distillation blocks at the small resolution, and one pixel shuffle at the end.

    Parameters
    ----------
    channels : int
        Colour channels of the image.
    width : int
        Feature channels; a multiple of 4.
    blocks : int
        Distillation blocks.
    upscale : int
        Output pixels per input pixel and side.
    """

    def __init__(
        self, channels: int = 3, width: int = 64, blocks: int = 8, upscale: int = 4
    ) -> None:
        super().__init__()
        body = [_Distillation(width) for _ in range(blocks)]
        self.model = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            _Shortcut(nn.Sequential(*body, nn.Conv2d(width, width, 3, padding=1))),
            nn.Conv2d(width, channels * upscale**2, 3, padding=1),
            nn.PixelShuffle(upscale),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return f32 ``[N, C, H * upscale, W * upscale]`` for f32 ``[N, C, H, W]`` in [0, 1]."""
        enlarged: Tensor = self.model(image)
        return enlarged

    @staticmethod
    def arguments_from(state: Mapping[str, Tensor]) -> dict[str, Any]:
        """Read the constructor's arguments off the shapes of a state dict."""
        width, channels = state["model.0.weight"].shape[:2]
        return {
            "channels": int(channels),
            "width": int(width),
            "blocks": sum(name.endswith(".conv1x1.weight") for name in state),
            "upscale": isqrt(int(state["model.2.weight"].shape[0]) // int(channels)),
        }


ARCHITECTURE = Architecture(
    name="imdn",
    task="super-resolve",
    network=IMDN,
    required=("model.0.weight", "model.1.sub.0.conv1x1.weight", "model.2.weight"),
    allowed=(r"model\.([02]|1\.sub\.\d+(\.(conv[123]\.0|conv4|conv1x1))?)\.(weight|bias)"),
)
