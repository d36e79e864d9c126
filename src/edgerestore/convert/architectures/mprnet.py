"""MPRNet: deblurring, denoising and deraining in three stages.

Zamir, Arora, Khan, Hayat, Khan, Yang, Shao, "Multi-Stage Progressive Image Restoration",
CVPR 2021. The first stage sees the picture in four parts, the second in two, the third whole
and at full resolution; each passes its features on to the next.

Its blocks have the channel attention of Zhang, Li, Li, Wang, Zhong, Fu, "Image Super-Resolution
Using Very Deep Residual Channel Attention Networks", ECCV 2018. The weights come from averages of
the whole map, so the network runs in windows. Resizing is bilinear and followed by a convolution
of one pixel without bias. The two commute, so here channels are mixed on whichever side of the
resizing has fewer pixels.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .layers import named
from .registry import Architecture

__all__ = ["ARCHITECTURE", "MPRNet"]

_Pyramid = list[Tensor]  # features at full, half and quarter resolution
_Widths = tuple[int, int, int]  # their channels


@dataclass(frozen=True)
class _Style:
    """Kernel, bias and attention of all blocks of a network.

    ``reduction``: channel weights are computed from this many times fewer channels.
    ``slope``: one activation, shared by all blocks: it is learned once for the network.
    """

    kernel: int
    reduction: int
    bias: bool
    slope: nn.PReLU

    def conv(self, inputs: int, outputs: int, kernel: int | None = None) -> nn.Conv2d:
        """Return a convolution that keeps the sides, of the style's kernel or another."""
        side = kernel or self.kernel
        return nn.Conv2d(inputs, outputs, side, padding=side // 2, bias=self.bias)

    def blocks(self, width: int, count: int) -> nn.Sequential:
        """Return a sequence of blocks."""
        return nn.Sequential(*[_Block(width, self) for _ in range(count)])


class _ChannelAttention(nn.Module):
    """Channel attention: channels are multiplied by weights in [0, 1] from their means."""

    def __init__(self, width: int, style: _Style) -> None:
        super().__init__()
        inner = width // style.reduction
        self.conv_du = nn.Sequential(
            style.conv(width, inner, 1), nn.ReLU(), style.conv(inner, width, 1), nn.Sigmoid()
        )

    def forward(self, features: Tensor) -> Tensor:
        weights: Tensor = self.conv_du(features.mean((2, 3), keepdim=True))
        return features * weights


class _Block(nn.Module):
    """Residual block: two convolutions, channel attention, and a shortcut."""

    def __init__(self, width: int, style: _Style) -> None:
        super().__init__()
        self.CA = _ChannelAttention(width, style)
        self.body = nn.Sequential(style.conv(width, width), style.slope, style.conv(width, width))

    def forward(self, features: Tensor) -> Tensor:
        changed: Tensor = self.CA(self.body(features))
        return features + changed


def _doubled(features: Tensor) -> Tensor:
    return functional.interpolate(features, scale_factor=2.0, mode="bilinear", align_corners=False)


def _halving(inputs: int, outputs: int) -> nn.Sequential:
    # At half the size, bilinear resizing is the average of four pixels.
    return named(down=nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(inputs, outputs, 1, bias=False)))


