"""Training pairs: a seed names one, inputs lie on their targets, and mixes hold what they say."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from edgerestore.imaging.bicubic import resized
from edgerestore.imaging.degradations import LayeredMotion, ScalingMix, SensorNoise
from edgerestore.training.composites import Composites, placed
from edgerestore.training.pairs import (
    BoxBlurPairs,
    CutoutPairs,
    DejpegPairs,
    DenoisePairs,
    GreyDenoisePairs,
    MotionPairs,
    RetouchPairs,
    UpscalePairs,
)
from edgerestore.training.pictures import Pictures

ALL = [
    MotionPairs(side_px=48),
    BoxBlurPairs(side_px=48),
    DenoisePairs(side_px=48),
    GreyDenoisePairs(side_px=48),
    UpscalePairs(side_px=16),
    UpscalePairs(side_px=24, scale=2),
    DejpegPairs(side_px=48),
    RetouchPairs(side_px=48),
    CutoutPairs(side_px=48),
]
NO_NOISE = SensorNoise(shot=0, sigma=0)


def ids(pairs):
    return f"{type(pairs).__name__}-{pairs.upscale}"


@pytest.fixture(scope="module")
def pictures(picture):
    """Photographs whose edges are as soft as a lens makes them, and two objects."""
    photographs = [
        cv2.GaussianBlur(picture(180, 240, seed=seed), (0, 0), 1.5).astype(np.uint8)
        for seed in range(3)
    ]
    y, x = np.mgrid[:60, :80]
    inside = ((y - 30) / 28) ** 2 + ((x - 40) / 38) ** 2 < 1
    colours = picture(60, 80, seed=9)
    disk = np.dstack([colours, np.where(inside, 255, 0).astype(np.uint8)])
    return Pictures(photographs, [disk, np.ascontiguousarray(disk[:40])])


def drawn(pairs, pictures, seed=0, count=1):
    made = [pairs.draw(pictures, np.random.default_rng([seed, i])) for i in range(count)]
    return made[0] if count == 1 else made


@pytest.mark.parametrize("pairs", ALL, ids=ids)
def test_a_seed_names_a_pair_of_the_shapes_that_are_said(pairs, pictures):
    for seed in range(6):
        given, target = drawn(pairs, pictures, seed)
        side = pairs.side_px * pairs.upscale
        assert given.shape == (pairs.side_px, pairs.side_px, pairs.channels)
        assert target.shape == (side, side, pairs.target_channels)
        assert given.dtype == target.dtype == np.uint8
        for one, again in zip((given, target), drawn(pairs, pictures, seed), strict=True):
            np.testing.assert_array_equal(one, again)
    assert not np.array_equal(given, drawn(pairs, pictures, 7)[0])


@pytest.mark.parametrize("pairs", ALL, ids=ids)
def test_the_mix_is_plain_data_that_tells_mixes_apart(pairs):
    described = json.loads(json.dumps(pairs.describe()))
    assert described == pairs.describe()
    assert described["kind"] == type(pairs).__name__
    assert described["side_px"] == pairs.side_px
    other = replace(pairs, side_px=pairs.side_px + 2)
    assert other.describe() != described


@pytest.mark.parametrize("kind", [MotionPairs, DenoisePairs, DejpegPairs, RetouchPairs])
def test_clean_pictures_are_among_them_untouched(kind, pictures):
    given, target = drawn(kind(side_px=48, clean_share=1), pictures)[:2]
    if kind is MotionPairs:
        given, target = drawn(MotionPairs(side_px=48, mild_share=0, clean_share=1), pictures)
    np.testing.assert_array_equal(given, target)
    shares = [np.array_equal(*pair) for pair in drawn(kind(side_px=48), pictures, 1, 80)]
    assert 0 < sum(shares) < 30


def test_layered_motion_that_rests_lies_on_its_target(pictures):
    still = LayeredMotion(still_share=1, object_length_px=(0, 0), highlight_share=0)
    pairs = MotionPairs(
        side_px=48, motion=still, mild_share=0, clean_share=0, noise=NO_NOISE, soft_share=0
    )
    pairs = replace(pairs, jpeg_share=0, h264_share=0)
    for given, target in drawn(pairs, pictures, 2, 6):
        assert np.abs(given.astype(int) - target).max() <= 1


def test_a_box_blur_is_centred_on_its_target(pictures):
    blurred, sharp = drawn(BoxBlurPairs(side_px=64, blur_px=(5, 5)), pictures)
    wanted = cv2.blur(sharp, (5, 5))
    inner = slice(3, -3)
    assert np.abs(blurred.astype(int) - wanted)[inner, inner].max() <= 2


def test_held_out_splits_are_judged_on_layered_motion_alone(pictures):
    held_out = MotionPairs(side_px=48).held_out()
    still = replace(held_out, motion=LayeredMotion(still_share=0, length_px=(30, 30)))
    for given, target in drawn(still, pictures, 3, 8):
        assert np.abs(given.astype(int) - target).mean() > 2


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_target_made_smaller_is_its_input(scale, pictures):
    pairs = UpscalePairs(side_px=24, scale=scale, scaling=ScalingMix(0, 0), jpeg_share=0)
    given, target = drawn(pairs, pictures)
    small = resized(target.astype(np.float32), 24, 24)
    inner = slice(3, -3)  # at the border the input saw more than the target holds
    assert np.abs(small - given)[inner, inner].max() < 1.6


def test_jpeg_lies_on_its_target_at_any_phase_of_its_grid(pictures):
    near = DejpegPairs(side_px=48, quality=(95, 95), light_share=0, clean_share=0)
    far = replace(near, quality=(10, 10))
    phases = set()
    for seed in range(12):
        (fine, same), (coarse, _) = drawn(near, pictures, seed), drawn(far, pictures, seed)
        errors = [np.abs(one.astype(int) - same).mean() for one in (fine, coarse)]
        assert errors[0] < errors[1] / 2
        steps = np.abs(np.diff(coarse.astype(int), axis=1)).mean(axis=(0, 2))
        phases.add(int(np.argmax([steps[k::8].mean() for k in range(8)])))
    assert len(phases) > 3


@pytest.mark.parametrize("sigma", [15, 50])
def test_noise_has_the_sigma_that_was_drawn(sigma, pictures):
    pairs = DenoisePairs(side_px=96, sigma=(sigma, sigma), sensor_share=0, clean_share=0)
    for given, target in drawn(pairs, pictures, 4, 3):
        grain = given.astype(int) - target
        unclipped = (target > 140) & (target < 160)
        assert grain[unclipped].std() == pytest.approx(sigma, rel=0.15)


def test_an_instruments_noise_grows_with_the_light(pictures):
    pairs = GreyDenoisePairs(
        side_px=128,
        sensor_share=1,
        clean_share=0,
        photons=(80, 80),
        read=(0, 0),
        sensor_gain=(0.9, 0.9),
    )
    noisy, clean = np.stack(drawn(pairs, pictures, 5, 4), axis=1).astype(int)
    grain = noisy - clean
    for level in (60, 120):
        near = np.abs(clean - level) < 6
        wanted = np.sqrt(level / 255 / 80) * 255
        assert grain[near].std() == pytest.approx(wanted, rel=0.1)


def test_a_composite_shows_its_foreground_where_that_is_opaque(pictures):
    pairs = CutoutPairs(side_px=96, noise=NO_NOISE, jpeg_share=0)
    covered = []
    for given, target in drawn(pairs, pictures, 6, 12):
        opaque = target[..., 3] == 255
        error = np.abs(given.astype(int) - target[..., :3])[opaque]
        assert error.size == 0 or error.max() <= 1
        covered.append((target[..., 3] > 127).mean())
    assert 0 < min(covered) < max(covered) <= 1
    assert max(covered) > 0.2


def test_backgrounds_are_plain_and_photographed(pictures):
    plain = CutoutPairs(side_px=96, noise=NO_NOISE, jpeg_share=0)
    plain = replace(plain, composites=Composites(plain_share=1, shadow_share=0))
    photographed = replace(plain, composites=Composites(plain_share=0, defocus_share=0))
    spreads = []
    for pairs in (plain, photographed):
        for given, target in drawn(pairs, pictures, 8, 5):
            behind = given[target[..., 3] == 0].astype(float)
            spreads.append(np.abs(np.diff(behind, axis=0)).mean())
    assert max(spreads[:5]) < min(spreads[5:])


@hypothesis.settings(max_examples=25)
@hypothesis.given(seed=st.integers(0, 2**32), longest_px=st.floats(5, 150), x=st.floats(0, 96))
def test_a_placed_object_keeps_its_colours(seed, longest_px, x):
    """What is transparent is black in the file, and must not darken the edge."""
    cutout = np.zeros((40, 50, 4), np.uint8)
    cutout[5:35, 5:45] = (200, 40, 90, 255)
    image, alpha = placed(
        cutout,
        (80, 96),
        np.random.default_rng(seed),
        longest_px=longest_px,
        centre=np.array([x, 40.0]),
    )
    assert image.shape == (80, 96, 3)
    assert alpha.shape == (80, 96)
    assert 0 <= alpha.min() <= alpha.max() <= 1
    seen = image[alpha > 0.02]
    np.testing.assert_allclose(seen * 255, np.broadcast_to([200, 40, 90], seen.shape), atol=1)


def test_an_object_is_as_large_as_asked_and_where_it_was_put():
    cutout = np.full((30, 60, 4), 255, np.uint8)
    for longest_px in (20, 100):
        _, alpha = placed(
            cutout,
            (160, 160),
            np.random.default_rng(1),
            longest_px=longest_px,
            centre=np.array([90.0, 70.0]),
            most_turned_deg=0,
        )
        assert alpha.sum() == pytest.approx(longest_px**2 / 2, rel=0.15)
        rows, columns = np.nonzero(alpha > 0.5)
        assert columns.mean() == pytest.approx(90, abs=1)
        assert rows.mean() == pytest.approx(70, abs=1)


def test_objects_move_in_front_where_they_are_given(pictures):
    still = LayeredMotion(still_share=1, object_length_px=(0, 0), highlight_share=0)
    pairs = MotionPairs(
        side_px=48, motion=still, layers=(3, 3), object_share=1, mild_share=0, clean_share=0
    )
    magenta = np.zeros((60, 60, 4), np.uint8)
    magenta[..., [0, 2, 3]] = 255
    seen = [
        (np.abs(target.astype(int) - [255, 0, 255]).max(axis=2) < 3).mean()
        for _, target in drawn(pairs, Pictures(pictures.photographs, [magenta]), 9, 6)
    ]
    assert max(seen) > 0.05
    without = [
        (np.abs(target.astype(int) - [255, 0, 255]).max(axis=2) < 3).mean()
        for _, target in drawn(pairs, Pictures(pictures.photographs), 9, 6)
    ]
    assert max(without) < 0.01


def test_a_third_of_the_crops_are_from_reduced_photographs(picture):
    """Where the reduced copy is too small, the whole photograph is used."""
    large, small = np.full((200, 200, 3), 9, np.uint8), picture(100, 100)
    pictures = Pictures([large], reduced=[np.full((120, 120, 3), 5, np.uint8)])
    rng = np.random.default_rng(0)
    levels = [int(pictures.crop(rng, 64)[0, 0, 0]) for _ in range(200)]
    assert levels.count(5) / 200 == pytest.approx(0.35, abs=0.08)
    rng = np.random.default_rng(0)
    assert all(Pictures([small]).crop(rng, 96).shape == (96, 96, 3) for _ in range(20))
