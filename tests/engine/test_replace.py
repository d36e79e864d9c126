"""Exchanging the model of a restorer between two images."""

import numpy as np
import pytest

import edgerestore
from edgerestore import Adjustments, Cutout
from edgerestore.errors import ArgumentError, InferenceError
from edgerestore.imaging.arrays import check_image


@pytest.fixture
def restorer():
    with edgerestore.load("deblur", precision="fp32", guard=True) as opened:
        yield opened


def expected(image, precision, **settings):
    with edgerestore.load("deblur", precision=precision) as plain:
        for name, value in settings.items():
            setattr(plain, name, value)
        return plain(image)


def test_a_reopened_restorer_has_the_settings(restorer, picture):
    image = picture(64, 80)
    restorer.strength, restorer.adjustments = 0.5, Adjustments(brightness=0.3)
    restorer.steady, restorer.refresh_interval = True, 2
    with restorer.reopened(precision="int8") as other:
        assert other.precision == "int8"
        assert (other.steady, other.refresh_interval) == (True, 2)
        wanted = expected(image, "int8", strength=0.5, adjustments=restorer.adjustments)
        np.testing.assert_array_equal(other(image), wanted)


def test_the_next_image_goes_to_the_other_model_at_the_settings_of_now(restorer, picture):
    image = picture(64, 80)
    latest = restorer.latest
    assert latest is None
    before = restorer.submit(image)
    assert restorer.latest == check_image(image)
    other = restorer.reopened(precision="int8")
    other.warm_up(restorer.latest, 60)
    restorer.strength = 0.5
    restorer.replace(other)
    after = restorer.submit(image)
    assert (restorer.precision, other.precision) == ("int8", "fp32")
    other.close()
    np.testing.assert_array_equal(before.result(), expected(image, "fp32"))
    np.testing.assert_array_equal(after.result(), expected(image, "int8", strength=0.5))


def test_no_image_shows_what_warmed_the_model_up(restorer, picture):
    """Parts that are not refreshed yet would show the black image of the warm-up."""
    image = picture(400, 560)
    restorer.refresh_interval = 2
    restorer(image)
    with restorer.reopened() as other:
        other.warm_up(restorer.latest)
        restorer.replace(other)
    np.testing.assert_array_equal(restorer(image), expected(image, "fp32"))


def test_counts_go_on(restorer, picture):
    image = picture(64, 80)
    restorer.refresh_interval = 2
    for _ in range(3):
        restorer(image)
        with restorer.reopened() as other:
            restorer.replace(other)
    assert restorer.reuse.frames == 3
    assert restorer.guarded.tiles == 3


def test_a_model_that_cannot_have_the_settings_is_refused(restorer, picture, mask_bundle):
    image = picture(64, 80)
    restorer.adjustments = Adjustments(brightness=0.5)
    with edgerestore.load(mask_bundle, precision="fp32") as masks:
        with pytest.raises(ArgumentError, match="tones are not adjusted"):
            restorer.replace(masks)
        with pytest.raises(ArgumentError, match="tones are not adjusted"):
            restorer.reopened(model=str(mask_bundle))
    restorer.adjustments, restorer.refresh_interval = Adjustments(), 2
    with (
        edgerestore.load("deblur", precision="fp32", tta=True) as turning,
        pytest.raises(ArgumentError, match="refresh interval"),
    ):
        restorer.replace(turning)
    restorer.refresh_interval = 1
    np.testing.assert_array_equal(restorer(image), expected(image, "fp32"))


def test_a_closed_restorer_takes_no_other_model(restorer):
    with restorer.reopened() as other:
        restorer.close()
        with pytest.raises(InferenceError, match="closed"):
            restorer.replace(other)


def test_a_reopened_cut_out_is_one(mask_bundle, picture):
    image = picture(64, 80)
    with (
        Cutout(edgerestore.load(mask_bundle, precision="fp32"), mask_only=True) as cutout,
        cutout.reopened() as other,
    ):
        np.testing.assert_array_equal(other(image), cutout(image))
        with pytest.raises(ArgumentError, match="makes no masks"):
            cutout.reopened(model="deblur")
