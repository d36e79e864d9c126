"""The U-Net generator of pix2pix.

Isola, Zhu, Zhou, Efros, "Image-to-Image Translation with Conditional Adversarial Networks",
CVPR 2017, in the authors' PyTorch form: strided 4x4 convolutions down to a single pixel,
transposed ones back up, and a skip at every level.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .layers import NORM_NAMES, named, norm_arguments, norm_layer
from .registry import Architecture

__all__ = ["ARCHITECTURE", "UnetGenerator"]

_SLOPE = 0.2
_WIDEST = 8  # times the first level's width


class _Level(nn.Module):
    """Block below a skip: down, the next level, up. Returns it beside its input."""

    def __init__(self, layers: list[nn.Module], *, skip_first: bool) -> None:
        super().__init__()
        self.model = nn.Sequential(*layers)
        self.skip_first = skip_first

    def forward(self, features: Tensor) -> Tensor:
        made = self.model(features)
        both = (features, made) if self.skip_first else (made, features)
        return torch.cat(both, dim=1)


class UnetGenerator(nn.Module):
    """A U-Net of any depth: ``unet_256`` has 8 levels, ``unet_128`` has 7.

    Drop-out is off and batch norm takes the recorded statistics, which is the authors'
    ``--eval``; drop-out has no weights and stands last, so weights trained with it load too.

    Parameters
    ----------
    channels, out_channels : int
        Colour channels of the image and of what is made of it.
    width : int
        Feature channels of the first level; they double with each of the next three.
    depth : int
        Levels; at least 3.
    norm : str
        As ``norm_layer`` takes it; batch and instance norm are told by the weights.
    bias : bool
        Whether the convolutions have one.
    skip_first : bool
        The skip's channels come before the lower level's. The weights do not show it:
        DeblurGAN's U-Net and the pix2pix of early 2017 have them behind
        (``--arch-arg skip_first=False``).
    """

    def __init__(
        self,
        channels: int = 3,
        out_channels: int = 3,
        width: int = 64,
        depth: int = 8,
        norm: str = "batch",
        bias: bool = False,
        skip_first: bool = True,
    ) -> None:
        super().__init__()
        if depth < 3:
            raise ValueError(f"depth {depth}: at least 3 levels")
        widths = [width * min(2**level, _WIDEST) for level in range(depth)]

        def down(inputs: int, outputs: int) -> nn.Module:
            return nn.Conv2d(inputs, outputs, 4, stride=2, padding=1, bias=bias)

        def up(inputs: int, outputs: int) -> nn.Module:
            return nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=bias)

        below: list[nn.Module] = []
        for outer, inner in reversed(list(pairwise(widths))):
            layers = [nn.LeakyReLU(_SLOPE), down(outer, inner)]
            if below:
                layers += [norm_layer(norm, inner), *below]
            returned = inner * 2 if below else inner
            layers += [nn.ReLU(), up(returned, outer), norm_layer(norm, outer)]
            below = [_Level(layers, skip_first=skip_first)]
        last = nn.ConvTranspose2d(width * 2, out_channels, 4, stride=2, padding=1)
        layers = [down(channels, width), *below, nn.ReLU(), last, nn.Tanh()]
        self.model = named(model=nn.Sequential(*layers))
        self.grid = 2**depth

    def forward(self, image: Tensor) -> Tensor:
        """Return f32 ``[N, out_channels, H, W]`` for f32 ``[N, channels, H, W]``, in -1..1.

        The authors' takes sides that are multiples of ``2**depth`` and no others. Here what is
        missing is filled by repeating the edge, and cut off again.
        """
        height, width = image.shape[2:]
        below, beside = -height % self.grid, -width % self.grid
        if not (below or beside):
            made: Tensor = self.model(image)
            return made
        filled = functional.pad(image, (0, beside, 0, below), mode="replicate")
        made = self.model(filled)
        return made[:, :, :height, :width]

    @staticmethod
    def arguments_from(state: Mapping[str, Tensor]) -> dict[str, Any]:
        """Read the constructor's arguments off the shapes of a state dict."""
        width, channels = state["model.model.0.weight"].shape[:2]
        depth, level = 1, "model.model.1"
        while f"{level}.model.1.weight" in state:
            depth, level = depth + 1, f"{level}.model.3"
        return {
            "channels": int(channels),
            "out_channels": int(state["model.model.3.weight"].shape[1]),
            "width": int(width),
            "depth": depth,
            **norm_arguments(state, "model.model.1.model.2", "model.model.1.model.1"),
        }


ARCHITECTURE = Architecture(
    name="unet_generator",
    task="deblur",
    general=True,
    network=UnetGenerator,
    required=(
        "model.model.0.weight",
        "model.model.1.model.1.weight",
        "model.model.1.model.3.model.1.weight",
        "model.model.3.weight",
        "model.model.3.bias",
    ),
    allowed=rf"model\.model\.([03]|1(\.model\.3)*\.model\.[1-6])\.{NORM_NAMES}",
    black=-1.0,
    value_range=1.0,
    window_px=512,  # on the grid of unet_256
)
