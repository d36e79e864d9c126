"""ExtremeC3Net: portrait segmentation with 38 thousand weights.

Park, Sjösund, Monet, Yoo, Kwak, "ExtremeC3Net: Extreme Lightweight Portrait Segmentation
Networks using Advanced C3-modules", 2019 (the second stage, which refines the first one).
Where a kernel is dilated, two long thin kernels before it look at the pixels that it skips.

The published weights have one output, trained with the Lovász hinge loss (Berman, Triki,
Blaschko, CVPR 2018). That asks for -1 and 1 and nothing beyond, and that is what comes out,
so the mask is the share of the way from -1 to 1: a sigmoid leaves backgrounds at a quarter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .layers import NORM_NAMES, named
from .registry import Architecture
from .thumbnail import PortraitCutOut, activated, counts_batches, portrait_norm

__all__ = ["ARCHITECTURE", "ExtremeC3Net"]

_FIRST, _SECOND, _THIRD, _FINE = 24, 48, 56, 24
_BRANCHES = 3

_Dilations = tuple[int, int, int]


def _convolution(inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> nn.Sequential:
    return named(conv=nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False))


class _Wide(nn.Conv2d):
    """Depthwise convolution with a kernel of one row, run over the transposed picture.

    OpenVINO 2026.4 never comes back from compiling a row of 15 or more for 16 channels or
    fewer in bf16; columns it compiles.
    """

    def __init__(self, width: int, long: int) -> None:
        super().__init__(width, width, (1, long), groups=width, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        column = self.weight.transpose(2, 3)
        turned = functional.conv2d(
            features.transpose(2, 3), column, padding=(column.shape[2] // 2, 0), groups=self.groups
        )
        return turned.transpose(2, 3)


def _branch(width: int, outputs: int, dilation: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    if dilation > 1:
        # Together as wide and as high as the dilated kernel's reach. These norms have PyTorch's
        # own epsilon, unlike the others.
        long, reach = 2 * dilation - 1, dilation - 1
        layers += [
            nn.Conv2d(width, width, (long, 1), padding=(reach, 0), groups=width, bias=False),
            nn.BatchNorm2d(width),
            nn.PReLU(width),
            _Wide(width, long),
            nn.BatchNorm2d(width),
        ]
    layers += [
        nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation, groups=width, bias=False),
        nn.Conv2d(width, outputs, 1, bias=False),
    ]
    return named(conv=nn.Sequential(*layers))


class _Branches(nn.Module):
    """Three branches of different reach, side by side; the first takes what does not divide."""

    def __init__(self, reduce: nn.Module, outputs: int, dilations: _Dilations) -> None:
        super().__init__()
        width = outputs // _BRANCHES
        self.c1 = reduce
        self.d1 = _branch(width, outputs - width * (_BRANCHES - 1), dilations[0])
        self.d2 = _branch(width, width, dilations[1])
        self.d3 = _branch(width, width, dilations[2])

    def forward(self, features: Tensor) -> Tensor:
        reduced = self.c1(features)
        return torch.cat([branch(reduced) for branch in (self.d1, self.d2, self.d3)], dim=1)


class _Halving(_Branches):
    def __init__(self, inputs: int, outputs: int, dilations: _Dilations) -> None:
        super().__init__(_convolution(inputs, outputs // _BRANCHES, 3, 2), outputs, dilations)
        self.bn = portrait_norm(outputs)
        self.act = nn.PReLU(outputs)

    def forward(self, features: Tensor) -> Tensor:
        active: Tensor = self.act(self.bn(super().forward(features)))
        return active


class _Module(_Branches):
    """An advanced C3-module, with a shortcut where the width stays."""

    def __init__(self, inputs: int, outputs: int, dilations: _Dilations = (2, 4, 8)) -> None:
        super().__init__(_convolution(inputs, outputs // _BRANCHES), outputs, dilations)
        self.shortcut = inputs == outputs
        self.bn = activated(outputs)

    def forward(self, features: Tensor) -> Tensor:
        joined = super().forward(features)
        active: Tensor = self.bn(features + joined if self.shortcut else joined)
        return active


class _Encoder(nn.Module):
    def __init__(self, second: int, third: int) -> None:
        super().__init__()
        self.level1 = activated(_FIRST, nn.Conv2d(3, _FIRST, 3, 2, 1, bias=False))
        self.b1 = activated(_FIRST + 3)
        self.level2_0 = _Halving(_FIRST + 3, _SECOND, (1, 2, 3))
        self.level2 = nn.Sequential(*(_Module(_SECOND, _SECOND, (1, 3, 4)) for _ in range(second)))
        self.b2 = activated(_SECOND * 2 + 3)
        self.level3_0 = _Module(_SECOND * 2 + 3, _THIRD, (1, 3, 5))
        self.level3 = nn.Sequential(*(_Module(_THIRD, _THIRD) for _ in range(third)))
        self.b3 = activated(_THIRD * 2)

    def forward(self, thumbnail: Tensor) -> Tensor:
        half = functional.avg_pool2d(thumbnail, 2)
        quarter = functional.avg_pool2d(half, 2)
        entering = self.level2_0(self.b1(torch.cat([self.level1(thumbnail), half], dim=1)))
        joined = self.b2(torch.cat([self.level2(entering), entering, quarter], dim=1))
        deep = self.level3_0(joined)
        leaving: Tensor = self.b3(torch.cat([deep, self.level3(deep)], dim=1))
        return leaving


class ExtremeC3Net(PortraitCutOut):
    """ExtremeC3Net: a coarse network at a quarter of the size, and a fine branch at half.

    Parameters
    ----------
    second, third : int
        Modules after 48 and 56 channels were reached.
    classes : int
        1, from -1 for background to 1 for a person, as the published weights have it; or 2, a
        logit for each.
    counted : bool
        The weights hold ``num_batches_tracked``.
    """

    def __init__(
        self, second: int = 1, third: int = 5, classes: int = 1, *, counted: bool = True
    ) -> None:
        super().__init__(counted=counted)
        self.encoder = _Encoder(second, third)
        self.upsample = nn.Sequential(
            nn.Conv2d(_THIRD * 2, _FINE, 1, bias=False),
            nn.BatchNorm2d(_FINE),
            nn.UpsamplingBilinear2d(scale_factor=2),
        )
        self.Fine = nn.Sequential(_convolution(3, _FINE, 3, 2), _Module(_FINE, _FINE))
        self.classifier = nn.Sequential(
            activated(_FINE),
            nn.UpsamplingBilinear2d(scale_factor=2),
            nn.Conv2d(_FINE, classes, 1, bias=False),
        )

    def classes(self, thumbnail: Tensor) -> Tensor:
        """Return the classes' logits, f32 ``[1, classes, 224, 224]``."""
        coarse = self.upsample(self.encoder(thumbnail))
        logits: Tensor = self.classifier(coarse + self.Fine(thumbnail))
        return logits

    def predict(self, thumbnail: Tensor) -> Tensor:
        """Return the mask, f32 ``[1, 1, 224, 224]`` in [0, 1], of a normalised thumbnail."""
        classes = self.classes(thumbnail)
        if classes.shape[1] == 1:
            return torch.clamp((classes + 1) / 2, 0, 1)
        return classes.softmax(dim=1)[:, 1:]

    @staticmethod
    def arguments_from(state: Mapping[str, Tensor]) -> dict[str, Any]:
        """Read the constructor's arguments off the shapes of a state dict."""
        return {
            "second": _modules(state, "level2"),
            "third": _modules(state, "level3"),
            "classes": len(state["classifier.2.weight"]),
            "counted": counts_batches(state),
        }


def _modules(state: Mapping[str, Tensor], level: str) -> int:
    start, end = f"encoder.{level}.", ".c1.conv.weight"
    return sum(name.startswith(start) and name.endswith(end) for name in state)


_MODULE = r"(encoder\.(level[23]\.\d+|level3_0)|Fine\.1)"

ARCHITECTURE = Architecture(
    name="extremec3",
    task="cut-out",
    network=ExtremeC3Net,
    required=("encoder.b1.bn.weight", "Fine.1.d3.conv.5.weight", "classifier.2.weight"),
    allowed=(
        r"(encoder\.level1|Fine\.0)\.conv\.weight|upsample\.0\.weight|classifier\.2\.weight"
        rf"|(encoder\.(level1|b[123])|classifier\.0|{_MODULE}\.bn)\.(bn\.{NORM_NAMES}|act\.weight)"
        rf"|encoder\.level2_0\.(bn\.{NORM_NAMES}|act\.weight)|upsample\.1\.{NORM_NAMES}"
        rf"|(encoder\.level2_0|{_MODULE})"
        rf"\.(c1\.conv\.weight|d[123]\.conv\.([02356]\.weight|[14]\.{NORM_NAMES}))"
    ),
    whole=True,
    half_precision=False,  # its borders move
)
