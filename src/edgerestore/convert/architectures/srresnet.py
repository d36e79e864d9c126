"""SRResNet, the generator of SRGAN: super-resolution by residual blocks.

Ledig, Theis, Huszar and others, "Photo-Realistic Single Image Super-Resolution Using a Generative
Adversarial Network", CVPR 2017, under the names of its most used PyTorch form, which numbers
everything from ``block1`` on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .layers import NORM_NAMES, named
from .registry import Architecture

__all__ = ["ARCHITECTURE", "SRResNet"]


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(width)
        self.prelu = nn.PReLU()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, features: Tensor) -> Tensor:
        changed: Tensor = self.prelu(self.bn1(self.conv1(features)))
        changed = self.bn2(self.conv2(changed))
        return features + changed


def _doubling(width: int) -> nn.Sequential:
    conv = nn.Conv2d(width, width * 4, 3, padding=1)
    return named(conv=conv, pixel_shuffle=nn.PixelShuffle(2), prelu=nn.PReLU())


class SRResNet(nn.Module):
    """Residual blocks at the small resolution, then one pixel shuffle per doubling.

    Parameters
    ----------
    channels : int
        Colour channels of the image.
    width : int
        Feature channels.
    blocks : int
        Residual blocks.
    doublings : int
        1 enlarges by 2, 2 by 4, 3 by 8.
    """

    def __init__(
        self, channels: int = 3, width: int = 64, blocks: int = 5, doublings: int = 2
    ) -> None:
        super().__init__()
        self.blocks = blocks
        stages: list[nn.Module] = [
            nn.Sequential(nn.Conv2d(channels, width, 9, padding=4), nn.PReLU()),
            *(_Block(width) for _ in range(blocks)),
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)),
            nn.Sequential(
                *(_doubling(width) for _ in range(doublings)),
                nn.Conv2d(width, channels, 9, padding=4),
            ),
        ]
        for number, stage in enumerate(stages, start=1):
            self.add_module(f"block{number}", stage)

    def forward(self, image: Tensor) -> Tensor:
        """Return f32 ``[N, C, H * s, W * s]`` in [0, 1] for f32 ``[N, C, H, W]`` in [0, 1].

        ``s`` is ``2 ** doublings``.
        """
        shallow = deep = self.get_submodule("block1")(image)
        for number in range(2, self.blocks + 3):
            deep = self.get_submodule(f"block{number}")(deep)
        enlarged: Tensor = self.get_submodule(f"block{self.blocks + 3}")(shallow + deep)
        return (torch.tanh(enlarged) + 1) / 2

    @staticmethod
    def arguments_from(state: Mapping[str, Tensor]) -> dict[str, Any]:
        """Read the constructor's arguments off the shapes of a state dict."""
        width, channels = state["block1.0.weight"].shape[:2]
        return {
            "channels": int(channels),
            "width": int(width),
            "blocks": sum(name.endswith(".conv2.weight") for name in state),
            "doublings": sum(bool(re.search(r"\.\d+\.conv\.weight$", name)) for name in state),
        }


ARCHITECTURE = Architecture(
    name="srresnet",
    task="super-resolve",
    network=SRResNet,
    required=("block1.0.weight", "block1.1.weight", "block2.conv1.weight", "block2.bn2.weight"),
    allowed=(
        rf"block\d+\.((conv[12]|bn[12]|[0-3])\.{NORM_NAMES}|prelu\.weight"
        r"|\d\.(conv\.(weight|bias)|prelu\.weight))"
    ),
)
