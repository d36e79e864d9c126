"""DnCNN: a chain of convolutions that predicts the noise.

Zhang, Zuo, Chen, Meng, Zhang, "Beyond a Gaussian Denoiser", IEEE TIP 2017. This is the form
its authors publish for inference, with the batch norms merged into the convolutions.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from .registry import Architecture

__all__ = ["ARCHITECTURE", "DnCNN"]


class DnCNN(nn.Module):
    """Convolutions of one width with ReLU between them; the output is subtracted.

    Parameters
    ----------
    channels : int
        Channels of the image.
    width : int
        Feature channels.
    depth : int
        Convolutions, the first and the last included.
    kernel : int
        Side of the kernels, odd.
    bias : bool
        Whether the convolutions have one.
    """

    def __init__(
        self,
        channels: int = 1,
        width: int = 64,
        depth: int = 17,
        kernel: int = 3,
        bias: bool = True,
    ) -> None:
        super().__init__()
        sides = [channels, *[width] * (depth - 1), channels]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sides):
            layers += [nn.Conv2d(inputs, outputs, kernel, 1, kernel // 2, bias=bias), nn.ReLU()]
        self.model = nn.Sequential(*layers[:-1])

    def residual(self, image: Tensor) -> Tensor:
        """Return the correction to add to ``image`` (f32, ``[N, C, H, W]``): minus the noise."""
        noise: Tensor = self.model(image)
        return -noise

    def forward(self, image: Tensor) -> Tensor:
        """Return the restored image, same shape as ``image`` (f32, [0, 1])."""
        return image + self.residual(image)

    @staticmethod
    def arguments_from(state: Mapping[str, Tensor]) -> dict[str, Any]:
        """Read the constructor's arguments off the shapes of a state dict."""
        first = state["model.0.weight"]
        return {
            "channels": int(first.shape[1]),
            "width": int(first.shape[0]),
            "depth": sum(name.endswith(".weight") for name in state),
            "kernel": int(first.shape[2]),
            "bias": "model.0.bias" in state,
        }


ARCHITECTURE = Architecture(
    name="dncnn",
    task="denoise",
    network=DnCNN,
    required=("model.0.weight", "model.2.weight", "model.4.weight"),
    # Activations stand at the odd places, so weights are only ever at the even ones.
    allowed=r"model\.\d*[02468]\.(weight|bias)",
)
