"""SwinIR: restoration by attention in shifted windows.

Liang, Cao, Sun, Zhang, Van Gool, Timofte, "SwinIR: Image Restoration Using Swin Transformer", ICCV
workshops 2021. Every second block shifts its windows by half their side; a mask keeps apart what
only the shift brought together. The mask is computed from the picture's size: checkpoints hold it
for the training crop, and so is the table of places in a window. Neither is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .layers import named
from .registry import Architecture

__all__ = ["ARCHITECTURE", "SwinIR"]

_APART = -100.0  # added to the attention between positions that are no neighbours
_JPEG_WINDOW = 7  # of the authors' networks for compressed pictures, which work in [0, 255]
_MEAN = (0.4488, 0.4371, 0.4040)


def _in_windows(features: Tensor, side: int) -> Tensor:
    """Turn ``[N, H, W, C]`` into ``[N * windows, side * side, C]``."""
    count, high, wide, width = features.shape
    cut = features.reshape(count, high // side, side, wide // side, side, width)
    return cut.transpose(2, 3).reshape(-1, side * side, width)


def _places(side: int) -> Tensor:
    """Return the row of the bias table for each pair of positions in a window, flattened."""
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    rows, columns = rows.flatten(), columns.flatten()
    down = rows[:, None] - rows[None] + side - 1
    right = columns[:, None] - columns[None] + side - 1
    return (down * (2 * side - 1) + right).flatten()


class _WindowAttention(nn.Module):
    places: Tensor

    def __init__(self, width: int, heads: int, side: int) -> None:
        super().__init__()
        table = torch.zeros((2 * side - 1) ** 2, heads)
        self.relative_position_bias_table = nn.Parameter(table)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.register_buffer("places", _places(side), persistent=False)
        self.heads, self.side = heads, side

    def forward(self, windows: Tensor, mask: Tensor | None) -> Tensor:
        count, area, width = windows.shape
        parts = self.qkv(windows).reshape(count, area, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        weights = query * (width // self.heads) ** -0.5 @ key.transpose(-2, -1)
        bias = self.relative_position_bias_table[self.places].reshape(area, area, self.heads)
        weights = weights + bias.permute(2, 0, 1)
        if mask is not None:
            weights = weights + mask[:, None]
        attended = (weights.softmax(-1) @ value).transpose(1, 2).reshape(count, area, width)
        made: Tensor = self.proj(attended)
        return made


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, side: int, hidden: int, shift: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = _WindowAttention(width, heads, side)
        self.mlp = named(fc1=nn.Linear(width, hidden), act=nn.GELU(), fc2=nn.Linear(hidden, width))
        self.side, self.shift = side, shift

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        count, high, wide, width = features.shape
        made = self.norm1(features)
        if self.shift:
            made = torch.roll(made, (-self.shift, -self.shift), (1, 2))
        made = self.attn(_in_windows(made, self.side), mask if self.shift else None)
        cut = made.reshape(count, high // self.side, wide // self.side, self.side, self.side, width)
        made = cut.transpose(2, 3).reshape(count, high, wide, width)
        if self.shift:
            made = torch.roll(made, (self.shift, self.shift), (1, 2))
        features = features + made
        mixed: Tensor = features + self.mlp(self.norm2(features))
        return mixed


def _body_conv(width: int, *, deep: bool) -> nn.Module:
    if not deep:
        return nn.Conv2d(width, width, 3, padding=1)
    inner = width // 4
    return nn.Sequential(
        nn.Conv2d(width, inner, 3, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(inner, inner, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(inner, width, 3, padding=1),
    )


class _Group(nn.Module):
    def __init__(self, blocks: Sequence[_Block], conv: nn.Module) -> None:
        super().__init__()
        self.residual_group = named(blocks=nn.ModuleList(blocks))
        self.conv = conv

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        made = features
        for block in self.residual_group.get_submodule("blocks").children():
            made = block(made, mask)
        convolved: Tensor = self.conv(made.permute(0, 3, 1, 2))
        return convolved.permute(0, 2, 3, 1) + features


class SwinIR(nn.Module):
    """Groups of window-attention blocks, and one of four ways to the output.

    Parameters
    ----------
    channels : int
        Colour channels of the image.
    width : int
        Feature channels.
    depths, heads : sequence of int
        Blocks of each group, and their heads.
    window : int
        Side of a window.
    hidden : int
        Channels inside a block's perceptron.
    upsampler : str
        ``pixelshuffle`` (classical), ``pixelshuffledirect`` (lightweight), ``nearest+conv``
        (photographs), or ``""`` for denoising.
    upscale : int
        Output pixels per input pixel and side.
    inner : int
        Channels of the upsampler.
    deep : bool
        Three convolutions behind each group, as in the large network.
    img_range : float or None
        What white is inside the network; None is 255 with windows of 7, else 1.
    """

    mean: Tensor

    def __init__(
        self,
        channels: int = 3,
        width: int = 180,
        depths: Sequence[int] = (6, 6, 6, 6, 6, 6),
        heads: Sequence[int] = (6, 6, 6, 6, 6, 6),
        window: int = 8,
        hidden: int = 360,
        upsampler: str = "pixelshuffle",
        upscale: int = 4,
        inner: int = 64,
        *,
        deep: bool = False,
        img_range: float | None = None,
    ) -> None:
        super().__init__()
        self.conv_first = nn.Conv2d(channels, width, 3, padding=1)
        self.patch_embed = named(norm=nn.LayerNorm(width))
        self.layers = nn.ModuleList(
            _Group(
                [_Block(width, own, window, hidden, window // 2 * (i % 2)) for i in range(depth)],
                _body_conv(width, deep=deep),
            )
            for depth, own in zip(depths, heads, strict=True)
        )
        self.norm = nn.LayerNorm(width)
        self.conv_after_body = _body_conv(width, deep=deep)
        if upsampler == "pixelshuffledirect":
            self.upsample = nn.Sequential(
                nn.Conv2d(width, channels * upscale**2, 3, padding=1), nn.PixelShuffle(upscale)
            )
        elif upsampler:
            slope = nn.LeakyReLU()
            self.conv_before_upsample = nn.Sequential(nn.Conv2d(width, inner, 3, padding=1), slope)
            self.conv_last = nn.Conv2d(inner, channels, 3, padding=1)
        else:
            self.conv_last = nn.Conv2d(width, channels, 3, padding=1)
        if upsampler == "pixelshuffle":
            steps = [3] if upscale == 3 else [2] * (upscale.bit_length() - 1)
            self.upsample = nn.Sequential(
                *(
                    layer
                    for step in steps
                    for layer in (
                        nn.Conv2d(inner, inner * step**2, 3, padding=1),
                        nn.PixelShuffle(step),
                    )
                )
            )
        elif upsampler == "nearest+conv":
            for number in range(1, upscale.bit_length()):
                self.add_module(f"conv_up{number}", nn.Conv2d(inner, inner, 3, padding=1))
            self.conv_hr = nn.Conv2d(inner, inner, 3, padding=1)
        mean = torch.tensor(_MEAN if channels == 3 else (0.0,) * channels)
        self.register_buffer("mean", mean[:, None, None], persistent=False)
        self.span = img_range or (255.0 if window == _JPEG_WINDOW else 1.0)
        self.window, self.upsampler, self.upscale = window, upsampler, upscale
        self.task = "super-resolve" if upsampler else "denoise"

    def forward(self, image: Tensor) -> Tensor:
        """Return f32 ``[N, C, H * upscale, W * upscale]`` for f32 ``[N, C, H, W]`` in [0, 1]."""
        high, wide = image.shape[2:]
        padded = functional.pad(
            image, (0, -wide % self.window, 0, -high % self.window), mode="reflect"
        )
        fed = (padded - self.mean) * self.span
        shallow = self.conv_first(fed)
        made = self._enlarged(self.conv_after_body(self._body(shallow)) + shallow)
        if not self.upsampler:
            made = made + fed
        made = made / self.span + self.mean
        return made[:, :, : high * self.upscale, : wide * self.upscale]

    def _body(self, shallow: Tensor) -> Tensor:
        features = self.patch_embed(shallow.permute(0, 2, 3, 1))
        mask = self._mask(features)
        for group in self.layers:
            features = group(features, mask)
        normed: Tensor = self.norm(features)
        return normed.permute(0, 3, 1, 2)

    def _mask(self, features: Tensor) -> Tensor:
        """Return what is added to the attention of shifted windows, ``[windows, area, area]``."""
        bands = []
        for length in features.shape[1:3]:
            place = torch.arange(length, device=features.device)
            # What the shift moves to the far border comes from the near one.
            bands.append((place >= length - self.window // 2).to(features.dtype))
        regions = 2 * bands[0][:, None] + bands[1][None]
        within = _in_windows(regions[None, :, :, None], self.window).squeeze(-1)
        apart = within[:, None] != within[:, :, None]
        return apart.to(features.dtype) * _APART

    def _enlarged(self, features: Tensor) -> Tensor:
        if self.upsampler == "pixelshuffledirect":
            made: Tensor = self.upsample(features)
            return made
        if self.upsampler == "pixelshuffle":
            features = self.upsample(self.conv_before_upsample(features))
        elif self.upsampler:
            features = self.conv_before_upsample(features)
            for number in range(1, self.upscale.bit_length()):
                features = functional.interpolate(features, scale_factor=2.0, mode="nearest")
                conv = self.get_submodule(f"conv_up{number}")
                features = functional.leaky_relu(conv(features), 0.2)
            features = functional.leaky_relu(self.conv_hr(features), 0.2)
        last: Tensor = self.conv_last(features)
        return last

    @staticmethod
    def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Leave out what checkpoints hold of the training crop's size, and is computed here."""
        computed = (".attn_mask", ".relative_position_index")
        return {name: value for name, value in state.items() if not name.endswith(computed)}

    @staticmethod
    def arguments_from(state: Mapping[str, Tensor]) -> dict[str, Any]:
        """Read the constructor's arguments off the shapes of a state dict."""
        width, channels = map(int, state["conv_first.weight"].shape[:2])
        tables: dict[int, list[Tensor]] = {}
        for name, value in state.items():
            if found := re.fullmatch(r"layers\.(\d+)\..*\.relative_position_bias_table", name):
                tables.setdefault(int(found[1]), []).append(value)
        groups = [tables[number] for number in sorted(tables)]
        upsampler, upscale, inner = _way_out(state, channels)
        first = "layers.0.residual_group.blocks.0"
        return {
            "channels": channels,
            "width": width,
            "depths": tuple(map(len, groups)),
            "heads": tuple(int(group[0].shape[1]) for group in groups),
            "window": (isqrt(int(groups[0][0].shape[0])) + 1) // 2,
            "hidden": int(state[f"{first}.mlp.fc1.weight"].shape[0]),
            "upsampler": upsampler,
            "upscale": upscale,
            "inner": inner,
            "deep": "conv_after_body.0.weight" in state,
        }


