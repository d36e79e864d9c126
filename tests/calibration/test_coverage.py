"""Pictures that lack content: named, and made up for by brightened and drawn ones."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edgerestore.calibration.kinds import input_kinds
from edgerestore.imaging.degradations import Degradation
from edgerestore.imaging.scenes import drawn_scene

from ..checked import not_none
from .drawn import load, save

BLUR = Degradation("blur")


def folder_of(path: Path, gain: float) -> Path:
    path.mkdir()
    for seed in range(3):
        scene = np.rint(255 * gain * drawn_scene(seed, 128)).astype(np.uint8)
        save(path / f"{seed}.png", scene)
    return path


def highest(images: list[NDArray[np.float32]]) -> float:
    return max(float(np.percentile(image, 99)) for image in images)


@pytest.mark.parametrize(
    ("gain", "lacking", "added"),
    [
        (0.0, "bright, saturated, textured", ("drawn",)),
        (0.12, "bright, saturated", ("bright", "drawn")),
    ],
)
def test_what_is_missing_is_named_and_mixed_in(
    gain: float,
    lacking: str,
    added: tuple[str, ...],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = folder_of(tmp_path / "night", gain)
    if not gain:  # two black pictures, not one twice
        cv2.imwrite(str(path / "1.png"), np.zeros((140, 128, 3), np.uint8))
    kinds = input_kinds(BLUR)
    with caplog.at_level(logging.WARNING):
        data = load(path, degradation=BLUR, kinds=kinds, count=8)
    assert f"night: holds no {lacking}" in caplog.text
    assert tuple(kind.name for kind in data.added) == added
    for crops in (data.calibration, data.held_out):
        assert {crop.kind for crop in crops} >= set(added)
        assert highest([crop.image for crop in crops if crop.kind == "blur"]) <= gain + 0.02
        assert highest([crop.image for crop in crops if crop.kind in added]) > 0.6
    for crop in data.held_out:
        if crop.kind in added:  # as the input is toned, so is the truth
            assert abs(float(not_none(crop.truth).mean() - crop.image.mean())) < 0.03
    learnt, held = (
        {crop.origin for crop in crops if crop.kind == "drawn"}
        for crops in (data.calibration, data.held_out)
    )
    assert not learnt & held


def test_the_task_alone_is_calibrated_on_the_task_alone(tmp_path: Path) -> None:
    path = folder_of(tmp_path / "night", 0.12)
    data = load(path, degradation=BLUR, kinds=input_kinds(BLUR), calibrated=["blur"])
    assert {crop.kind for crop in data.calibration} == {"blur"}
    assert {crop.kind for crop in data.held_out} > {"bright", "drawn"}


@pytest.mark.parametrize("own", [Degradation("none"), Degradation("downscale", upscale=2)])
def test_drawn_scenes_fit_every_model(own: Degradation, tmp_path: Path) -> None:
    path = folder_of(tmp_path / "night", 0.12)
    data = load(path, degradation=own, kinds=input_kinds(own), channels=1)
    for crop in data.held_out:
        assert crop.image.shape == (1, 1, 32, 32)
        if own.kind == "downscale":
            assert not_none(crop.truth).shape == (1, 1, 64, 64)


def test_pictures_of_all_content_are_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        data = load(folder_of(tmp_path / "day", 1.0), degradation=BLUR, kinds=input_kinds(BLUR))
    assert data.added == ()
    assert caplog.text == ""
