"""DnCNN: a chain of convolutions that predicts the noise.

Zhang, Zuo, Chen, Meng, Zhang, "Beyond a Gaussian Denoiser", IEEE TIP 2017. This is the form
its authors publish for inference, with the batch norms merged into the convolutions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    dilations : sequence of int
        Of each convolution; empty for none. IRCNN (Zhang, Zuo, Gu, Zhang, CVPR 2017) is of this
        form, with 1, 2, 3, 4, 3, 2, 1.
    slope : float
        Of the activation below 0.
    last_active : bool
        Whether an activation follows the last convolution as well.
    """

    def __init__(
        self,
        channels: int = 1,
        width: int = 64,
        depth: int = 17,
        kernel: int = 3,
        bias: bool = True,
        dilations: Sequence[int] = (),
        slope: float = 0.0,
        last_active: bool = False,
    ) -> None:
        super().__init__()
        dilations = tuple(dilations) or (1,) * depth
        if len(dilations) != depth:
            raise ValueError(f"{len(dilations)} dilations for {depth} convolutions")
        sides = [channels, *[width] * (depth - 1), channels]
        layers: list[nn.Module] = []
        for (inputs, outputs), dilation in zip(pairwise(sides), dilations, strict=True):
            padding = kernel // 2 * dilation
            layers += [
                nn.Conv2d(inputs, outputs, kernel, 1, padding, dilation, bias=bias),
                nn.LeakyReLU(slope) if slope else nn.ReLU(),
            ]
        self.model = nn.Sequential(*(layers if last_active else layers[:-1]))

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


def _other_network(state: Mapping[str, Tensor]) -> str | None:
    """Name the networks of the same weights' names that take a noise level beside the image."""
    name = max((n for n in state if n.endswith(".weight")), key=lambda n: int(n.split(".")[1]))
    taken, made = int(state["model.0.weight"].shape[1]), int(state[name].shape[0])
    if taken != made + 1:
        return None
    known = "FFDNet" if made in (4, 12) else "FDnCNN"  # FFDNet's image is folded into quarters
    return f"{known}, which takes a map of the noise level beside the image, and bundles take none"


ARCHITECTURE = Architecture(
    name="dncnn",
    task="denoise",
    network=DnCNN,
    required=("model.0.weight", "model.2.weight", "model.4.weight"),
    # Activations stand at the odd places, so weights are only ever at the even ones.
    refusal=_other_network,
    untraced={"dilations": [(1, 2, 3, 4, 3, 2, 1)], "slope": [0.2], "last_active": [True]},
    allowed=r"model\.\d*[02468]\.(weight|bias)",
)
