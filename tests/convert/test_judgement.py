"""Networks that are not those of their weights: found among variants, refused, doubted."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgerestore.cli.app import run_command_line
from edgerestore.convert import convert
from edgerestore.convert.architectures.dncnn import DnCNN
from edgerestore.convert.architectures.rfdn import RFDN
from edgerestore.convert.checkpoint.network import build_network
from edgerestore.convert.judgement import fitting_variant
from edgerestore.convert.records import Request
from edgerestore.errors import VerificationError

HERE = Path("weights.pth")


def convolutions(network: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]


def weights_of(network: nn.Module, name: str) -> Tensor:
    return dict(network.named_parameters())[name]


def dilated_denoiser() -> DnCNN:
    """Seven convolutions dilated as in IRCNN: the noise is what is not smooth.

    Its positive and negative parts go 2, 4 and 2 px to and fro; without dilation, 1 px astray.
    """
    network = DnCNN(1, 2, 7, dilations=(1, 2, 3, 4, 3, 2, 1))
    left, middle, right = range(3)
    taps = (middle, right, middle, left, middle, right, middle)
    with torch.no_grad():
        for weights in network.parameters():
            weights.zero_()
        first, *between, last = convolutions(network)
        first.weight[0] = -1 / 9
        first.weight[0, 0, 1, 1] += 1
        first.weight[1] = -first.weight[0]
        for layer, tap in zip(between, taps[1:-1], strict=True):
            layer.weight[range(2), range(2), 1, tap] = 1.0
        last.weight[0, :, 1, 1] = torch.tensor([1.0, -1.0])
    return network


def denoiser_with_one_more_activation() -> DnCNN:
    """Takes off what is brighter than around it; without its last activation, it adds the rest."""
    network = DnCNN(1, 2, 3, last_active=True)
    with torch.no_grad():
        for weights in network.parameters():
            weights.zero_()
        first, middle, last = convolutions(network)
        first.weight[0] = -1 / 9
        first.weight[0, 0, 1, 1] += 1
        first.weight[1] = -first.weight[0]
        middle.weight[range(2), range(2), 1, 1] = 1.0
        last.weight[0, :, 1, 1] = torch.tensor([1.0, -5.0])
    return network


def pruned_enlarger() -> RFDN:
    """RFDN without shortcuts that enlarges linearly; with shortcuts it is far too bright."""
    network = RFDN(3, 6, 2, 2, shortcuts=False)
    with torch.no_grad():
        for weights in network.parameters():
            weights.zero_()
        same = {f"B{n}.c{step}_r.weight": 6 for n in range(1, 5) for step in (1, 2, 3)}
        same |= {f"B{n}.c4.weight": 3 for n in range(1, 5)}
        for name, count in {**same, "fea_conv.weight": 3, "LR_conv.weight": 3}.items():
            weights_of(network, name)[range(count), range(count), 1, 1] = 1.0
        for number in range(1, 5):
            weights_of(network, f"B{number}.c5.weight")[range(3), range(9, 12), 0, 0] = 1.0
            weights_of(network, f"B{number}.esa.conv4.bias").fill_(20.0)
        weights_of(network, "c.0.weight")[range(3), range(3), 0, 0] = 1.0
        near = torch.tensor([[0.25, 0.75, 0.0], [0.0, 0.75, 0.25]])
        for channel in range(3):
            for row in (0, 1):
                for column in (0, 1):
                    taps = torch.outer(near[row], near[column]) / 2  # the shallow are added
                    place = 4 * channel + 2 * row + column
                    weights_of(network, "upsampler.0.weight")[place, channel] = taps
    return network


@pytest.mark.parametrize(
    ("made", "found"),
    [
        (dilated_denoiser, {"dilations": (1, 2, 3, 4, 3, 2, 1)}),
        (denoiser_with_one_more_activation, {"last_active": True}),
        (pruned_enlarger, {"shortcuts": False}),
    ],
)
def test_a_variant_that_leaves_no_trace_in_the_weights_is_found(
    made: Callable[[], nn.Module], found: dict[str, object]
) -> None:
    network = made()
    taken = build_network(dict(network.state_dict()), HERE, None, {})
    lines: list[str] = []
    fitting = fitting_variant(taken, Request(HERE, "model"), lines.append)
    image = torch.rand(1, taken.arguments["channels"], 48, 56)
    assert torch.allclose(fitting.module(image), network(image), atol=1e-6)
    assert not torch.allclose(taken.module(image), network(image), atol=1e-2)
    ((name, value),) = found.items()
    assert f"with {name}={value} fits the weights" in lines[0]
    stated = Request(HERE, "model", arguments={name: taken.arguments.get(name)})
    assert fitting_variant(taken, stated, lines.append) is taken
    assert len(lines) == 1


def test_a_network_that_is_the_published_one_stays() -> None:
    network = RFDN(3, 6, 2, 2)
    weights = dict(pruned_enlarger().state_dict())
    for name in weights:
        if re.fullmatch(r"B\d\.c\d_r\.weight", name):
            weights[name] = torch.zeros_like(weights[name])  # the shortcuts alone are left
    network.load_state_dict(weights)
    taken = build_network(dict(network.state_dict()), HERE, None, {})
    assert fitting_variant(taken, Request(HERE, "model"), pytest.fail) is taken


@pytest.fixture
def inverted(tmp_path: Path) -> Path:
    """A denoiser of another network: it returns the negative of nearly what it is given."""
    network = DnCNN(1, 2, 3)
    with torch.no_grad():
        for weights in network.parameters():
            weights.zero_()
        for layer, weight in zip(convolutions(network), (1.0, 1.0, 2.0), strict=True):
            layer.weight[0, 0, 1, 1] = weight
        weights_of(network, "model.4.bias").fill_(-1)
    torch.save(network.state_dict(), tmp_path / "other.pth")
    return tmp_path / "other.pth"


def test_a_network_that_restores_worse_than_given_is_refused_unless_forced(
    inverted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["convert", str(inverted), "-o", str(tmp_path / "bundle")]
    assert run_command_line(command) == 3
    said = capsys.readouterr().err.splitlines()[-1]
    assert "other.pth: restores worse than given: 20." in said
    for tried in ("--range 1, --range 255, --range -1..1", "slope=0.2", "--force"):
        assert tried in said
    assert not (tmp_path / "bundle").exists()
    assert run_command_line([*command, "--force"]) == 0
    assert "restores worse than given" in capsys.readouterr().err


def test_a_network_of_an_unknown_task_is_only_doubted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "own.py").write_text(
        "from torch import nn\n\nclass Negative(nn.Module):\n    def __init__(self):\n"
        "        super().__init__()\n        self.c = nn.Conv2d(3, 3, 1)\n"
        "    def forward(self, image):\n        return self.c(image)\n"
    )
    eye = torch.eye(3)[:, :, None, None]
    torch.save({"c.weight": -eye, "c.bias": torch.ones(3)}, tmp_path / "own.pth")
    own = f"{tmp_path / 'own.py'}:Negative"
    with caplog.at_level(logging.WARNING):
        convert(tmp_path / "own.pth", tmp_path / "bundle", architecture=own)
    assert "own.pth: restores worse than given" in caplog.text
    with pytest.raises(VerificationError, match="restores worse than given"):
        convert(tmp_path / "own.pth", tmp_path / "again", architecture=own, task="denoise")
