"""DMPHN: deblurring by a hierarchy of patches.

Zhang, Dai, Li, Koniusz, "Deep Stacked Hierarchical Multi-patch Network for Image Deblurring",
CVPR 2019. The lowest level sees the picture cut into four or eight patches, the one above in half
as many, the first whole; each passes features and a correction up. Encoders and decoders are saved
in files of their own: ``encoder_lv1.pkl``, ``decoder_lv1.pkl``, ... Where a patch ends depends on
the picture's size, so the network runs in windows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .registry import Architecture

__all__ = ["ARCHITECTURE", "DMPHN"]

_ROWS, _COLUMNS = 2, 3
# The axis along which each level cuts the patches of the level above it.
_CUTS = (_ROWS, _COLUMNS, _ROWS)


class _Residual(nn.Sequential):
    def __init__(self, width: int) -> None:
        super().__init__(
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, features: Tensor) -> Tensor:
        changed = features
        for layer in self:
            changed = layer(changed)
        return changed + features


class _Part(nn.Module):
    """Encoder or decoder: layers in the order of their numbers."""

    def __init__(self, layers: Mapping[int, nn.Module]) -> None:
        super().__init__()
        for number, layer in layers.items():
            self.add_module(f"layer{number}", layer)

    def forward(self, features: Tensor) -> Tensor:
        for layer in self.children():
            features = layer(features)
        return features


def _encoder(width: int) -> _Part:
    twice, four = 2 * width, 4 * width
    return _Part(
        {
            1: nn.Conv2d(3, width, 3, padding=1),
            2: _Residual(width),
            3: _Residual(width),
            5: nn.Conv2d(width, twice, 3, 2, 1),
            6: _Residual(twice),
            7: _Residual(twice),
            9: nn.Conv2d(twice, four, 3, 2, 1),
            10: _Residual(four),
            11: _Residual(four),
        }
    )


def _decoder(width: int) -> _Part:
    twice, four = 2 * width, 4 * width
    return _Part(
        {
            13: _Residual(four),
            14: _Residual(four),
            16: nn.ConvTranspose2d(four, twice, 4, 2, 1),
            17: _Residual(twice),
            18: _Residual(twice),
            20: nn.ConvTranspose2d(twice, width, 4, 2, 1),
            21: _Residual(width),
            22: _Residual(width),
            24: nn.Conv2d(width, 3, 3, padding=1),
        }
    )


class DMPHN(nn.Module):
    """Levels of an encoder and a decoder each, from the smallest patches to the whole.

    Parameters
    ----------
    levels : int
        3 for DMPHN(1-2-4), 4 for DMPHN(1-2-4-8).
    width : int
        Feature channels at full resolution.
    """

    def __init__(self, levels: int = 3, width: int = 32) -> None:
        super().__init__()
        if levels not in (3, 4):
            raise ValueError(f"levels {levels}: use 3 or 4")
        for level in range(1, levels + 1):
            self.add_module(f"encoder_lv{level}", _encoder(width))
            self.add_module(f"decoder_lv{level}", _decoder(width))
        self.levels = levels

    def forward(self, image: Tensor) -> Tensor:
        """Return the deblurred image, ``[N, 3, H, W]`` in [-0.5, 0.5].

        H and W are multiples of 8 with three levels; with four, H is one of 16.
        """
        patches = [[image]]
        for axis in _CUTS[: self.levels - 1]:
            half = patches[-1][0].shape[axis] // 2
            patches.append(
                [patch.narrow(axis, at, half) for patch in patches[-1] for at in (0, half)]
            )
        corrections: list[Tensor] = []
        features: list[Tensor] = []
        for level in range(self.levels, 0, -1):
            encoder = self.get_submodule(f"encoder_lv{level}")
            decoder = self.get_submodule(f"decoder_lv{level}")
            fed = patches[level - 1]
            if corrections:
                fed = [patch + more for patch, more in zip(fed, corrections, strict=True)]
            encoded = [encoder(patch) for patch in fed]
            if features:
                encoded = [own + below for own, below in zip(encoded, features, strict=True)]
            if level > 1:
                axis, pairs = _CUTS[level - 2], zip(encoded[::2], encoded[1::2], strict=True)
                encoded = features = [torch.cat(pair, axis) for pair in pairs]
            corrections = [decoder(joined) for joined in encoded]
        return corrections[0]

    @staticmethod
    def arguments_from(state: Mapping[str, Tensor]) -> dict[str, Any]:
        """Read the constructor's arguments off the shapes of a state dict."""
        return {
            "levels": sum(name.endswith(".layer1.weight") for name in state),
            "width": int(state["encoder_lv1.layer1.weight"].shape[0]),
        }


ARCHITECTURE = Architecture(
    name="dmphn",
    task="deblur",
    general=True,
    network=DMPHN,
    required=("encoder_lv1.layer1.weight", "encoder_lv3.layer1.weight", "decoder_lv3.layer24.bias"),
    allowed=(
        r"(encoder_lv[1-4]\.layer(1|5|9|(2|3|6|7|10|11)\.[02])"
        r"|decoder_lv[1-4]\.layer(16|20|24|(13|14|17|18|21|22)\.[02]))\.(weight|bias)"
    ),
    black=-0.5,
    value_range=0.5,
    multiple_of=16,
)
