"""What a live stream does when its parts do not keep up: who waits, what is dropped, and why."""

from __future__ import annotations

import threading
import time
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgerestore.errors import ArgumentError, InferenceError, NoAnswerError
from edgerestore.streams.media.frames import Frame
from edgerestore.streams.options import LiveOptions, Overrun
from edgerestore.streams.pipeline import PauseEvent, run_pipeline
from edgerestore.streams.telemetry import Telemetry


def rules(overrun=Overrun.DROP_OLDEST, **limits):
    """Options without any limit but those named."""
    return LiveOptions(overrun=overrun, **{"max_staleness_s": None, "answer_s": None, **limits})


LIVE = rules()


class Camera:
    """Hands out numbered frames at its own pace, and notes how long each took to be taken."""

    live = interruptible = True
    expected_frames: int | None = None

    def __init__(self, count, period_s=0.0, age_s=0.0):
        self.lost: Counter[str] = Counter()
        self.waited_s = 0.0
        self.closed = False
        self._count, self._period_s, self._age_s = count, period_s, age_s

    def __iter__(self):
        for index in range(self._count):
            if self.closed:
                return
            time.sleep(self._period_s)
            image = np.full((4, 4, 3), index % 256, np.uint8)
            captured_s = time.perf_counter() - self._age_s
            handed = time.perf_counter()
            yield Frame(image, index, Fraction(1, 25), captured_s=captured_s)
            self.waited_s = max(self.waited_s, time.perf_counter() - handed)

    def close(self):
        self.closed = True


class Screen:
    """Keeps what is shown, and how old it was."""

    skips = wants_original = False

    def __init__(self, delay_s=0.0, fail_at=None):
        self.shown, self.oldest_s, self.originals = [], 0.0, []
        self._delay_s, self._fail_at = delay_s, fail_at

    def write(self, frame):
        if len(self.shown) == self._fail_at:
            raise ValueError("the screen broke")
        self.oldest_s = max(self.oldest_s, time.perf_counter() - frame.captured_s)
        self.shown.append(frame.pts)
        self.originals.append(frame.original)
        time.sleep(self._delay_s)

    def close(self):
        pass

    def abort(self):
        pass


class Model:
    """Works on the caller's thread; some frames fail, or never come back."""

    depth = 1

    def __init__(self, delay_s=0.0, failing=(), hanging=()):
        self.delay_s, self.failing, self.hanging, self.count = delay_s, failing, hanging, 0

    def submit(self, image):
        self.count += 1
        return _Pending(self, self.count, image)


class _Pending:
    def __init__(self, model, number, image):
        self.model, self.number, self.image = model, number, image

    def result(self, timeout=None):
        if self.number in self.model.hanging:
            time.sleep(min(timeout, 5))
            raise TimeoutError
        time.sleep(self.model.delay_s)
        if self.number in self.model.failing:
            raise InferenceError("the driver failed")
        return self.image


def balance(telemetry):
    counts = telemetry.snapshot()
    return counts.frames_in, counts.frames_out + sum(counts.frames_dropped.values())


def test_a_slow_model_never_keeps_the_camera_waiting():
    camera, screen, telemetry = Camera(60, period_s=0.002), Screen(), Telemetry()
    run_pipeline(camera, Model(delay_s=0.02), screen, telemetry, options=LIVE)
    counts = telemetry.snapshot()
    assert camera.waited_s < 0.015
    assert counts.frames_in == 60
    assert counts.frames_dropped["overrun"] == 60 - counts.frames_out > 20
    assert screen.shown == sorted(screen.shown)
    assert screen.shown[-1] == 59, "the newest frame was dropped"


def test_a_slow_consumer_never_keeps_the_camera_waiting():
    camera, screen, telemetry = Camera(60, period_s=0.002), Screen(delay_s=0.02), Telemetry()
    run_pipeline(camera, Model(), screen, telemetry, options=LIVE)
    assert camera.waited_s < 0.015
    assert balance(telemetry) == (60, 60)
    assert telemetry.snapshot().frames_out == len(screen.shown) < 40


def test_dropping_the_newest_shows_the_first():
    camera, screen = Camera(60, period_s=0.001), Screen(delay_s=0.01)
    telemetry = Telemetry()
    options = rules(Overrun.DROP_NEWEST)
    run_pipeline(camera, Model(), screen, telemetry, options=options)
    assert screen.shown[:2] == [0, 1]
    assert balance(telemetry) == (60, 60)


def test_waiting_loses_nothing():
    camera, screen, telemetry = Camera(60), Screen(delay_s=0.001), Telemetry()
    run_pipeline(camera, Model(), screen, telemetry, options=rules(Overrun.WAIT))
    assert screen.shown == list(range(60))
    assert telemetry.snapshot().frames_dropped == {}


@pytest.mark.parametrize("where", ["model", "screen"])
def test_no_frame_older_than_allowed_is_shown(where):
    model = Model(delay_s=0.03 if where == "model" else 0)
    screen = Screen(delay_s=0.03 if where == "screen" else 0)
    telemetry = Telemetry()
    options = rules(max_staleness_s=0.05)
    run_pipeline(Camera(80, period_s=0.002), model, screen, telemetry, options=options)
    assert screen.shown
    assert screen.oldest_s < 0.055
    assert telemetry.snapshot().frames_dropped["stale"] > 0
    assert balance(telemetry) == (80, 80)


