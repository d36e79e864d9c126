"""Base of cut-out networks: inference on a thumbnail, and a guided filter at full resolution.

A cut-out network runs at one small size of its own. The picture is brought to
that size by antialiased bilinear resizing, and the mask back to the picture's size by the
fast guided filter: He, Sun, Tang, "Guided Image Filtering", TPAMI 2013, in the form of He,
Sun, "Fast Guided Filter", 2015. Around every pixel of the thumbnail the mask is explained
as a line of the picture's grey; slope and offset are enlarged, and applied to the grey of the
full-size picture. So the mask's border moves to the edge that the picture has there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...imaging.arrays import LUMA
from .layers import named

__all__ = [
    "EPSILON",
    "RADIUS",
    "CutOut",
    "PortraitCutOut",
    "activated",
    "counts_batches",
    "portrait_norm",
    "refined",
    "resized",
]

RADIUS = 1
"""Windows of the guided filter reach so many thumbnail pixels to each side."""

EPSILON = 1e-4
"""Variance of the grey, for grey in [0, 1], below which a window has no edge to follow."""

_COUNTER = "num_batches_tracked"


def resized(image: Tensor, height: int, width: int) -> Tensor:
    """Resize by antialiased bilinear interpolation, as Pillow and PyTorch do.

    Parameters
    ----------
    image : Tensor
        f32 ``[N, C, H, W]``.
    height, width : int

    Returns
    -------
    Tensor
        f32 ``[N, C, height, width]``, within the range of ``image``.
    """
    # Not `interpolate(antialias=True)`: OpenVINO runs its graph without the antialiasing.
    rows = _weights(image.shape[2], height).to(image.device)
    columns = _weights(image.shape[3], width).to(image.device)
    return rows @ (image @ columns.T)


def _weights(given: int, wanted: int) -> Tensor:
    """Return f32 ``[wanted, given]``: the share of each given pixel in each wanted one."""
    # Distances of centres, times 2 * given * wanted: whole numbers, which every runtime
    # computes alike and a graph that is stored in half precision keeps.
    centres = (2 * torch.arange(wanted) + 1).float().unsqueeze(1) * given
    pixels = (2 * torch.arange(given) + 1).float().unsqueeze(0) * wanted
    reach = torch.clamp(torch.ones(()) * given, min=wanted) * 2
    weights = torch.clamp(1 - (centres - pixels).abs() / reach, min=0)
    return weights / weights.sum(dim=1, keepdim=True)


def refined(mask: Tensor, thumbnail: Tensor, image: Tensor) -> Tensor:
    """Bring a mask to the size of the picture, along the picture's edges.

    Parameters
    ----------
    mask : Tensor
        f32 ``[N, 1, h, w]`` in [0, 1], of the thumbnail.
    thumbnail : Tensor
        f32 RGB ``[N, 3, h, w]`` in [0, 1].
    image : Tensor
        f32 RGB ``[N, 3, H, W]`` in [0, 1].

    Returns
    -------
    Tensor
        f32 ``[N, 1, H, W]`` in [0, 1].
    """
    guide = _grey(thumbnail)
    moments = torch.cat([guide, mask, guide * guide, guide * mask], dim=1)
    grey, coarse, squares, products = _blurred(moments).chunk(4, dim=1)
    slope = (products - grey * coarse) / (squares - grey * grey + EPSILON)
    line = _blurred(torch.cat([slope, coarse - slope * grey], dim=1))
    line = _enlarged(_enlarged(line, image.shape[2], 2), image.shape[3], 3)
    slope, offset = line.chunk(2, dim=1)
    return torch.clamp(slope * _grey(image) + offset, 0, 1)


def _enlarged(planes: Tensor, wanted: int, axis: int) -> Tensor:
    """Interpolate linearly along one axis to so many pixels."""
    # Not `interpolate`: OpenVINO's CPU keeps f32 after the last of the operations it has for
    # bf16, which are convolutions, products of matrices, and interpolation. Differences of
    # squares must not be taken in bf16.
    given = planes.shape[axis]
    centres = (2 * torch.arange(wanted, device=planes.device) + 1).float()
    place = centres * given / (2.0 * wanted) - 0.5
    place = torch.clamp(place, 0, given - 1)
    below = place.floor()
    share = (place - below).view((-1, 1) if axis == 2 else (1, -1))
    lower = planes.index_select(axis, below.long())
    upper = planes.index_select(axis, torch.clamp(below.long() + 1, max=given - 1))
    return lower + (upper - lower) * share


def _grey(image: Tensor) -> Tensor:
    """Return the grey from -0.5 to 0.5: around 0, differences of squares lose less."""
    red, green, blue = image.chunk(3, dim=1)
    return red * LUMA[0] + green * LUMA[1] + blue * LUMA[2] - 0.5


def _blurred(planes: Tensor) -> Tensor:
    """Return the means of the windows; those at the border have fewer pixels."""
    return functional.avg_pool2d(
        planes, 2 * RADIUS + 1, stride=1, padding=RADIUS, count_include_pad=False
    )


def counts_batches(names: Iterable[str]) -> bool:
    """Return whether weights hold the counters of batch norms, new in PyTorch 0.4.1."""
    return any(name.endswith(_COUNTER) for name in names)


class CutOut(nn.Module, ABC):
    """Cut-out network: a mask from a thumbnail, refined by a guided filter.

    Subclasses have ``predict``, the network itself, and define how its thumbnail is made.

    Parameters
    ----------
    counted : bool
        The weights hold ``num_batches_tracked``; those of old checkpoints do not.

    Attributes
    ----------
    side_px : int
        Height and width of the thumbnail.
    mean, deviation : (float, float, float)
        What is taken off RGB in [0, 1], and what the rest is divided by.
    bgr : bool
        The network takes blue first.
    """

    side_px: ClassVar[int]
    mean: ClassVar[tuple[float, float, float]]
    deviation: ClassVar[tuple[float, float, float]]
    bgr: ClassVar[bool] = False

    def __init__(self, *, counted: bool = True) -> None:
        super().__init__()
        if not counted:
            self.register_state_dict_post_hook(_drop_counters)  # type: ignore[no-untyped-call]

    def forward(self, image: Tensor) -> Tensor:
        """Return the mask, f32 ``[N, 1, H, W]``, for f32 RGB ``[N, 3, H, W]``, both in [0, 1]."""
        thumbnail = resized(image, self.side_px, self.side_px)
        return refined(self.predict(self.normalised(thumbnail)), thumbnail, image)

    def normalised(self, thumbnail: Tensor) -> Tensor:
        """Return what ``predict`` takes for f32 RGB ``[N, 3, h, w]`` in [0, 1]."""
        mean, deviation = (
            torch.tensor(values, device=thumbnail.device).view(1, 3, 1, 1)
            for values in (self.mean, self.deviation)
        )
        fed = (thumbnail - mean) / deviation
        return fed.flip(1) if self.bgr else fed

    @abstractmethod
    def predict(self, thumbnail: Tensor) -> Tensor:
        """Return the mask of a thumbnail.

        Parameters
        ----------
        thumbnail : Tensor
            f32 ``[1, 3, side_px, side_px]``, normalised.

        Returns
        -------
        Tensor
            f32 ``[1, 1, side_px, side_px]`` in [0, 1].
        """


class PortraitCutOut(CutOut):
    """Cut-out network of Park et al.: their thumbnail of portraits."""

    side_px = 224
    # The authors' numbers are for blue, green, red in [0, 255]; what is left after both is
    # divided by 255 once more, so that the deviations stand as they are for [0, 1].
    mean = (132.35703 / 255, 115.69884 / 255, 107.304565 / 255)
    deviation = (68.29726, 65.1337, 63.97182)
    bgr = True


def portrait_norm(width: int) -> nn.BatchNorm2d:
    """Return their batch norm."""
    return nn.BatchNorm2d(width, eps=1e-3)


def activated(width: int, conv: nn.Module | None = None) -> nn.Sequential:
    """Chain batch norm and a slope for each channel, after a convolution if there is one."""
    convs = {} if conv is None else {"conv": conv}
    return named(**convs, bn=portrait_norm(width), act=nn.PReLU(width))


def _drop_counters(
    _module: nn.Module, state: dict[str, Any], prefix: str, _metadata: dict[str, Any]
) -> None:
    for name in [n for n in state if n.startswith(prefix) and n.endswith(_COUNTER)]:
        del state[name]
