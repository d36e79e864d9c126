"""Brightness, contrast and balance, by hand and judged."""

from __future__ import annotations

import numpy as np
import pytest

import edgerestore
from edgerestore.engine.adjustments import Adjustments
from edgerestore.errors import ArgumentError
from edgerestore.imaging.arrays import check_image


@pytest.fixture(scope="module")
def restorer():
    with edgerestore.load("deblur", precision="fp32") as opened:
        yield opened


@pytest.fixture(autouse=True)
def _neutral_again(restorer):
    yield
    restorer.adjustments = Adjustments()
    restorer.steady = False


def unit(image):
    return image.astype(np.float64) / (
        1 if image.dtype == np.float32 else np.iinfo(image.dtype).max
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_each_setting_does_what_it_says(restorer, picture, dtype):
    image = (unit(picture(40, 50)) * (1 if dtype is np.float32 else np.iinfo(dtype).max)).astype(
        dtype
    )
    levels = unit(image)
    tolerance = 1e-6 if dtype is np.float32 else 0.51 / np.iinfo(dtype).max
    for given, wanted in (
        (Adjustments(brightness=1), levels * 2),
        (Adjustments(brightness=-0.5), levels * 2**-0.5),
        (Adjustments(contrast=1), (levels - 0.5) * 2 + 0.5),
        (Adjustments(contrast=-1), (levels - 0.5) / 2 + 0.5),
        (Adjustments(brightness=1, contrast=-1), (levels * 2 - 0.5) / 2 + 0.5),
    ):
        restorer.adjustments = given
        made = unit(restorer(image, strength=0))
        np.testing.assert_allclose(made, np.clip(wanted, 0, 1), atol=tolerance)
    restorer.adjustments = Adjustments(balance=1)
    warm = unit(restorer(image, strength=0))
    assert warm[..., 0].mean() > levels[..., 0].mean()
    assert warm[..., 2].mean() < levels[..., 2].mean()


def test_the_change_is_on_the_next_image_and_neutral_is_untouched(restorer, picture):
    image = picture(40, 50)
    plain = restorer(image)
    restorer.adjustments = Adjustments(brightness=0.5)
    assert restorer(image).mean() > plain.mean() + 10
    restorer.adjustments = Adjustments()
    assert restorer(image, strength=0).tobytes() == image.tobytes()
    np.testing.assert_array_equal(restorer(image), plain)


def test_tones_meet_the_models_outcome_before_it_is_rounded(restorer, picture):
    image = picture(40, 50).astype(np.float32) / 255
    plain = restorer(image)
    restorer.adjustments = Adjustments(brightness=-1, contrast=0.3)
    slope = 2**0.3
    np.testing.assert_allclose(
        restorer(image), np.clip((plain / 2 - 0.5) * slope + 0.5, 0, 1), atol=1e-6
    )


def test_auto_mends_what_is_wrong(restorer, picture):
    sound = picture(120, 160)
    dark = (sound * 0.6).astype(np.uint8)
    restorer.adjustments = Adjustments(brightness="auto")
    assert abs(restorer(dark, 0).mean() - 117) < abs(dark.mean() - 117) / 2
    flat = (sound * 0.3 + 90).astype(np.uint8)
    restorer.adjustments = Adjustments(contrast="auto")
    assert np.ptp(restorer(flat, 0).astype(int)) > 1.4 * np.ptp(flat.astype(int))
    tinted = np.clip(np.repeat(sound[..., :1], 3, 2) * [1.0, 0.9, 0.8], 0, 255).astype(np.uint8)
    restorer.adjustments = Adjustments(balance="auto")
    means = restorer(tinted, 0).reshape(-1, 3).mean(0)
    assert np.ptp(means) < np.ptp(tinted.reshape(-1, 3).mean(0)) / 4
    assert (
        abs(means @ [0.299, 0.587, 0.114] - tinted.reshape(-1, 3).mean(0) @ [0.299, 0.587, 0.114])
        < 3
    )


def test_colour_order_and_grey(picture):
    image = picture(40, 50)
    settings = Adjustments(brightness="auto", contrast="auto", balance=0.7)
    with (
        edgerestore.load("deblur", precision="fp32") as rgb,
        edgerestore.load("deblur", precision="fp32", color="bgr") as bgr,
    ):
        rgb.adjustments = bgr.adjustments = settings
        swapped = bgr(np.ascontiguousarray(image[..., ::-1]))[..., ::-1]
        np.testing.assert_array_equal(swapped, rgb(image))
        grey = rgb(image[..., 0])
        assert grey.shape == image.shape[:2]
        assert grey.std() > image[..., 0].std()


def test_tiled_equals_whole(picture):
    image = picture(300, 400)
    made = []
    for tile in (4096, 200):
        with edgerestore.load("deblur", precision="fp32", tile=tile) as restorer:
            restorer.adjustments = Adjustments("auto", "auto", "auto")
            made.append(restorer(image))
    np.testing.assert_array_equal(made[0], made[1])


def test_an_ensemble_is_adjusted_too(picture):
    image = picture(40, 50)
    with (
        edgerestore.load("deblur", precision="fp32") as alone,
        edgerestore.load("deblur+deblur", precision="fp32") as both,
    ):
        alone.adjustments = both.adjustments = Adjustments(0.4, "auto", "auto")
        np.testing.assert_array_equal(both(image), alone(image))
        np.testing.assert_array_equal(both(image, 0), alone(image, 0))


def test_what_is_judged_follows_a_stream_slowly(restorer, picture):
    image = picture(80, 100)
    settings = Adjustments(brightness="auto")
    dim = (image * 0.6).astype(np.uint8)

    def jump(steady):
        restorer.steady = steady
        restorer.adjustments = settings
        before, after = restorer(image, 0).mean(), restorer(dim, 0).mean()
        for _ in range(60):
            last = restorer(dim, 0).mean()
        return before, after, last

    before, after, _ = jump(steady=False)
    assert abs(after - before) < 0.1 * before
    before, after, last = jump(steady=True)
    assert after < 0.75 * before  # the picture's own change is seen,
    assert abs(last - before) < 0.1 * before  # and mended over the next two seconds


def test_a_stream_starts_with_tones_of_its_own(restorer, picture):
    image = picture(80, 100)
    dim = (image * 0.6).astype(np.uint8)
    restorer.adjustments = Adjustments(brightness="auto")
    wanted = restorer(dim, 0)
    restorer(image, 0)
    restorer.steady = True
    np.testing.assert_array_equal(restorer(dim, 0), wanted)
    restorer.steady = False
    restorer.steady = True
    restorer(image, 0)
    restorer.steady = True  # the next stream, without a picture between the two
    np.testing.assert_array_equal(restorer(dim, 0), wanted)


def test_what_warms_a_model_up_leaves_no_tones(restorer, picture):
    image = picture(80, 100)
    restorer.adjustments, restorer.steady = Adjustments(brightness="auto"), True
    restorer.warm_up(check_image(image))
    warmed = restorer(image)
    restorer.adjustments = Adjustments(brightness="auto")
    np.testing.assert_array_equal(warmed, restorer(image))


def test_what_cannot_be(restorer, mask_bundle):
    for settings, text in (
        ({"brightness": 3}, "brightness is auto or a number from -2 to 2, got 3"),
        ({"contrast": float("nan")}, "contrast is auto or a number from -1 to 1"),
        ({"balance": "warm"}, "got 'warm'"),
        ({"balance": True}, "got True"),
    ):
        with pytest.raises(ArgumentError, match=text):
            Adjustments(**settings)
    with edgerestore.load(mask_bundle) as masks:
        masks.adjustments = Adjustments()
        with pytest.raises(ArgumentError, match="makes masks"):
            masks.adjustments = Adjustments(contrast="auto")
