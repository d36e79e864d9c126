"""INT8 on images finer than bytes is kept only where its error there is under the budget."""

import logging

import numpy as np
import pytest

import edgerestore
from edgerestore.bundle.bundle import Bundle
from edgerestore.bundle.precision import Precision
from edgerestore.engine.predictors.model import ModelPredictor
from edgerestore.engine.restorer import Restorer
from edgerestore.engine.tiling.tile_size import TileChooser
from edgerestore.runtimes import runtime_for


def textured():
    """Blocks of a few pixels under strong noise: a restorer leaves an error that hides INT8's."""
    rng = np.random.default_rng(0)
    blocks = rng.uniform(200, 1000, (44, 55)).repeat(3, 0).repeat(3, 1)[:128, :160]
    return np.rint(blocks + rng.normal(0, 80, blocks.shape)).clip(0).astype("u2")


def frame(sigma):
    y, x = np.mgrid[0:128, 0:160]
    clean = 600 + 300 * np.sin(x / 17) * np.cos(y / 13)
    return np.rint(clean + np.random.default_rng(3).normal(0, sigma, clean.shape)).astype("u2")


@pytest.fixture
def automatic(needs_precision):
    """A restorer as precision ``auto`` opens it where INT8 is the faster one."""
    needs_precision("int8")
    bundle, runtime = Bundle.find("denoise-gray"), runtime_for("CPU")
    models = {
        one: runtime.load(bundle, "CPU", one, live=False)
        for one in (Precision.INT8, Precision.FP32)
    }
    predictor = ModelPredictor(
        bundle,
        models[Precision.INT8],
        TileChooser("auto", None),
        precision_reason="faster",
        rival=lambda: models[Precision.FP32],
    )
    with Restorer(predictor, intensity_range="auto") as opened:
        yield opened


def test_it_is_kept_where_it_loses_little(automatic):
    image = textured()
    outcome = automatic(image)
    assert automatic.precision == "int8"
    assert "faster; int8 loses about" in automatic.precision_reason
    with edgerestore.load("denoise-gray", precision="int8") as int8:
        np.testing.assert_array_equal(outcome, int8(image))


@pytest.mark.parametrize(("wanted", "sigma"), [("auto", 2), ("full", 30)])
def test_it_is_replaced_where_it_loses_more(automatic, caplog, wanted, sigma):
    image = frame(sigma)
    automatic.intensity_range = wanted
    with caplog.at_level(logging.INFO, "edgerestore"):
        outcome = automatic(image)
    assert automatic.precision == "fp32"
    assert any("runs at fp32: int8 loses about" in line for line in caplog.messages)
    with edgerestore.load("denoise-gray", precision="fp32", intensity_range=wanted) as floats:
        np.testing.assert_array_equal(outcome, floats(image))


def test_bytes_and_images_of_one_value_tell_nothing(automatic):
    automatic((frame(2) // 4).astype(np.uint8))
    automatic(np.full((64, 64), 500, np.uint16))
    assert automatic.precision == "int8"
    automatic(frame(2))
    assert automatic.precision == "fp32"


def test_what_was_asked_for_stays(needs_precision):
    needs_precision("int8")
    with edgerestore.load("denoise-gray", precision="int8") as restorer:
        restorer(frame(2))
        assert restorer.precision == "int8"
