"""The project's own real-time deblurring network: a small U-Net of convolutions and ReLU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .registry import Architecture

__all__ = ["ARCHITECTURE", "EdgeUNet"]


def _conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)


def _stage(width: int, depth: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [_conv(width, width), nn.ReLU()]
    return nn.Sequential(*layers)


def _upsample(inputs: int, outputs: int) -> nn.Sequential:
    # A 1x1 convolution and a pixel shuffle: several times faster at INT8 than a
    # transposed convolution, and it leaves no chequerboard.
    return nn.Sequential(_conv(inputs, outputs * 4, 1), nn.PixelShuffle(2))


class EdgeUNet(nn.Module):
    """Residual U-Net that works at 1/2, 1/4 and 1/8 of the resolution.

    Full resolution is touched only by the strided first convolution and the last
    pixel shuffle, which is what makes 1280x720 real-time on two cores.

    Parameters
    ----------
    channels : int
        Colour channels of the image.
    widths : sequence of 3 ints
        Feature channels at 1/2, 1/4 and 1/8 of the resolution.
    encode_depths : sequence of 3 ints
        Convolutions per stage on the way down, at 1/2, 1/4 and 1/8.
    decode_depths : sequence of 2 ints
        Convolutions per stage on the way up, at 1/2 and 1/4. What follows the direction of
        a blur is done there, with what the lower stages have found out.
    """

    def __init__(
        self,
        channels: int = 3,
        widths: Sequence[int] = (16, 32, 64),
        encode_depths: Sequence[int] = (1, 1, 4),
        decode_depths: Sequence[int] = (1, 1),
    ) -> None:
        super().__init__()
        half, quarter, eighth = widths
        self.down_half = _conv(channels, half, stride=2)
        self.encode_half = _stage(half, encode_depths[0])
        self.down_quarter = _conv(half, quarter, stride=2)
        self.encode_quarter = _stage(quarter, encode_depths[1])
        self.down_eighth = _conv(quarter, eighth, stride=2)
        self.encode_eighth = _stage(eighth, encode_depths[2])
        self.up_quarter = _upsample(eighth, quarter)
        self.decode_quarter = _stage(quarter, decode_depths[1])
        self.up_half = _upsample(quarter, half)
        self.decode_half = _stage(half, decode_depths[0])
        self.head = _conv(half, channels * 4)
        self.shuffle = nn.PixelShuffle(2)
        # Training starts from the identity: the first output is the input.
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def residual(self, image: Tensor) -> Tensor:
        """Return the correction to add to ``image``, ``[N, C, H, W]``, H and W multiples of 8."""
        half = self.encode_half(torch.relu(self.down_half(image)))
        quarter = self.encode_quarter(torch.relu(self.down_quarter(half)))
        eighth = self.encode_eighth(torch.relu(self.down_eighth(quarter)))
        quarter = self.decode_quarter(self.up_quarter(eighth) + quarter)
        half = self.decode_half(self.up_half(quarter) + half)
        correction: Tensor = self.shuffle(self.head(half))
        return correction

    def forward(self, image: Tensor) -> Tensor:
        """Return the restored image, same shape as ``image`` (f32, [0, 1])."""
        return image + self.residual(image)

    @staticmethod
    def arguments_from(state: Mapping[str, Tensor]) -> dict[str, Any]:
        """Read the constructor's arguments off the shapes of a state dict."""

        def depth(stage: str) -> int:
            return sum(key.startswith(f"{stage}.") and key.endswith(".weight") for key in state)

        downs = [state[f"down_{level}.weight"] for level in ("half", "quarter", "eighth")]
        return {
            "channels": int(downs[0].shape[1]),
            "widths": [int(weight.shape[0]) for weight in downs],
            "encode_depths": [depth(f"encode_{at}") for at in ("half", "quarter", "eighth")],
            "decode_depths": [depth(f"decode_{at}") for at in ("half", "quarter")],
        }


ARCHITECTURE = Architecture(
    name="edge_unet",
    task="deblur",
    network=EdgeUNet,
    required=("down_half.weight", "up_quarter.0.weight", "head.weight"),
    allowed=(
        r"(down_(half|quarter|eighth)|(encode|decode)_(half|quarter|eighth)\.\d+"
        r"|up_(quarter|half)\.0|head)\.(weight|bias)"
    ),
)