def _way_out(state: Mapping[str, Tensor], channels: int) -> tuple[str, int, int]:
    """Return the upsampler, the scale, and the upsampler's channels."""
    if "conv_before_upsample.0.weight" in state:
        inner = int(state["conv_before_upsample.0.weight"].shape[0])
        if "conv_hr.weight" in state:
            return "nearest+conv", 4 if "conv_up2.weight" in state else 2, inner
        scale = 1
        for name, value in state.items():
            if re.fullmatch(r"upsample\.\d+\.weight", name):
                scale *= isqrt(int(value.shape[0]) // inner)
        return "pixelshuffle", scale, inner
    if "upsample.0.weight" in state:
        return "pixelshuffledirect", isqrt(int(state["upsample.0.weight"].shape[0]) // channels), 0
    return "", 1, 0


ARCHITECTURE = Architecture(
    name="swinir",
    task="super-resolve",
    general=True,
    network=SwinIR,
    required=(
        "conv_first.weight",
        "patch_embed.norm.weight",
        "layers.0.residual_group.blocks.0.attn.relative_position_bias_table",
    ),
    allowed=(
        r"layers\.\d+\.(residual_group\.blocks\.\d+\.((norm[12]|attn\.(qkv|proj)|mlp\.fc[12])"
        r"\.(weight|bias)|attn\.relative_position_bias_table)|conv(\.[024])?\.(weight|bias))"
        r"|(conv_first|patch_embed\.norm|norm|conv_after_body(\.[024])?|conv_before_upsample\.0"
        r"|upsample\.\d+|conv_up[12]|conv_hr|conv_last)\.(weight|bias)"
    ),
)
