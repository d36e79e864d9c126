"""BSRN: super-resolution by blueprint separable convolutions.

Li, Liu, Chen, Cai, Gu, Qiao, Dong, "Blueprint Separable Residual Network for Efficient Image
Super-Resolution", CVPR workshops 2022: a winner of NTIRE 2022 in complexity. Its blocks are those
of RFDN with separable convolutions, and contrast-aware channel attention behind the spatial one.
One takes means of the whole picture, the other a grid that is stretched over it, so the network
runs in windows.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .layers import named
from .registry import Architecture
from .rfdn import upsampler

__all__ = ["ARCHITECTURE", "BSRN"]

_REPEATS = 4  # the authors feed the image four times over


def _separable(inputs: int, outputs: int, stride: int = 1, padding: int = 1) -> nn.Sequential:
    """Return a 1x1 convolution across channels, then a 3x3 one within each."""
    return named(
        pw=nn.Conv2d(inputs, outputs, 1, bias=False),
        dw=nn.Conv2d(outputs, outputs, 3, stride, padding, groups=outputs),
    )


class _SpatialAttention(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, inner, 1)
        self.conv_f = nn.Conv2d(inner, inner, 1)
        self.conv2 = _separable(inner, inner, 2, 0)
        self.conv_max, self.conv3, self.conv3_ = (_separable(inner, inner) for _ in range(3))
        self.conv4 = nn.Conv2d(inner, width, 1)

    def forward(self, features: Tensor) -> Tensor:
        narrow = self.conv1(features)
        coarse = functional.max_pool2d(self.conv2(narrow), kernel_size=7, stride=3)
        coarse = functional.gelu(self.conv3(functional.gelu(self.conv_max(coarse))))
        stretched = functional.interpolate(
            self.conv3_(coarse), features.shape[2:], mode="bilinear", align_corners=False
        )
        mask: Tensor = self.conv4(stretched + self.conv_f(narrow))
        return features * mask.sigmoid()


class _ContrastAttention(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.conv_du = nn.Sequential(
            nn.Conv2d(width, inner, 1), nn.ReLU(), nn.Conv2d(inner, width, 1), nn.Sigmoid()
        )

    def forward(self, features: Tensor) -> Tensor:
        mean = features.mean((2, 3), keepdim=True)
        contrast = (features - mean).square().mean((2, 3), keepdim=True).sqrt()
        weights: Tensor = self.conv_du(contrast + mean)
        return features * weights


class _Block(nn.Module):
    def __init__(self, width: int, inner: int, squeezed: int) -> None:
        super().__init__()
        kept = width // 2
        for step in (1, 2, 3):
            self.add_module(f"c{step}_d", nn.Conv2d(width, kept, 1))
            self.add_module(f"c{step}_r", _separable(width, width))
        self.c4 = _separable(width, kept)
        self.c5 = nn.Conv2d(kept * 4, width, 1)
        self.esa = _SpatialAttention(width, inner)
        self.cca = _ContrastAttention(width, squeezed)

    def forward(self, image: Tensor) -> Tensor:
        features, kept = image, []
        for step in (1, 2, 3):
            kept.append(functional.gelu(self.get_submodule(f"c{step}_d")(features)))
            features = functional.gelu(self.get_submodule(f"c{step}_r")(features) + features)
        kept.append(functional.gelu(self.c4(features)))
        attended: Tensor = self.cca(self.esa(self.c5(torch.cat(kept, dim=1))))
        return attended + image


class BSRN(nn.Module):
    """Separable distillation blocks, fused, and one pixel shuffle at the end.

    Parameters
    ----------
    channels : int
        Colour channels of the image.
    width : int
        Feature channels; even.
    blocks : int
    inner, squeezed : int
        Channels of the spatial attention's coarse grid, and inside the channel attention.
    upscale : int
        Output pixels per input pixel and side.
    """

    def __init__(
        self,
        channels: int = 3,
        width: int = 64,
        blocks: int = 8,
        inner: int = 16,
        squeezed: int = 4,
        upscale: int = 4,
    ) -> None:
        super().__init__()
        self.fea_conv = _separable(channels * _REPEATS, width)
        for block in range(1, blocks + 1):
            self.add_module(f"B{block}", _Block(width, inner, squeezed))
        self.c1 = nn.Conv2d(width * blocks, width, 1)
        self.c2 = _separable(width, width)
        self.upsampler = named(upsampleOneStep=upsampler(width, channels, upscale))
        self.blocks = blocks

    def forward(self, image: Tensor) -> Tensor:
        """Return f32 ``[N, C, H * upscale, W * upscale]`` for f32 ``[N, C, H, W]``."""
        shallow = self.fea_conv(torch.cat([image] * _REPEATS, dim=1))
        made = [shallow]
        for block in range(1, self.blocks + 1):
            made.append(self.get_submodule(f"B{block}")(made[-1]))
        deep = self.c2(functional.gelu(self.c1(torch.cat(made[1:], dim=1))))
        enlarged: Tensor = self.upsampler(deep + shallow)
        return enlarged

    @staticmethod
    def arguments_from(state: Mapping[str, Tensor]) -> dict[str, Any]:
        """Read the constructor's arguments off the shapes of a state dict."""
        width, fed = state["fea_conv.pw.weight"].shape[:2]
        channels = int(fed) // _REPEATS
        shuffled = int(state["upsampler.upsampleOneStep.0.weight"].shape[0])
        return {
            "channels": channels,
            "width": int(width),
            "blocks": sum(name.endswith(".c5.weight") for name in state),
            "inner": int(state["B1.esa.conv1.weight"].shape[0]),
            "squeezed": int(state["B1.cca.conv_du.0.weight"].shape[0]),
            "upscale": isqrt(shuffled // channels),
        }


ARCHITECTURE = Architecture(
    name="bsrn",
    task="super-resolve",
    network=BSRN,
    required=(
        "fea_conv.pw.weight",
        "B1.esa.conv3_.dw.weight",
        "upsampler.upsampleOneStep.0.weight",
    ),
    allowed=(
        r"((fea_conv|c2)\.(pw|dw)|c1|upsampler\.upsampleOneStep\.0"
        r"|B\d+\.(c[123]_d|(c[123]_r|c4)\.(pw|dw)|c5|cca\.conv_du\.[02]"
        r"|esa\.(conv1|conv4|conv_f|(conv2|conv3|conv3_|conv_max)\.(pw|dw))))\.(weight|bias)"
    ),
    window_px=96,
)
