"""Several models, and several turns of one picture, averaged."""

from __future__ import annotations

import numpy as np
import pytest

import edgerestore
from edgerestore.engine.predictors.ensemble import ORIENTATIONS, Orientation
from edgerestore.errors import ArgumentError, BundleError, InferenceError


def test_a_model_with_itself_is_itself(picture):
    image = picture(70, 90)
    with (
        edgerestore.load("deblur", precision="fp32") as alone,
        edgerestore.load("deblur+deblur*3", precision="fp32") as both,
    ):
        for strength in (0.4, np.linspace(0, 2, 70 * 90).reshape(70, 90)):
            np.testing.assert_array_equal(both(image, strength), alone(image, strength))


def test_outcomes_are_weighed_and_rounded_once(dncnn_bundle, picture):
    image = picture(64, 48, 1)[..., 0]
    fine = image.astype(np.float32) / 255
    with (
        edgerestore.load(dncnn_bundle, precision="fp32") as first,
        edgerestore.load(f"{dncnn_bundle}*0.75+{dncnn_bundle}*0.25", precision="fp32") as mean,
    ):
        wanted = first(fine)
        np.testing.assert_array_equal(mean(image), np.rint(np.clip(wanted, 0, 1) * 255))
        np.testing.assert_allclose(mean(fine), wanted, atol=1e-6)


def test_turns_undo_themselves(picture):
    image = picture(5, 7)
    assert len({turn.of(image).tobytes() for turn in ORIENTATIONS}) == 8
    for turn in ORIENTATIONS:
        np.testing.assert_array_equal(turn.undone(turn.of(image)), image)


def test_a_turned_picture_gives_the_turned_outcome(picture):
    image = picture(56, 88)
    with edgerestore.load("deblur", precision="fp32", tta=True) as restorer:
        made = restorer(image).astype(int)
        for turn in (Orientation(1), Orientation(0, mirrored=True), Orientation(3, mirrored=True)):
            turned = restorer(turn.of(image))
            # The mean is summed in another order, so a level may round the other way.
            assert np.abs(turn.undone(turned).astype(int) - made).max() <= 1
        with edgerestore.load("deblur", precision="fp32") as alone:
            assert np.abs(alone(turn.of(image)).astype(int) - turn.of(made)).max() > 1


def test_strength_zero_returns_the_bytes_and_alpha_goes_around(picture):
    image = picture(40, 30, 4)
    with edgerestore.load("deblur", precision="fp32", tta=True) as restorer:
        assert restorer(image, strength=0).tobytes() == image.tobytes()
        made = restorer(image)
        np.testing.assert_array_equal(made[..., 3], image[..., 3])
        assert (made[..., :3] != image[..., :3]).any()
        ramp = np.zeros((40, 30))
        ramp[:, 15:] = 1
        np.testing.assert_array_equal(restorer(image, ramp)[:, :15], image[:, :15])
        assert "8 outcomes averaged" in restorer.plan


def test_frames_of_a_stream_come_in_order(picture):
    frames = [picture(48, 64, seed=seed) for seed in range(7)]
    with edgerestore.load("deblur+deblur", precision="fp32") as restorer:
        made = list(restorer.stream(frames))
        assert all(np.array_equal(a, restorer(b)) for a, b in zip(made, frames, strict=True))
    with pytest.raises(InferenceError, match="closed"):
        restorer(frames[0])


def test_models_that_do_not_go_together(dncnn_bundle, mask_bundle):
    for model, error, text in (
        (f"deblur+{dncnn_bundle}", ArgumentError, "cannot be averaged"),
        (f"deblur+{mask_bundle}", ArgumentError, "cannot be averaged"),
        ("deblur*0+deblur", ArgumentError, "a weight is a number from 0.001 to 1000, got 0"),
        ("deblur*nan", ArgumentError, "a weight is a number from 0.001 to 1000, got nan"),
        ("deblur+deblur*inf", ArgumentError, "a weight is a number .*, got inf"),
        ("deblur*1e9+deblur", ArgumentError, "a weight is a number .*, got 1e9"),
        ("+".join(["deblur"] * 9), ArgumentError, "averages 9 models, 8 are the most"),
        ("deblur+" * 580, ArgumentError, "averages 581 models, 8 are the most"),
        ("deblur*much", ArgumentError, "'much' is no weight"),
        ("deblur+", BundleError, "no bundle there"),
        ("deblur+absent", BundleError, "no bundle there"),
    ):
        with pytest.raises(error, match=text):
            edgerestore.load(model)
