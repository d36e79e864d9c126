"""Kinds of input: what each makes of a picture, and which of them the budget must hold for."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgerestore.calibration.kinds import InputKind, chosen_kinds, input_kinds
from edgerestore.errors import ArgumentError
from edgerestore.imaging.degradations import Degradation
from edgerestore.imaging.metrics import psnr

from ..checked import imread, not_none
from .drawn import load, places_of, save

DOWN = Degradation("downscale", upscale=2)


def names(kinds: tuple[InputKind, ...]) -> list[str]:
    return [kind.name for kind in kinds]


def test_kinds_follow_the_task() -> None:
    assert names(input_kinds(Degradation("blur"))) == [
        *("blur", "jpeg", "noise", "dark", "low-contrast", "sharp")
    ]
    assert names(input_kinds(Degradation("noise", 25))) == [
        *("noise", "jpeg", "dark", "low-contrast", "sharp")
    ]
    assert names(input_kinds(DOWN)) == [
        *("downscale", "aliased", "nearest", "blur", "jpeg", "noise", "dark", "low-contrast")
    ]
    # A picture that nothing is known of is no clean one: nothing can be made smaller of it.
    assert names(input_kinds(Degradation("none", upscale=2))) == [
        *("given", "jpeg", "noise", "dark", "low-contrast")
    ]
    assert names(input_kinds(Degradation("none"), pairs=True))[-1] == "sharp"


def test_names_choose_kinds() -> None:
    kinds = input_kinds(DOWN)
    assert chosen_kinds(kinds, ["all"]) == tuple(names(kinds))
    assert chosen_kinds(kinds, ["task"]) == ("downscale",)
    assert chosen_kinds(kinds, ["dark", "task", "aliased"]) == ("downscale", "aliased", "dark")
    with pytest.raises(ArgumentError, match=r"--kinds fog: .* task, or of these: downscale, al"):
        chosen_kinds(kinds, ["dark", "fog"])


def test_every_kind_is_held_out_at_the_same_places(folder: Path) -> None:
    kinds = input_kinds(DOWN)
    data = load(folder, degradation=DOWN, crop_px=20, count=9, held_out=3, kinds=kinds)
    assert (data.info.calibration, data.info.held_out) == (18, 3)
    assert [crop.kind for crop in data.held_out] == [name for name in names(kinds) for _ in "abc"]
    by_kind = {name: [c for c in data.held_out if c.kind == name] for name in names(kinds)}
    assert len({tuple(places_of(crops)) for crops in by_kind.values()}) == 1
    # Each makes something else of them.
    for at in range(3):
        assert len({crops[at].image.tobytes() for crops in by_kind.values()}) == len(kinds)
    for plain, dark in zip(by_kind["downscale"], by_kind["dark"], strict=True):
        assert dark.image.max() <= 0.1 + 1 / 255
        np.testing.assert_allclose(not_none(dark.truth), not_none(plain.truth) / 10, atol=1e-6)
        np.testing.assert_allclose(dark.image, plain.image / 10, atol=1.2 / 255)
    # The task's own kind at every place to calibrate on; the others in turn.
    learnt = [crop.kind for crop in data.calibration]
    assert learnt[:9] == ["downscale"] * 9
    assert set(learnt[9:]) == set(names(kinds)[1:])
    again = load(folder, degradation=DOWN, crop_px=20, count=9, held_out=3, kinds=kinds)
    assert again.info.digest == data.info.digest


def test_what_is_not_calibrated_on_is_held_out_all_the_same(folder: Path) -> None:
    kinds = input_kinds(Degradation("blur"))
    options = {"degradation": Degradation("blur"), "kinds": kinds, "count": 8, "held_out": 2}
    data = load(folder, **options, calibrated=["jpeg", "dark"])
    assert {crop.kind for crop in data.calibration} == {"jpeg", "dark"}
    assert {crop.kind for crop in data.held_out} == set(names(kinds))
    alone = load(folder, **options, calibrated=["blur"])
    assert len(alone.calibration) == 8


def test_clean_input_has_no_truth_to_lose(folder: Path) -> None:
    blur = Degradation("blur")
    data = load(folder, degradation=blur, kinds=input_kinds(blur), held_out=2)
    sharp = [crop for crop in data.held_out if crop.kind == "sharp"]
    blurred = [crop for crop in data.held_out if crop.kind == "blur"]
    for clean, crop in zip(sharp, blurred, strict=True):
        assert clean.truth is None
        np.testing.assert_array_equal(clean.image, crop.truth)


def test_kinds_of_given_pairs(folder: Path, tmp_path: Path) -> None:
    """Inputs are given, and what is made of them starts from them; aliased ones from the truth."""
    small = tmp_path / "small"
    small.mkdir()
    for path in folder.iterdir():
        image = imread(path)
        half = (image.shape[1] // 2, image.shape[0] // 2)
        save(small / path.name, cv2.resize(image, half)[..., ::-1])
    own = Degradation("none", upscale=2)
    kinds = input_kinds(own, pairs=True)
    data = load(small, degradation=own, targets=folder, crop_px=16, held_out=2, kinds=kinds)
    of = {name: [c for c in data.held_out if c.kind == name] for name in names(kinds)}
    for at, (name, _, x, y) in enumerate(places_of(of["given"])):
        whole = imread(small / name)[..., ::-1]
        seen = whole[y : y + 16, x : x + 16].astype(np.float32) / 255
        np.testing.assert_allclose(of["given"][at].image[0].transpose(1, 2, 0), seen, atol=1e-6)
        assert 15 < psnr(of["jpeg"][at].image, of["given"][at].image) < 60
        target = imread(folder / name)[..., ::-1].astype(np.float32) / 255
        picked = target[1::2, 1::2][y : y + 16, x : x + 16]
        np.testing.assert_allclose(of["nearest"][at].image[0].transpose(1, 2, 0), picked, atol=1e-6)
        assert not_none(of["nearest"][at].truth).shape == (1, 3, 32, 32)
