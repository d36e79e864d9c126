"""Calibration data: which crops, out of which pictures, with which truth."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgerestore.calibration import crops, dataset
from edgerestore.calibration.dataset import load_calibration
from edgerestore.errors import ArgumentError
from edgerestore.imaging.degradations import Degradation
from edgerestore.imaging.metrics import psnr

from ..checked import imread, not_none
from .drawn import DOWN, load, pixels_of, places_of, save


def patch(kind, side, seed):
    """Draw a square of one class of content, RGB u8."""
    rng = np.random.default_rng(seed)
    kinds: dict[str, tuple[float | tuple[float, ...], float]] = {
        "dark": (0.08, 0.015),
        "bright": (0.82, 0.015),
        "flat": (0.45, 0.002),
        "textured": (0.45, 0.15),
        "mixed": (0.45, 0.02),
        "saturated": ((0.9, 0.1, 0.15), 0.02),
    }
    level, grain = kinds[kind]
    image = np.broadcast_to(level, (side, side, 3)) + rng.normal(0, grain, (side, side, 1))
    return np.rint(np.clip(image, 0, 0.97) * 255).astype(np.uint8)


def test_a_seed_names_the_crops_wherever_the_files_are(folder, tmp_path):
    first = load(folder, degradation=Degradation("blur"), seed=7)
    elsewhere = tmp_path / "elsewhere" / "deep"
    elsewhere.mkdir(parents=True)
    for path in sorted(folder.iterdir(), reverse=True):
        shutil.copyfile(path, elsewhere / path.name)
    again = load(elsewhere, degradation=Degradation("blur"), seed=7)
    assert again.info == first.info
    for one, other in zip(first.calibration, again.calibration, strict=True):
        assert (one.origin, one.content) == (other.origin, other.content)
        np.testing.assert_array_equal(one.image, other.image)
    another = load(folder, degradation=Degradation("blur"), seed=8)
    assert another.info.digest != first.info.digest
    # The digest is of pixels: one level in one place is another digest.
    cv2.imwrite(str(elsewhere / "0.png"), imread(elsewhere / "0.png") ^ 1)
    assert load(elsewhere, degradation=Degradation("blur"), seed=7).info.digest != first.info.digest


def test_shapes_and_facts(folder):
    data = load(folder, degradation=DOWN, crop_px=20, count=9, held_out=4, seed=3)
    assert (len(data.calibration), len(data.held_out)) == (9, 4)
    for crop in (*data.calibration, *data.held_out):
        truth = not_none(crop.truth)
        assert (crop.image.shape, truth.shape) == ((1, 3, 20, 20), (1, 3, 40, 40))
        for array in (crop.image, truth):
            assert array.dtype == np.float32
            assert array.flags.c_contiguous
            assert 0 <= array.min() < array.max() <= 1
        assert crop.content in crops.CONTENT
    facts = data.info
    assert (facts.calibration, facts.held_out, facts.truth, facts.skipped) == (9, 4, True, {})
    recipe = json.loads(json.dumps(facts.recipe))
    assert recipe == facts.recipe
    assert str(folder.parent) not in json.dumps(recipe)
    assert (recipe["seed"], recipe["crop_px"]) == (3, 20)
    assert sum(recipe["calibration"]["content"].values()) == 9
    both = set(recipe["calibration"]["files"] + recipe["held_out"]["files"])
    assert both == {f"{index}.png" for index in range(6)}


def test_without_a_degradation_the_pixels_are_the_files(folder):
    data = load(folder)
    assert not data.info.truth
    for crop, (name, _, x, y) in zip(data.calibration, places_of(data.calibration), strict=True):
        assert crop.truth is None
        image = imread(folder / name)[y : y + 32, x : x + 32, ::-1]
        np.testing.assert_allclose(crop.image[0].transpose(1, 2, 0) * 255, image, atol=1e-4)


def test_from_four_files_on_other_files_are_held_out(folder):
    for seed in range(5):
        data = load(folder, seed=seed)
        kept = {file for _, file, _, _ in places_of(data.calibration)}
        out = {file for _, file, _, _ in places_of(data.held_out)}
        assert not kept & out
        assert (len(kept), len(out)) == (4, 2)


@pytest.mark.parametrize("files", [1, 2, 3])
def test_of_fewer_files_other_parts_are_held_out(folder, files):
    paths = sorted(folder.iterdir())[:files]
    for seed in range(5):
        data = load(paths, seed=seed, crop_px=30)
        assert {file for _, file, _, _ in places_of(data.held_out)} == {p.name for p in paths}
        assert not pixels_of(data.calibration, 30) & pixels_of(data.held_out, 30)


@settings(max_examples=120)
@given(
    sides=st.lists(st.tuples(st.integers(6, 70), st.integers(6, 70)), min_size=1, max_size=6),
    frames=st.integers(1, 3),
    crop_px=st.integers(1, 30),
    counts=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    seed=st.integers(0, 2**32),
)
def test_no_pixel_is_calibrated_on_and_judged_by(sides, frames, crop_px, counts, seed):
    rng = np.random.default_rng(seed)
    places = [
        crops.Place(file, frame, *place)
        for file, (height, width) in enumerate(sides)
        for frame in range(frames)
        if min(height, width) >= crop_px
        for place in crops.propose(
            rng.random((height, width, 1), dtype=np.float32), crop_px, 1, rng
        )
    ]
    for place in places:
        height, width = sides[place.file]
        assert 0 <= place.x <= width - crop_px
        assert 0 <= place.y <= height - crop_px
    if not places:
        return
    parts = crops.split(places, crop_px, rng)
    usable = {place.picture for place in places}
    room = any(max(sides[file]) >= 2 * crop_px for file, _ in usable)
    assert bool(parts.held_out) == (room or len(usable) > 1)
    assert parts.calibration
    chosen = [
        crops.choose(side, count, crop_px, rng)
        for side, count in zip((parts.calibration, parts.held_out), counts, strict=True)
    ]
    for taken, side, count in zip(chosen, (parts.calibration, parts.held_out), counts, strict=True):
        assert len(taken) == min(count, len(side))
        assert len(set(taken)) == len(taken)
        assert set(taken) <= set(side)
    for kept in chosen[0]:
        for out in chosen[1]:
            apart = max(abs(kept.x - out.x), abs(kept.y - out.y)) >= crop_px
            assert apart or kept.picture != out.picture


def test_every_class_of_content_is_there(tmp_path):
    for index, kind in enumerate(crops.CONTENT * 2):
        save(tmp_path / f"{index:02}.png", patch(kind, 64, index))
    for seed in range(4):
        data = load(tmp_path, count=8, held_out=6, seed=seed)
        assert {crop.content for crop in data.calibration} == set(crops.CONTENT)
        for crop in (*data.calibration, *data.held_out):
            drawn = crops.CONTENT[int(crop.origin[:2]) % len(crops.CONTENT)]
            assert crop.content == drawn


def test_a_rare_class_in_one_picture_is_found(tmp_path):
    scene = np.concatenate([patch("mixed", 256, 0)] * 2, axis=1)
    for index, kind in enumerate(("dark", "bright", "flat", "textured", "saturated")):
        scene[64:160, 20 + 96 * index :][:96, :96] = patch(kind, 96, index)
    save(tmp_path / "scene.png", scene)
    for seed in range(4):
        data = load(tmp_path, crop_px=24, count=6, seed=seed)
        assert {crop.content for crop in data.calibration} == set(crops.CONTENT)


def test_crops_overlap_only_where_room_is_short(tmp_path, picture):
    path = save(tmp_path / "one.png", patch("mixed", 160, 0))
    for seed in range(4):
        data = load(path, count=5, held_out=2, seed=seed)
        assert len(pixels_of(data.calibration, 32)) == 5 * 32 * 32
    # 48 wide for 32: a second place is half on the first, and is taken rather than none.
    small = save(tmp_path / "small.png", picture(32, 80, seed=1))
    data = load(small, count=9)
    assert data.info.calibration == 2
    assert len(pixels_of(data.calibration, 32)) == 48 * 32


def test_all_pictures_take_part(folder):
    data = load(folder, count=8, held_out=4)
    for found, each in ((data.calibration, 2), (data.held_out, 2)):
        names = [file for _, file, _, _ in places_of(found)]
        assert all(names.count(name) == each for name in names)


def test_of_many_files_a_seeded_choice_is_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "_ENOUGH_FILES", 4)
    rng = np.random.default_rng(0)
    for index in range(30):
        save(tmp_path / f"{index:02}.png", rng.integers(0, 255, (16, 16, 3), np.uint8))
    (tmp_path / "00.png").write_bytes(b"no picture")
    used = []
    for seed in (1, 2):
        recipe = load(tmp_path, crop_px=8, count=2, held_out=1, seed=seed).info.recipe
        used.append(set(recipe["calibration"]["files"] + recipe["held_out"]["files"]))
        data = load(tmp_path, crop_px=8, count=40, held_out=9, seed=seed).info
        assert data.skipped.keys() == {"00.png"}  # more crops asked for: all files are looked at
    assert used[0] != used[1]


def test_the_truth_of_a_spoilt_crop_is_the_picture_there(folder):
    data = load(folder, degradation=Degradation("noise", 10), crop_px=24)
    for crop, (name, _, x, y) in zip(data.held_out, places_of(data.held_out), strict=True):
        clean = imread(folder / name)[y : y + 24, x : x + 24, ::-1]
        truth = not_none(crop.truth)
        np.testing.assert_allclose(truth[0].transpose(1, 2, 0) * 255, clean, atol=1e-4)
        assert psnr(crop.image, truth) == pytest.approx(28.1, abs=1)


def test_blurred_and_made_smaller_crops_lie_on_their_truth(tmp_path):
    """Shifted by a pixel, the truth is farther off: a wrong place or margin would show."""
    y, x = np.mgrid[0:120, 0:160].astype(np.float32)
    for index in range(2):
        wave = 128 + 60 * np.sin(x / (4 + index)) + 60 * np.cos(y / (5 + index))
        save(tmp_path / f"{index}.png", np.rint(np.dstack([wave] * 3)).astype(np.uint8))
    for degradation in (Degradation("blur"), DOWN):
        data = load(tmp_path, degradation=degradation, crop_px=24)
        for crop in (*data.calibration, *data.held_out):
            step = degradation.upscale
            truth = not_none(crop.truth)[0, 0]
            seen = crop.image[0, 0].repeat(step, axis=0).repeat(step, axis=1)
            shifts = {
                (dy, dx): psnr(
                    seen[8:-8, 8:-8],
                    np.roll(truth, (dy * 2 * step, dx * 2 * step), (0, 1))[8:-8, 8:-8],
                )
                for dy in (-1, 0, 1)
                for dx in (-1, 0, 1)
            }
            assert max(shifts, key=shifts.__getitem__) == (0, 0)


def test_a_crop_is_spoilt_as_its_whole_picture_would_be(folder):
    """No border is made up where the picture goes on."""
    data = load(folder, degradation=DOWN, crop_px=20)
    for crop, (name, _, x, y) in zip(data.calibration, places_of(data.calibration), strict=True):
        clean = imread(folder / name)[..., ::-1].astype(np.float32) / np.float32(255)
        whole = DOWN.apply(clean, np.random.default_rng())
        ours = whole[y : y + 20, x : x + 20].transpose(2, 0, 1)
        assert np.abs(crop.image[0] - ours).max() < 1.01 / 255
        assert (crop.image[0] == ours).mean() > 0.99


def test_one_place_is_not_enough(tmp_path):
    save(tmp_path / "one.png", np.zeros((50, 63, 3), np.uint8))
    with pytest.raises(ArgumentError, match="no room for two crops of 32x32 apart"):
        load(tmp_path)
    save(tmp_path / "two.png", np.ones((50, 63, 3), np.uint8))
    data = load(tmp_path)
    assert len(data.calibration) >= 1
    assert len(data.held_out) >= 1
    assert data.calibration[0].origin[:3] != data.held_out[0].origin[:3]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"count": 0}, "count is 0"),
        ({"held_out": 0}, "held_out is 0"),
        ({"crop_px": 0}, "crop_px is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"channels": 2}, "1 or 3 channels"),
        ({"targets": Path("nowhere")}, "--targets nowhere: no such folder"),
    ],
)
def test_arguments_out_of_range_are_refused(folder, options, said):
    with pytest.raises(ArgumentError, match=said):
        load(folder, **options)


def test_photographs(shared_data):
    paths = [shared_data / "kodak"]
    quarter = Degradation("downscale", upscale=4)
    data = load_calibration(paths, channels=3, degradation=quarter, crop_px=96)
    assert (data.info.calibration, data.info.held_out, data.info.skipped) == (24, 8, {})
    kept = data.info.recipe["calibration"]["files"]
    out = data.info.recipe["held_out"]["files"]
    assert (len(kept), len(out), len({*kept, *out})) == (12, 4, 16)
    # Photographs have it all, at a size where a crop is not the whole scene.
    data = load_calibration(paths, channels=3, degradation=Degradation("blur"), crop_px=64)
    for side in ("calibration", "held_out"):
        assert set(data.info.recipe[side]["content"]) == set(crops.CONTENT)
    for crop in data.held_out:
        assert 18 < psnr(crop.image, not_none(crop.truth)) < 60
