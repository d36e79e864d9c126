"""The first law: the tiled result equals the whole-frame result, byte for byte."""

import os
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import edgerestore
from edgerestore.imaging.arrays import Depth

pytestmark = pytest.mark.slow

WHOLE = 4096
# Sizes are drawn over the whole range the law is promised for; most are small, so that
# the suite stays fast. EXACT_EXAMPLES raises the count for a longer search.
EXAMPLES = int(os.environ.get("EXACT_EXAMPLES", "40"))


@dataclass(frozen=True)
class Case:
    """An image, a tile size and a strength, named by what makes them."""

    height: int
    width: int
    depth: Depth
    tile: int
    by_map: bool
    seed: int

    def image(self, channels=3):
        """Flat patches with hard edges under noise: every layer is exercised."""
        rng = np.random.default_rng(self.seed)
        patches = (self.height // 7 + 2, self.width // 7 + 2, channels)
        coarse = rng.integers(0, 256, patches).repeat(7, 0).repeat(7, 1)
        coarse = coarse[: self.height, : self.width] * 3 // 4
        noise = rng.integers(0, 64, coarse.shape)
        # Deeper samples than 8 bits hold levels between theirs.
        between = rng.uniform(0, 0 if self.depth is Depth.U8 else 1, coarse.shape)
        image = (coarse + noise + between) / 256
        if self.depth is Depth.F32:
            return image.astype(np.float32)
        return np.rint(image * self.depth.peak).astype(self.depth.value)

    def strength(self):
        rng = np.random.default_rng(self.seed + 1)
        if self.by_map:
            return rng.uniform(0, 2, (self.height, self.width)).astype(np.float32)
        return float(rng.uniform(0, 2))


def cases(height=1100, width=1500):
    return st.builds(
        Case,
        height=st.integers(1, height) | st.integers(1, 300),
        width=st.integers(1, width) | st.integers(1, 300),
        depth=st.sampled_from(list(Depth)),
        tile=st.integers(136, 640),
        by_map=st.booleans(),
        seed=st.integers(0, 2**31),
    )


def check(model, precision, case, channels=3):
    image, tile, strength = case.image(channels), case.tile, case.strength()
    with (
        edgerestore.load(model, precision=precision, tile=WHOLE) as whole,
        edgerestore.load(model, precision=precision, tile=tile) as tiled,
    ):
        expected = whole(image, strength)
        outcome = tiled(image, strength)
    assert outcome.dtype == image.dtype
    assert outcome.shape == image.shape
    np.testing.assert_array_equal(outcome, expected)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
@settings(
    max_examples=EXAMPLES,
    suppress_health_check=list(HealthCheck),
)
@given(case=cases())
def test_deblur_tiled_equals_whole(precision, needs_precision, case):
    needs_precision(precision)
    check("deblur", precision, case)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@settings(
    max_examples=max(4, EXAMPLES // 4),
    suppress_health_check=list(HealthCheck),
)
@given(case=cases(300, 400))
def test_dncnn_tiled_equals_whole(precision, needs_precision, dncnn_bundle, case):
    needs_precision(precision)
    check(dncnn_bundle, precision, case, channels=1)


@settings(max_examples=20, suppress_health_check=list(HealthCheck))
@given(case=cases(200, 200))
def test_strength_zero_returns_the_bytes(case):
    image = case.image()
    with edgerestore.load("deblur", tile=case.tile) as restorer:
        outcome = restorer(image, strength=0)
        assert outcome.tobytes() == image.tobytes()
        assert not np.shares_memory(outcome, image)
        zero = np.zeros(image.shape[:2], np.float32)
        by_map = restorer(image, strength=zero)
    if image.dtype == np.float32:
        np.testing.assert_array_max_ulp(by_map, image, 1)
    else:
        np.testing.assert_array_equal(by_map, image)
