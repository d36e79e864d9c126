"""The project's own real-time deblurring network: a small U-Net of convolutions and ReLU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .layers import ResidualBlock
from .registry import Architecture

__all__ = ["ARCHITECTURE", "EdgeUNet"]


_LEVELS = ("half", "quarter", "eighth", "sixteenth")


def _conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)


def _upsample(inputs: int, outputs: int) -> nn.Sequential:
    # A 1x1 convolution and a pixel shuffle: several times faster at INT8 than a
    # transposed convolution, and it leaves no chequerboard.
    return nn.Sequential(_conv(inputs, outputs * 4, 1), nn.PixelShuffle(2))


class EdgeUNet(nn.Module):
    """Residual U-Net that works at 1/2, 1/4 and perhaps 1/8 and 1/16 of the resolution.

    Full resolution is touched only by the strided first convolution and the last
    pixel shuffle, which is what makes 1280x720 real-time on two cores.

    Parameters
    ----------
    channels : int
        Colour channels of the image.
    widths : sequence of 2 to 4 ints
        Feature channels at 1/2, 1/4 and, where there are more, 1/8 and 1/16 of the resolution. Long
        motion blur is seen at the last.
    encode_depths : sequence of ints
        Layers per stage on the way down; as many as ``widths``.
    decode_depths : sequence of ints
        Layers per stage on the way up; one fewer than ``widths``, for the last has none.
        What follows the direction of a blur is done there, with what the lower stages have found
        out.

    A layer is a convolution and a ReLU. Where there are four levels, it is a residual block at the
    lower two, whose ReLUs else die early in training: in the network of three levels from which
    the shipped `deblur` was pruned, 1/8 gave nothing.
    """

    def __init__(
        self,
        channels: int = 3,
        widths: Sequence[int] = (16, 32, 64),
        encode_depths: Sequence[int] = (1, 1, 4),
        decode_depths: Sequence[int] = (1, 1),
    ) -> None:
        super().__init__()
        self.levels = _LEVELS[: len(widths)]
        plain = self.levels if len(widths) < len(_LEVELS) else self.levels[:2]
        self.plain = frozenset(plain)
        before = channels
        for level, width, depth in zip(self.levels, widths, encode_depths, strict=True):
            self.add_module(f"down_{level}", _conv(before, width, stride=2))
            self.add_module(f"encode_{level}", self._stage(level, width, depth))
            before = width
        for level, width, low, depth in zip(
            self.levels, widths, widths[1:], decode_depths, strict=False
        ):
            self.add_module(f"up_{level}", _upsample(low, width))
            self.add_module(f"decode_{level}", self._stage(level, width, depth))
        self.head = _conv(widths[0], channels * 4)
        self.shuffle = nn.PixelShuffle(2)
        # Training starts from the identity: the first output is the input.
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def _stage(self, level: str, width: int, depth: int) -> nn.Sequential:
        if level not in self.plain:
            return nn.Sequential(*(ResidualBlock(width) for _ in range(depth)))
        return nn.Sequential(
            *(layer for _ in range(depth) for layer in (_conv(width, width), nn.ReLU()))
        )

    def residual(self, image: Tensor) -> Tensor:
        """Return the correction to add to ``image``, ``[N, C, H, W]``.

        H and W are multiples of 2 to the number of levels.
        """
        features, passed = image, []
        for level in self.levels:
            features = self.get_submodule(f"down_{level}")(features)
            if level in self.plain:
                features = torch.relu(features)
            features = self.get_submodule(f"encode_{level}")(features)
            passed.append(features)
        for level, high in zip(self.levels[-2::-1], passed[-2::-1], strict=True):
            features = self.get_submodule(f"up_{level}")(features) + high
            features = self.get_submodule(f"decode_{level}")(features)
        correction: Tensor = self.shuffle(self.head(features))
        return correction

    def forward(self, image: Tensor) -> Tensor:
        """Return the restored image, same shape as ``image`` (f32, [0, 1])."""
        return image + self.residual(image)

    @staticmethod
    def arguments_from(state: Mapping[str, Tensor]) -> dict[str, Any]:
        """Read the constructor's arguments off the shapes of a state dict."""

        def depth(stage: str) -> int:
            keys = (key for key in state if key.startswith(f"{stage}."))
            return sum(key.endswith(".weight") and ".second." not in key for key in keys)

        levels = [level for level in _LEVELS if f"down_{level}.weight" in state]
        downs = [state[f"down_{level}.weight"] for level in levels]
        return {
            "channels": int(downs[0].shape[1]),
            "widths": [int(weight.shape[0]) for weight in downs],
            "encode_depths": [depth(f"encode_{level}") for level in levels],
            "decode_depths": [depth(f"decode_{level}") for level in levels[:-1]],
        }


ARCHITECTURE = Architecture(
    name="edge_unet",
    task="deblur",
    general=True,
    network=EdgeUNet,
    required=("down_half.weight", "up_half.0.weight", "head.weight"),
    allowed=(
        r"(down_(half|quarter|eighth|sixteenth)|(encode|decode)_(half|quarter|eighth|sixteenth)\.\d+(\.first|\.second)?"
        r"|up_(eighth|quarter|half)\.0|head)\.(weight|bias)"
    ),
)
