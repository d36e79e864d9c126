"""MPRNet: deblurring, denoising and deraining in three stages.

Zamir, Arora, Khan, Hayat, Khan, Yang, Shao, "Multi-Stage Progressive Image Restoration",
CVPR 2021. The first stage sees the picture in four parts, the second in two, the third whole
and at full resolution; each passes its features on to the next.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .channel_attention import AttentiveBlock, BlockStyle
from .mprnet_stages import Decoder, Encoder, FullResolution, Pyramid, Supervision, UNetWidths
from .registry import Architecture

__all__ = ["ARCHITECTURE", "MPRNet"]


class MPRNet(nn.Module):
    """MPRNet: three stages, of which only the last one's image is computed.

    Parameters
    ----------
    channels : int
        Colour channels of the image.
    width : int
        Feature channels of the first two stages at full resolution: 96 for deblurring, 80
        for denoising, 40 for deraining.
    more_per_level : int
        Channels that each halving adds: 48, 48, 20.
    more_in_last : int
        Channels that the last stage has beyond ``width``: 32, 32, 16.
    blocks : int
        Blocks in each of the last stage's three groups.
    kernel : int
        Side of the convolutions' kernels; odd.
    reduction : int
        Channel weights are computed from this many times fewer channels.
    bias : bool
        The convolutions have one.
    """

    def __init__(
        self,
        channels: int = 3,
        width: int = 96,
        more_per_level: int = 48,
        more_in_last: int = 32,
        blocks: int = 8,
        kernel: int = 3,
        reduction: int = 4,
        *,
        bias: bool = False,
    ) -> None:
        super().__init__()
        style = BlockStyle(kernel, reduction, bias, nn.PReLU())
        widths = UNetWidths(width, more_per_level)
        last = width + more_in_last

        def shallow() -> nn.Sequential:
            return nn.Sequential(style.conv(channels, width), AttentiveBlock(width, style))

        self.shallow_feat1 = shallow()
        self.shallow_feat2 = shallow()
        self.shallow_feat3 = shallow()
        self.stage1_encoder = Encoder(widths, style, fused=False)
        self.stage1_decoder = Decoder(widths, style)
        self.stage2_encoder = Encoder(widths, style, fused=True)
        self.stage2_decoder = Decoder(widths, style)
        self.stage3_orsnet = FullResolution(widths, last, blocks, style)
        self.sam12 = Supervision(channels, width, style)
        self.sam23 = Supervision(channels, width, style)
        self.concat12 = style.conv(2 * width, width)
        self.concat23 = style.conv(2 * width, last)
        self.tail = style.conv(last, channels)

    def residual(self, image: Tensor) -> Tensor:
        """Return what to add to ``image``, f32 ``[N, C, H, W]``, H and W multiples of 8."""
        # The parts of a picture are its neighbours in the batch: averages are of each alone.
        halves = _cut(image, 2)
        quarters = _cut(halves, 3)

        encoded = _joined(self.stage1_encoder(self.shallow_feat1(quarters)), 3)
        decoded = self.stage1_decoder(encoded)
        passed = self.sam12(decoded[0], halves)

        merged = self.concat12(torch.cat([self.shallow_feat2(halves), passed], dim=1))
        encoded = _joined(self.stage2_encoder(merged, (encoded, decoded)), 2)
        decoded = self.stage2_decoder(encoded)
        passed = self.sam23(decoded[0], image)

        merged = self.concat23(torch.cat([self.shallow_feat3(image), passed], dim=1))
        correction: Tensor = self.tail(self.stage3_orsnet(merged, encoded, decoded))
        return correction

    def forward(self, image: Tensor) -> Tensor:
        """Return the last stage's image, same shape as ``image`` (f32, [0, 1])."""
        return image + self.residual(image)

    @staticmethod
    def arguments_from(state: Mapping[str, Tensor]) -> dict[str, Any]:
        """Read the constructor's arguments off the names and shapes of a state dict."""
        first = state["shallow_feat1.0.weight"]
        width = int(first.shape[0])
        squeezes = [
            tuple(map(int, weight.shape[:2]))
            for name, weight in state.items()
            if name.endswith(".CA.conv_du.0.weight")
        ]
        group = re.compile(r"stage3_orsnet\.orb1\.body\.\d+\.CA\.conv_du\.0\.weight")
        return {
            "channels": int(first.shape[1]),
            "width": width,
            "more_per_level": int(state["stage1_encoder.down12.down.1.weight"].shape[0]) - width,
            "more_in_last": int(state["tail.weight"].shape[1]) - width,
            "blocks": sum(map(bool, map(group.fullmatch, state))),
            "kernel": int(first.shape[2]),
            "reduction": _reduction(squeezes),
            "bias": "shallow_feat1.0.bias" in state,
        }


def _cut(image: Tensor, axis: int) -> Tensor:
    """Put the second half of the pictures, along an axis, behind the first in the batch."""
    half = image.shape[axis] // 2
    return torch.cat([image.narrow(axis, 0, half), image.narrow(axis, half, half)])


def _joined(parts: Pyramid, axis: int) -> Pyramid:
    """Undo ``_cut`` on features."""
    return [torch.cat(features.chunk(2), dim=axis) for features in parts]


def _reduction(squeezes: list[tuple[int, ...]]) -> int:
    """Find the reduction of channel attention, rounded down.

    Raises
    ------
    ValueError
        When no divisor does.
    """
    for divisor in range(1, max((width for _, width in squeezes), default=0) + 1):
        if all(width // divisor == inner for inner, width in squeezes):
            return divisor
    raise ValueError("channel attention: its widths are no fraction of the features'")


_BLOCK = r"(body\.1\.weight|(body\.[02]|CA\.conv_du\.[02])\.(weight|bias))"
_LEVELS = rf"(en|de)coder_level[123]\.\d+\.{_BLOCK}"

ARCHITECTURE = Architecture(
    name="mprnet",
    task="deblur",
    network=MPRNet,
    required=(
        "shallow_feat1.0.weight",
        "stage1_encoder.down12.down.1.weight",
        "stage3_orsnet.orb1.body.0.CA.conv_du.0.weight",
        "tail.weight",
    ),
    allowed=(
        rf"shallow_feat[123]\.(0\.(weight|bias)|1\.{_BLOCK})"
        rf"|stage[12]_encoder\.({_LEVELS}|down(12|23)\.down\.1\.weight"
        r"|csff_(enc|dec)[123]\.(weight|bias))"
        rf"|stage[12]_decoder\.({_LEVELS}|skip_attn[12]\.{_BLOCK}|up(21|32)\.up\.1\.weight)"
        rf"|stage3_orsnet\.(orb[123]\.body\.\d+\.(weight|{_BLOCK})"
        r"|up_(enc|dec)(1|2\.[01])\.up\.1\.weight|conv_(enc|dec)[123]\.(weight|bias))"
        r"|(sam(12|23)\.conv[123]|concat(12|23)|tail)\.(weight|bias)"
    ),
    window_px=384,
)
