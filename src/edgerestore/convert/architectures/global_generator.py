"""Global generator of pix2pixHD.

Wang, Liu, Zhu, Tao, Kautz, Catanzaro, "High-Resolution Image Synthesis and Semantic Manipulation
with Conditional GANs", CVPR 2018. It is CycleGAN's generator with more halvings, and with biases
beside batch norm too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .layers import NORM_NAMES
from .registry import Architecture
from .resnet_generator import ResnetGenerator, generator_arguments

__all__ = ["ARCHITECTURE", "GlobalGenerator"]


class GlobalGenerator(ResnetGenerator):
    """Down by strided convolutions, residual blocks, up by transposed ones.

    Takes f32 ``[N, channels, H, W]`` in -1..1, H and W multiples of ``2**downsamplings``, and
    returns f32 ``[N, out_channels, H, W]`` in -1..1.

    Weights with three or more halvings are known by their names. Those with two have the names
    of ``resnet_generator``: name this one with ``--arch global_generator``.

    Parameters
    ----------
    channels, out_channels : int
        Colour channels of the image and of what is made of it.
    width : int
        Feature channels at full resolution; they double with each halving.
    blocks : int
        Residual blocks.
    downsamplings : int
        Halvings of the resolution.
    norm : str
        As ``norm_layer`` takes it.
    bias : bool
        Whether the convolutions have one; the last always does.
    """

    def __init__(
        self,
        channels: int = 3,
        out_channels: int = 3,
        width: int = 64,
        blocks: int = 9,
        downsamplings: int = 3,
        norm: str = "instance",
        bias: bool = True,
    ) -> None:
        super().__init__(
            channels,
            out_channels,
            width,
            blocks,
            downsamplings,
            norm,
            bias,
            dropout=False,
            learn_residual=False,
        )

    @staticmethod
    def arguments_from(state: Mapping[str, Tensor]) -> dict[str, Any]:
        """Read the constructor's arguments off the shapes of a state dict."""
        read = generator_arguments(state)
        return {name: read[name] for name in read if name not in ("dropout", "twice")}


ARCHITECTURE = Architecture(
    name="global_generator",
    task="retouch",
    general=True,
    network=GlobalGenerator,
    # A third halving stands where the generator with two has its first block.
    required=("model.1.weight", "model.4.weight", "model.7.weight", "model.10.weight"),
    # Padding and activations stand at the places that are left out.
    allowed=rf"model\.(?![0369]\.)\d+\.(conv_block\.[1256]\.)?{NORM_NAMES}",
    black=-1.0,
    value_range=1.0,
    window_px=768,
)
