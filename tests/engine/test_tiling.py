"""The geometry of tiles, over all sizes that a frame may have."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgerestore.engine.tiling.grid import Grid, smallest_tile
from edgerestore.errors import ArgumentError

sides = st.integers(1, 400)
halos = st.integers(0, 40)
multiples = st.sampled_from([1, 2, 4, 8, 16])
upscales = st.sampled_from([1, 2])


class Case(NamedTuple):
    height: int
    width: int
    spare: int
    halo: int
    multiple: int
    upscale: int

    @property
    def tile(self):
        return smallest_tile(self.halo, self.multiple) + self.spare

    def grid(self):
        return Grid.plan(
            self.height,
            self.width,
            self.tile,
            halo=self.halo,
            multiple=self.multiple,
            upscale=self.upscale,
        )


cases = st.builds(Case, sides, sides, st.integers(0, 90), halos, multiples, upscales)


@given(cases)
def test_places_cover_the_restored_frame_once(case):
    grid, upscale = case.grid(), case.upscale
    covered = np.zeros((grid.height * upscale, grid.width * upscale), np.uint8)
    for tile in grid.tiles:
        top, left, height, width = tile.place
        assert height > 0
        assert width > 0
        covered[top : top + height, left : left + width] += 1
    assert (covered == 1).all()


@given(cases)
def test_all_tiles_have_one_shape_on_the_grid_and_within_the_padded_frame(case):
    grid, multiple, tile_px = case.grid(), case.multiple, case.tile
    for tile in grid.tiles:
        top, left, height, width = tile.read
        assert (height, width) == (grid.tile_height, grid.tile_width)
        assert top % multiple == left % multiple == 0
        assert height <= tile_px
        assert width <= tile_px
        assert 0 <= top < grid.height
        assert top + height < grid.height + multiple
        assert left + width < grid.width + multiple


@given(cases)
def test_kept_pixels_are_a_halo_away_from_every_cut(case):
    grid, halo, upscale = case.grid(), case.halo, case.upscale
    for tile in grid.tiles:
        for axis, frame in ((0, grid.height), (1, grid.width)):
            read, length = tile.read[axis], tile.read[axis + 2]
            first = tile.keep[axis] // upscale
            last = (tile.keep[axis] + tile.keep[axis + 2]) // upscale
            assert first >= (halo if read > 0 else 0)
            assert last <= (length - halo if read + length < frame else length)


@given(cases)
def test_keep_and_place_are_the_same_pixels(case):
    grid, upscale = case.grid(), case.upscale
    for tile in grid.tiles:
        assert tile.keep[2:] == tile.place[2:]
        assert tile.read[0] * upscale + tile.keep[0] == tile.place[0]
        assert tile.read[1] * upscale + tile.keep[1] == tile.place[1]


def test_a_frame_that_fits_is_not_cut():
    grid = Grid.plan(479, 640, 640, halo=64, multiple=8)
    assert [tile.read for tile in grid.tiles] == [(0, 0, 479, 640)]


def test_a_tile_without_room_for_its_halo_is_refused_with_the_least_that_works():
    with pytest.raises(ArgumentError, match=r"halo of 64 px: use at least 136"):
        Grid.plan(500, 500, 128, halo=64, multiple=8)
    assert Grid.plan(500, 500, 136, halo=64, multiple=8).tile_height == 136
