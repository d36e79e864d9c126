"""Layered motion: light adds up, what moves covers and uncovers, and the truth is the middle."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgerestore.imaging.degradations import Degradation, Layer, LayeredMotion
from edgerestore.imaging.degradations.motion import draw_path, soft_polygon

STILL = LayeredMotion(still_share=1, object_length_px=(0, 0), highlight_share=0)


def chance(seed=5):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def scene(picture):
    return picture(72, 96).astype(np.float32) / 255


def disk(size, centre, radius):
    y, x = np.mgrid[: size[0], : size[1]]
    distance = np.hypot(y - centre[0], x - centre[1])
    return np.clip(radius - distance + 0.5, 0, 1).astype(np.float32)


def test_a_seed_names_an_exposure(scene):
    layers = [Layer(scene[::-1].copy(), soft_polygon(chance(1), scene.shape[:2]))]
    first, again, other = (
        LayeredMotion().expose(scene, layers, chance(seed)) for seed in (3, 3, 4)
    )
    for one, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, same)
        assert one.dtype == np.float32
        assert 0 <= one.min() <= one.max() <= 1
    assert np.abs(first[0] - other[0]).max() > 0.05


def test_a_still_scene_is_the_picture(scene):
    blurred, sharp = STILL.expose(scene, [], chance())
    np.testing.assert_allclose(blurred, scene, atol=2e-5)
    np.testing.assert_allclose(sharp, scene, atol=2e-5)


def test_the_truth_is_the_scene_as_it_was_given(scene):
    """Paths are zero at the middle of the exposure, so the truth is not moved, blended or cut."""
    alpha = disk(scene.shape[:2], (30, 50), 14)
    above = np.full_like(scene, 0.9)
    motion = LayeredMotion(length_px=(20, 20), still_share=0, highlight_share=0)
    blurred, sharp = motion.expose(scene, [Layer(above, alpha)], chance())
    light = scene**2.2 * (1 - alpha[..., None]) + above**2.2 * alpha[..., None]
    np.testing.assert_allclose(sharp, light ** (1 / 2.2), atol=1e-4)
    assert np.abs(blurred - sharp).mean() > 0.02


def test_light_is_averaged_and_not_levels():
    """A white bar that moves over black leaves more grey than an average of levels would."""
    bar = np.zeros((61, 61, 1), np.float32)
    bar[:, 26:35] = 1
    motion = LayeredMotion(length_px=(30, 30), still_share=0, highlight_share=0)
    blurred, sharp = motion.expose(bar, [], chance(2))
    inner = slice(22, -22)  # rows that no border has reached
    light, levels = (p[inner].astype(np.float64) for p in (blurred**2.2, blurred))
    assert light.sum() == pytest.approx(sharp[inner].sum(), rel=0.03)
    assert levels.sum() > 1.1 * sharp[inner].sum()


def test_an_object_that_stands_still_hides_what_moves_behind_it():
    rng = np.random.default_rng(0)
    busy = rng.random((80, 80, 3), dtype=np.float32)
    alpha = disk((80, 80), (40, 40), 16)
    grey = np.full_like(busy, 0.5)
    camera = LayeredMotion(
        length_px=(0, 0), still_share=1, object_length_px=(25, 25), highlight_share=0
    )
    # The object moves by its own path or not at all, by the draw; the ground rests in both.
    seeds = range(8)
    shown = [camera.expose(busy, [Layer(grey, alpha)], chance(seed)) for seed in seeds]
    moved = [np.abs(blurred - sharp).max() > 0.05 for blurred, sharp in shown]
    assert 0 < sum(moved) < len(moved)
    for blurred, sharp in shown:
        far = disk((80, 80), (40, 40), 36) == 0
        np.testing.assert_allclose(blurred[far], sharp[far], atol=1e-5)
        np.testing.assert_allclose(sharp[alpha == 1], 0.5, atol=1e-4)


def test_the_nearer_layer_covers_the_farther():
    size = (60, 60)
    alpha = disk(size, (30, 30), 20)
    ground, far, near = (np.full((*size, 3), level, np.float32) for level in (0.1, 0.4, 0.8))
    blurred, _ = STILL.expose(ground, [Layer(far, alpha), Layer(near, alpha)], chance())
    np.testing.assert_allclose(blurred[alpha == 1], 0.8, atol=1e-4)
    np.testing.assert_allclose(blurred[alpha == 0], 0.1, atol=1e-4)


def test_a_margin_is_cut_off_and_changes_nothing_else(scene):
    layers = [Layer(scene[:, ::-1].copy(), disk(scene.shape[:2], (20, 30), 12))]
    whole = LayeredMotion().expose(scene, layers, chance(9))
    inner = LayeredMotion().expose(scene, layers, chance(9), margin_px=10)
    for one, other in zip(whole, inner, strict=True):
        np.testing.assert_allclose(one[10:-10, 10:-10], other, atol=1e-4)


def test_layers_out_of_sight_or_empty_are_no_trouble(scene):
    nothing = np.zeros(scene.shape[:2], np.float32)
    corner = nothing.copy()
    corner[0, 0] = 1
    layers = [Layer(scene, nothing), Layer(scene, corner)]
    blurred, sharp = LayeredMotion().expose(scene, layers, chance(), margin_px=20)
    assert np.isfinite(blurred).all()
    np.testing.assert_allclose(sharp, scene[20:-20, 20:-20], atol=1e-4)


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**32),
    length=st.floats(0, 60),
    frames=st.integers(2, 16).map(lambda half: 2 * half + 1),
)
def test_a_path_is_as_long_as_asked_and_rests_in_its_middle(seed, length, frames):
    path = draw_path(np.random.default_rng(seed), length, frames)
    steps = np.linalg.norm(np.diff(path.shift_px, axis=0), axis=1)
    assert steps.sum() == pytest.approx(length, abs=1e-6)
    assert path.at_rest(frames // 2)
    assert path.shift_px.shape == (frames, 2)
    if length > 1:
        assert not path.at_rest(0)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32))
def test_an_object_has_soft_edges_and_is_there(seed):
    alpha = soft_polygon(np.random.default_rng(seed), (128, 160))
    assert alpha.shape == (128, 160)
    assert 0 <= alpha.min() <= alpha.max() <= 1


def test_shake_grows_with_its_length(scene):
    moved = [
        np.abs(Degradation("shake", length_px).apply(scene, chance()) - scene)
        for length_px in (0.01, 3, 30)
    ]
    assert moved[0].max() < 2.5 / 255  # the rounding to 8 bits, in the dark
    assert 0.02 < moved[1].mean() < moved[2].mean()
