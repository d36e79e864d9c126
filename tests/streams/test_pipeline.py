"""The stages together: order, bounds, and one failure that ends them all."""

from __future__ import annotations

import threading
import time
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest

from edgerestore.streams.media.frames import Frame
from edgerestore.streams.pipeline import run_pipeline
from edgerestore.streams.telemetry import Telemetry


class Numbers:
    """A source of numbered frames."""

    live = interruptible = False

    def __init__(self, count, fail_at=None):
        self.expected_frames = count
        self.lost: Counter[str] = Counter()
        self.handed_out = 0
        self._count, self._fail_at = count, fail_at

    def __iter__(self):
        for index in range(self._count):
            if index == self._fail_at:
                raise ValueError("the source broke")
            self.handed_out += 1
            yield Frame(np.full((4, 4, 3), index % 256, np.uint8), index, Fraction(1, 25))

    def close(self):
        pass


class Kept:
    """A sink that keeps what it gets."""

    skips = wants_original = False

    def __init__(self, fail_at=None, fail_at_close=False, delay_s=0.0):
        self.pts = []
        self.end = ""
        self._fail_at, self._fail_at_close, self._delay_s = fail_at, fail_at_close, delay_s

    def write(self, item):
        if len(self.pts) == self._fail_at:
            raise ValueError("the sink broke")
        time.sleep(self._delay_s)
        assert int(item.image[0, 0, 0]) == item.pts % 256
        self.pts.append(item.pts)

    def close(self):
        if self._fail_at_close:
            raise ValueError("the sink broke at the end")
        self.end += "closed"

    def abort(self):
        self.end += "aborted"


def jitter(index):
    time.sleep((index * 7 % 5) / 1000)


def test_order_is_kept_though_the_model_finishes_out_of_order(echo):
    source, sink, telemetry = Numbers(200), Kept(), Telemetry()
    run_pipeline(source, echo(delay=jitter), sink, telemetry)
    assert sink.pts == list(range(200))
    assert sink.end == "closed"
    counts = telemetry.snapshot()
    assert counts.frames_in == counts.frames_out == 200
    assert 0 < counts.latency_ms["p50"] <= counts.latency_ms["p99"]


@pytest.mark.parametrize("at", [0, 1, 50])
@pytest.mark.parametrize("delay_s", [0.0, 0.002])
def test_a_failing_source_ends_all(echo, at, delay_s):
    sink = Kept(delay_s=delay_s)
    with pytest.raises(ValueError, match="the source broke"):
        run_pipeline(Numbers(100, fail_at=at), echo(), sink, Telemetry())
    assert sink.end == "aborted"


@pytest.mark.parametrize("at", [1, 2, 50])
def test_a_failing_model_ends_all(echo, at):
    source, sink = Numbers(10_000), Kept()
    with pytest.raises(RuntimeError, match="the model broke"):
        run_pipeline(source, echo(fail_at=at), sink, Telemetry())
    assert sink.end == "aborted"
    assert source.handed_out < at + 20


def test_a_model_that_refuses_a_frame_ends_all():
    class Refuses:
        depth = 2

        def submit(self, image):
            raise ValueError("no such shape")

    sink = Kept()
    with pytest.raises(ValueError, match="no such shape"):
        run_pipeline(Numbers(10_000), Refuses(), sink, Telemetry())
    assert sink.end == "aborted"


@pytest.mark.parametrize("at", [0, 1, 50])
def test_a_failing_sink_ends_all(echo, at):
    source, sink = Numbers(10_000), Kept(fail_at=at)
    with pytest.raises(ValueError, match="the sink broke"):
        run_pipeline(source, echo(), sink, Telemetry())
    assert sink.end == "aborted"
    assert source.handed_out < at + 20


def test_a_sink_failing_at_its_end(echo):
    sink = Kept(fail_at_close=True)
    with pytest.raises(ValueError, match="the sink broke at the end"):
        run_pipeline(Numbers(5), echo(), sink, Telemetry())
    assert sink.end == "aborted"


def test_what_is_in_flight_lands_before_the_failure_surfaces(echo):
    running = []

    def slow(index):
        if index > 1:
            running.append(index)
            time.sleep(0.05)
            running.remove(index)

    with pytest.raises(RuntimeError):
        run_pipeline(Numbers(100), echo(fail_at=1, delay=slow), Kept(), Telemetry())
    assert running == []


def test_reading_never_runs_far_ahead(echo):
    source, sink = Numbers(300), Kept(delay_s=0.001)
    ahead = []
    watch = echo(delay=lambda index: ahead.append(source.handed_out - len(sink.pts)))
    run_pipeline(source, watch, sink, Telemetry())
    assert max(ahead) <= 3 + 1 + watch.depth + 3 + 3


def test_stopping_finishes_what_was_read(echo):
    source, sink, stop = Numbers(10_000), Kept(), threading.Event()
    run_pipeline(
        source,
        echo(delay=lambda index: stop.set() if index == 30 else None),
        sink,
        Telemetry(),
        stop.is_set,
    )
    assert sink.pts == list(range(source.handed_out))
    assert sink.end == "closed"


def test_the_latency_ring_does_not_grow():
    telemetry = Telemetry()
    for index in range(10_000):
        telemetry.frame_written(index / 1000)
    counts = telemetry.snapshot()
    assert counts.frames_out == 10_000
    assert counts.latency_ms["p50"] > 8_900_000 / 1000
