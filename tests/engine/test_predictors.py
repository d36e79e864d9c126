"""Model, ensemble, test-time augmentation and cut-out pass the predictors' conformance tests."""

import pytest

import edgerestore
from edgerestore.engine.predictors.cutout import Background, CutoutPredictor
from edgerestore.testing.predictors import PredictorTests


def opened(model, **options):
    with edgerestore.load(model, precision="fp32", **options) as restorer:
        yield restorer.predictor


class TestModel(PredictorTests):
    @pytest.fixture
    def predictor(self):
        yield from opened("deblur")


class TestModelThatReuses(PredictorTests):
    @pytest.fixture
    def predictor(self):
        yield from opened("deblur", reuse_static=0, guard=True)


class TestEnsemble(PredictorTests):
    @pytest.fixture
    def predictor(self):
        yield from opened("deblur+deblur*2")


class TestTestTimeAugmentation(PredictorTests):
    @pytest.fixture
    def predictor(self):
        yield from opened("deblur", tta=True)


class TestTransparentCutout(PredictorTests):
    @pytest.fixture
    def predictor(self, mask_bundle):
        for masks in opened(mask_bundle):
            yield CutoutPredictor(masks)


class TestCutoutBeforeABackground(PredictorTests):
    @pytest.fixture
    def predictor(self, mask_bundle):
        for masks in opened(mask_bundle):
            yield CutoutPredictor(masks, Background())
