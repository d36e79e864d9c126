"""Image-adaptive 3D LUT: retouching by a weighted sum of colour tables.

Zeng, Cai, Li, Cao, Zhang, "Learning Image-adaptive 3D Lookup Tables for High Performance
Photo Enhancement in Real-time", TPAMI 2020. A small network classifies a thumbnail and weighs
a few basis tables; their sum is looked up, trilinearly, for every pixel of the frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .layers import named
from .registry import Architecture

__all__ = ["ARCHITECTURE", "AdaptiveLut"]

_THUMBNAIL_PX = 256
_SLOPE = 0.2
# The authors divide by slightly more than 1, so that white falls into the last cell.
_WHITE = 1.000001


def _classifier(width: int, tables: int) -> nn.Sequential:
    """Classifier of the thumbnail; its outputs are the weights of the basis tables."""
    layers: list[nn.Module] = [nn.Upsample((_THUMBNAIL_PX, _THUMBNAIL_PX), mode="bilinear")]
    inner = 3
    for outer in (width, width * 2, width * 4, width * 8):
        layers += [
            nn.Conv2d(inner, outer, 3, stride=2, padding=1),
            nn.LeakyReLU(_SLOPE),
            nn.InstanceNorm2d(outer, affine=True),
        ]
        inner = outer
    layers += [nn.Conv2d(inner, inner, 3, stride=2, padding=1), nn.LeakyReLU(_SLOPE)]
    # The authors' drop-out, here so that the numbers of the layers are theirs.
    layers += [nn.Dropout(0.5), nn.Conv2d(inner, tables, _THUMBNAIL_PX // 32)]
    return named(model=nn.Sequential(*layers), flat=nn.Flatten())


class _Table(nn.Module):
    """A colour table ``[3, B, G, R]``, as the authors keep it."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.LUT = nn.Parameter(torch.zeros(3, size, size, size))


class AdaptiveLut(nn.Module):
    """Image-adaptive 3D LUT: a classifier that weighs basis tables, applied at full resolution.

    Parameters
    ----------
    size : int
        Points of the tables along each colour.
    tables : int
        Basis tables.
    width : int
        Feature channels of the classifier's first layer.
    """

    def __init__(self, size: int = 33, tables: int = 3, width: int = 16) -> None:
        super().__init__()
        self.LUTs = nn.ModuleList(_Table(size) for _ in range(tables))
        self.classifier = _classifier(width, tables)
        self.size = size

    def forward(self, image: Tensor) -> Tensor:
        """Return f32 ``[N, 3, H, W]`` for f32 RGB ``[N, 3, H, W]`` in [0, 1]."""
        weights = self.classifier(image)
        atlas = weights @ self._atlas()
        table = atlas.reshape(-1, 6, self.size, self.size * self.size)
        return self._look_up(table, image)

    def _atlas(self) -> Tensor:
        """Return each table as pictures: slices of blue side by side, red across, green down.

        There are six channels: a slice's own three, and those of the next slice. So a look
        between two slices is one bilinear sampling, which runtimes have, and a blend.
        """
        tables = torch.stack([self.get_parameter(f"LUTs.{i}.LUT") for i in range(len(self.LUTs))])
        following = torch.cat([tables[:, :, 1:], tables[:, :, -1:]], dim=2)
        pictures = torch.cat([tables, following], dim=1).transpose(2, 3)
        return pictures.reshape(len(self.LUTs), -1)

    def _look_up(self, table: Tensor, image: Tensor) -> Tensor:
        last = self.size - 1
        place = image.clamp(0, 1) * (last / _WHITE)
        red, green, blue = place.chunk(3, dim=1)
        below = blue.floor()
        # In [-1, 1] from the first pixel's centre to the last one's.
        across = (below * self.size + red) * (2 / (self.size**2 - 1)) - 1
        down = green * (2 / last) - 1
        grid = torch.cat([across, down], dim=1).permute(0, 2, 3, 1)
        found = functional.grid_sample(table, grid, "bilinear", "border", align_corners=True)
        lower, upper = found.chunk(2, dim=1)
        return torch.lerp(lower, upper, blue - below)

    @staticmethod
    def arguments_from(state: Mapping[str, Tensor]) -> dict[str, Any]:
        """Read the constructor's arguments off the shapes of a state dict."""
        return {
            "size": int(state["LUTs.0.LUT"].shape[-1]),
            "tables": sum(name.startswith("LUTs.") for name in state),
            "width": int(state["classifier.model.1.weight"].shape[0]),
        }


ARCHITECTURE = Architecture(
    name="lut3d",
    task="retouch",
    general=True,
    network=AdaptiveLut,
    required=("LUTs.0.LUT", "classifier.model.1.weight", "classifier.model.16.weight"),
    allowed=r"LUTs\.\d+\.LUT|classifier\.model\.(1|3|4|6|7|9|10|12|13|16)\.(weight|bias)",
    whole=True,
    half_precision=False,  # a weight of a table that is off by a hundredth moves whole grey levels
)
