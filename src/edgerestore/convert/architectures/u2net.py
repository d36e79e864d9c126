"""U²-Net: salient objects, cut out by a U of small U's.

Qin, Zhang, Huang, Dehghan, Zaiane, Jagersand, "U²-Net: Going Deeper with Nested U-Structure
for Salient Object Detection", Pattern Recognition 2020: the full network (44 million
weights) and U²-NetP (1.1 million), which are told apart by their widths.

What differs from the authors' own inference, on purpose:

- They divide the picture by its largest value. Here white stays white: a frame must not
  change its mask because one highlight in it came or went, and on photographs, which nearly
  always have one, it is the same.
- They stretch the output so that it spans 0 to 1. Here the probability stays as it is: in a
  picture without an object, stretching would make one out of nothing.
- They enlarge the mask bilinearly; here it follows the edges of the picture.

Of the seven outputs only the fused one is returned; the side outputs (`U2Net.maps`) guide the
training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .layers import NORM_NAMES, named
from .registry import Architecture
from .thumbnail import CutOut, counts_batches

__all__ = ["ARCHITECTURE", "U2Net"]

_STAGES = ("1", "2", "3", "4", "5", "6", "5d", "4d", "3d", "2d", "1d")
_DEPTHS = (7, 6, 5, 4, 0, 0, 0, 4, 5, 6, 7)  # 0: four layers that dilate instead of shrinking
_FULL_INNER = (32, 32, 64, 128, 256, 256, 256, 128, 64, 32, 16)
_FULL_OUTER = (64, 128, 256, 512, 512, 512, 512, 256, 128, 64, 64)
_SIDES = 6


def _layer(inputs: int, outputs: int, dilation: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation)
    return named(conv_s1=conv, bn_s1=nn.BatchNorm2d(outputs), relu=nn.ReLU())


def _shrunk(features: Tensor) -> Tensor:
    return functional.max_pool2d(features, 2)


def _enlarged(features: Tensor, factor: int = 2) -> Tensor:
    return functional.interpolate(features, scale_factor=float(factor), mode="bilinear")


class _Block(nn.Module):
    """A U of its own: ``depth`` layers down, one less up, and a shortcut around them."""

    def __init__(self, inputs: int, inner: int, outer: int, depth: int) -> None:
        super().__init__()
        self.dilates = depth == 0
        self.depth = depth or 4
        self.rebnconvin = _layer(inputs, outer)
        for level in range(1, self.depth + 1):
            fed = outer if level == 1 else inner
            self.add_module(f"rebnconv{level}", _layer(fed, inner, self._dilation(level)))
        for level in range(self.depth - 1, 0, -1):
            made = outer if level == 1 else inner
            self.add_module(f"rebnconv{level}d", _layer(inner * 2, made, self._dilation(level)))

    def _dilation(self, level: int) -> int:
        if self.dilates:
            return int(2 ** (level - 1))
        return 2 if level == self.depth else 1

    def forward(self, features: Tensor) -> Tensor:
        entering = self.rebnconvin(features)
        down = [self.get_submodule("rebnconv1")(entering)]
        for level in range(2, self.depth + 1):
            # The bottom layer dilates where the others shrink.
            fed = down[-1] if self.dilates or level == self.depth else _shrunk(down[-1])
            down.append(self.get_submodule(f"rebnconv{level}")(fed))
        up = down.pop()
        for level in range(self.depth - 1, 0, -1):
            if not self.dilates and level < self.depth - 1:
                up = _enlarged(up)
            up = self.get_submodule(f"rebnconv{level}d")(torch.cat([up, down.pop()], dim=1))
        leaving: Tensor = up + entering
        return leaving


class U2Net(CutOut):
    """Six stages down and five up, each a U of its own; six maps are fused to one mask.

    Parameters
    ----------
    inner, outer : sequence of int
        Feature channels within and after each stage: the six down, then the five up.
    counted : bool
        The weights hold ``num_batches_tracked``.
    """

    side_px = 320
    mean = (0.485, 0.456, 0.406)
    deviation = (0.229, 0.224, 0.225)

    def __init__(
        self,
        inner: Sequence[int] = _FULL_INNER,
        outer: Sequence[int] = _FULL_OUTER,
        *,
        counted: bool = True,
    ) -> None:
        super().__init__(counted=counted)
        fed = [3, *outer[:5]]
        fed += [outer[5 + up] + outer[4 - up] for up in range(5)]
        for name, *widths in zip(_STAGES, fed, inner, outer, _DEPTHS, strict=True):
            self.add_module(f"stage{name}", _Block(*widths))
        sides = [*reversed(outer[6:]), outer[5]]
        for side, width in enumerate(sides, 1):
            self.add_module(f"side{side}", nn.Conv2d(width, 1, 3, padding=1))
        self.outconv = nn.Conv2d(_SIDES, 1, 1)

    def predict(self, thumbnail: Tensor) -> Tensor:
        """Return the mask, f32 ``[N, 1, 320, 320]`` in [0, 1], of a normalised thumbnail."""
        return self.maps(thumbnail)[0]

    def maps(self, thumbnail: Tensor) -> list[Tensor]:
        """Return the mask, and behind it the six side outputs of the same size."""
        down = [self.get_submodule("stage1")(thumbnail)]
        for name in _STAGES[1:6]:
            down.append(self.get_submodule(f"stage{name}")(_shrunk(down[-1])))
        made = [down.pop()]
        for name in _STAGES[6:]:
            joined = torch.cat([_enlarged(made[-1]), down.pop()], dim=1)
            made.append(self.get_submodule(f"stage{name}")(joined))
        maps = []
        for side, features in enumerate(reversed(made), 1):
            side_map = self.get_submodule(f"side{side}")(features)
            maps.append(side_map if side == 1 else _enlarged(side_map, 2 ** (side - 1)))
        fused: Tensor = self.outconv(torch.cat(maps, dim=1))
        return [fused.sigmoid(), *(side_map.sigmoid() for side_map in maps)]

    @staticmethod
    def arguments_from(state: Mapping[str, Tensor]) -> dict[str, Any]:
        """Read the constructor's arguments off the shapes of a state dict."""
        return {
            "inner": [len(state[f"stage{name}.rebnconv1.conv_s1.bias"]) for name in _STAGES],
            "outer": [len(state[f"stage{name}.rebnconvin.conv_s1.bias"]) for name in _STAGES],
            "counted": counts_batches(state),
        }


ARCHITECTURE = Architecture(
    name="u2net",
    task="cut-out",
    network=U2Net,
    required=(
        "stage1.rebnconvin.conv_s1.weight",
        "stage6.rebnconv4.conv_s1.weight",
        "stage1d.rebnconv6d.bn_s1.weight",
        "side6.weight",
        "outconv.weight",
    ),
    allowed=(
        r"stage([1-6]|[1-5]d)\.rebnconv(in|[1-7]|[1-6]d)"
        rf"\.(conv_s1\.(weight|bias)|bn_s1\.{NORM_NAMES})"
        r"|(side[1-6]|outconv)\.(weight|bias)"
    ),
    whole=True,
)
