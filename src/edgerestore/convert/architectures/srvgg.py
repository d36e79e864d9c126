"""SRVGGNetCompact: super-resolution by plain convolutions, the compact networks of Real-ESRGAN.

Wang, Xie, Dong and Shan, "Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure
Synthetic Data", ICCV workshops 2021; the compact form came with version 0.2.3 of its code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from .registry import Architecture

__all__ = ["ARCHITECTURE", "SRVGGNetCompact"]


class SRVGGNetCompact(nn.Module):
    """Chain of convolutions and PReLUs at the small resolution, and one pixel shuffle.

    Parameters
    ----------
    channels : int
        Colour channels of the image.
    width : int
        Feature channels.
    convs : int
        Convolutions between the first one and the last.
    upscale : int
        Output pixels per input pixel and side.
    """

    def __init__(
        self, channels: int = 3, width: int = 64, convs: int = 16, upscale: int = 4
    ) -> None:
        super().__init__()
        self.upscale = upscale
        layers: list[nn.Module] = []
        for taken in [channels, *[width] * convs]:
            layers += [nn.Conv2d(taken, width, 3, padding=1), nn.PReLU(width)]
        self.body = nn.Sequential(*layers, nn.Conv2d(width, channels * upscale**2, 3, padding=1))

    def forward(self, image: Tensor) -> Tensor:
        """Return f32 ``[N, C, H * upscale, W * upscale]`` for f32 ``[N, C, H, W]``."""
        corrected = functional.pixel_shuffle(self.body(image), self.upscale)
        base = functional.interpolate(image, scale_factor=float(self.upscale), mode="nearest")
        return base + corrected

    @staticmethod
    def arguments_from(state: Mapping[str, Tensor]) -> dict[str, Any]:
        """Read the constructor's arguments off the shapes of a state dict."""
        last = max(int(name.split(".")[1]) for name in state)
        width, channels = state["body.0.weight"].shape[:2]
        pixels = state[f"body.{last}.weight"].shape[0] // channels
        return {
            "channels": int(channels),
            "width": int(width),
            "convs": last // 2 - 1,
            "upscale": round(pixels**0.5),
        }


ARCHITECTURE = Architecture(
    name="srvgg",
    task="super-resolve",
    network=SRVGGNetCompact,
    required=("body.0.weight", "body.1.weight", "body.2.weight", "body.2.bias"),
    allowed=r"body\.(\d*[02468]\.(weight|bias)|\d*[13579]\.weight)",
)