def test_frames_that_were_old_when_they_came_are_not_shown():
    options = rules(max_staleness_s=0.5)
    screen, telemetry = Screen(), Telemetry()
    run_pipeline(Camera(5, age_s=1.0), Model(), screen, telemetry, options=options)
    assert screen.shown == []
    assert balance(telemetry) == (5, 5)


def test_a_paused_camera_is_read_and_its_frames_let_go():
    pause, telemetry, screen = PauseEvent(), Telemetry(), Screen()
    pause.pause()
    threading.Timer(0.1, pause.resume).start()
    run_pipeline(Camera(100, period_s=0.002), Model(), screen, telemetry, options=LIVE, pause=pause)
    counts = telemetry.snapshot()
    assert counts.frames_dropped["paused"] > 10
    assert screen.shown[-1] == 99
    assert balance(telemetry) == (100, 100)


def test_a_paused_file_waits_and_loses_nothing():
    pause, screen = PauseEvent(), Screen()
    pause.pause()
    threading.Timer(0.1, pause.resume).start()
    run_pipeline(Camera(20), Model(), screen, Telemetry(), options=rules(Overrun.WAIT), pause=pause)
    assert screen.shown == list(range(20))


def test_a_paused_stream_can_be_stopped():
    pause, stop = PauseEvent(), threading.Event()
    pause.pause()
    threading.Timer(0.1, stop.set).start()
    run_pipeline(
        Camera(500, period_s=0.001), Model(), Screen(), Telemetry(), stop.is_set, pause=pause
    )


def test_single_failures_of_the_model_do_not_end_a_live_stream():
    screen, telemetry = Screen(), Telemetry()
    told: list[InferenceError] = []
    run_pipeline(
        Camera(30, period_s=0.002),
        Model(failing={3, 4, 10}),
        screen,
        telemetry,
        options=LIVE,
        on_failure=told.append,
    )
    assert [str(error) for error in told] == ["the driver failed"] * 3
    assert telemetry.snapshot().frames_dropped["failed"] == 3
    assert balance(telemetry) == (30, 30)


def test_failures_in_a_row_end_it():
    telemetry = Telemetry()
    with pytest.raises(InferenceError, match="the driver failed"):
        run_pipeline(
            Camera(1000, period_s=0.001),
            Model(failing=range(3, 100)),
            Screen(),
            telemetry,
            options=LIVE,
        )
    assert telemetry.snapshot().frames_dropped["failed"] == 5
    frames_in, accounted = balance(telemetry)
    assert frames_in == accounted < 1000


def test_one_failure_ends_what_is_not_live():
    with pytest.raises(InferenceError, match="the driver failed"):
        run_pipeline(
            Camera(30), Model(failing={3}), Screen(), Telemetry(), options=rules(Overrun.WAIT)
        )


def test_a_device_that_does_not_answer_is_noticed_and_may_be_replaced():
    model = Model(hanging={5})
    screen, telemetry = Screen(), Telemetry()
    told: list[InferenceError] = []
    options = rules(answer_s=0.1)
    run_pipeline(
        Camera(60, period_s=0.005),
        model,
        screen,
        telemetry,
        options=options,
        on_failure=told.append,
    )
    assert [type(error) for error in told] == [NoAnswerError]
    assert screen.shown[-1] == 59
    assert balance(telemetry) == (60, 60)


def test_originals_come_along_only_where_asked_for():
    class Inverts(Model):
        def submit(self, image):
            return super().submit(255 - image)

    for originals in (False, True):
        screen = Screen()
        screen.wants_original = originals
        run_pipeline(Camera(5), Inverts(), screen, Telemetry(), options=rules(Overrun.WAIT))
        kinds = {None if one is None else int(one[0, 0, 0]) < 100 for one in screen.originals}
        assert kinds == ({True} if originals else {None})


@settings(max_examples=60)
@given(
    overrun=st.sampled_from(list(Overrun)),
    count=st.integers(0, 40),
    camera_ms=st.sampled_from([0, 1]),
    model_ms=st.sampled_from([0, 1, 3]),
    screen_ms=st.sampled_from([0, 1, 3]),
    staleness_s=st.sampled_from([None, 0.004]),
    failing=st.sets(st.integers(1, 40), max_size=8),
    breaks_at=st.none() | st.integers(0, 30),
    paused=st.booleans(),
)
def test_what_comes_in_goes_out_or_is_counted(
    overrun, count, camera_ms, model_ms, screen_ms, staleness_s, failing, breaks_at, paused
):
    pause, telemetry = PauseEvent(), Telemetry()
    if paused:
        pause.pause()
        threading.Timer(0.005, pause.resume).start()
    screen = Screen(screen_ms / 1e3, breaks_at)
    try:
        run_pipeline(
            Camera(count, camera_ms / 1e3),
            Model(model_ms / 1e3, failing),
            screen,
            telemetry,
            options=rules(overrun, max_staleness_s=staleness_s),
            pause=pause,
        )
    except (ValueError, InferenceError):
        pass
    else:
        assert telemetry.snapshot().frames_in == count
    frames_in, accounted = balance(telemetry)
    assert frames_in == accounted
    assert telemetry.snapshot().frames_out == len(screen.shown)
    assert screen.shown == sorted(set(screen.shown))


@pytest.mark.parametrize("name", ["max_staleness_s", "answer_s"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_times_that_are_none_are_refused(name, value):
    with pytest.raises(ArgumentError, match=name):
        LiveOptions(**{name: value})
