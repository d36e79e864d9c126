"""CARN: super-resolution by residual blocks that cascade.

Ahn, Kang and Sohn, "Fast, Accurate, and Lightweight Super-Resolution with Cascading Residual
Network", ECCV 2018. Weights for several scales hold an end for each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .layers import named
from .registry import Architecture

__all__ = ["ARCHITECTURE", "CARN"]

_CASCADE = 3


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, features: Tensor) -> Tensor:
        return functional.relu(features + self.body(features))


def _joined(inputs: int, width: int) -> nn.Sequential:
    return named(body=nn.Sequential(nn.Conv2d(inputs, width, 1), nn.ReLU()))


class _Cascade(nn.Module):
    """Three blocks ``b1``, ``b2``, ``b3``; after each, all that is known is joined."""

    def __init__(self, width: int, *, deep: bool) -> None:
        super().__init__()
        for number in range(1, _CASCADE + 1):
            block = _Cascade(width, deep=False) if deep else _Residual(width)
            self.add_module(f"b{number}", block)
            self.add_module(f"c{number}", _joined(width * (number + 1), width))

    def forward(self, features: Tensor) -> Tensor:
        known = made = features
        for number in range(1, _CASCADE + 1):
            known = torch.cat([known, self.get_submodule(f"b{number}")(made)], dim=1)
            made = self.get_submodule(f"c{number}")(known)
        return made


class _Upsample(nn.Module):
    def __init__(self, width: int, upscale: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for times in (2, 2) if upscale == 4 else (upscale,):
            conv = nn.Conv2d(width, width * times**2, 3, padding=1)
            layers += [conv, nn.ReLU(), nn.PixelShuffle(times)]
        self.body = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        made: Tensor = self.body(features)
        return made


class CARN(_Cascade):
    """Cascade of cascades at the small resolution, then pixel shuffles.

    Parameters
    ----------
    width : int
        Feature channels.
    upscale : int
        2, 3 or 4.
    several : bool
        The weights hold an end for each scale; all but one are left out.
    """

    def __init__(self, width: int = 64, upscale: int = 4, several: bool = False) -> None:
        super().__init__(width, deep=True)
        self.sub_mean, self.add_mean = (named(shifter=nn.Conv2d(3, 3, 1)) for _ in range(2))
        self.entry = nn.Conv2d(3, width, 3, padding=1)
        ends = {f"up{one}": _Upsample(width, one) for one in (2, 3, 4)}
        self.upsample = named(**(ends if several else {"up": _Upsample(width, upscale)}))
        self.end = f"up{upscale}" if several else "up"
        self.exit = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """Return f32 ``[N, 3, H * upscale, W * upscale]`` for f32 ``[N, 3, H, W]`` in [0, 1]."""
        deep = super().forward(self.entry(self.sub_mean(image)))
        made: Tensor = self.exit(self.upsample.get_submodule(self.end)(deep))
        restored: Tensor = self.add_mean(made)
        return restored

    @staticmethod
    def arguments_from(state: Mapping[str, Tensor]) -> dict[str, Any]:
        """Read the constructor's arguments off the shapes of a state dict."""
        width = int(state["entry.weight"].shape[0])
        if "upsample.up4.body.0.weight" in state:
            return {"width": width, "several": True}
        twice = "upsample.up.body.3.weight" in state
        times = round((state["upsample.up.body.0.weight"].shape[0] // width) ** 0.5)
        return {"width": width, "upscale": 4 if twice else times}


ARCHITECTURE = Architecture(
    name="carn",
    task="super-resolve",
    network=CARN,
    required=("sub_mean.shifter.weight", "entry.weight", "b1.c3.body.0.weight", "exit.weight"),
    allowed=(
        r"((sub|add)_mean\.shifter|entry|exit|c[123]\.body\.0|b[123]\.c[123]\.body\.0"
        r"|b[123]\.b[123]\.body\.[02]|upsample\.up[234]?\.body\.[036])\.(weight|bias)"
    ),
)
