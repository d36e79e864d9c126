"""Shifts of two tiles against the truth of a simulation and the bound of statistics."""

import numpy as np
import pytest

from edgerestore.errors import ArgumentError
from edgerestore.stitching.correlation import (
    Search,
    effective_pixels,
    masked_correlation,
    phase_correlation,
)
from edgerestore.stitching.pairs import ESTIMATORS, PairOptions, Reason, estimate_pair, seam_drift
from edgerestore.stitching.refinement import cramer_rao_bound
from edgerestore.stitching.simulator import PairSimulator, Scene


def measured(simulator, count, options=None):
    """Return errors of accepted pairs, their bounds, and the reasons of the others."""
    errors, bounds, reasons = [], [], []
    plan = (simulator.width - simulator.overlap, 0)
    for index in range(count):
        pair = simulator.pair(index)
        found = estimate_pair(pair.first, pair.second, plan, options or PairOptions())
        if found.best is None:
            reasons.append(found.reason)
            continue
        errors.append((found.best.dx - pair.dx, found.best.dy - pair.dy))
        bounds.append(np.trace(pair.bound) / 2)
    return np.array(errors), np.array(bounds), reasons


def rms(values):
    return float(np.sqrt(np.mean(np.square(values))))


@pytest.mark.parametrize(
    ("noise", "overlap", "count"),
    [(5, 150, 10), (40, 150, 10), (80, 150, 8), (5, 30, 16), (30, 30, 16)],
)
def test_shifts_reach_the_bound_of_noise_and_content(noise, overlap, count):
    simulator = PairSimulator(11, height=600, width=200, overlap=overlap, noise=noise)
    errors, bounds, reasons = measured(simulator, count)
    bound = float(np.sqrt(bounds.mean()))
    assert rms(errors) <= 1.5 * bound + 0.02
    assert np.abs(errors).max() < 1
    if bound < 0.05:
        assert len(reasons) <= 0.05 * count


def test_the_covariance_is_what_errors_show():
    simulator = PairSimulator(3, height=240, width=180, overlap=100, noise=20)
    plan, stated, errors = (80, 0), [], []
    for index in range(24):
        pair = simulator.pair(index)
        best = estimate_pair(pair.first, pair.second, plan, PairOptions()).best
        assert best is not None
        stated.append(np.trace(best.covariance) / 2)
        errors.append((best.dx - pair.dx, best.dy - pair.dy))
        # No estimate is better than the bound, whose own is of noise and content as measured.
        assert np.trace(best.covariance) > 0.8 * np.trace(best.bound)
    assert rms(errors) == pytest.approx(np.sqrt(np.mean(stated)), rel=0.35)


def test_periodic_content_is_undefined_and_keeps_its_candidates():
    simulator = PairSimulator(2, height=200, width=160, overlap=100, noise=5, period_px=11)
    for index in range(5):
        pair = simulator.pair(index)
        found = estimate_pair(pair.first, pair.second, (60, 0), PairOptions())
        assert found.best is None
        assert found.reason is Reason.EQUAL
        near = [np.hypot(one.dx - pair.dx, one.dy - pair.dy) for one in found.candidates]
        assert min(near) < 0.1


@pytest.mark.parametrize(
    "tile",
    [
        np.zeros((120, 120), np.uint8),
        np.full((120, 120), 65535, np.uint16),
        np.random.default_rng(1).normal(128, 3, (120, 120)).astype(np.float32),
        np.tile(np.arange(120, dtype=np.uint8), (120, 1)),
    ],
    ids=["black", "saturated", "noise", "ramp"],
)
def test_without_content_in_common_there_is_no_answer(tile):
    other = np.random.default_rng(2).normal(128, 3, (120, 120)).astype(tile.dtype)
    found = estimate_pair(tile, other, (90, 0), PairOptions())
    assert found.best is None
    assert found.reason in (Reason.CONTENT, Reason.EQUAL, Reason.LIMIT)


def test_straight_lines_along_the_shift_have_no_answer():
    rows = np.random.default_rng(5).normal(128, 30, (200, 1)).clip(0, 255)
    tile = np.broadcast_to(rows, (200, 100)) + np.random.default_rng(6).normal(0, 5, (200, 100))
    first, second = tile.astype(np.float32), tile.astype(np.float32) + 1
    noise = np.random.default_rng(7).normal(0, 5, (200, 100)).astype(np.float32)
    found = estimate_pair(first + noise, second - noise, (60, 0), PairOptions())
    assert found.best is None


