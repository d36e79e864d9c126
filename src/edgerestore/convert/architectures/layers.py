"""Layers that architectures share: named chains, residual blocks, norms of image translation.

Instance norm without weights leaves nothing in a checkpoint, unless the PyTorch of its day
recorded running statistics that nobody reads: PyTorch 0.3 always did, and some networks asked
for it later. Their names must load all the same.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["NORM_NAMES", "ChannelNorm", "ResidualBlock", "named", "norm_arguments", "norm_layer"]

NORM_NAMES = r"(weight|bias|running_mean|running_var|num_batches_tracked)"
"""Regular expression of what a convolution or a norm keeps."""


def named(**layers: nn.Module) -> nn.Sequential:
    """Chain layers under the names that checkpoints give them."""
    return nn.Sequential(OrderedDict(layers))


class ChannelNorm(nn.Module):
    """Layer norm over the channels of each pixel.

    Written with sums and an inverse root because compilers leave that as it is: what they
    rewrite loses the mark that keeps it in f32 where the rest runs in halves, whose range the
    squares may leave.

    Parameters
    ----------
    width : int
        Feature channels.
    epsilon : float
        Added to the variance.
    """

    def __init__(self, width: int, epsilon: float = 1e-6) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, features: Tensor) -> Tensor:
        """Return the features with mean 0 and variance 1 in each pixel, weighed and moved."""
        share = 1 / features.shape[1]
        centred = features + features.sum(1, keepdim=True) * -share
        variance = (centred * centred).sum(1, keepdim=True) * share
        scaled = centred * torch.pow(variance + self.epsilon, -0.5)
        return scaled * self.weight[:, None, None] + self.bias[:, None, None]


class ResidualBlock(nn.Module):
    """Residual block: two 3x3 convolutions, a ReLU between them and none after the addition."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        # Blocks start small, so that many of them train at a high rate without normalisation.
        nn.init.normal_(self.second.weight, std=0.1 / (3 * width**0.5))
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Tensor:
        """Return the features with a correction added."""
        corrected: Tensor = features + self.second(functional.relu(self.first(features)))
        return corrected


class _InstanceNorm(nn.InstanceNorm2d):
    """Instance norm; recorded statistics, where there are some, are ignored.

    Where a picture is flat, all that is left after the mean is rounding, and norm after norm
    would blow it up to the size of a picture. Taken off beforehand, the mean leaves so little
    that the variance's ``eps`` outweighs it; elsewhere it changes nothing.
    """

    def forward(self, features: Tensor) -> Tensor:
        centred = features - features.mean((2, 3), keepdim=True)
        return functional.instance_norm(centred, eps=self.eps)


def norm_layer(kind: str, width: int) -> nn.Module:
    """Make a normalisation.

    Parameters
    ----------
    kind : str
        ``batch``: by recorded statistics, with weights. ``instance``: by the picture's own,
        nothing in the checkpoint. ``tracked``: the same, though statistics were recorded.
        ``recorded``: by those recorded statistics, without weights. ``none``.
    width : int
        Feature channels.

    Raises
    ------
    ValueError
        Where there is no such kind.
    """
    if kind == "batch":
        return nn.BatchNorm2d(width)
    if kind == "recorded":
        return nn.InstanceNorm2d(width, track_running_stats=True)
    if kind in ("instance", "tracked"):
        return _InstanceNorm(width, track_running_stats=kind == "tracked")
    if kind == "none":
        return nn.Identity()
    raise ValueError(f"norm {kind!r}: use batch, instance, tracked, recorded or none")


def norm_arguments(state: Mapping[str, Tensor], norm: str, conv: str) -> dict[str, str | bool]:
    """Read how a network normalises off its weights.

    Parameters
    ----------
    state : mapping of str to Tensor
    norm, conv : str
        Names of a norm and of the convolution before it.

    Returns
    -------
    dict
        ``norm``, as ``norm_layer`` takes it, and ``bias``, whether the convolutions have one.
    """
    bias = f"{conv}.bias" in state
    if f"{norm}.weight" in state:
        kind = "batch"
    elif f"{norm}.running_mean" in state:
        kind = "tracked"
    else:
        kind = "instance" if bias else "none"
    return {"norm": kind, "bias": bias}
