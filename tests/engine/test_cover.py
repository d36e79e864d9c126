"""Where tiles are placed over what changed, over all sizes that a frame may have."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgerestore.engine.temporal.changes import Changes, check_threshold
from edgerestore.engine.temporal.cover import (
    Canvas,
    affected_units,
    cheapest_cover,
    covered,
    refresh_grid,
    shapes_for,
)
from edgerestore.errors import ArgumentError
from edgerestore.imaging.arrays import Depth

from ..checked import not_none

DEBLUR = Canvas(720, 1280, halo=60, multiple=8)


class Case(NamedTuple):
    canvas: Canvas
    share: float
    seed: int

    @property
    def changed(self):
        """Rectangles of changed cells, and specks."""
        rng = np.random.default_rng(self.seed)
        canvas = self.canvas
        cells = rng.random((-(-canvas.height // 8), -(-canvas.width // 8))) < self.share
        for _ in range(rng.integers(0, 3)):
            top, left = rng.integers(0, cells.shape)
            cells[top : top + rng.integers(1, 9), left : left + rng.integers(1, 9)] = True
        cells[tuple(rng.integers(0, cells.shape))] = True
        return cells


canvases = st.builds(
    Canvas,
    height=st.integers(1, 500),
    width=st.integers(1, 500),
    halo=st.integers(0, 30),
    multiple=st.sampled_from([1, 2, 3, 4, 8, 16, 32]),
    upscale=st.sampled_from([1, 2, 3]),
)
cases = st.builds(Case, canvases, st.sampled_from([0.0, 0.001, 0.02]), st.integers(0, 2**31))


def reached(case):
    """Output pixels within a halo of a changed cell, one by one; enlarged like the frame."""
    canvas = case.canvas
    out = np.zeros((canvas.height, canvas.width), bool)
    for row, column in np.argwhere(case.changed):
        top, left = max(0, row * 8 - canvas.halo), max(0, column * 8 - canvas.halo)
        out[top : row * 8 + 8 + canvas.halo, left : column * 8 + 8 + canvas.halo] = True
    return out.repeat(canvas.upscale, 0).repeat(canvas.upscale, 1)


def check_tiles(tiles, canvas, shape):
    """Hold tiles to what makes a tile exact, wherever it lies."""
    halo, upscale = canvas.halo, canvas.upscale
    for tile in tiles:
        assert tile.read[2:] == shape
        assert tile.keep[2:] == tile.place[2:]
        for axis, frame in ((0, canvas.height), (1, canvas.width)):
            read, length = tile.read[axis], tile.read[axis + 2]
            assert read % canvas.multiple == 0
            assert 0 <= read < frame
            assert read + length < frame + canvas.multiple
            assert length <= frame
            assert read * upscale + tile.keep[axis] == tile.place[axis]
            first = tile.keep[axis] / upscale
            last = (tile.keep[axis] + tile.keep[axis + 2]) / upscale
            assert first >= (halo if read > 0 else 0)
            assert last <= (length - halo if read + length < frame else frame - read)
            assert last > first


@given(cases)
def test_tiles_answer_for_every_pixel_that_a_change_reached(case):
    canvas = case.canvas
    for shape in shapes_for(canvas):
        cover = covered(affected_units(case.changed, canvas), canvas, shape)
        check_tiles(cover.tiles, canvas, shape)
        answered = np.zeros((canvas.height * canvas.upscale, canvas.width * canvas.upscale), bool)
        for top, left, height, width in (tile.place for tile in cover.tiles):
            answered[top : top + height, left : left + width] = True
        assert not (reached(case) & ~answered).any()


@given(canvases, st.integers(1, 96), st.integers(1, 96), st.integers(0, 2**31))
def test_one_small_change_is_one_tile_wherever_it_lies(canvas, high, wide, seed):
    rng = np.random.default_rng(seed)
    top, left = rng.integers(0, canvas.height), rng.integers(0, canvas.width)
    pixels = np.zeros((-(-canvas.height // 8) * 8, -(-canvas.width // 8) * 8), bool)
    pixels[top : top + high, left : left + wide] = True
    cells = np.asarray(pixels.reshape(pixels.shape[0] // 8, 8, -1, 8).any(axis=(1, 3)))
    shapes = shapes_for(canvas)
    if shapes:
        cover = covered(affected_units(cells, canvas), canvas, shapes[0])
        assert len(cover.tiles) == 1


@given(cases)
def test_a_cover_costs_less_than_the_frame_or_is_none(case):
    canvas = case.canvas
    whole = canvas.height * canvas.width
    cover = cheapest_cover(case.changed, canvas, shapes_for(canvas), whole)
    if cover is not None:
        assert len(cover.tiles) * cover.shape[0] * cover.shape[1] < whole


def test_what_the_default_model_pays_for_one_change():
    small, large = shapes_for(DEBLUR)
    assert small == (344, 344)
    assert large == (568, 568)
    cells = np.zeros((90, 160), bool)
    cells[40:48, 70:78] = True
    assert len(not_none(cheapest_cover(cells, DEBLUR, (small, large), 720 * 1280)).tiles) == 1
    cells[40:80, 70:110] = True  # 320 x 320 px are one large tile
    cover = not_none(cheapest_cover(cells, DEBLUR, (small, large), 720 * 1280))
    assert cover.shape == large
    assert len(cover.tiles) == 1
    cells[:] = True
    assert cheapest_cover(cells, DEBLUR, (small, large), 720 * 1280) is None


def test_a_frame_no_larger_than_a_tile_has_no_shapes():
    assert shapes_for(Canvas(300, 300, halo=60, multiple=8)) == []


@given(canvases, st.integers(2, 12))
def test_tiles_that_take_turns_cover_the_frame_once_in_no_more_turns_than_asked(canvas, cadence):
    grid = refresh_grid(canvas, cadence)
    if grid is None:
        return
    assert 2 <= len(grid.tiles) <= cadence
    check_tiles(grid.tiles, canvas, (grid.tile_height, grid.tile_width))
    upscale = canvas.upscale
    covered_once = np.zeros((canvas.height * upscale, canvas.width * upscale), np.uint8)
    for top, left, height, width in (tile.place for tile in grid.tiles):
        covered_once[top : top + height, left : left + width] += 1
    assert (covered_once == 1).all()


@pytest.mark.parametrize("cadence", [2, 3, 4, 8])
def test_a_turn_costs_its_share_and_a_halo(cadence):
    grid = not_none(refresh_grid(DEBLUR, cadence))
    share = grid.tile_height * grid.tile_width / (720 * 1280)
    assert share < 1 / cadence + 0.12
    assert len(grid.tiles) == cadence


@given(
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    channels=st.sampled_from([1, 3]),
    depth=st.sampled_from(list(Depth)),
    threshold=st.sampled_from([0, 1, 2.5, 255]),
    seed=st.integers(0, 2**31),
)
def test_changes_are_told_by_cells(height, width, channels, depth, threshold, seed):
    rng = np.random.default_rng(seed)
    levels = rng.random((height, width, channels)) * depth.peak
    before = levels.astype(depth.value)
    after = before.copy()
    for _ in range(rng.integers(0, 4)):
        place = tuple(rng.integers(0, before.shape))
        after[place] = np.float64(rng.random() * depth.peak).astype(depth.value)
    limit = threshold * depth.peak / 255
    differ = np.abs(after.astype(np.float64) - before.astype(np.float64))
    beyond = (differ > limit) if threshold else (after != before)
    pixels = np.zeros((-(-height // 8) * 8, -(-width // 8) * 8), bool)
    pixels[:height, :width] = beyond.any(axis=2)
    wanted = np.asarray(pixels.reshape(pixels.shape[0] // 8, 8, -1, 8).any(axis=(1, 3)))
    cells = Changes(threshold).cells(after, before)
    assert (cells is None) == (not wanted.any())
    if cells is not None:
        np.testing.assert_array_equal(cells, wanted)


def test_a_nan_is_a_change_beyond_any_threshold():
    before = np.zeros((16, 16, 1), np.float32)
    after = before.copy()
    after[9, 9] = np.nan
    assert not_none(Changes(255).cells(after, before)).tolist() == [[False, False], [False, True]]


@pytest.mark.parametrize("bad", [True, -0.1, 256, float("nan"), "2", [1]])
def test_a_threshold_that_is_none_is_refused(bad):
    with pytest.raises(ArgumentError, match="from 0 to 255"):
        check_threshold(bad)