class _Up(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        # The authors resize first: hence the convolution's number.
        self.up = named(**{"1": nn.Conv2d(inputs, outputs, 1, bias=False)})

    def mix(self, features: Tensor) -> Tensor:
        """Mix the channels, at the small size still."""
        mixed: Tensor = self.up(features)
        return mixed

    def forward(self, features: Tensor) -> Tensor:
        return _doubled(self.mix(features))


class _Encoder(nn.Module):
    """Encoder: two blocks per level; ``fused`` takes in what an earlier stage has found."""

    def __init__(self, widths: _Widths, style: _Style, *, fused: bool) -> None:
        super().__init__()
        top, middle, bottom = widths
        self.encoder_level1 = style.blocks(top, 2)
        self.encoder_level2 = style.blocks(middle, 2)
        self.encoder_level3 = style.blocks(bottom, 2)
        self.down12 = _halving(top, middle)
        self.down23 = _halving(middle, bottom)
        if fused:
            for level, width in enumerate(widths, start=1):
                self.add_module(f"csff_enc{level}", style.conv(width, width, 1))
                self.add_module(f"csff_dec{level}", style.conv(width, width, 1))

    def forward(
        self, features: Tensor, earlier: tuple[_Pyramid, _Pyramid] | None = None
    ) -> _Pyramid:
        """Return the pyramid for ``[N, C, H, W]``, H and W multiples of 4."""
        made: _Pyramid = []
        steps = (self.encoder_level1, self.encoder_level2, self.encoder_level3)
        for level, blocks in enumerate(steps):
            if level:
                features = (self.down12, self.down23)[level - 1](features)
            features = blocks(features)
            if earlier is not None:
                encoded, decoded = earlier
                features = features + self._fuse("enc", level, encoded)
                features = features + self._fuse("dec", level, decoded)
            made.append(features)
        return made

    def _fuse(self, half: str, level: int, earlier: _Pyramid) -> Tensor:
        fused: Tensor = self.get_submodule(f"csff_{half}{level + 1}")(earlier[level])
        return fused


class _Decoder(nn.Module):
    """Decoder: two blocks per level, and one on each skip connection."""

    def __init__(self, widths: _Widths, style: _Style) -> None:
        super().__init__()
        top, middle, bottom = widths
        self.decoder_level1 = style.blocks(top, 2)
        self.decoder_level2 = style.blocks(middle, 2)
        self.decoder_level3 = style.blocks(bottom, 2)
        self.skip_attn1 = _Block(top, style)
        self.skip_attn2 = _Block(middle, style)
        self.up21 = _Up(middle, top)
        self.up32 = _Up(bottom, middle)

    def forward(self, encoded: _Pyramid) -> _Pyramid:
        """Return a pyramid of the shapes of ``encoded``."""
        quarter = self.decoder_level3(encoded[2])
        half = self.decoder_level2(self.up32(quarter) + self.skip_attn2(encoded[1]))
        full = self.decoder_level1(self.up21(half) + self.skip_attn1(encoded[0]))
        return [full, half, quarter]


class _Supervision(nn.Module):
    """Supervised attention: features are weighed by the image that they already yield."""

    def __init__(self, channels: int, width: int, style: _Style) -> None:
        super().__init__()
        self.conv1 = style.conv(width, width, 1)
        self.conv2 = style.conv(width, channels, 1)
        self.conv3 = style.conv(channels, width, 1)

    def forward(self, features: Tensor, image: Tensor) -> Tensor:
        """Return ``[N, width, H, W]`` for that and ``image`` ``[N, channels, H, W]``."""
        restored = image + self.conv2(features)
        kept: Tensor = self.conv1(features) * torch.sigmoid(self.conv3(restored))
        return features + kept


class _Shortcut(nn.Module):
    def __init__(self, width: int, blocks: int, style: _Style) -> None:
        super().__init__()
        # The one convolution of this size that never has a bias.
        last = nn.Conv2d(width, width, style.kernel, padding=style.kernel // 2, bias=False)
        self.body = nn.Sequential(*style.blocks(width, blocks), last)

    def forward(self, features: Tensor) -> Tensor:
        changed: Tensor = self.body(features)
        return features + changed


class _FullResolution(nn.Module):
    """Full-resolution stage: blocks that never resize, fed by both pyramids of the stage before.

    ``widths`` are those of the pyramids; ``blocks`` are in each of the three groups.
    """

    def __init__(self, widths: _Widths, width: int, blocks: int, style: _Style) -> None:
        super().__init__()
        top, middle, bottom = widths
        for number in (1, 2, 3):
            self.add_module(f"orb{number}", _Shortcut(width, blocks, style))
            self.add_module(f"conv_enc{number}", style.conv(top, width, 1))
            self.add_module(f"conv_dec{number}", style.conv(top, width, 1))
        self.up_enc1 = _Up(middle, top)
        self.up_dec1 = _Up(middle, top)
        self.up_enc2 = nn.Sequential(_Up(bottom, middle), _Up(middle, top))
        self.up_dec2 = nn.Sequential(_Up(bottom, middle), _Up(middle, top))

    def forward(self, features: Tensor, encoded: _Pyramid, decoded: _Pyramid) -> Tensor:
        """Return ``[N, width, H, W]`` for that and the pyramids."""
        for level in range(3):
            features = self.get_submodule(f"orb{level + 1}")(features)
            # Both pyramids are brought to this stage's channels and added while they are
            # small, and enlarged once.
            help_ = self._brought("enc", level, encoded[level])
            help_ = help_ + self._brought("dec", level, decoded[level])
            for _ in range(level):
                help_ = _doubled(help_)
            features = features + help_
        return features

    def _brought(self, half: str, level: int, features: Tensor) -> Tensor:
        if level:
            for step in self.get_submodule(f"up_{half}{level}").modules():
                if isinstance(step, _Up):
                    features = step.mix(features)
        brought: Tensor = self.get_submodule(f"conv_{half}{level + 1}")(features)
        return brought


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
        style = _Style(kernel, reduction, bias, nn.PReLU())
        widths = (width, width + more_per_level, width + 2 * more_per_level)
        last = width + more_in_last

        def shallow() -> nn.Sequential:
            return nn.Sequential(style.conv(channels, width), _Block(width, style))

        self.shallow_feat1 = shallow()
        self.shallow_feat2 = shallow()
        self.shallow_feat3 = shallow()
        self.stage1_encoder = _Encoder(widths, style, fused=False)
        self.stage1_decoder = _Decoder(widths, style)
        self.stage2_encoder = _Encoder(widths, style, fused=True)
        self.stage2_decoder = _Decoder(widths, style)
        self.stage3_orsnet = _FullResolution(widths, last, blocks, style)
        self.sam12 = _Supervision(channels, width, style)
        self.sam23 = _Supervision(channels, width, style)
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


def _joined(parts: _Pyramid, axis: int) -> _Pyramid:
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
    general=True,
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
