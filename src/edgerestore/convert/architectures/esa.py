"""Enhanced spatial attention (ESA) of RFDN and RLFN.

Liu, Tang, Wu, "Residual Feature Aggregation Network for Image Super-Resolution", CVPR 2020.
The mask is computed on a grid six times coarser that is stretched over the whole picture, so
where a grid point falls depends on the picture's size: networks with it run in windows.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["SpatialAttention"]


class SpatialAttention(nn.Module):
    """Spatial attention: features are multiplied by a mask in [0, 1] computed at low resolution.

    Parameters
    ----------
    width : int
        Feature channels.
    inner : int
        Channels of the coarse look.
    deep : bool
        Three convolutions on the coarse grid with ReLU between them, as in RFDN; else one,
        as in RLFN.
    """

    def __init__(self, width: int, inner: int, *, deep: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, inner, 1)
        self.conv_f = nn.Conv2d(inner, inner, 1)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride=2)
        self.conv3 = nn.Conv2d(inner, inner, 3, padding=1)
        if deep:
            self.conv_max = nn.Conv2d(inner, inner, 3, padding=1)
            self.conv3_ = nn.Conv2d(inner, inner, 3, padding=1)
        self.conv4 = nn.Conv2d(inner, width, 1)
        self.deep = deep

    def forward(self, features: Tensor) -> Tensor:
        """Return ``features`` times the mask, same shape ``[N, C, H, W]``, H and W >= 15."""
        narrow = self.conv1(features)
        coarse = functional.max_pool2d(self.conv2(narrow), kernel_size=7, stride=3)
        if self.deep:
            coarse = functional.relu(self.conv_max(coarse))
            coarse = self.conv3_(functional.relu(self.conv3(coarse)))
        else:
            coarse = self.conv3(coarse)
        stretched = functional.interpolate(
            coarse, features.shape[2:], mode="bilinear", align_corners=False
        )
        mask: Tensor = self.conv4(stretched + self.conv_f(narrow))
        return features * mask.sigmoid()
