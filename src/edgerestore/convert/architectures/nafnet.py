"""NAFNet: deblurring and denoising by a U-Net of gated blocks without activation functions.

Chen, Chu, Zhang, Sun, "Simple Baselines for Image Restoration", ECCV 2022. The local form
is that of Chu, Chen, Chen, Lu, "Improving Image Restoration by Revisiting Global Information
Aggregation", ECCV 2022.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .layers import ChannelNorm
from .local_pooling import gathered_back, window_means
from .registry import Architecture

__all__ = ["ARCHITECTURE", "NAFNet"]


class _ChannelWeights(nn.Module):
    """Simplified channel attention, from means over the map or over windows."""

    def __init__(self, width: int, window: int | None) -> None:
        super().__init__()
        self.window = window
        # The authors' pooling comes first, so that the convolution's number is theirs.
        self.add_module("1", nn.Conv2d(width, width, 1))

    def forward(self, features: Tensor) -> Tensor:
        weigh = self.get_submodule("1")
        if self.window is None:
            weights: Tensor = weigh(features.mean((2, 3), keepdim=True))
            return weights
        # Weighed before the means are spread over the map: there are fewer of them.
        return gathered_back(weigh(window_means(features, self.window)), features, self.window)


def _gate(features: Tensor) -> Tensor:
    left, right = features.chunk(2, dim=1)
    return left * right


class _Block(nn.Module):
    def __init__(self, width: int, window: int | None) -> None:
        super().__init__()
        wide = 2 * width
        self.norm1 = ChannelNorm(width)
        self.conv1 = nn.Conv2d(width, wide, 1)
        self.conv2 = nn.Conv2d(wide, wide, 3, padding=1, groups=wide)
        self.sca = _ChannelWeights(width, window)
        self.conv3 = nn.Conv2d(width, width, 1)
        self.norm2 = ChannelNorm(width)
        self.conv4 = nn.Conv2d(width, wide, 1)
        self.conv5 = nn.Conv2d(width, width, 1)
        # Training starts from blocks that do nothing.
        self.beta = nn.Parameter(torch.zeros(1, width, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, width, 1, 1))

    def forward(self, features: Tensor) -> Tensor:
        mixed = _gate(self.conv2(self.conv1(self.norm1(features))))
        features = features + self.conv3(mixed * self.sca(mixed)) * self.beta
        made: Tensor = self.conv5(_gate(self.conv4(self.norm2(features))))
        return features + made * self.gamma


class NAFNet(nn.Module):
    """A U-Net that halves the sides at each level, with gated blocks at every one.

    Parameters
    ----------
    channels : int
        Colour channels of the image.
    width : int
        Feature channels at full resolution; each level has twice those of the one above.
    encode_depths : sequence of int
        Blocks per level on the way down, one entry per halving.
    middle_depth : int
        Blocks at the coarsest level.
    decode_depths : sequence of int
        Blocks per level on the way up, the coarsest first.
    local_px : int or None
        Average over windows of this side, in pixels of the image, where the network takes
        averages of the whole picture: 1.5 times the training crop is what the authors use.
        None takes them of the whole picture, as in training.
    """

    def __init__(
        self,
        channels: int = 3,
        width: int = 32,
        encode_depths: Sequence[int] = (1, 1, 1, 28),
        middle_depth: int = 1,
        decode_depths: Sequence[int] = (1, 1, 1, 1),
        local_px: int | None = None,
    ) -> None:
        super().__init__()
        if len(encode_depths) != len(decode_depths):
            raise ValueError("encode_depths and decode_depths: expected one entry per level each")
        if local_px is not None and local_px < 1:
            raise ValueError(f"local_px {local_px}: expected at least 1")

        def stage(level: int, depth: int) -> nn.Sequential:
            window = None if local_px is None else max(1, local_px >> level)
            return nn.Sequential(*[_Block(width << level, window) for _ in range(depth)])

        levels = range(len(encode_depths))
        self.intro = nn.Conv2d(channels, width, 3, padding=1)
        self.encoders = nn.ModuleList(stage(level, encode_depths[level]) for level in levels)
        self.downs = nn.ModuleList(
            nn.Conv2d(width << level, width << (level + 1), 2, 2) for level in levels
        )
        self.middle_blks = stage(len(levels), middle_depth)
        self.ups = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width << (level + 1), width << (level + 2), 1, bias=False),
                nn.PixelShuffle(2),
            )
            for level in reversed(levels)
        )
        self.decoders = nn.ModuleList(
            stage(level, depth)
            for level, depth in zip(reversed(levels), decode_depths, strict=True)
        )
        self.ending = nn.Conv2d(width, channels, 3, padding=1)

    def residual(self, image: Tensor) -> Tensor:
        """Return what to add to ``image``, f32 ``[N, C, H, W]``.

        H and W are multiples of 2 to the number of levels: 16 in the authors' networks.
        """
        features = self.intro(image)
        skipped = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            features = encoder(features)
            skipped.append(features)
            features = down(features)
        features = self.middle_blks(features)
        for up, decoder in zip(self.ups, self.decoders, strict=True):
            features = decoder(up(features) + skipped.pop())
        correction: Tensor = self.ending(features)
        return correction

    def forward(self, image: Tensor) -> Tensor:
        """Return the restored image, same shape as ``image`` (f32, [0, 1])."""
        return image + self.residual(image)

    @staticmethod
    def arguments_from(state: Mapping[str, Tensor]) -> dict[str, Any]:
        """Read the constructor's arguments off the names and shapes of a state dict."""
        levels = sum(re.fullmatch(r"downs\.\d+\.weight", name) is not None for name in state)

        def depth(stage: str) -> int:
            return sum(n.startswith(f"{stage}.") and n.endswith(".beta") for n in state)

        width, channels = state["intro.weight"].shape[:2]
        return {
            "channels": int(channels),
            "width": int(width),
            "encode_depths": [depth(f"encoders.{level}") for level in range(levels)],
            "middle_depth": depth("middle_blks"),
            "decode_depths": [depth(f"decoders.{level}") for level in range(levels)],
        }


ARCHITECTURE = Architecture(
    name="nafnet",
    task="deblur",
    general=True,
    network=NAFNet,
    required=("intro.weight", "ending.weight", "downs.0.weight", "ups.0.0.weight"),
    allowed=(
        r"(intro|ending|downs\.\d+)\.(weight|bias)|ups\.\d+\.0\.weight"
        r"|((en|de)coders\.\d+|middle_blks)\.\d+"
        r"\.(beta|gamma|(norm[12]|conv[1-5]|sca\.1)\.(weight|bias))"
    ),
    window_px=384,
)
