"""Tiles that take turns: each is refreshed in time, and shows its last pixels until then."""

import shutil

import numpy as np
import pytest
from msgspec.structs import replace

import edgerestore
from edgerestore import Adjustments, Cutout
from edgerestore.bundle.bundle import Bundle
from edgerestore.bundle.manifest import Tiling, TilingMode
from edgerestore.errors import ArgumentError

from ..checked import not_none


@pytest.fixture(scope="module")
def full():
    with edgerestore.load("deblur", precision="int8") as opened:
        yield opened


@pytest.fixture
def restorer():
    with edgerestore.load("deblur", precision="int8") as opened:
        yield opened


@pytest.mark.parametrize("interval", [2, 3, 4])
def test_every_pixel_is_refreshed_within_the_interval(restorer, full, picture, interval):
    restorer.refresh_interval = interval
    frames = [picture(397, 601, seed=seed) for seed in range(3 * interval)]
    outcomes = list(restorer.stream(frames))
    expected = [full(frame) for frame in frames]
    np.testing.assert_array_equal(outcomes[0], expected[0])
    for place in range(1, len(frames)):
        # Every pixel is that of one of the last frames, and a share of them is of this one.
        recent = range(max(0, place - interval + 1), place + 1)
        known = [(outcomes[place] == expected[i]).all(axis=2) for i in recent]
        assert np.logical_or.reduce(known).all()
        assert 0.6 / interval < known[-1].mean() < 1.6 / interval


def test_a_still_scene_becomes_exact_after_one_round(restorer, full, picture):
    restorer.refresh_interval = 4
    restorer(picture(400, 600))
    image = picture(400, 600, seed=1)
    for _ in range(4):
        outcome = restorer(image)
    np.testing.assert_array_equal(outcome, full(image))


def test_back_at_one_the_next_frame_is_exact(restorer, full, picture):
    for _ in range(2):
        restorer.refresh_interval = 3
        restorer(picture(400, 600))
        image = picture(400, 600, seed=1)
        assert not np.array_equal(restorer(image), full(image))
        restorer.refresh_interval = 1
        np.testing.assert_array_equal(restorer(image), full(image))
    restorer(image)[0, 0] = 0  # an array of the caller's own again


def test_another_interval_goes_on_from_what_is_shown(restorer, full, picture):
    restorer.refresh_interval = 2
    image = picture(400, 600)
    restorer(image)
    restorer.refresh_interval = 4
    other = picture(400, 600, seed=1)
    shown = restorer(other)
    still = (shown == full(image)).all(axis=2).mean()
    assert 0.6 < still < 0.9


def test_a_change_of_strength_tone_or_size_shows_at_once(restorer, full, picture):
    restorer.refresh_interval = 4
    image = picture(400, 600)
    restorer(image)
    other = picture(400, 600, seed=1)
    np.testing.assert_array_equal(restorer(other, 0.5), full(other, 0.5))
    restorer.adjustments = full.adjustments = Adjustments(brightness=0.3)
    try:
        np.testing.assert_array_equal(restorer(image, 0.5), full(image, 0.5))
    finally:
        full.adjustments = Adjustments()
    restorer.adjustments = Adjustments()
    smaller = picture(300, 400)
    np.testing.assert_array_equal(restorer(smaller), full(smaller))


def test_it_counts_what_it_left_out(restorer, picture):
    counts = restorer.reuse
    assert counts is None
    restorer.refresh_interval = 4
    for seed in range(9):
        restorer(picture(400, 600, seed=seed))
    counts = not_none(restorer.reuse)
    assert (counts.frames, counts.tiles_inferred) == (9, 9)
    assert counts.pixels_reused == pytest.approx(1 - (1 + 8 / 4) / 9, abs=0.05)


def test_what_did_not_change_is_not_refreshed_either(full, picture):
    with edgerestore.load("deblur", precision="int8", reuse_static=0) as restorer:
        restorer.refresh_interval = 2
        image = picture(400, 600)
        for _ in range(8):
            np.testing.assert_array_equal(restorer(image), full(image))
        assert not_none(restorer.reuse).tiles_inferred == 3  # the frame, and each tile's first turn
        image = picture(400, 600, seed=1)
        restorer(image)
        np.testing.assert_array_equal(restorer(image), full(image))
        restorer.refresh_interval = 1
        np.testing.assert_array_equal(restorer(image), full(image))
        image[10:30, 10:30] = 0
        np.testing.assert_array_equal(restorer(image), full(image))


@pytest.mark.parametrize("small", [True, False])
def test_what_cannot_be_cut_is_refreshed_whole_now_and_then(tmp_path, picture, small):
    shipped = Bundle.find("deblur")
    folder, size = shipped.folder, (56, 56)  # hardly larger than two halos
    if not small:
        folder, size = tmp_path / "windowed", (260, 300)
        shutil.copytree(shipped.folder, folder)
        manifest = shipped.manifest
        tiling = Tiling(TilingMode.WINDOWED, window_px=192, ramp_px=48, reason="a global mean")
        manifest = replace(manifest, tiling=tiling)
        (folder / "bundle.json").write_text(manifest.to_json())
    frames = [picture(*size, seed=seed) for seed in range(7)]
    with edgerestore.load(folder, precision="fp32") as whole:
        expected = [whole(frame) for frame in frames]
    with edgerestore.load(folder, precision="fp32") as restorer:
        restorer.refresh_interval = 3
        outcomes = [restorer(frame) for frame in frames]
    for place, shown in enumerate([0, 0, 0, 3, 3, 3, 6]):
        np.testing.assert_array_equal(outcomes[place], expected[shown])


@pytest.mark.parametrize("bad", [0, -1, 65, 1.5, True, "2"])
def test_an_interval_that_is_none_is_refused(restorer, bad):
    with pytest.raises(ArgumentError, match="whole number from 1 to 64"):
        restorer.refresh_interval = bad
    assert restorer.refresh_interval == 1


def test_averages_take_turns_together_unless_they_turn_pictures(full, picture):
    frames = [picture(400, 600, seed=seed) for seed in (0, 1)]
    with edgerestore.load("deblur+deblur", precision="int8") as both:
        both.refresh_interval = 2
        assert both.refresh_interval == 2
        both(frames[0])
        shown = both(frames[1])
        halves = [(shown == full(frame)).all(axis=2) for frame in frames]
        assert (halves[0] | halves[1]).all()
    with edgerestore.load("deblur", precision="int8", tta=True) as turning:
        turning.refresh_interval = 1
        with pytest.raises(ArgumentError, match=r"\(cadence\) is 1"):
            turning.refresh_interval = 2


def test_a_cut_out_refreshes_its_masks_in_turn(mask_bundle, picture):
    with Cutout(edgerestore.load(mask_bundle, precision="fp32"), mask_only=True) as restorer:
        restorer.refresh_interval = 2
        assert restorer.refresh_interval == 2
        first = restorer(np.zeros((300, 300, 3), np.uint8))
        red = np.zeros((300, 300, 3), np.uint8)
        red[..., 0] = 255
        second = restorer(red)
        assert first.max() < 10
        assert 0.3 < (second > 128).mean() < 0.7


def test_the_older_name_is_the_same_setting(restorer):
    restorer.cadence = 3
    assert restorer.refresh_interval == restorer.cadence == 3
