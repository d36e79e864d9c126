"""The recipe: seeded, resumable to the step, and it does learn."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from edgerestore.convert.architectures.edge_unet import EdgeUNet
from edgerestore.errors import ArgumentError, SourceError
from edgerestore.training.data import CropPairs, load_photographs
from edgerestore.training.recipes import Schedule, load_recipe
from edgerestore.training.trainer import Progress, plot_curves, train

RECIPE = load_recipe("deblur")
SCHEDULE = Schedule(steps=6, batch=2, crop_px=32, warmup_steps=2, seed=3)


@pytest.fixture(scope="module")
def photographs(picture):
    return [picture(100, 120, seed=1), picture(90, 150, seed=2)]


def network():
    torch.manual_seed(0)
    return EdgeUNet(widths=(4, 4, 4), encode_depths=(0, 1, 1), decode_depths=(1, 1))


def run(photographs, folder, schedule=SCHEDULE, stop_at=None):
    def report(row):
        if row.step == stop_at:
            raise KeyboardInterrupt

    recipe = replace(RECIPE, schedule=schedule)
    return train(
        network(), photographs, photographs[:1], recipe, folder, report=report, every=2, workers=0
    )


def test_an_interrupted_run_ends_where_an_uninterrupted_one_does(photographs, tmp_path):
    whole = torch.load(run(photographs, tmp_path / "whole"), weights_only=True)
    with pytest.raises(KeyboardInterrupt):
        run(photographs, tmp_path / "parts", stop_at=4)
    parts = torch.load(run(photographs, tmp_path / "parts"), weights_only=True)
    assert whole.keys() == parts.keys()
    for key in whole:
        torch.testing.assert_close(whole[key], parts[key], rtol=0, atol=0)
    rows = (tmp_path / "parts" / "log.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["step", "2", "4", "6"]
    plot_curves(tmp_path / "parts" / "log.csv", tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_another_schedule_does_not_go_on_from_a_checkpoint(photographs, tmp_path):
    run(photographs, tmp_path)
    other = Schedule(steps=8, batch=2, crop_px=32, warmup_steps=2, seed=3)
    with pytest.raises(ArgumentError, match="another schedule"):
        run(photographs, tmp_path, other)


def test_it_learns(photographs, tmp_path):
    rows: list[Progress] = []
    schedule = Schedule(steps=60, batch=4, crop_px=32, warmup_steps=5, seed=0)
    train(
        EdgeUNet(widths=(8, 8, 8), encode_depths=(0, 1, 1), decode_depths=(1, 1)),
        photographs,
        photographs[:1],
        replace(RECIPE, schedule=schedule),
        tmp_path,
        report=rows.append,
        every=30,
        workers=0,
    )
    assert rows[-1].loss < rows[0].loss


def test_a_pair_is_a_function_of_the_seed_and_its_number(photographs):
    def pairs(count, seed):
        return CropPairs(photographs, RECIPE.degradation, crop_px=32, count=count, seed=seed)

    first, again = pairs(10, 5)[7], pairs(99, 5)[7]
    for one, other in zip(first, again, strict=True):
        assert one.shape == (3, 32, 32)
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert not torch.equal(first[0], pairs(10, 6)[7][0])
    assert not torch.equal(first[0], pairs(10, 5)[8][0])


def test_what_cannot_be_trained_on_is_named(tmp_path, photographs):
    with pytest.raises(SourceError, match="no photographs"):
        load_photographs(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    with pytest.raises(SourceError, match="broken.png"):
        load_photographs(tmp_path)
    with pytest.raises(SourceError, match="smaller than a crop"):
        CropPairs(
            [np.zeros((40, 40, 3), np.uint8)], RECIPE.degradation, crop_px=32, count=1, seed=0
        )


def test_a_recipe_is_found_by_its_name():
    assert RECIPE.schedule == Schedule()
    with pytest.raises(ArgumentError, match="'sharpen' is not known; use one of deblur"):
        load_recipe("sharpen")


def test_the_command_says_what_is_wrong_in_one_line(tmp_path):
    command = [sys.executable, "-m", "edgerestore.training", "--data", str(tmp_path), "-o"]
    done = subprocess.run([*command, str(tmp_path / "out")], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"edgerestore.training: {tmp_path}: no photographs to train on"
    ]
