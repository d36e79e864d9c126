"""RRDBNet: super-resolution by residual-in-residual dense blocks, of ESRGAN and Real-ESRGAN.

Wang, Yu, Wu, Gu, Liu, Dong, Qiao and Loy, "ESRGAN: Enhanced Super-Resolution Generative
Adversarial Networks", ECCV workshops 2018. Weights have three sets of names: those of BasicSR
(Real-ESRGAN), those of ESRGAN's own repository, and its first, numbered ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .registry import Architecture

__all__ = ["ARCHITECTURE", "RRDBNet"]

_SLOPE = 0.2
_SHARE = 0.2  # of what a block makes, in what it adds


class _Dense(nn.Module):
    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        for number in range(5):
            outputs = growth if number < 4 else width
            conv = nn.Conv2d(width + number * growth, outputs, 3, padding=1)
            self.add_module(f"conv{number + 1}", conv)

    def forward(self, features: Tensor) -> Tensor:
        known = features
        for number in range(1, 5):
            made = functional.leaky_relu(self.get_submodule(f"conv{number}")(known), _SLOPE)
            known = torch.cat([known, made], dim=1)
        changed: Tensor = self.get_submodule("conv5")(known)
        return features + changed * _SHARE


class _Block(nn.Module):
    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.rdb1, self.rdb2, self.rdb3 = (_Dense(width, growth) for _ in range(3))

    def forward(self, features: Tensor) -> Tensor:
        changed: Tensor = self.rdb3(self.rdb2(self.rdb1(features)))
        return features + changed * _SHARE


class RRDBNet(nn.Module):
    """Dense blocks at the small resolution, then two doublings by repetition and convolution.

    Networks that enlarge less than four times take the picture's pixels apart first.

    Parameters
    ----------
    channels : int
        Colour channels of the image.
    width : int
        Feature channels.
    blocks : int
        Residual-in-residual dense blocks.
    growth : int
        Channels that each convolution of a dense block adds.
    upscale : int
        1, 2 or 4.
    """

    def __init__(
        self,
        channels: int = 3,
        width: int = 64,
        blocks: int = 23,
        growth: int = 32,
        upscale: int = 4,
    ) -> None:
        super().__init__()
        self.apart = 4 // upscale
        self.conv_first = nn.Conv2d(channels * self.apart**2, width, 3, padding=1)
        self.body = nn.Sequential(*(_Block(width, growth) for _ in range(blocks)))
        self.conv_body, self.conv_up1, self.conv_up2, self.conv_hr = (
            nn.Conv2d(width, width, 3, padding=1) for _ in range(4)
        )
        self.conv_last = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """Return f32 ``[N, C, H * upscale, W * upscale]`` for f32 ``[N, C, H, W]`` in [0, 1]."""
        if self.apart > 1:
            image = functional.pixel_unshuffle(image, self.apart)
        shallow = self.conv_first(image)
        features = shallow + self.conv_body(self.body(shallow))
        for conv in (self.conv_up1, self.conv_up2):
            features = functional.interpolate(features, scale_factor=2, mode="nearest")
            features = functional.leaky_relu(conv(features), _SLOPE)
        made: Tensor = self.conv_last(functional.leaky_relu(self.conv_hr(features), _SLOPE))
        return made

    @staticmethod
    def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return weights of ESRGAN's own repository under the names of this class."""
        numbered = any(name.startswith("model.") for name in state)
        named = {}
        for name, value in state.items():
            for pattern, new in _NUMBERED if numbered else _FORMER:
                name = re.sub(pattern, new, name)
            named[name] = value
        return named

    @staticmethod
    def arguments_from(state: Mapping[str, Tensor]) -> dict[str, Any]:
        """Read the constructor's arguments off the shapes of a state dict."""
        width, inputs = state["conv_first.weight"].shape[:2]
        channels = int(state["conv_last.weight"].shape[0])
        return {
            "channels": channels,
            "width": int(width),
            "blocks": sum(name.endswith(".rdb1.conv1.weight") for name in state),
            "growth": int(state["body.0.rdb1.conv1.weight"].shape[0]),
            "upscale": {1: 4, 4: 2, 16: 1}[int(inputs) // channels],
        }


_FORMER = (
    (r"^RRDB_trunk\.", "body."),
    (r"\.RDB(\d)\.", r".rdb\1."),
    (r"^trunk_conv\.", "conv_body."),
    (r"^upconv(\d)\.", r"conv_up\1."),
    (r"^HRconv\.", "conv_hr."),
)
_NUMBERED = (
    (r"^model\.0\.", "conv_first."),
    (r"^model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\d)\.0\.", r"body.\1.rdb\2.conv\3."),
    (r"^model\.1\.sub\.\d+\.(weight|bias)$", r"conv_body.\1"),
    (r"^model\.3\.", "conv_up1."),
    (r"^model\.6\.", "conv_up2."),
    (r"^model\.8\.", "conv_hr."),
    (r"^model\.10\.", "conv_last."),
)

ARCHITECTURE = Architecture(
    name="rrdbnet",
    task="super-resolve",
    network=RRDBNet,
    required=("conv_first.weight", "body.0.rdb1.conv1.weight", "conv_up2.weight", "conv_hr.bias"),
    allowed=r"(conv_(first|body|up1|up2|hr|last)|body\.\d+\.rdb[123]\.conv[1-5])\.(weight|bias)",
)
