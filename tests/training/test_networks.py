"""Weights to start from, teachers, and networks that count from another black to another white."""

from __future__ import annotations

import pytest
import torch

import edgerestore
from edgerestore.convert import convert
from edgerestore.convert.architectures.rlfn import RLFN
from edgerestore.convert.architectures.shuffle_unet import ShuffleUNet
from edgerestore.convert.architectures.unet_generator import UnetGenerator
from edgerestore.errors import ArgumentError, BundleError, CheckpointError
from edgerestore.training.networks import Levels, load_teacher, start_from
from edgerestore.training.recipes import load_recipe

CPU = torch.device("cpu")


def random_weights(network, scale=1.0):
    torch.manual_seed(5)
    with torch.no_grad():
        for value in network.parameters():
            value.normal_(std=scale * 0.2 / max(1, value[0].numel()) ** 0.5)
        for value in network.buffers():
            if value.is_floating_point():
                value.uniform_(0.5, 1.5)
    return network.eval()


def shuffle_unet():
    return ShuffleUNet(3, 3, 2, (8, 8), (0, 1), (1,))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher")
    network = random_weights(shuffle_unet())
    torch.save(network.state_dict(), folder / "model.pth")
    convert(folder / "model.pth", folder / "bundle", name="teacher")
    return network, folder / "bundle"


def test_a_bundles_weights_are_read_back_bit_for_bit(bundle):
    network, folder = bundle
    fresh = shuffle_unet()
    start_from(fresh, folder, "tiny")
    for name, value in network.state_dict().items():
        torch.testing.assert_close(fresh.state_dict()[name], value, rtol=0, atol=0)


def test_a_model_that_ships_can_be_trained_on(picture):
    network = load_recipe("deblur").network()
    start_from(network, "deblur", "deblur")
    image = picture(64, 96, seed=3)
    with torch.inference_mode():
        made = network(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255)
    with edgerestore.load("deblur", precision="fp32") as restorer:
        wanted = restorer(image)
    levels = (made[0].permute(1, 2, 0).clamp(0, 1) * 255).round().byte().numpy()
    assert (levels == wanted).mean() > 0.999


def test_weights_that_do_not_fit_are_named(bundle, tmp_path):
    _, folder = bundle
    with pytest.raises(CheckpointError, match=r"recipe tiny: 4 weights missing \(encoders.1.1"):
        start_from(ShuffleUNet(3, 3, 2, (8, 8), (0, 2), (1,)), folder, "tiny")
    with pytest.raises(CheckpointError, match="of another shape"):
        start_from(ShuffleUNet(3, 3, 2, (8, 12), (0, 1), (1,)), folder, "tiny")
    with pytest.raises(CheckpointError, match="deblur: does not fit the network of .* converted"):
        start_from(shuffle_unet(), "deblur", "tiny")
    with pytest.raises(BundleError, match="no bundle there"):
        start_from(shuffle_unet(), tmp_path / "nothing", "tiny")


def test_levels_are_those_of_the_architecture():
    assert Levels.of(RLFN()) == Levels(0, 255)
    assert Levels.of(UnetGenerator(width=4, depth=5)) == Levels(-1, 1)
    assert Levels.of(torch.nn.Conv2d(3, 3, 1)) == Levels(0, 1)
    image = torch.rand(1, 3, 4, 4)
    levels = Levels(-1, 1)
    torch.testing.assert_close(levels.from_network(levels.to_network(image)), image)
    assert levels.to_network(torch.tensor([0.0, 1.0])).tolist() == [-1, 1]


def teacher(folder, **changes):
    wanted = {"task": "deblur", "upscale": 1, "channels": 3, "device": CPU}
    return load_teacher(folder, **{**wanted, **changes})


def test_a_teacher_makes_what_its_bundle_makes(bundle, picture):
    network, folder = bundle
    degraded = torch.from_numpy(picture(32, 48, seed=1)).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        wanted = network(degraded).clamp(0, 1)
    torch.testing.assert_close(teacher(folder)(degraded), wanted, rtol=0, atol=1e-6)


def test_a_teacher_whose_network_is_not_known_runs_as_hosts_run_it(mask_bundle, picture):
    degraded = torch.from_numpy(picture(48, 64, seed=1)).permute(2, 0, 1)[None].float() / 255
    made = teacher(mask_bundle, task="cut-out")(degraded)
    red, green = degraded[:, :1], degraded[:, 1:2]
    wanted = torch.sigmoid(20 * (red - green) - 4)
    assert made.shape == (1, 1, 48, 64)
    torch.testing.assert_close(made, wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "denoise"}, "its task is deblur, the recipe's is denoise"),
        ({"upscale": 4}, "its upscale is 1, the recipe's is 4"),
        ({"channels": 1}, "its channels is 3, the recipe's is 1"),
    ],
)
def test_a_teacher_of_another_task_is_refused(bundle, changes, message):
    with pytest.raises(ArgumentError, match=message):
        teacher(bundle[1], **changes)


def test_a_teacher_pulls_its_student(bundle, recipe, train, tmp_path):
    _, folder = bundle
    own = recipe(at_loss="value = value * 1e-9")  # the truth does not count
    out = tmp_path / "out"
    options = ["--teacher", str(folder), "--rate", "3e-3"]
    code, _ = train(own, out, *options, "--steps", "60", "--every", "20")
    assert code == 0
    log = (out / "log.csv").read_text().splitlines()
    losses = [
        float(dict(zip(log[0].split(","), row.split(","), strict=True))["loss"]) for row in log[1:]
    ]
    assert losses[-1] < 0.8 * losses[0]
    code, lines = train(own, out, "--steps", "61", "--every", "20", "--rate", "3e-3")
    assert code == 2
    assert "was made with --teacher" in lines[-1]
    code, lines = train("denoise", out, *options)
    assert code == 2
    assert "its task is deblur, the recipe's is denoise" in lines[-1]
