"""Local average pooling, in place of the global pooling over a training crop.

Chu, Chen, Chen, Lu, "Improving Image Restoration by Revisiting Global Information
Aggregation", ECCV 2022 (TLC): networks that pool globally are trained on crops and meet far
larger pictures, whose averages they have never seen; a window of about the crop's size
brings back the statistics of training.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["gathered_back", "window_means"]

_ROWS, _COLUMNS = 2, 3


def window_means(features: Tensor, window: int) -> Tensor:
    """Average over every window that lies inside the map, one axis after the other.

    Parameters
    ----------
    features : Tensor
        f32 ``[N, C, H, W]``.
    window : int
        Side of the window; where the map is smaller, the map's side.

    Returns
    -------
    Tensor
        ``[N, C, max(H - window, 0) + 1, max(W - window, 0) + 1]``.
    """
    return _means_along(_means_along(features, window, _ROWS), window, _COLUMNS)


def gathered_back(means: Tensor, like: Tensor, window: int) -> Tensor:
    """Give each place of a map the mean of the window around it.

    Near an edge that is the last window that fits, as if the outermost means were repeated.

    Parameters
    ----------
    means : Tensor
        ``[N, C, H', W']`` as from ``window_means``; what was done to each mean since does
        not matter.
    like : Tensor
        The map ``[N, C, H, W]`` that the windows were laid on.
    window : int
        As for ``window_means``.

    Returns
    -------
    Tensor
        ``[N, C, H, W]``.
    """
    for axis in (_ROWS, _COLUMNS):
        length = like.shape[axis]
        fitting = _smaller(length, window)
        before = (fitting - 1) // 2
        place = torch.arange(length, device=means.device) - before
        means = means.index_select(axis, place.clamp(0, length - fitting))
    return means


def _means_along(features: Tensor, window: int, axis: int) -> Tensor:
    length = features.shape[axis]
    # The pooling's kernel is a constant of the graph; the frame's size is not. So a map that
    # is too short is filled with zeros, which add nothing, and the sum is divided by what
    # was there. Running sums would take fewer additions, but not survive halves.
    lacking = window - _smaller(length, window)
    rows = axis == _ROWS
    filled = functional.pad(features, (0, 0, 0, lacking) if rows else (0, lacking))
    means = functional.avg_pool2d(filled, (window, 1) if rows else (1, window), stride=1)
    return means * (window / _smaller(length, window))


def _smaller(length: int, window: int) -> int:
    """Return the minimum in a form that stays in the graph where the length is not fixed."""
    least: int = torch.sym_min(length, window)  # type: ignore[no-untyped-call]
    return least
