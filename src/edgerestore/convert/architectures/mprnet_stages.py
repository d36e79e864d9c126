"""Parts of MPRNet: encoder, decoder, full-resolution stage, supervised attention.

Zamir et al., "Multi-Stage Progressive Image Restoration", CVPR 2021. Resizing is bilinear and
followed by a convolution of one pixel without bias. The two commute, so here channels are
mixed on whichever side of the resizing has fewer pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from .channel_attention import AttentiveBlock, BlockStyle

__all__ = ["Decoder", "Encoder", "FullResolution", "Pyramid", "Supervision", "UNetWidths"]

Pyramid = list[Tensor]
"""Features at full, half and quarter resolution."""


@dataclass(frozen=True)
class UNetWidths:
    """Feature channels at full resolution, and how many more each halving has."""

    top: int
    step: int

    @property
    def levels(self) -> tuple[int, int, int]:
        """Feature channels at full, half and quarter resolution."""
        return self.top, self.top + self.step, self.top + 2 * self.step


def _doubled(features: Tensor) -> Tensor:
    return functional.interpolate(features, scale_factor=2.0, mode="bilinear", align_corners=False)


class _Down(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        # At half the size, bilinear resizing is the average of four pixels.
        self.down = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(inputs, outputs, 1, bias=False))

    def forward(self, features: Tensor) -> Tensor:
        made: Tensor = self.down(features)
        return made


class _Up(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        # The authors resize first: hence the convolution's number.
        self.up = nn.Sequential()
        self.up.add_module("1", nn.Conv2d(inputs, outputs, 1, bias=False))

    def mix(self, features: Tensor) -> Tensor:
        """Mix the channels, at the small size still."""
        mixed: Tensor = self.up(features)
        return mixed

    def forward(self, features: Tensor) -> Tensor:
        return _doubled(self.mix(features))


class Encoder(nn.Module):
    """Encoder: two blocks per level.

    Parameters
    ----------
    widths : UNetWidths
    style : BlockStyle
    fused : bool
        Take in what an earlier stage has found at each level.
    """

    def __init__(self, widths: UNetWidths, style: BlockStyle, *, fused: bool) -> None:
        super().__init__()
        top, middle, bottom = widths.levels
        self.encoder_level1 = style.blocks(top, 2)
        self.encoder_level2 = style.blocks(middle, 2)
        self.encoder_level3 = style.blocks(bottom, 2)
        self.down12 = _Down(top, middle)
        self.down23 = _Down(middle, bottom)
        if fused:
            for level, width in enumerate(widths.levels, start=1):
                self.add_module(f"csff_enc{level}", style.conv(width, width, 1))
                self.add_module(f"csff_dec{level}", style.conv(width, width, 1))

    def forward(self, features: Tensor, earlier: tuple[Pyramid, Pyramid] | None = None) -> Pyramid:
        """Return the pyramid for ``[N, C, H, W]``, H and W multiples of 4."""
        made: Pyramid = []
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

    def _fuse(self, half: str, level: int, earlier: Pyramid) -> Tensor:
        fused: Tensor = self.get_submodule(f"csff_{half}{level + 1}")(earlier[level])
        return fused


class Decoder(nn.Module):
    """Decoder: two blocks per level, and one on each skip connection."""

    def __init__(self, widths: UNetWidths, style: BlockStyle) -> None:
        super().__init__()
        top, middle, bottom = widths.levels
        self.decoder_level1 = style.blocks(top, 2)
        self.decoder_level2 = style.blocks(middle, 2)
        self.decoder_level3 = style.blocks(bottom, 2)
        self.skip_attn1 = AttentiveBlock(top, style)
        self.skip_attn2 = AttentiveBlock(middle, style)
        self.up21 = _Up(middle, top)
        self.up32 = _Up(bottom, middle)

    def forward(self, encoded: Pyramid) -> Pyramid:
        """Return a pyramid of the shapes of ``encoded``."""
        quarter = self.decoder_level3(encoded[2])
        half = self.decoder_level2(self.up32(quarter) + self.skip_attn2(encoded[1]))
        full = self.decoder_level1(self.up21(half) + self.skip_attn1(encoded[0]))
        return [full, half, quarter]


class Supervision(nn.Module):
    """Supervised attention: features are weighed by the image that they already yield."""

    def __init__(self, channels: int, width: int, style: BlockStyle) -> None:
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
    def __init__(self, width: int, blocks: int, style: BlockStyle) -> None:
        super().__init__()
        # The one convolution of this size that never has a bias.
        last = nn.Conv2d(width, width, style.kernel, padding=style.kernel // 2, bias=False)
        self.body = nn.Sequential(*style.blocks(width, blocks), last)

    def forward(self, features: Tensor) -> Tensor:
        changed: Tensor = self.body(features)
        return features + changed


class FullResolution(nn.Module):
    """Full-resolution stage: blocks that never resize, fed by both pyramids of the stage before.

    Parameters
    ----------
    widths : UNetWidths
        Of the pyramids.
    width : int
        Feature channels here.
    blocks : int
        Blocks in each of the three groups.
    style : BlockStyle
    """

    def __init__(self, widths: UNetWidths, width: int, blocks: int, style: BlockStyle) -> None:
        super().__init__()
        top, middle, bottom = widths.levels
        for number in (1, 2, 3):
            self.add_module(f"orb{number}", _Shortcut(width, blocks, style))
            self.add_module(f"conv_enc{number}", style.conv(top, width, 1))
            self.add_module(f"conv_dec{number}", style.conv(top, width, 1))
        self.up_enc1 = _Up(middle, top)
        self.up_dec1 = _Up(middle, top)
        self.up_enc2 = nn.Sequential(_Up(bottom, middle), _Up(middle, top))
        self.up_dec2 = nn.Sequential(_Up(bottom, middle), _Up(middle, top))

    def forward(self, features: Tensor, encoded: Pyramid, decoded: Pyramid) -> Tensor:
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
