"""Whole runs of the command: from photographs, of masks, and with a discriminator."""

from __future__ import annotations

import signal

import cv2
import numpy as np
import pytest

from edgerestore.cli.app import run_command_line
from edgerestore.training.dataset import Dataset

from .conftest import write_dataset
from .test_trainer import assert_same, rows, run_apart, sends, weights

PAIRS = """
from dataclasses import replace
from edgerestore.training.pairs import BoxBlurPairs
RECIPE = replace(RECIPE, pairs=BoxBlurPairs(side_px=24))
"""

ADVERSARIAL = """
from dataclasses import replace
from functools import partial
from edgerestore.training.discriminators import SrganDiscriminator
from edgerestore.training.objectives import Adversarial
RECIPE = replace(RECIPE, objective=Adversarial(
    RECIPE.objective, partial(SrganDiscriminator, width=4), weight=1e-2, content_weight=0.1,
))
"""

MASKS = """
from dataclasses import replace
from functools import partial
from edgerestore.convert.architectures.cutout_unet import CutoutUNet
from edgerestore.convert.architectures.u2net import U2Net
from edgerestore.training.recipes import load_recipe
TINY = {{
    "cutout": partial(CutoutUNet, (8, 8), (0, 1), (1,)),
    "u2netp": partial(U2Net, inner=(2,) * 11, outer=(4,) * 11),
}}
RECIPE = load_recipe({name!r})
RECIPE = replace(RECIPE, network=TINY[{name!r}], schedule=replace(
    RECIPE.schedule, steps=4, batch=2, crop_px=32, every=2, warmup_steps=1, average_decay=0.0,
))
"""


@pytest.fixture
def photographs(tmp_path, picture, monkeypatch):
    # One core: processes of their own take longer to start than these pairs to draw.
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})
    folder = tmp_path / "photographs"
    folder.mkdir()
    for seed in range(4):
        cv2.imwrite(str(folder / f"{seed}.png"), picture(64, 72, seed=seed))
    return folder


def train_on(data, recipe, folder, capsys, *options):
    arguments = ["train", str(recipe), "--data", str(data), "-o", str(folder), "--threads", "1"]
    code = run_command_line([*arguments, "--precision", "f32", *options])
    captured = capsys.readouterr()
    return code, captured.out.splitlines(), captured.err.splitlines()


def appended(path, text):
    path.write_text(path.read_text() + text)
    return path


def test_photographs_become_a_dataset_first(recipe, photographs, tmp_path, picture, capsys, caplog):
    (photographs / "broken.jpg").write_bytes(b"not a picture")
    cv2.imwrite(str(photographs / "small.png"), picture(20, 90))
    own, out = appended(recipe(), PAIRS), tmp_path / "out"
    code, _, lines = train_on(photographs, own, out, capsys)
    assert code == 0, lines
    made = Dataset.open(out / "dataset")
    assert {one.name for one in made.manifest.photographs} == {f"{i}.png" for i in range(4)}
    left_out = [one.getMessage() for one in caplog.records]
    for name in ("broken.jpg", "small.png"):
        assert any(f"left out: {photographs / name}" in line for line in left_out)
    before = weights(out)
    code, _, lines = train_on(photographs, own, out, capsys)
    assert code == 0
    assert "goes on from step 16" in lines
    assert_same(before, weights(out))


def test_photographs_that_do_not_do_are_one_line(recipe, photographs, tmp_path, capsys):
    own, out = appended(recipe(), PAIRS), tmp_path / "out"
    code, _, lines = train_on(photographs, recipe("bare"), out, capsys)
    assert (code, lines[-1]) == (
        2,
        f"edgerestore: --data {photographs}: is no dataset, and recipe bare does not say how its"
        " pairs are made",
    )
    for seed in range(2):
        (photographs / f"{seed}.png").unlink()
    code, _, lines = train_on(photographs, own, out, capsys)
    assert code == 2
    assert lines[-1].startswith(f"edgerestore: --data {photographs}: ")
    code, _, lines = train_on(tmp_path / "nowhere", own, out, capsys)
    assert code == 2
    assert f"--data {tmp_path / 'nowhere'}: " in lines[-1]
    code, _, lines = train_on(photographs, "cutout", out, capsys)
    assert (code, lines[-1]) == (
        2,
        f"edgerestore: --data {photographs}: is no dataset, and recipe cutout composites objects;"
        f" make one: edgerestore dataset cutout --photographs {photographs} --objects DIR -o DATA",
    )


@pytest.fixture(scope="module")
def cutouts(tmp_path_factory, picture):
    """Discs before pictures; the targets are RGBA."""

    def pairs(count, seed):
        inputs = np.stack([picture(32, 32, seed=seed + i) for i in range(count)])
        alpha = np.zeros((count, 32, 32), np.uint8)
        for one, mask in zip(inputs, alpha, strict=True):
            cv2.circle(mask, (16, 16), 9, 255, -1)
            one[mask > 0] = (250, 40, 30)
        return inputs, np.concatenate([inputs, alpha[..., None]], axis=3)

    splits = {"train": pairs(6, 0), "validation": pairs(2, 100), "test": pairs(2, 200)}
    return write_dataset(tmp_path_factory.mktemp("cutouts") / "dataset", splits)


@pytest.mark.parametrize("name", ["cutout", "u2netp"])
def test_a_recipe_of_masks_is_scored_by_masks(name, cutouts, tmp_path, capsys):
    own, out = tmp_path / "own.py", tmp_path / "out"
    own.write_text(MASKS.format(name=name))
    code, told, lines = train_on(cutouts, own, out, capsys)
    assert code == 0, lines
    log = rows(out)
    assert [row["step"] for row in log] == ["2", "4"]
    assert 0 <= float(log[-1]["iou"]) <= 1
    assert float(log[-1]["loss"]) != float(log[0]["loss"])
    assert any(line.startswith("test split: IoU") for line in told)
    sheet = cv2.imread(str(out / "samples" / "0000004.jpg"))
    assert sheet is not None
    assert sheet.shape == (2 * 32, 3 * 32, 3)


def test_a_killed_adversarial_run_ends_as_an_uninterrupted_one(recipe, train, dataset, tmp_path):
    parts, whole = tmp_path / "parts", tmp_path / "whole"
    killed = appended(recipe(at_loss=sends("SIGKILL")), ADVERSARIAL)
    assert run_apart(killed, dataset, parts, 10).returncode == -signal.SIGKILL
    assert [row["step"] for row in rows(parts)] == ["4", "8"]
    own = appended(recipe(), ADVERSARIAL)
    code, lines = train(own, parts)
    assert code == 0
    assert "goes on from step 8" in lines
    assert train(own, whole)[0] == 0
    assert_same(weights(parts), weights(whole))
    judged = [[row["discriminator_loss"] for row in rows(one)] for one in (parts, whole)]
    assert judged[0] == judged[1]
    assert len(set(judged[0])) == 4
