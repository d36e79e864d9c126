"""Residual blocks with channel attention.

Zhang, Li, Li, Wang, Zhong, Fu, "Image Super-Resolution Using Very Deep Residual Channel
Attention Networks", ECCV 2018, in the form that Zamir et al. use (MPRNet, CVPR 2021). The
weights come from averages of the whole map, so networks with it run in windows.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

__all__ = ["AttentiveBlock", "BlockStyle"]


@dataclass(frozen=True)
class BlockStyle:
    """Kernel, bias and attention of all blocks of a network.

    Parameters
    ----------
    kernel : int
        Side of the convolutions' kernels; odd.
    reduction : int
        The weights are computed from this many times fewer channels.
    bias : bool
        The convolutions have one.
    slope : torch.nn.PReLU
        One activation, shared by all blocks: its slope is learned once for the network.
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
        return nn.Sequential(*[AttentiveBlock(width, self) for _ in range(count)])


class _ChannelAttention(nn.Module):
    """Channel attention: channels are multiplied by weights in [0, 1] from their means."""

    def __init__(self, width: int, style: BlockStyle) -> None:
        super().__init__()
        inner = width // style.reduction
        self.conv_du = nn.Sequential(
            style.conv(width, inner, 1), nn.ReLU(), style.conv(inner, width, 1), nn.Sigmoid()
        )

    def forward(self, features: Tensor) -> Tensor:
        weights: Tensor = self.conv_du(features.mean((2, 3), keepdim=True))
        return features * weights


class AttentiveBlock(nn.Module):
    """Residual block: two convolutions, channel attention, and a shortcut.

    Parameters
    ----------
    width : int
        Feature channels.
    style : BlockStyle
    """

    def __init__(self, width: int, style: BlockStyle) -> None:
        super().__init__()
        self.CA = _ChannelAttention(width, style)
        self.body = nn.Sequential(style.conv(width, width), style.slope, style.conv(width, width))

    def forward(self, features: Tensor) -> Tensor:
        """Return ``[N, width, H, W]`` for the same shape; of any size."""
        changed: Tensor = self.CA(self.body(features))
        return features + changed