def test_an_optimum_at_the_limit_is_told():
    scene = Scene(4)
    first, second = scene.part(0, 0, 150, 150), scene.part(0, 105, 150, 150)
    found = estimate_pair(first, second, (120, 0), PairOptions(limit_x=15, limit_y=15))
    assert found.reason is Reason.LIMIT


def test_gain_offset_and_tilted_light_change_nothing():
    scene = Scene(4)
    first, second = scene.part(0, 0, 300, 200), scene.at(3.3, 140.7, 300, 200)
    second = second * np.float32(0.7) + np.linspace(0, 60, 200, dtype=np.float32)
    best = estimate_pair(first, second, (145, 0), PairOptions()).best
    assert best is not None
    assert (best.dx, best.dy) == pytest.approx((140.7, 3.3), abs=0.01)
    assert best.gain == pytest.approx(1 / 0.7, rel=0.02)


def test_whole_shifts_of_equal_pixels_are_exact():
    scene = Scene(9)
    whole = scene.part(0, 0, 200, 300).clip(0, 255).astype(np.uint16)
    found = estimate_pair(whole[:, :160], whole[:, 151:], (145, 0), PairOptions())
    assert found.best is not None
    assert (found.best.dx, found.best.dy) == pytest.approx((151, 0), abs=1e-6)
    assert found.confidence > 0.999999


def test_drift_along_a_seam_is_measured():
    scene = Scene(8)
    first, whole = scene.part(0, 0, 600, 200), scene.part(0, 130, 600, 220)
    moved = np.empty((600, 200), np.float32)
    for row in range(600):
        at = np.arange(200) + 3 * row / 600  # three pixels over the seam
        moved[row] = np.interp(at, np.arange(220), whole[row])
    found = estimate_pair(first, moved, (130, 0), PairOptions())
    found = seam_drift(first, moved, found, PairOptions())
    assert found.best is not None
    assert found.drift_px == pytest.approx(3 * 11 / 12, abs=0.4)
    assert [one.dx for one in found.drifts] == sorted(one.dx for one in found.drifts)


def test_correlation_by_spectra_is_correlation_by_definition():
    random = np.random.default_rng(3)
    first, second = random.normal(0, 1, (2, 40, 50)).astype(np.float32)
    search = Search(30, -3, 6, 5, 40, 50, 4)
    surface = masked_correlation(first, second, search)
    for row in range(surface.shape[0]):
        for column in range(surface.shape[1]):
            one, other = search.overlap(*search.shift(row, column)).crops(first, second)
            expected = np.corrcoef(one.ravel(), other.ravel())[0, 1]
            assert surface[row, column] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_estimator_finds_a_plain_shift(name):
    scene = Scene(12)
    first, second = scene.part(0, 0, 200, 150), scene.part(4, 98, 200, 150)
    options = PairOptions(estimators=(name,))
    found = estimate_pair(first, second, (105, 0), options)
    assert found.best is not None
    assert (found.best.dx, found.best.dy) == pytest.approx((98, 4), abs=0.01)
    assert found.estimators == (name,)


def test_phase_correlation_peaks_at_the_shift():
    scene = Scene(12)
    first, second = scene.part(0, 0, 200, 150), scene.part(2, 55, 200, 150)
    search = Search(50, 0, 10, 10, 200, 150)
    surface = phase_correlation(first, second, search)
    row, column = np.unravel_index(np.argmax(surface), surface.shape)
    assert search.shift(int(row), int(column)) == (55, 2)


def test_smooth_content_has_fewer_independent_pixels():
    random = np.random.default_rng(1)
    white = random.normal(0, 1, (2, 128, 128)).astype(np.float32)
    assert effective_pixels(*white) == pytest.approx(128 * 128, rel=0.15)
    smooth = [Scene(seed, grain_px=3).part(0, 0, 128, 128) for seed in (1, 2)]
    assert effective_pixels(*smooth) < 128 * 128 / 20


def test_the_bound_is_that_of_a_plane_wave():
    x = np.arange(400)
    wave = 20 * np.sin(x / 5)[None] + 20 * np.sin(x / 5)[:, None]
    bound = cramer_rao_bound(wave, 3.0)
    expected = 2 * 9 / (400 * 400 * (20 / 5) ** 2 / 2)
    assert np.diag(bound) == pytest.approx([expected, expected], rel=0.05)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"estimators": ("nothing",)}, "no estimator"),
        ({"estimators": ()}, "no estimator"),
        ({"limit_x": 0}, "at least 1 px"),
        ({"min_overlap": 1}, "3 px or more"),
        ({"candidates": 1}, "two candidates"),
    ],
)
def test_options_out_of_range_are_told(settings, said):
    with pytest.raises(ArgumentError, match=said):
        PairOptions(**settings)
