"""Windows of models with global context: no seam, no gap, never called exact."""

import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

import edgerestore
from edgerestore.bundle.bundle import Bundle
from edgerestore.bundle.manifest import Tiling, TilingMode
from edgerestore.engine.tiling.windows import WindowGrid


@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    window=st.integers(16, 128),
    ramp=st.integers(1, 64),
    multiple=st.sampled_from([1, 4, 8]),
    upscale=st.sampled_from([1, 2]),
)
def test_weights_sum_to_one_everywhere(height, width, window, ramp, multiple, upscale):
    grid = WindowGrid.plan(height, width, window, ramp=ramp, multiple=multiple, upscale=upscale)
    total = np.zeros((height * upscale, width * upscale))
    for one in grid.windows:
        top, left, high, wide = one.read
        assert (high, wide) == (grid.tile_height, grid.tile_width)
        assert top % multiple == left % multiple == 0
        y, x = top * upscale, left * upscale
        weights = one.rows[:, None] * one.columns
        assert (weights >= 0).all()
        total[y : y + one.rows.size, x : x + one.columns.size] += weights
    np.testing.assert_allclose(total, 1, atol=1e-5)


@pytest.fixture
def windowed(tmp_path):
    """The default model, said to have global context: its windows must still agree."""
    shipped = Bundle.find("deblur")
    shutil.copytree(shipped.folder, tmp_path / "windowed")
    tiling = Tiling(TilingMode.WINDOWED, window_px=192, ramp_px=48, reason="a global mean")
    manifest = replace(shipped.manifest, tiling=tiling)
    (tmp_path / "windowed" / "bundle.json").write_text(manifest.to_json())
    return tmp_path / "windowed"


@pytest.mark.parametrize("size", [(500, 400), (203, 417), (100, 90), (400, 120)])
def test_faded_windows_come_close_to_the_whole_frame(windowed, picture, size):
    image = picture(*size)
    with (
        edgerestore.load(windowed, precision="fp32") as parts,
        edgerestore.load("deblur", precision="fp32") as whole,
    ):
        outcome, expected = parts(image), whole(image)
        assert "not exact: a global mean" in parts.plan
    difference = np.abs(outcome.astype(int) - expected.astype(int))
    assert difference.mean() < 0.2


def test_strength_zero_and_depths_hold_in_windows(windowed, picture):
    image = picture(300, 260)
    with edgerestore.load(windowed, precision="fp32") as parts:
        np.testing.assert_array_equal(parts(image, strength=0), image)
        zero = np.zeros(image.shape[:2])
        np.testing.assert_array_equal(parts(image, strength=zero), image)
        deep = image.astype(np.uint16) * 257
        np.testing.assert_array_equal(parts(deep, strength=zero), deep)
