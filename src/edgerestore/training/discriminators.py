"""Discriminators of adversarial training; their weights never ship."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

__all__ = ["Discriminator", "PatchGan", "SrganDiscriminator"]

_SLOPE = 0.2


class Discriminator(nn.Module):
    """Chain of layers that judges pictures; its blocks' features serve as a measure of content."""

    def __init__(self, *blocks: nn.Sequential) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def layers(self, image: Tensor) -> list[Tensor]:
        """Return the features behind each block; the last one's are the verdict."""
        made = []
        for block in self.blocks:
            image = block(image)
            made.append(image)
        return made

    def forward(self, image: Tensor) -> Tensor:
        """Return the verdict: above 0, or towards 1 for least squares, where it looks real."""
        return self.layers(image)[-1]


class PatchGan(Discriminator):
    """Discriminator of pix2pix: a verdict for each patch of 70 px.

    Isola, Zhu, Zhou, Efros, "Image-to-Image Translation with Conditional Adversarial Networks",
    CVPR 2017.

    Parameters
    ----------
    inputs, targets : int
        Channels of the input, which it sees beside the outcome, and of the outcome.
    width : int
        Feature channels of the first block; they double with each of the next three.
    """

    def __init__(self, inputs: int, targets: int, width: int = 64) -> None:
        conv = partial(nn.Conv2d, kernel_size=4, padding=1)
        widths = [width, width * 2, width * 4, width * 8]
        first = nn.Sequential(conv(inputs + targets, width, stride=2), nn.LeakyReLU(_SLOPE))
        blocks = [
            nn.Sequential(
                conv(before, after, stride=stride, bias=False),
                nn.BatchNorm2d(after),
                nn.LeakyReLU(_SLOPE),
            )
            for before, after, stride in zip(widths, widths[1:], (2, 2, 1), strict=False)
        ]
        super().__init__(first, *blocks, nn.Sequential(conv(width * 8, 1)))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.02)


class SrganDiscriminator(Discriminator):
    """Discriminator of SRGAN: one verdict for a picture, by its mean features.

    Ledig, Theis, Huszar and others, "Photo-Realistic Single Image Super-Resolution Using a
    Generative Adversarial Network", CVPR 2017. Instead of the authors' dense layer, which takes
    one size, the features are averaged.

    Parameters
    ----------
    inputs : int
        Not seen: the verdict is on the outcome alone.
    targets : int
        Channels of the outcome.
    width : int
        Feature channels of the first blocks; they double with every second one.
    """

    def __init__(self, inputs: int, targets: int, width: int = 64) -> None:
        del inputs
        blocks: list[nn.Sequential] = []
        before = targets
        for level in range(4):
            after = width * 2**level
            for stride in (1, 2):
                layers: list[nn.Module] = [nn.Conv2d(before, after, 3, stride, 1)]
                if blocks:
                    layers.append(nn.BatchNorm2d(after))
                blocks.append(nn.Sequential(*layers, nn.LeakyReLU(_SLOPE)))
                before = after
        verdict = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(before, before * 2, 1),
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(before * 2, 1, 1),
        )
        super().__init__(*blocks, verdict)
