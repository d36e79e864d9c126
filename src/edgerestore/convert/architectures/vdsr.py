"""VDSR: a deep chain of convolutions that sharpens a picture that was enlarged already.

Kim, Lee and Lee, "Accurate Image Super-Resolution Using Very Deep Convolutional Networks", CVPR
2016, under the names of its most used PyTorch form. It takes luma, enlarged by bicubic.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from .layers import named
from .registry import Architecture

__all__ = ["ARCHITECTURE", "VDSR"]


class VDSR(nn.Module):
    """Convolutions of one width without biases; their output is added.

    Parameters
    ----------
    channels : int
        Channels of the image.
    width : int
        Feature channels.
    depth : int
        Convolutions between the first and the last.
    """

    def __init__(self, channels: int = 1, width: int = 64, depth: int = 18) -> None:
        super().__init__()

        def conv(inputs: int, outputs: int) -> nn.Conv2d:
            return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)

        self.input = conv(channels, width)
        self.residual_layer = nn.Sequential(
            *(named(conv=conv(width, width), relu=nn.ReLU()) for _ in range(depth))
        )
        self.output = conv(width, channels)

    def residual(self, image: Tensor) -> Tensor:
        """Return the correction to add to ``image`` (f32, ``[N, C, H, W]``)."""
        made: Tensor = self.output(self.residual_layer(functional.relu(self.input(image))))
        return made

    def forward(self, image: Tensor) -> Tensor:
        """Return the sharpened image, same shape as ``image`` (f32, [0, 1])."""
        return image + self.residual(image)

    @staticmethod
    def arguments_from(state: Mapping[str, Tensor]) -> dict[str, Any]:
        """Read the constructor's arguments off the shapes of a state dict."""
        width, channels = state["input.weight"].shape[:2]
        depth = sum(name.startswith("residual_layer.") for name in state)
        return {"channels": int(channels), "width": int(width), "depth": depth}


ARCHITECTURE = Architecture(
    name="vdsr",
    task="sharpen",
    network=VDSR,
    required=("input.weight", "residual_layer.0.conv.weight", "output.weight"),
    allowed=r"(input|residual_layer\.\d+\.conv|output)\.weight",
)
