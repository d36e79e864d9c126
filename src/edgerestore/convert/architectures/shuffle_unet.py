"""U-Net of residual blocks behind a pixel unshuffle: the project's own family of networks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from .layers import ResidualBlock
from .registry import Architecture

__all__ = ["ARCHITECTURE", "ShuffleUNet"]


def _conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)


class ShuffleUNet(nn.Module):
    """Residual U-Net that works at 1/f, 1/2f, 1/4f, ... of the resolution.

    A pixel unshuffle by f comes first and a pixel shuffle last, so that long blur is seen at low
    resolution and full resolution costs one move of the pixels each.

    Parameters
    ----------
    inputs, outputs : int
        Channels of the image, and of the result. Where there are more of the former, the
        correction is to the first ``outputs`` of them.
    factor : int
        Of the pixel unshuffle.
    widths : sequence of ints
        Feature channels of each level, from the highest resolution to the lowest.
    encode_depths : sequence of ints
        Residual blocks of each level on the way down; as many as ``widths``.
    decode_depths : sequence of ints
        Residual blocks of each level on the way up; one fewer.
    """

    def __init__(
        self,
        inputs: int = 3,
        outputs: int = 3,
        factor: int = 4,
        widths: Sequence[int] = (40, 48, 64),
        encode_depths: Sequence[int] = (0, 1, 3),
        decode_depths: Sequence[int] = (1, 1),
    ) -> None:
        super().__init__()
        self.outputs = outputs
        self.register_buffer("factor", torch.tensor(factor))
        self.unshuffle, self.shuffle = nn.PixelUnshuffle(factor), nn.PixelShuffle(factor)
        self.stem = _conv(inputs * factor**2, widths[0])
        steps = list(pairwise(widths))
        self.encoders = nn.ModuleList(map(_stage, widths, encode_depths))
        self.downs = nn.ModuleList(_conv(high, low, stride=2) for high, low in steps)
        # A 1x1 convolution and a pixel shuffle: several times faster at INT8 than a
        # transposed convolution, and it leaves no chequerboard.
        self.ups = nn.ModuleList(_conv(low, high * 4, 1) for high, low in steps)
        self.decoders = nn.ModuleList(map(_stage, widths, decode_depths))
        self.enlarge = nn.PixelShuffle(2)
        self.head = _conv(widths[0], outputs * factor**2)
        # The image enters around zero, not around a half: features that all share a large mean
        # make ReLUs die early.
        with torch.no_grad():
            self.stem.bias.copy_(-0.5 * self.stem.weight.sum(dim=(1, 2, 3)))  # type: ignore[union-attr]
        # Training starts from the identity: the first output is the input.
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def residual(self, image: Tensor) -> Tensor:
        """Return the correction to add to ``image``, ``[N, C, H, W]``.

        H and W are multiples of f times two to the number of levels less one.
        """
        features = self.stem(self.unshuffle(image))
        passed: list[Tensor] = []
        for encode, down in zip(self.encoders, self.downs, strict=False):
            features = encode(features)
            passed.append(features)
            features = down(features)
        features = self.encoders[-1](features)
        for decode, up, high in zip(
            reversed(self.decoders), reversed(self.ups), reversed(passed), strict=True
        ):
            features = decode(self.enlarge(up(features)) + high)
        correction: Tensor = self.shuffle(self.head(features))
        return correction

    def forward(self, image: Tensor) -> Tensor:
        """Return the restored image (f32, [0, 1]), the size of ``image``."""
        return image[:, : self.outputs] + self.residual(image)

    @staticmethod
    def arguments_from(state: Mapping[str, Tensor]) -> dict[str, Any]:
        """Read the constructor's arguments off a state dict."""
        factor = int(state["factor"])
        levels = 1 + sum(bool(re.fullmatch(r"downs\.\d+\.weight", key)) for key in state)
        widths = [int(state["stem.weight"].shape[0])]
        widths += [int(state[f"downs.{level}.weight"].shape[0]) for level in range(levels - 1)]

        def depth(stage: str, level: int) -> int:
            pattern = rf"{stage}\.{level}\.\d+\.first\.weight"
            return sum(bool(re.fullmatch(pattern, key)) for key in state)

        return {
            "inputs": int(state["stem.weight"].shape[1]) // factor**2,
            "outputs": int(state["head.weight"].shape[0]) // factor**2,
            "factor": factor,
            "widths": widths,
            "encode_depths": [depth("encoders", level) for level in range(levels)],
            "decode_depths": [depth("decoders", level) for level in range(levels - 1)],
        }


def _stage(width: int, depth: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(width) for _ in range(depth)))


ARCHITECTURE = Architecture(
    name="shuffle_unet",
    task="deblur",
    general=True,
    network=ShuffleUNet,
    required=("factor", "stem.weight", "downs.0.weight", "ups.0.weight", "head.weight"),
    allowed=(
        r"factor|(stem|head|(downs|ups)\.\d+|(encoders|decoders)\.\d+\.\d+\.(first|second))"
        r"\.(weight|bias)"
    ),
)
