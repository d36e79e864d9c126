"""SINet: portrait segmentation with 87 thousand weights.

Park, Sjösund, Yoo, Monet, Bang, Kwak, "SINet: Extreme Lightweight Portrait Segmentation
Networks with Spatial Squeeze Modules and Information Blocking Decoder", WACV 2020, in the form
of the published weights. The coarse map takes detail from an earlier layer where it is unsure.
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

__all__ = ["ARCHITECTURE", "SINet"]

_CLASSES = 2  # background, person

# Of each branch: the side of its kernel, and by how much it shrinks the picture, which no
# weight tells.
_HALF = (((3, 1), (5, 1)), ((3, 1), (3, 1)))
_QUARTER = (
    ((3, 1), (5, 1)),
    ((3, 1), (3, 1)),
    ((5, 1), (3, 2)),
    ((5, 2), (3, 4)),
    ((3, 1), (3, 1)),
    ((5, 1), (5, 1)),
    ((3, 2), (3, 4)),
    ((3, 1), (5, 2)),
)
_WIDTHS = (12, 16, 48, 96)

_Branches = tuple[tuple[int, int], ...]


def _depthwise(width: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(width, width, kernel, stride, kernel // 2, groups=width, bias=False)


def _pointwise(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 1, bias=False)


def _enlarged(features: Tensor, factor: int = 2) -> Tensor:
    # The authors' upsampling maps corner onto corner.
    return functional.interpolate(
        features, scale_factor=float(factor), mode="bilinear", align_corners=True
    )


class _Squeeze(nn.Module):
    """Squeeze and excitation, directly or through a bottleneck."""

    def __init__(self, width: int, divide: int) -> None:
        super().__init__()
        inner = width // divide
        layers = [nn.Linear(width, inner), nn.PReLU(inner)]
        if divide > 1:
            layers += [nn.Linear(inner, width), nn.PReLU(width)]
        self.dense = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        weights: Tensor = self.dense(features.mean(dim=(2, 3)))
        return features * weights.unsqueeze(2).unsqueeze(3)


def _halving(inputs: int, outputs: int, divide: int) -> nn.Sequential:
    squeezed = nn.Sequential(
        _depthwise(inputs, 3, 2), _Squeeze(inputs, divide), _pointwise(inputs, outputs)
    )
    return activated(outputs, squeezed)


class _Branch(nn.Module):
    """Depthwise branch, at a reduced size where it pools."""

    def __init__(self, width: int, kernel: int, shrink: int) -> None:
        super().__init__()
        self.shrink = shrink
        self.conv = nn.Sequential(_depthwise(width, kernel), portrait_norm(width))
        self.act_conv1x1 = nn.Sequential(nn.PReLU(width), _pointwise(width, width))
        self.bn = portrait_norm(width)

    def forward(self, features: Tensor) -> Tensor:
        if self.shrink > 1:
            features = functional.avg_pool2d(features, self.shrink)
        seen = self.act_conv1x1(self.conv(features))
        if self.shrink > 1:
            seen = _enlarged(seen, self.shrink)
        normed: Tensor = self.bn(seen)
        return normed


class _Reduce(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1, groups=2, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        reduced: Tensor = self.conv(features)
        # The two groups' channels take turns, so that both branches see both groups.
        return torch.stack(reduced.chunk(2, dim=1), dim=2).flatten(1, 2)


class _Module(nn.Module):
    """Two branches side by side, with a shortcut where the width stays."""

    def __init__(self, inputs: int, outputs: int, branches: _Branches) -> None:
        super().__init__()
        self.shortcut = inputs == outputs
        self.c1 = _Reduce(inputs, outputs // 2)
        self.d1, self.d2 = (_Branch(outputs // 2, *branch) for branch in branches)
        self.BR = activated(outputs)

    def forward(self, features: Tensor) -> Tensor:
        reduced = self.c1(features)
        joined = torch.cat([self.d1(reduced), self.d2(reduced)], dim=1)
        active: Tensor = self.BR(features + joined if self.shortcut else joined)
        return active


def _modules(inputs: int, outputs: int, table: tuple[_Branches, ...]) -> nn.Sequential:
    widths = [inputs, *[outputs] * (len(table) - 1)]
    return nn.Sequential(*(_Module(w, outputs, row) for w, row in zip(widths, table, strict=True)))


class _Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        first, half, quarter, eighth = _WIDTHS
        self.level1 = activated(first, nn.Conv2d(3, first, 3, 2, 1, bias=False))
        self.level2_0 = _halving(first, half, 1)
        self.level2 = _modules(half, quarter, _HALF)
        self.BR2 = activated(half + quarter)
        self.level3_0 = _halving(half + quarter, quarter, 2)
        self.level3 = _modules(quarter, eighth, _QUARTER)
        self.BR3 = activated(quarter + eighth)
        self.classifier = named(conv=_pointwise(quarter + eighth, _CLASSES))

    def forward(self, thumbnail: Tensor) -> tuple[Tensor, Tensor]:
        """Return features at a quarter of the size, and classes at an eighth."""
        shallow = self.level2_0(self.level1(thumbnail))
        detail = self.level2(shallow)
        deep = self.level3_0(self.BR2(torch.cat([shallow, detail], dim=1)))
        joined = self.BR3(torch.cat([deep, self.level3(deep)], dim=1))
        return detail, self.classifier(joined)


class SINet(PortraitCutOut):
    """SINet: squeeze modules down to an eighth, and a decoder with information blocking.

    Parameters
    ----------
    counted : bool
        The weights hold ``num_batches_tracked``.
    """

    def __init__(self, *, counted: bool = True) -> None:
        super().__init__(counted=counted)
        self.encoder = _Encoder()
        self.bn_3 = portrait_norm(_CLASSES)
        self.level2_C = activated(_CLASSES, _pointwise(_WIDTHS[2], _CLASSES))
        self.bn_2 = portrait_norm(_CLASSES)
        self.classifier = nn.Sequential(
            nn.UpsamplingBilinear2d(scale_factor=2),
            nn.Conv2d(_CLASSES, _CLASSES, 3, padding=1, bias=False),
        )

    def classes(self, thumbnail: Tensor) -> Tensor:
        """Return the logits of background and person, f32 ``[1, 2, 224, 224]``."""
        detail, coarse = self.encoder(thumbnail)
        coarse = self.bn_3(_enlarged(coarse))
        # With two classes, the surest share is at least a half.
        doubt = 1 - coarse.softmax(dim=1).amax(dim=1, keepdim=True)
        fine = self.bn_2(_enlarged(self.level2_C(detail) * doubt + coarse))
        logits: Tensor = self.classifier(fine)
        return logits

    def predict(self, thumbnail: Tensor) -> Tensor:
        """Return a person's probability, f32 ``[1, 1, 224, 224]``, of a normalised thumbnail."""
        return self.classes(thumbnail).softmax(dim=1)[:, 1:]

    @staticmethod
    def arguments_from(state: Mapping[str, Tensor]) -> dict[str, Any]:
        """Read the constructor's arguments off a state dict."""
        return {"counted": counts_batches(state)}


ARCHITECTURE = Architecture(
    name="sinet",
    task="cut-out",
    network=SINet,
    required=("encoder.level2_0.conv.1.dense.0.weight", "level2_C.conv.weight", "bn_3.weight"),
    allowed=(
        rf"bn_[23]\.{NORM_NAMES}|classifier\.1\.weight|encoder\.classifier\.conv\.weight"
        rf"|(encoder\.(level[123]|level[23]_0|BR[23]|level[23]\.\d+\.BR)|level2_C)"
        rf"\.(conv\.weight|bn\.{NORM_NAMES}|act\.weight)"
        r"|encoder\.level[23]_0\.conv\.([02]\.weight|1\.dense\.[0-3]\.(weight|bias))"
        r"|encoder\.level[23]\.\d+\.c1\.conv\.weight"
        rf"|encoder\.level[23]\.\d+\.d[12]\.(conv\.0\.weight|conv\.1\.{NORM_NAMES}"
        rf"|act_conv1x1\.[01]\.weight|bn\.{NORM_NAMES})"
    ),
    whole=True,
    half_precision=False,  # its borders move
)
