"""Fine-tuning with fake quantization: what it rounds, what it leaves alone, and how it resumes."""

from __future__ import annotations

import copy
import signal

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgerestore.convert.architectures.edge_unet import EdgeUNet
from edgerestore.convert.architectures.lut3d import AdaptiveLut
from edgerestore.convert.architectures.unet_generator import UnetGenerator
from edgerestore.errors import ArgumentError
from edgerestore.training.fake_quantization import fake_quantized

from ..checked import not_none
from .test_trainer import assert_same, run_apart, sends, weights


@pytest.fixture
def initial(recipe, train, tmp_path):
    assert train(recipe(), tmp_path / "first", "--steps", "60", "--rate", "5e-3")[0] == 0
    return tmp_path / "first" / "model.pth"


def rounded_weights(conv: nn.Module) -> Tensor:
    weight = conv.weight
    assert isinstance(weight, Tensor)
    return weight


def test_convolutions_round_and_keep_their_names_and_weights():
    torch.manual_seed(0)
    network = UnetGenerator(3, 3, 2, 8).eval()
    before = copy.deepcopy(network.state_dict())
    image = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        plain = network(image)
        rounded = fake_quantized(network, "tiny")(image)
    assert 1e-6 < (rounded - plain).abs().max() < 0.1
    assert_same(before, network.state_dict())
    assert {type(one) for one in network.modules()}.isdisjoint({nn.Conv2d, nn.ConvTranspose2d})


def test_weights_have_255_steps_by_output_channel_and_features_256_by_input_channel():
    torch.manual_seed(1)
    conv = fake_quantized(nn.Conv2d(2, 3, 3, bias=False), "tiny")
    weight = rounded_weights(conv)
    steps = weight[1] / conv.state_dict()["weight"][1].abs().max() * 127
    torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-3)
    features = torch.randn(1, 2, 64, 64) * torch.tensor([1.0, 1e-3]).reshape(1, 2, 1, 1)
    made = conv(features)
    wanted = functional.conv2d(features, weight)
    # A range for both channels together would lose the small one.
    small = functional.conv2d(features[:, 1:], weight[:, 1:])
    error = conv(features * torch.tensor([0.0, 1.0]).reshape(1, 2, 1, 1)) - small
    assert error.abs().max() < 0.02 * small.abs().max()
    assert 0 < (made - wanted).abs().max() < 0.02 * wanted.abs().max()


def test_a_picture_of_8_bits_is_not_rounded_again():
    conv = fake_quantized(nn.Conv2d(3, 4, 3), "tiny")
    image = torch.randint(0, 100, (1, 3, 16, 16)) / 255  # the brightest is not white
    wanted = functional.conv2d(image, rounded_weights(conv), conv.state_dict()["bias"])
    torch.testing.assert_close(conv(image), wanted)


def test_the_gradient_passes_the_rounding():
    torch.manual_seed(2)
    network = EdgeUNet(3, (4, 6, 8), (1, 1, 1))
    nn.init.normal_(network.head.weight, std=0.1)
    plain = copy.deepcopy(network)
    image = torch.rand(2, 3, 32, 32)
    for one in (plain, fake_quantized(network, "tiny")):
        one(image).square().mean().backward()
    for plainly, rounded in zip(plain.parameters(), network.parameters(), strict=True):
        wanted, got = (not_none(one.grad).flatten() for one in (plainly, rounded))
        assert functional.cosine_similarity(wanted, got, dim=0) > 0.97


def test_a_run_resumes_with_its_rounding_and_with_nothing_else(
    recipe, train, dataset, initial, tmp_path
):
    options = ["--qat", "--initial", str(initial)]
    parts = tmp_path / "parts"
    done = run_apart(recipe(at_loss=sends("SIGKILL")), dataset, parts, 13, *options)
    assert done.returncode == -signal.SIGKILL
    code, lines = train(recipe(), parts, "--initial", str(initial))
    assert (code, lines[-1]) == (
        2,
        f"edgerestore: {parts / 'checkpoint.pt'}: was made with --qat; use another folder for -o",
    )
    assert train(recipe(), parts, *options)[0] == 0
    assert train(recipe(), tmp_path / "whole", *options)[0] == 0
    assert_same(weights(parts), weights(tmp_path / "whole"))
    assert train(recipe(), tmp_path / "plain", *options[1:])[0] == 0
    assert any(
        not torch.equal(one, other)
        for one, other in zip(
            weights(parts).values(), weights(tmp_path / "plain").values(), strict=True
        )
    )


def test_what_cannot_be_fine_tuned_is_one_line(recipe, train, tmp_path):
    code, lines = train(recipe(), tmp_path / "out", "--qat")
    assert (code, lines[-1]) == (
        2, "edgerestore: --qat fine-tunes: name the trained weights with --initial"
    )  # fmt: skip
    with pytest.raises(ArgumentError, match="network of recipe retouch is for f32 alone"):
        fake_quantized(AdaptiveLut(5, 2, 4), "retouch")
    with pytest.raises(ArgumentError, match="network of recipe x has no convolution to round"):
        fake_quantized(nn.ReLU(), "x")
