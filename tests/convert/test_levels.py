"""The value range of a network, judged by how it answers pictures."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from edgerestore.convert.graph.signature import Signature
from edgerestore.convert.levels import fitting_levels
from edgerestore.convert.samples import load_samples
from edgerestore.convert.trial import Trial
from edgerestore.convert.verify import Reference, torch_network

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgerestore.imaging.arrays import Planes

TRIAL = Trial(load_samples(None, 3), "deblur", 1)


class Curve(nn.Module):
    """Leaves a picture nearly as it is within its own range, and nowhere else."""

    def __init__(self, white: float) -> None:
        super().__init__()
        self.white = white

    def forward(self, image: Tensor) -> Tensor:
        curve = 0.5 - 0.5 * torch.cos(torch.pi * image / self.white)
        return 0.5 * image + 0.5 * self.white * curve


def answers(network: nn.Module) -> Callable[[Signature], Callable[[Planes], Planes]]:
    return lambda signature: Reference(torch_network(network), signature)


def found(
    network: nn.Module, white: float, *, stated: bool, usual: bool = False
) -> tuple[Signature, list[str]]:
    lines: list[str] = []
    signature = fitting_levels(
        Signature(3, 3, value_range=white),
        answers(network),
        TRIAL,
        stated=stated,
        usual=usual,
        report=lines.append,
    )
    return signature, lines


@pytest.mark.parametrize("white", [1.0, 255.0])
def test_the_range_is_found_where_nobody_states_it(white: float) -> None:
    signature, lines = found(Curve(white), 1.0, stated=False)
    assert (signature.black, signature.value_range) == (0.0, white)
    assert len(lines) == (white != 1.0)
    assert all("range: 255 fits" in line for line in lines)


def test_a_range_that_was_stated_is_kept_and_doubted(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        signature, lines = found(Curve(1.0), 255.0, stated=True)
    assert (signature.value_range, lines) == (255.0, [])
    assert "--range 255 is doubtful" in caplog.text
    assert "convert with --range 1" in caplog.text
    caplog.clear()
    assert found(Curve(255.0), 255.0, stated=True)[0].value_range == 255.0
    assert caplog.text == ""


def test_a_network_of_no_opinion_keeps_what_was_given(caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    for network in (nn.Identity(), nn.Conv2d(3, 3, 3, padding=1)):  # any range; no restorer
        signature, lines = found(network, 1.0, stated=False)
        assert (signature.value_range, lines, caplog.text) == (1.0, [], "")


class Sharpener(nn.Module):
    """Sharpens less in [0, 255] than in [0, 1], where it was made for more blur than there is."""

    def forward(self, image: Tensor) -> Tensor:
        soft = nn.functional.avg_pool2d(image, 3, 1, 1, count_include_pad=False)
        detail = image - soft
        return image + torch.where(image.amax() > 1.5, 1.0, 1.8) * detail


def test_the_usual_range_of_an_architecture_outlasts_a_small_advantage_of_another() -> None:
    signature, lines = found(Sharpener(), 1.0, stated=False)
    assert signature.value_range == 255.0  # the advantage, where nothing is known
    assert "fits the weights" in lines[0]
    assert found(Sharpener(), 1.0, stated=False, usual=True) == (Signature(3, 3), [])
