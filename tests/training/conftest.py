"""Tiny datasets and recipes: networks of a few hundred weights, pairs of 32 px."""

from __future__ import annotations

import hashlib

import cv2
import msgspec
import numpy as np
import pytest
import torch

from edgerestore.cli.app import run_command_line
from edgerestore.training.dataset import ArrayFile, DatasetManifest, SplitArrays, SplitName

RECIPE = """
import os, resource, signal
from dataclasses import dataclass
from edgerestore.convert.architectures.shuffle_unet import ShuffleUNet
from edgerestore.training.objectives import Supervised
from edgerestore.training.recipes import Recipe, Schedule

SEEN = 0

@dataclass(frozen=True)
class Objective(Supervised):
    def loss(self, outputs, batch, discriminator=None):
        global SEEN
        SEEN += 1
        value = super().loss(outputs, batch)
        {at_loss}
        return value

RECIPE = Recipe(
    name={name!r}, task="deblur", summary="tiny",
    network=lambda: ShuffleUNet(3, 3, 2, (8, 8), (0, 1), (1,)),
    schedule=Schedule(
        steps=16, batch=2, crop_px=24, warmup_steps=3, average_decay=0.9, every=4, seed=3
    ),
    objective=Objective({{"charbonnier": 1.0}}),
)
"""

SPACE = """
from functools import partial
from dataclasses import replace
from edgerestore.training.space import Space
RECIPE = replace(RECIPE, space=Space(
    learning_rate=(1e-3, 1e-2), losses={{"charbonnier": (0.1, 1.0), "fft": (0.01, 0.1)}},
    network=partial(ShuffleUNet, 3, 3, 2),
    widths=((4, 12), (4, 20)), encode_depths=((0, 1), (0, 2)), decode_depths=((0, 1),),
    width_step=4, steps={steps},
))
"""


def write_dataset(folder, splits):
    """Write pairs as a dataset folder; ``splits`` holds inputs and targets by name."""
    arrays = {}
    for name, pair in splits.items():
        (folder / name).mkdir(parents=True)
        files = {}
        for kind, pixels in zip(("inputs", "targets"), pair, strict=True):
            path = folder / name / f"{kind}.npy"
            np.save(path, pixels)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            files[kind] = ArrayFile(f"{name}/{kind}.npy", digest, pixels.shape)
        arrays[SplitName(name)] = SplitArrays(**files)
    manifest = DatasetManifest(
        format=1,
        recipe="tiny",
        pairs={name: {} for name in arrays},
        seed=1,
        counts={name: len(splits[name][0]) for name in arrays},
        tools={},
        photographs=(),
        arrays=arrays,
    )
    (folder / "dataset.json").write_bytes(msgspec.json.encode(manifest))
    return folder


@pytest.fixture(scope="session")
def dataset(tmp_path_factory, picture):
    """Pictures of 32 px and their gaussian blur, by split."""

    def pairs(count, seed):
        sharp = np.stack([picture(32, 32, seed=seed + i) for i in range(count)])
        return np.stack([cv2.GaussianBlur(one, (0, 0), 1.2) for one in sharp]), sharp

    splits = {"train": pairs(12, 0), "validation": pairs(3, 100), "test": pairs(2, 200)}
    return write_dataset(tmp_path_factory.mktemp("pairs") / "dataset", splits)


@pytest.fixture
def recipe(tmp_path):
    """Write a recipe of one's own; ``at_loss`` is a line of code that runs with every loss."""

    def write(name="tiny", at_loss="pass"):
        path = tmp_path / f"{name}.py"
        path.write_text(RECIPE.format(name=name, at_loss=at_loss))
        return path

    return write


@pytest.fixture
def searched(recipe):
    """Write the tiny recipe with a space."""

    def write(steps=2, at_loss="pass"):
        path = recipe(at_loss=at_loss)
        path.write_text(path.read_text() + SPACE.format(steps=steps))
        return path

    return write


@pytest.fixture
def train(dataset, capsys):
    """Run the command on the tiny dataset; returns its exit code, and standard error's lines."""

    def run(recipe, folder, *options):
        arguments = ["train", str(recipe), "--data", str(dataset), "-o", str(folder)]
        # Timed, the precision would not be the same in every run.
        fixed = ["--threads", "1", "--precision", "f32"]
        code = run_command_line([*arguments, *fixed, *options])
        return code, capsys.readouterr().err.splitlines()

    return run


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Tiny networks gain nothing by a second thread, which waits for the first one."""
    torch.set_num_threads(1)
