"""Restormer: restoration by attention across channels.

Zamir, Arora, Khan, Hayat, Khan, Yang, "Restormer: Efficient Transformer for High-Resolution Image
Restoration", CVPR 2022. How much channels attend to each other comes from sums over the whole
picture, so the network runs in windows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .layers import ChannelNorm, named
from .registry import Architecture

__all__ = ["ARCHITECTURE", "Restormer"]

_EPS = 1e-5
_LEVELS = 4


class _Scaled(nn.Module):
    """Layer norm over the channels of each pixel that leaves their mean, and has no bias."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, features: Tensor) -> Tensor:
        share = 1 / features.shape[1]
        centred = features + features.sum(1, keepdim=True) * -share
        variance = (centred * centred).sum(1, keepdim=True) * share
        return features * torch.pow(variance + _EPS, -0.5) * self.weight[:, None, None]


def _norm(width: int, *, centred: bool) -> nn.Sequential:
    return named(body=ChannelNorm(width, _EPS) if centred else _Scaled(width))


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int, *, bias: bool) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Conv2d(width, 3 * width, 1, bias=bias)
        self.qkv_dwconv = nn.Conv2d(3 * width, 3 * width, 3, padding=1, groups=3 * width, bias=bias)
        self.project_out = nn.Conv2d(width, width, 1, bias=bias)
        self.heads = heads

    def forward(self, features: Tensor) -> Tensor:
        count, width, high, wide = features.shape
        made = self.qkv_dwconv(self.qkv(features))
        shape = (count, self.heads, width // self.heads, high * wide)
        query, key, value = (part.reshape(shape) for part in made.chunk(3, dim=1))
        query, key = functional.normalize(query, dim=-1), functional.normalize(key, dim=-1)
        weights = (query @ key.transpose(-2, -1) * self.temperature).softmax(-1)
        attended: Tensor = self.project_out((weights @ value).reshape(count, width, high, wide))
        return attended


class _FeedForward(nn.Module):
    def __init__(self, width: int, hidden: int, *, bias: bool) -> None:
        super().__init__()
        both = 2 * hidden
        self.project_in = nn.Conv2d(width, both, 1, bias=bias)
        self.dwconv = nn.Conv2d(both, both, 3, padding=1, groups=both, bias=bias)
        self.project_out = nn.Conv2d(hidden, width, 1, bias=bias)

    def forward(self, features: Tensor) -> Tensor:
        gate, passed = self.dwconv(self.project_in(features)).chunk(2, dim=1)
        made: Tensor = self.project_out(functional.gelu(gate) * passed)
        return made


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int, *, bias: bool, centred: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = (_norm(width, centred=centred) for _ in "12")
        self.attn = _Attention(width, heads, bias=bias)
        self.ffn = _FeedForward(width, hidden, bias=bias)

    def forward(self, features: Tensor) -> Tensor:
        features = features + self.attn(self.norm1(features))
        made: Tensor = features + self.ffn(self.norm2(features))
        return made


def _resized(inputs: int, outputs: int, shuffle: nn.Module) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return named(body=nn.Sequential(conv, shuffle))


class Restormer(nn.Module):
    """U-Net of four levels, of transformer blocks.

    Parameters
    ----------
    channels : int
        Colour channels of the image.
    width : int
        Feature channels at full resolution, doubled at each level.
    blocks : sequence of int
        Of each level, the deepest last; the decoder has as many.
    refinements : int
        Blocks behind the decoder.
    heads : sequence of int
        Of each level.
    growth : float
        Hidden channels of the feed-forward layers, as a multiple of a level's.
    bias : bool
        The convolutions have one.
    centred : bool
        Layer norms take the mean off and have a bias.
    """

    def __init__(
        self,
        channels: int = 3,
        width: int = 48,
        blocks: Sequence[int] = (4, 6, 6, 8),
        refinements: int = 4,
        heads: Sequence[int] = (1, 2, 4, 8),
        growth: float = 2.66,
        *,
        bias: bool = False,
        centred: bool = True,
    ) -> None:
        super().__init__()

        def level(times: int, count: int, own: int) -> nn.Sequential:
            side = times * width
            hidden = int(side * growth)
            made = (_Block(side, own, hidden, bias=bias, centred=centred) for _ in range(count))
            return nn.Sequential(*made)

        self.patch_embed = named(proj=nn.Conv2d(channels, width, 3, padding=1, bias=bias))
        self.encoder_level1 = level(1, blocks[0], heads[0])
        self.down1_2 = _resized(width, width // 2, nn.PixelUnshuffle(2))
        self.encoder_level2 = level(2, blocks[1], heads[1])
        self.down2_3 = _resized(2 * width, width, nn.PixelUnshuffle(2))
        self.encoder_level3 = level(4, blocks[2], heads[2])
        self.down3_4 = _resized(4 * width, 2 * width, nn.PixelUnshuffle(2))
        self.latent = level(8, blocks[3], heads[3])
        self.up4_3 = _resized(8 * width, 16 * width, nn.PixelShuffle(2))
        self.reduce_chan_level3 = nn.Conv2d(8 * width, 4 * width, 1, bias=bias)
        self.decoder_level3 = level(4, blocks[2], heads[2])
        self.up3_2 = _resized(4 * width, 8 * width, nn.PixelShuffle(2))
        self.reduce_chan_level2 = nn.Conv2d(4 * width, 2 * width, 1, bias=bias)
        self.decoder_level2 = level(2, blocks[1], heads[1])
        self.up2_1 = _resized(2 * width, 4 * width, nn.PixelShuffle(2))
        self.decoder_level1 = level(2, blocks[0], heads[0])
        self.refinement = level(2, refinements, heads[0])
        self.output = nn.Conv2d(2 * width, channels, 3, padding=1, bias=bias)
        # The authors' denoisers have norms without bias; the others were trained to deblur,
        # mostly.
        self.task = "deblur" if centred else "denoise"

    def residual(self, image: Tensor) -> Tensor:
        """Return what is to be added to the image; H and W are multiples of 8."""
        first = self.encoder_level1(self.patch_embed(image))
        second = self.encoder_level2(self.down1_2(first))
        third = self.encoder_level3(self.down2_3(second))
        made = self.up4_3(self.latent(self.down3_4(third)))
        made = self.decoder_level3(self.reduce_chan_level3(torch.cat([made, third], 1)))
        made = self.reduce_chan_level2(torch.cat([self.up3_2(made), second], 1))
        made = self.up2_1(self.decoder_level2(made))
        made = self.decoder_level1(torch.cat([made, first], 1))
        correction: Tensor = self.output(self.refinement(made))
        return correction

    def forward(self, image: Tensor) -> Tensor:
        """Return the restored image, f32 ``[N, C, H, W]``."""
        return image + self.residual(image)

    @staticmethod
    def arguments_from(state: Mapping[str, Tensor]) -> dict[str, Any]:
        """Read the constructor's arguments off the shapes of a state dict."""
        levels = [f"encoder_level{level}" for level in range(1, _LEVELS)] + ["latent"]

        def count(part: str) -> int:
            return sum(bool(re.fullmatch(rf"{part}\.\d+\.attn\.temperature", n)) for n in state)

        width, channels = state["patch_embed.proj.weight"].shape[:2]
        deepest, hidden = 8 * int(width), int(state["latent.0.ffn.project_out.weight"].shape[1])
        return {
            "channels": int(channels),
            "width": int(width),
            "blocks": tuple(count(level) for level in levels),
            "refinements": count("refinement"),
            "heads": tuple(int(state[f"{level}.0.attn.temperature"].shape[0]) for level in levels),
            "growth": _growth(state, int(width), hidden / deepest),
            "bias": "output.bias" in state,
            "centred": "latent.0.norm1.body.bias" in state,
        }


def _growth(state: Mapping[str, Tensor], width: int, floor: float) -> float:
    """Return a factor that gives the hidden channels of every level, which are rounded down."""
    wanted = {
        times * width: int(state[f"{part}.0.ffn.project_out.weight"].shape[1])
        for times, part in ((1, "encoder_level1"), (2, "encoder_level2"), (4, "encoder_level3"))
    }
    above = min([floor + 1 / (8 * width), *((has + 1) / side for side, has in wanted.items())])
    below = max([floor, *(has / side for side, has in wanted.items())])
    return (below + above) / 2


_BLOCK = (
    r"(norm[12]\.body|attn\.(qkv|qkv_dwconv|project_out)|ffn\.(project_in|dwconv|project_out))"
    r"\.(weight|bias)|attn\.temperature"
)
ARCHITECTURE = Architecture(
    name="restormer",
    task="deblur",
    general=True,
    network=Restormer,
    required=(
        "patch_embed.proj.weight",
        "latent.0.attn.temperature",
        "refinement.0.attn.qkv.weight",
    ),
    allowed=(
        rf"(encoder_level[123]|latent|decoder_level[123]|refinement)\.\d+\.({_BLOCK})"
        r"|(patch_embed\.proj|reduce_chan_level[23]|output)\.(weight|bias)"
        r"|(down1_2|down2_3|down3_4|up4_3|up3_2|up2_1)\.body\.0\.weight"
    ),
)
