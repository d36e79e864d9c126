"""Conformance tests of predictors: a predictor's tests subclass `PredictorTests` and give it."""

from __future__ import annotations

import numpy as np
import pytest

from ..engine.predictors.protocol import Pending, Predictor, Settings
from ..engine.restorer import Restorer
from ..errors import ArgumentError, InferenceError
from ..imaging.arrays import Depth, Image, check_image

__all__ = ["PredictorTests"]

_HEIGHT, _WIDTH = 40, 56


class PredictorTests:
    """The conformance class of `edgerestore.engine.predictors.protocol.Predictor`.

    A subclass gives the fixture ``predictor``: opened for the test, of a model for pictures of
    three channels, and closed by it.
    """

    @pytest.fixture
    def predictor(self) -> Predictor:
        """The predictor under test."""
        raise pytest.UsageError("a subclass gives the predictor")

    def test_it_says_what_runs_and_where(self, predictor: Predictor) -> None:
        assert predictor.bundle.manifest.name
        assert predictor.device
        assert predictor.runtime
        assert predictor.precision
        assert predictor.depth >= 1
        assert predictor.plan == ""
        _submit(predictor, _image(0)).result()
        assert predictor.plan

    @pytest.mark.parametrize("channels", [0, 1, 3, 4])
    @pytest.mark.parametrize("depth", list(Depth))
    def test_every_kind_of_image_is_taken(
        self, predictor: Predictor, depth: Depth, channels: int
    ) -> None:
        image = _image(1, channels, depth)
        before = image.copy()
        outcome = _submit(predictor, image).result()
        upscale = predictor.bundle.manifest.output.upscale
        assert outcome.shape[:2] == (_HEIGHT * upscale, _WIDTH * upscale)
        assert outcome.dtype == image.dtype
        np.testing.assert_array_equal(image, before)  # inputs are never written

    def test_the_outcome_has_the_sample_type_of_the_settings(self, predictor: Predictor) -> None:
        image = _image(2)
        fine = _submit(predictor, image, Settings(depth=Depth.F32)).result()
        assert fine.dtype == np.float32
        plain = _submit(predictor, image).result()
        assert np.abs(fine * 255 - plain).max() <= 1.01  # rounded once, or twice

    def test_a_map_and_a_number_agree(self, predictor: Predictor) -> None:
        image = _image(3)
        upscale = predictor.bundle.manifest.output.upscale
        level = np.full((_HEIGHT * upscale, _WIDTH * upscale), 0.75, np.float32)
        by_number = _submit(predictor, image, Settings(strength=0.75)).result()
        by_map = _submit(predictor, image, Settings(strength=level)).result()
        np.testing.assert_array_equal(by_number, by_map)

    def test_results_may_be_asked_for_in_any_order_and_again(self, predictor: Predictor) -> None:
        images = [_image(seed) for seed in range(2 * predictor.depth + 1)]
        flying = [_submit(predictor, image) for image in images]
        outcomes = [pending.result() for pending in reversed(flying)]
        for image, pending, outcome in zip(images, flying, reversed(outcomes), strict=True):
            assert pending.done()
            assert pending.result() is outcome
            np.testing.assert_array_equal(outcome, _submit(predictor, image).result())

    def test_frames_are_refreshed_in_part_or_the_interval_is_refused(
        self, predictor: Predictor
    ) -> None:
        settings = Settings(refresh_interval=2)
        images = [_image(seed) for seed in (4, 5, 6)]
        if predictor.partial:
            outcomes = [_submit(predictor, image, settings).result() for image in images]
            predictor.forget()
            again = _submit(predictor, images[0], settings).result()
            np.testing.assert_array_equal(outcomes[0], again)
            assert predictor.reuse is not None
            assert predictor.reuse.frames >= 3
        else:
            restorer = Restorer(predictor)
            with pytest.raises(ArgumentError, match="refresh interval"):
                restorer.refresh_interval = 2

    def test_close_finishes_what_was_submitted_and_refuses_more(self, predictor: Predictor) -> None:
        image = _image(7)
        expected = _submit(predictor, image).result()
        pending = _submit(predictor, image)
        predictor.close()
        predictor.close()
        np.testing.assert_array_equal(pending.result(), expected)
        with pytest.raises(InferenceError, match="closed"):
            _submit(predictor, image)


def _submit(predictor: Predictor, image: Image, settings: Settings | None = None) -> Pending:
    kind = check_image(image)
    return predictor.submit(image, kind, settings or Settings(depth=kind.depth))


def _image(seed: int, channels: int = 3, depth: Depth = Depth.U8) -> Image:
    shape = (_HEIGHT, _WIDTH, *([channels] if channels else []))
    image = np.random.default_rng(seed).random(shape, np.float32)
    return (image * np.float32(depth.peak)).astype(depth.value)
