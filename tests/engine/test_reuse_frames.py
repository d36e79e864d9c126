"""Frames that build on the frame before: asked for in any order, lost, or drifting slowly."""

import gc
import threading
import weakref

import numpy as np
import pytest

import edgerestore
from edgerestore.bundle.bundle import Bundle
from edgerestore.bundle.precision import Precision
from edgerestore.engine.predictors.model import ModelPredictor
from edgerestore.engine.restorer import Restorer
from edgerestore.engine.temporal.reuse import ChainedOutcome
from edgerestore.engine.tiling.tile_size import TileChooser
from edgerestore.errors import InferenceError
from edgerestore.imaging.arrays import Depth
from edgerestore.runtimes import runtime_for

from ..checked import not_none


def test_results_may_be_asked_for_by_any_thread(reusing, full, picture):
    frames = [picture(400, 560)]
    for step in range(20):
        frames.append(frames[-1].copy())
        frames[-1][17 * step : 17 * step + 30, 25 * step : 25 * step + 30] = step
    flying = [reusing.submit(frame) for frame in frames]
    outcomes = {}

    def ask(places):
        for place in places:
            outcomes[place] = flying[place].result()

    threads = [threading.Thread(target=ask, args=(range(20 - i, -1, -4),)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(pending.done() for pending in flying)
    for place, outcome in outcomes.items():
        np.testing.assert_array_equal(outcome, full(frames[place]))
    assert len(outcomes) == 21


def test_frames_that_nobody_asks_for_are_not_kept(reusing, picture, monkeypatch):
    made: weakref.WeakSet[ChainedOutcome] = weakref.WeakSet()
    plain = ChainedOutcome.__init__

    def noted(self, *args, **keywords):
        plain(self, *args, **keywords)
        made.add(self)

    monkeypatch.setattr(ChainedOutcome, "__init__", noted)
    image = picture(400, 560)
    for step in range(120):
        image = image.copy()
        if step % 3:
            image[step : step + 9, 50:90] += 1
        reusing.submit(image)
    gc.collect()
    assert len(made) < 24


def test_slow_drift_does_not_gather_below_a_threshold(picture):
    image = picture(400, 560) // 2
    with (
        edgerestore.load("deblur", precision="int8", reuse_static=2) as reusing,
        edgerestore.load("deblur", precision="int8") as full,
    ):
        reusing(image)
        for step in range(1, 40):
            image = image.copy()
            image[100:150, 100:150] += 1
            outcome = reusing(image)
            if step % 13 == 0:
                apart = np.abs(outcome.astype(int) - full(image).astype(int))[110:140, 110:140]
                assert apart.mean() <= 2.5
        counts = not_none(reusing.reuse)
        assert counts.frames_reused == 26  # of three steps, the third is beyond two levels
        assert counts.tiles_inferred == 14


def test_with_a_threshold_it_is_the_outcome_of_a_picture_within_it(full, picture):
    """That picture takes over whole cells of 8 x 8 px in which something changed by more."""
    rng = np.random.default_rng(1)
    frame = picture(400, 560) // 2 + 60
    shown = frame.copy()
    with edgerestore.load("deblur", precision="int8", reuse_static=2) as reusing:
        for step in range(12):
            beyond = np.abs(frame.astype(int) - shown).max(axis=2) > 2
            cells = beyond.reshape(50, 8, 70, 8).any(axis=(1, 3))
            shown = np.where(cells.repeat(8, 0).repeat(8, 1)[..., None], frame, shown)
            before = not_none(reusing.reuse).pixels_reused
            outcome = reusing(frame)
            if not np.array_equal(outcome, full(shown)):
                # Where most changed, all of the frame is inferred as it is.
                np.testing.assert_array_equal(outcome, full(frame))
                assert not_none(reusing.reuse).pixels_reused <= before
                shown = frame.copy()
            walk = rng.integers(-1, 2, (50, 70, 3)).repeat(8, 0).repeat(8, 1)
            walk[:, : 70 * step] = 0
            frame = (frame + walk).astype(np.uint8)
        assert 0.2 < not_none(reusing.reuse).pixels_reused < 0.9


def test_noise_below_the_threshold_is_no_change_at_any_depth(picture):
    rng = np.random.default_rng(0)
    for depth in Depth:
        image = picture(400, 560) / 255 * 0.9 + 0.05
        with edgerestore.load("deblur", precision="int8", reuse_static=3) as reusing:
            for _ in range(4):
                noisy = (image + rng.uniform(-1.4, 1.4, image.shape) / 255) * depth.peak
                outcome = reusing(noisy.astype(depth.value))
            assert outcome.dtype == depth.value
            assert not_none(reusing.reuse).frames_reused == 3


class Failing:
    """A model whose inferences fail while it is told to."""

    def __init__(self, model):
        self._model, self.fails = model, False
        self.runtime, self.device, self.precision = model.runtime, model.device, model.precision

    def tunables(self):
        return self._model.tunables()

    def open_queue(self, spec, requests=None):
        queue = self._model.open_queue(spec, requests)
        submit = queue.submit

        def maybe(*args, **keywords):
            completion = submit(*args, **keywords)
            return _Failed(completion) if self.fails else completion

        queue.submit = maybe
        return queue


class _Failed:
    def __init__(self, completion):
        self._completion = completion

    def done(self):
        return self._completion.done()

    def result(self, timeout=None):
        self._completion.result(timeout)
        raise InferenceError("the device went away")


@pytest.mark.parametrize("changed", [True, False])
@pytest.mark.parametrize("whole", [True, False])
def test_a_frame_that_failed_is_not_built_upon(full, picture, changed, whole):
    bundle = Bundle.find("deblur")
    model = Failing(runtime_for("CPU").load(bundle, "CPU", Precision.INT8, live=False))
    frames = [picture(400, 560)]
    for step in range(5):
        frames.append(frames[-1].copy())
        if changed or step == 1:
            frames[-1][50 * step : 50 * step + 40, 60:100] = 7
    with Restorer(ModelPredictor(bundle, model, TileChooser("auto"), reuse_static=0)) as reusing:
        flying = []
        for step, frame in enumerate(frames):
            model.fails = step == (0 if whole else 2)
            flying.append(reusing.submit(frame))
        model.fails = False
        lost = 0 if whole else 2
        assert not flying[lost + 1].done() or flying[lost + 1].result() is not None
        for step, (pending, frame) in enumerate(zip(flying, frames, strict=True)):
            if step == lost:
                with pytest.raises(InferenceError, match="went away"):
                    pending.result()
            else:
                np.testing.assert_array_equal(pending.result(), full(frame))
        np.testing.assert_array_equal(reusing(frames[0]), full(frames[0]))
