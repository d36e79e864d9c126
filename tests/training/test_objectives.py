"""Objectives: losses by name, side outputs, discriminators, a teacher's outcome."""

from __future__ import annotations

import math

import pytest
import torch

from edgerestore.errors import ArgumentError
from edgerestore.training.discriminators import PatchGan, SrganDiscriminator
from edgerestore.training.objectives import LOSSES, Adversarial, Batch, Distilled, Supervised

from ..checked import not_none


@pytest.fixture
def batch():
    random = torch.Generator().manual_seed(0)
    degraded, truth, taught = (torch.rand(2, 3, 32, 32, generator=random) for _ in range(3))
    return Batch(degraded, truth, taught)


def test_losses_are_least_at_the_truth_and_pull_towards_it(batch):
    for name, function in LOSSES.items():
        made = batch.degraded.clone().requires_grad_()
        before = function(made, batch.truth)
        before.backward()
        after = function(made.detach() - 0.1 * made.grad / made.grad.abs().max(), batch.truth)
        assert after < before, name
        assert function(batch.truth, batch.truth) <= after, name


def test_the_psnr_loss_counts_decibels_of_each_picture(batch):
    error = torch.tensor([0.1, 0.01]).reshape(2, 1, 1, 1)
    loss = LOSSES["psnr"](batch.truth + error, batch.truth)
    expected = [math.log(0.1**2 + 1e-5) / 2, math.log(0.01**2 + 1e-5) / 2]
    assert loss == pytest.approx(sum(expected) / 2, abs=1e-4)


def test_weights_and_side_outputs_add_up(batch):
    objective = Supervised({"l1": 2.0, "l2": 1.0})
    one = objective.loss([batch.degraded], batch)
    apart = batch.degraded - batch.truth
    assert one == pytest.approx(float(2 * apart.abs().mean() + apart.square().mean()), rel=1e-5)
    assert objective.loss([batch.degraded] * 3, batch) == pytest.approx(3 * float(one), rel=1e-5)


def test_a_loss_of_another_name_is_refused():
    with pytest.raises(ArgumentError, match="loss l3: use l1, l2, charbonnier"):
        Supervised({"l3": 1.0})
    with pytest.raises(ArgumentError, match="missing"):
        Supervised({})


def test_a_teachers_outcome_is_one_more_target(batch):
    objective = Distilled(Supervised({"l1": 1.0}), weight=0.5)
    at_truth = objective.loss([batch.truth], batch)
    assert at_truth == pytest.approx(
        0.5 * float((batch.truth - not_none(batch.taught)).abs().mean())
    )
    alone = Batch(batch.degraded, batch.truth)
    assert objective.loss([batch.truth], alone) == 0


@pytest.mark.parametrize("least_squares", [False, True])
@pytest.mark.parametrize(("critic", "conditional"), [(PatchGan, True), (SrganDiscriminator, False)])
def test_a_discriminator_learns_to_tell_and_the_network_to_deceive_it(
    batch, critic, conditional, least_squares
):
    torch.manual_seed(0)
    objective = Adversarial(
        Supervised({"l1": 1e-6}),
        lambda inputs, targets: critic(inputs, targets, width=4),
        content_weight=0.1,
        conditional=conditional,
        least_squares=least_squares,
    )
    made = (batch.truth * 0.5).requires_grad_()
    discriminator = objective.discriminator(batch)
    optimizer = torch.optim.Adam(discriminator.parameters(), 3e-3)
    losses = []
    for _ in range(25):
        loss = objective.discriminator_loss(discriminator, [made], batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
    assert made.grad is None  # it does not train the network
    before = objective.loss([made], batch, discriminator)
    before.backward()
    gradient: torch.Tensor = not_none(made.grad)
    step = made.detach() - 0.02 * gradient / gradient.abs().max()
    assert objective.loss([step], batch, discriminator) < before


def test_a_patch_gan_judges_patches_and_the_other_the_whole(batch):
    picture = torch.rand(1, 6, 256, 256)
    assert PatchGan(3, 3, width=4)(picture).shape == (1, 1, 30, 30)
    assert SrganDiscriminator(3, 3, width=4)(picture[:, :3]).shape == (1, 1, 1, 1)
