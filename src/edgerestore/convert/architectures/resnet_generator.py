"""ResNet generator of CycleGAN and DeblurGAN.

Zhu, Park, Isola, Efros, "Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial
Networks", ICCV 2017; Kupyn, Budzan, Mykhailych, Mishkin, Matas, "DeblurGAN: Blind Motion
Deblurring Using Conditional Adversarial Networks", CVPR 2018. The design is that of Johnson,
Alahi, Fei-Fei, "Perceptual Losses for Real-Time Style Transfer and Super-Resolution", ECCV 2016.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from .layers import NORM_NAMES, norm_arguments, norm_layer
from .registry import Architecture

__all__ = ["ARCHITECTURE", "ResnetGenerator", "generator_arguments"]


class _Block(nn.Module):
    """Residual block at one resolution."""

    def __init__(
        self,
        width: int,
        norms: Callable[[int], nn.Module],
        *,
        bias: bool,
        dropout: bool,
        twice: bool,
    ) -> None:
        super().__init__()

        def conv() -> list[nn.Module]:
            return [nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3, bias=bias), norms(width)]

        layers = conv()
        if twice or dropout:
            layers.append(nn.ReLU())
        if dropout:
            # Does nothing here; it moves the numbers of the layers behind it.
            layers.append(nn.Dropout(0.5))
        self.conv_block = nn.Sequential(*layers, *(conv() if twice else []))

    def forward(self, features: Tensor) -> Tensor:
        changed: Tensor = self.conv_block(features)
        return features + changed


class ResnetGenerator(nn.Module):
    """Down by strided convolutions, residual blocks, up by transposed ones.

    Parameters
    ----------
    channels, out_channels : int
        Colour channels of the image and of what is made of it.
    width : int
        Feature channels at full resolution; they double with each halving.
    blocks : int
        Residual blocks: 9 or 6 as published, any number here.
    downsamplings : int
        Halvings of the resolution.
    norm : str
        As ``norm_layer`` takes it. Recorded statistics of an instance norm are passed over,
        as its authors' later code does; ``--arch-arg norm=recorded`` takes them.
    bias : bool
        Whether the convolutions have one; the last always does.
    dropout : bool
        Trained with drop-out inside the blocks.
    twice : bool
        A block has two convolutions. DeblurGAN's code of late 2018 built blocks with one, and
        a ReLU behind it only with drop-out, which such weights do not show: drop-out, its
        default, is assumed (``--arch-arg dropout=False``).
    learn_residual : bool
        What comes out is added to the image, as DeblurGAN's ``--learn_residual`` has it. The
        weights do not show it. Weights with drop-out, DeblurGAN's default, are taken to be
        trained so, and weights without, CycleGAN's default, are not; where that is wrong, say
        ``--arch-arg learn_residual=False`` or ``True``.
    """

    residual: Callable[[Tensor], Tensor] | None
    """Returns what to add to the image, ``[N, C, H, W]``; None where it makes the image."""

    def __init__(
        self,
        channels: int = 3,
        out_channels: int = 3,
        width: int = 64,
        blocks: int = 9,
        downsamplings: int = 2,
        norm: str = "instance",
        bias: bool = True,
        dropout: bool = True,
        twice: bool = True,
        learn_residual: bool = True,
    ) -> None:
        super().__init__()

        def norms(width: int) -> nn.Module:
            return norm_layer(norm, width)

        layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(channels, width, 7, bias=bias)]
        layers += [norms(width), nn.ReLU()]
        widths = [width * 2**level for level in range(downsamplings + 1)]
        for outer, inner in pairwise(widths):
            layers.append(nn.Conv2d(outer, inner, 3, stride=2, padding=1, bias=bias))
            layers += [norms(inner), nn.ReLU()]
        for _ in range(blocks):
            layers.append(_Block(widths[-1], norms, bias=bias, dropout=dropout, twice=twice))
        for inner, outer in zip(widths[:0:-1], widths[-2::-1], strict=True):
            layers.append(
                nn.ConvTranspose2d(
                    inner, outer, 3, stride=2, padding=1, output_padding=1, bias=bias
                )
            )
            layers += [norms(outer), nn.ReLU()]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(width, out_channels, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)
        self.residual = self._made if learn_residual else None

    def _made(self, image: Tensor) -> Tensor:
        made: Tensor = self.model(image)
        return made

    def forward(self, image: Tensor) -> Tensor:
        """Return f32 ``[N, out_channels, H, W]`` for f32 ``[N, channels, H, W]`` in -1..1.

        H and W are multiples of ``2**downsamplings``. A sum with the image is not clamped to
        -1..1 here: whoever blends it with the image clamps afterwards, at any strength.
        """
        made = self._made(image)
        return made if self.residual is None else image + made

    @staticmethod
    def arguments_from(state: Mapping[str, Tensor]) -> dict[str, Any]:
        """Read the constructor's arguments off the shapes of a state dict."""
        arguments = generator_arguments(state)
        return {**arguments, "learn_residual": arguments["dropout"]}


def generator_arguments(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Read all that the weights of a generator of residual blocks show."""
    blocks = sorted({int(name.split(".")[1]) for name in state if ".conv_block." in name})
    inside = re.compile(rf"model\.{blocks[0]}\.conv_block\.(\d+)\.weight")
    # The second convolution stands at 5, at 6 with drop-out before it; behind a convolution
    # at 5, a weight at 6 is the norm's.
    second = {int(found[1]) for found in map(inside.fullmatch, state) if found} & {5, 6}
    # Plain layers: the last one that has a weight is the convolution that makes the image.
    plain = [int(name.split(".")[1]) for name in state if name.count(".") == 2]
    last = state[f"model.{max(plain)}.weight"]
    width, channels = state["model.1.weight"].shape[:2]
    return {
        "channels": int(channels),
        "out_channels": int(last.shape[0]),
        "width": int(width),
        "blocks": len(blocks),
        # Four layers at the start, three for each halving.
        "downsamplings": (blocks[0] - 4) // 3,
        **norm_arguments(state, "model.2", "model.1"),
        "dropout": 5 not in second,
        "twice": bool(second),
    }


ARCHITECTURE = Architecture(
    name="resnet_generator",
    task="deblur",
    general=True,
    network=ResnetGenerator,
    # Two halvings, so the eleventh layer is a block: what tells it from pix2pixHD's.
    required=("model.1.weight", "model.4.weight", "model.7.weight", "model.10.conv_block.1.weight"),
    # Padding and activations stand at the places that are left out.
    allowed=rf"model\.(?![0369]\.)\d+\.(conv_block\.[12567]\.)?{NORM_NAMES}",
    black=-1.0,
    value_range=1.0,
)
