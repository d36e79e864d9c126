"""Models that enlarge: exact tiles, and a bicubic base in f32 at every precision."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import edgerestore
from edgerestore.convert import convert
from edgerestore.convert.architectures.imdn import IMDN

WHOLE = 4096


@pytest.fixture(scope="module")
def enlarger(tmp_path_factory):
    folder = tmp_path_factory.mktemp("enlarger")
    torch.manual_seed(3)
    torch.save(IMDN(width=8, blocks=2).state_dict(), folder / "imdn.pth")
    return convert(folder / "imdn.pth", folder / "bundle", force=True).bundle.folder


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@settings(max_examples=12, suppress_health_check=list(HealthCheck))
@given(
    height=st.integers(1, 150),
    width=st.integers(1, 190),
    tile=st.integers(60, 120),
    strength=st.floats(0, 2),
    seed=st.integers(0, 99),
)
def test_tiled_equals_whole(
    precision, needs_precision, enlarger, height, width, tile, strength, seed
):
    needs_precision(precision)
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    with (
        edgerestore.load(enlarger, precision=precision, tile=WHOLE) as whole,
        edgerestore.load(enlarger, precision=precision, tile=tile) as tiled,
    ):
        expected = whole(image, strength)
        assert expected.shape == (4 * height, 4 * width, 3)
        np.testing.assert_array_equal(tiled(image, strength), expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_the_base_is_the_same_at_every_precision(enlarger, needs_precision, dtype):
    needs_precision("bf16")
    peak = 1 if dtype is np.float32 else np.iinfo(dtype).max
    image = (np.random.default_rng(0).random((37, 51, 3)) * peak).astype(dtype)
    bases = []
    for precision in ("fp32", "bf16"):
        with edgerestore.load(enlarger, precision=precision) as restorer:
            bases.append(restorer(image, strength=0.0))
    np.testing.assert_array_equal(bases[1], bases[0])
    wanted = cv2.resize(image.astype(np.float32) / peak, (204, 148), interpolation=cv2.INTER_CUBIC)
    wanted = np.clip(wanted, 0, 1)
    assert np.abs(bases[0].astype(np.float64) / peak - wanted).max() <= 0.51 / peak + 1e-6
