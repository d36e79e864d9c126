"""FSRCNN: super-resolution by a thin network whose last layer enlarges.

Dong, Loy and Tang, "Accelerating the Super-Resolution Convolutional Neural Network", ECCV 2016,
under the names of its most used PyTorch form. It enlarges luma.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from .registry import Architecture

__all__ = ["ARCHITECTURE", "FSRCNN"]


class FSRCNN(nn.Module):
    """Convolutions at the small resolution, and a transposed one of stride ``upscale``.

    Parameters
    ----------
    upscale : int
        Output pixels per input pixel and side; the weights do not show it.
    channels : int
        Channels of the image.
    width : int
        Feature channels of the first layer.
    middle : int
        Feature channels between.
    depth : int
        Convolutions between.
    """

    def __init__(
        self, upscale: int, channels: int = 1, width: int = 56, middle: int = 12, depth: int = 4
    ) -> None:
        super().__init__()
        self.first_part = nn.Sequential(nn.Conv2d(channels, width, 5, padding=2), nn.PReLU(width))
        between: list[nn.Module] = [nn.Conv2d(width, middle, 1), nn.PReLU(middle)]
        for _ in range(depth):
            between += [nn.Conv2d(middle, middle, 3, padding=1), nn.PReLU(middle)]
        between += [nn.Conv2d(middle, width, 1), nn.PReLU(width)]
        self.mid_part = nn.Sequential(*between)
        self.last_part = nn.ConvTranspose2d(
            width, channels, 9, stride=upscale, padding=4, output_padding=upscale - 1
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return f32 ``[N, C, H * upscale, W * upscale]`` for f32 ``[N, C, H, W]`` in [0, 1]."""
        made: Tensor = self.last_part(self.mid_part(self.first_part(image)))
        return made

    @staticmethod
    def arguments_from(state: Mapping[str, Tensor]) -> dict[str, Any]:
        """Read the constructor's arguments off the shapes of a state dict; not ``upscale``."""
        width, channels = state["first_part.0.weight"].shape[:2]
        convs = sum(
            value.ndim == 4 and name.startswith("mid_part") for name, value in state.items()
        )
        return {
            "channels": int(channels),
            "width": int(width),
            "middle": int(state["mid_part.0.weight"].shape[0]),
            "depth": convs - 2,
        }


ARCHITECTURE = Architecture(
    name="fsrcnn",
    task="super-resolve",
    network=FSRCNN,
    required=("first_part.0.weight", "first_part.1.weight", "mid_part.2.weight", "last_part.bias"),
    allowed=r"(first_part\.0|mid_part\.\d*[02468]|last_part)\.(weight|bias)"
    r"|(first_part\.1|mid_part\.\d*[13579])\.weight",
)
