"""RLFN: super-resolution by residual local features.

Kong, Li, Liu, Liu, He, Bai, Chen, Fu, "Residual Local Feature Network for Efficient
Super-Resolution", CVPR workshops 2022: the winner of the NTIRE 2022 challenge's runtime track.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from .registry import Architecture
from .rfdn import SpatialAttention, shared_arguments, upsampler

__all__ = ["ARCHITECTURE", "RLFN"]

_SLOPE = 0.05


class _LocalFeatures(nn.Module):
    def __init__(self, width: int, middle: int, inner: int) -> None:
        super().__init__()
        self.c1_r = nn.Conv2d(width, middle, 3, padding=1)
        self.c2_r = nn.Conv2d(middle, middle, 3, padding=1)
        self.c3_r = nn.Conv2d(middle, width, 3, padding=1)
        self.c5 = nn.Conv2d(width, width, 1)
        self.esa = SpatialAttention(width, inner, deep=False)

    def forward(self, features: Tensor) -> Tensor:
        refined = features
        for conv in (self.c1_r, self.c2_r, self.c3_r):
            refined = functional.leaky_relu(conv(refined), _SLOPE)
        attended: Tensor = self.esa(self.c5(refined + features))
        return attended


class RLFN(nn.Module):
    """Four blocks of three convolutions, and one pixel shuffle at the end.

    Parameters
    ----------
    channels : int
        Colour channels of the image.
    width : int
        Feature channels between the blocks.
    middle : int
        Feature channels inside a block.
    inner : int
        Channels of the attention's coarse look.
    upscale : int
        Output pixels per input pixel and side.
    """

    def __init__(
        self,
        channels: int = 3,
        width: int = 46,
        middle: int = 48,
        inner: int = 16,
        upscale: int = 4,
    ) -> None:
        super().__init__()
        self.fea_conv = nn.Conv2d(channels, width, 3, padding=1)
        self.B1, self.B2, self.B3, self.B4 = (
            _LocalFeatures(width, middle, inner) for _ in range(4)
        )
        self.LR_conv = nn.Conv2d(width, width, 3, padding=1)
        self.upsampler = upsampler(width, channels, upscale)

    def forward(self, image: Tensor) -> Tensor:
        """Return f32 ``[N, C, H * upscale, W * upscale]`` for f32 ``[N, C, H, W]``."""
        shallow = self.fea_conv(image)
        deep = self.B4(self.B3(self.B2(self.B1(shallow))))
        enlarged: Tensor = self.upsampler(self.LR_conv(deep) + shallow)
        return enlarged

    @staticmethod
    def arguments_from(state: Mapping[str, Tensor]) -> dict[str, Any]:
        """Read the constructor's arguments off the shapes of a state dict."""
        return {**shared_arguments(state), "middle": int(state["B1.c1_r.weight"].shape[0])}


ARCHITECTURE = Architecture(
    name="rlfn",
    task="super-resolve",
    network=RLFN,
    required=("fea_conv.weight", "B1.c1_r.weight", "B4.esa.conv3.weight", "LR_conv.weight"),
    allowed=(
        r"(fea_conv|LR_conv|upsampler\.0"
        r"|B[1-4]\.(c[123]_r|c5|esa\.conv(1|2|3|4|_f)))\.(weight|bias)"
    ),
    value_range=255.0,
    window_px=96,
)
