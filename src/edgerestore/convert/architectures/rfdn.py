"""RFDN: super-resolution by residual feature distillation.

Liu, Tang, Wu, "Residual Feature Distillation Network for Lightweight Image Super-Resolution",
ECCV workshops 2020: the winner of the AIM 2020 challenge on efficient super-resolution.

Its enhanced spatial attention (ESA) is that of Liu, Tang, Wu, "Residual Feature Aggregation Network
for Image Super-Resolution", CVPR 2020. The mask is computed on a grid six times coarser that is
stretched over the whole picture, so where a grid point falls depends on the picture's size:
networks with it run in windows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .registry import Architecture

__all__ = ["ARCHITECTURE", "RFDN", "SpatialAttention", "shared_arguments", "upsampler"]

_SLOPE = 0.05


class SpatialAttention(nn.Module):
    """Spatial attention: features are multiplied by a mask in [0, 1] computed at low resolution.

    Parameters
    ----------
    width : int
        Feature channels.
    inner : int
        Channels of the coarse look.
    deep : bool
        Three convolutions on the coarse grid with ReLU between them, as in RFDN; else one,
        as in RLFN.
    """

    def __init__(self, width: int, inner: int, *, deep: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, inner, 1)
        self.conv_f = nn.Conv2d(inner, inner, 1)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride=2)
        self.conv3 = nn.Conv2d(inner, inner, 3, padding=1)
        if deep:
            self.conv_max = nn.Conv2d(inner, inner, 3, padding=1)
            self.conv3_ = nn.Conv2d(inner, inner, 3, padding=1)
        self.conv4 = nn.Conv2d(inner, width, 1)
        self.deep = deep

    def forward(self, features: Tensor) -> Tensor:
        """Return ``features`` times the mask, same shape ``[N, C, H, W]``, H and W >= 15."""
        narrow = self.conv1(features)
        coarse = functional.max_pool2d(self.conv2(narrow), kernel_size=7, stride=3)
        if self.deep:
            coarse = functional.relu(self.conv_max(coarse))
            coarse = self.conv3_(functional.relu(self.conv3(coarse)))
        else:
            coarse = self.conv3(coarse)
        stretched = functional.interpolate(
            coarse, features.shape[2:], mode="bilinear", align_corners=False
        )
        mask: Tensor = self.conv4(stretched + self.conv_f(narrow))
        return features * mask.sigmoid()


class _Distillation(nn.Module):
    def __init__(
        self,
        width: int,
        inner: int,
        shortcuts: bool,
        dilations: Sequence[int],
        slope: float,
        fused_active: bool,
    ) -> None:
        super().__init__()
        self.shortcuts, self.slope, self.fused_active = shortcuts, slope, fused_active
        kept = width // 2
        for step, dilation in enumerate(dilations, 1):
            self.add_module(f"c{step}_d", nn.Conv2d(width, kept, 1))
            self.add_module(
                f"c{step}_r", nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation)
            )
        self.c4 = nn.Conv2d(width, kept, 3, padding=1)
        self.c5 = nn.Conv2d(kept * 4, width, 1)
        self.esa = SpatialAttention(width, inner, deep=True)

    def forward(self, features: Tensor) -> Tensor:
        def active(features: Tensor) -> Tensor:
            return functional.leaky_relu(features, self.slope)

        kept = []
        for step in (1, 2, 3):
            kept.append(active(self.get_submodule(f"c{step}_d")(features)))
            refined = self.get_submodule(f"c{step}_r")(features)
            features = active(refined + features if self.shortcuts else refined)
        kept.append(active(self.c4(features)))
        fused = self.c5(torch.cat(kept, dim=1))
        attended: Tensor = self.esa(active(fused) if self.fused_active else fused)
        return attended


def upsampler(width: int, channels: int, upscale: int) -> nn.Sequential:
    """Return the last layers: a convolution and a pixel shuffle to ``channels``."""
    return nn.Sequential(
        nn.Conv2d(width, channels * upscale**2, 3, padding=1), nn.PixelShuffle(upscale)
    )


def shared_arguments(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Read off a state dict what the weights of RFDN and RLFN show alike."""
    width, channels = state["fea_conv.weight"].shape[:2]
    return {
        "channels": int(channels),
        "width": int(width),
        "inner": int(state["B1.esa.conv1.weight"].shape[0]),
        "upscale": isqrt(int(state["upsampler.0.weight"].shape[0]) // int(channels)),
    }


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
    shortcuts : bool
        Around the three convolutions of a block; pruned networks have none.
    dilations : sequence of int
        Of these three convolutions.
    slope : float
        Of the activations below 0.
    fused_active : bool
        Whether an activation follows the convolution that fuses a block's parts.
    """

    def __init__(
        self,
        channels: int = 3,
        width: int = 50,
        inner: int = 12,
        upscale: int = 4,
        shortcuts: bool = True,
        dilations: Sequence[int] = (1, 1, 1),
        slope: float = _SLOPE,
        fused_active: bool = False,
    ) -> None:
        super().__init__()
        if len(dilations) != 3:
            raise ValueError(f"{len(dilations)} dilations for 3 convolutions")
        self.fea_conv = nn.Conv2d(channels, width, 3, padding=1)
        self.B1, self.B2, self.B3, self.B4 = (
            _Distillation(width, inner, shortcuts, dilations, slope, fused_active) for _ in range(4)
        )
        self.c = nn.Sequential(nn.Conv2d(width * 4, width, 1), nn.LeakyReLU(slope))
        self.LR_conv = nn.Conv2d(width, width, 3, padding=1)
        self.upsampler = upsampler(width, channels, upscale)

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
        return shared_arguments(state)


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
    untraced={
        "shortcuts": [False],
        "dilations": [(1, 2, 5)],
        "slope": [0.0, 0.1, 0.2],
        "fused_active": [True],
    },
)
