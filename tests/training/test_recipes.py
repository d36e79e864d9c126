"""The recipes of the package: budgets, networks that conversion recognises, a step of each."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgerestore.convert.architectures import REGISTRY
from edgerestore.training.learner import Learner
from edgerestore.training.objectives import Batch
from edgerestore.training.recipes import Decay, Schedule, load_recipe, recipes

from ..checked import not_none

NAMES = [recipe.name for recipe in recipes()]
FRAME = (720, 1280)
# GMAC at a size of the input, by recipe.
BUDGETS = {
    "deblur": (3.1, FRAME),
    "deblur-motion": (5.6, FRAME),
    "denoise": (5.6, FRAME),
    "denoise-gray": (5.6, FRAME),
    "dejpeg": (5.6, FRAME),
    "sr-x2": (6.0, (180, 320)),
    "sr-x4": (6.0, (180, 320)),
    "cutout": (0.6, (320, 320)),
    "retouch": (0.1, (256, 256)),
}


def gmac(network, channels, size):
    """Return the multiply-adds of the convolutions, in thousand millions."""
    counts = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(
                lambda m, _, made: counts.append(made[0, 0].numel() * m.weight.numel())
            )
    with torch.inference_mode():
        network.eval()(torch.zeros(1, channels, *size))
    return sum(counts) / 1e9


@pytest.mark.parametrize("name", BUDGETS)
def test_a_member_of_the_family_keeps_its_budget(name):
    recipe = load_recipe(name)
    most, size = BUDGETS[name]
    # Half the frame, doubled: a large one takes seconds.
    share = 4 if size == FRAME else 1
    half = tuple(side // 2 // 16 * 16 for side in size) if share == 4 else size
    cost = gmac(recipe.network(), not_none(recipe.pairs).channels, half)
    assert cost * np.prod(size) / np.prod(half) < most


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("pix2pix-retouch")])
def test_a_step_of_each_recipe_changes_the_network_that_convert_takes(name):
    recipe = load_recipe(name)
    pairs = not_none(recipe.pairs)
    torch.manual_seed(0)
    network = recipe.network()
    (row,) = REGISTRY.fitting(network.state_dict())
    rebuilt = row.build(**row.arguments_from(network.state_dict()))
    rebuilt.load_state_dict(network.state_dict())
    side = 256 if name.startswith("pix2pix") else 64 // pairs.upscale
    degraded = torch.rand(2, pairs.channels, side, side)
    truth = torch.rand(2, pairs.target_channels, side * pairs.upscale, side * pairs.upscale)
    batch = Batch(degraded, truth[:, 3:] if pairs.target_channels == 4 else truth)
    learner = Learner(recipe, network, torch.device("cpu"))
    learner.prepare(batch)
    before = [value.clone() for value in network.parameters()]
    assert torch.isfinite(learner.step(0, batch)).all()
    moved = [not torch.equal(*pair) for pair in zip(before, network.parameters(), strict=True)]
    assert any(moved)
    pictures = (degraded.permute(0, 2, 3, 1).numpy() * 255).astype(np.uint8)
    height, width = batch.truth.shape[2:]
    assert learner.restore(pictures).shape == (2, height, width, batch.truth.shape[1])


def test_recipes_are_found_with_dashes_and_with_underscores():
    assert load_recipe("sr-x4") is load_recipe("sr_x4")


def test_enlarging_begins_with_repeated_pixels():
    network = load_recipe("sr-x4").network().eval()
    image = torch.rand(1, 3, 20, 20) * 255
    with torch.inference_mode():
        made = network(image)
    repeated = image.repeat_interleave(4, 2).repeat_interleave(4, 3)
    assert (made - repeated).abs().mean() < 0.25 * (image - image.mean()).abs().mean()


def test_retouching_begins_with_the_picture():
    network = load_recipe("retouch").network().eval()
    image = torch.rand(2, 3, 64, 48)
    with torch.inference_mode():
        made = network(image)
    assert (made - image).abs().mean() < 0.15


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        (
            Schedule(steps=100, warmup_steps=10, learning_rate=1.0),
            {0: 0.1, 9: 1.0, 55: 0.5, 100: 0},
        ),
        (
            Schedule(
                steps=100,
                warmup_steps=0,
                learning_rate=1.0,
                decay=Decay.LINEAR,
                constant_share=0.6,
            ),
            {0: 1.0, 60: 1.0, 80: 0.5, 100: 0},
        ),
        (
            Schedule(
                steps=100, warmup_steps=0, learning_rate=1.0, decay=Decay.LINEAR, constant_share=1.0
            ),
            {0: 1.0, 99: 1.0},
        ),
    ],
)
def test_the_rate_of_a_step(schedule, rates):
    for step, rate in rates.items():
        assert schedule.rate(step) == pytest.approx(rate, abs=1e-9)
