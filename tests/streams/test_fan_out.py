"""Callbacks, and several outputs at once."""

from __future__ import annotations

import threading
import time
from fractions import Fraction

import numpy as np
import pytest

from edgerestore.errors import SinkClosedError, SinkError
from edgerestore.streams.events import EventKind, EventLog
from edgerestore.streams.media.frames import Frame, Passthrough, VideoInfo
from edgerestore.streams.options import SinkOptions
from edgerestore.streams.sinks.fan_out import FanOutSink
from edgerestore.streams.sinks.files import VideoFileSink
from edgerestore.streams.sinks.registry import CallbackSink
from edgerestore.streams.sources.files import VideoFileSource
from edgerestore.testing.sinks import FileSinkTests, SinkTests

from .servers import wait_for
from .tools import read_video

CLOCK = Fraction(1, 25)


def frame(index=0):
    return Frame(np.full((8, 8, 3), index % 256, np.uint8), index, CLOCK, 1)


class TestCallbackSink(SinkTests):
    @pytest.fixture
    def make(self):
        self.taken = []
        return lambda: CallbackSink(self.take)

    def take(self, image, frame):
        assert image is frame.image
        if image.dtype == np.float64:
            raise ValueError("no such\ndepth")
        self.taken.append((frame.pts * frame.time_base, image))

    def arrived(self, sink, tmp_path):
        return self.taken


def test_what_a_callback_raises_is_the_cause():
    def broken(image, frame):
        raise KeyError("nothing")

    with pytest.raises(SinkError, match="the callback broken failed") as caught:
        CallbackSink(broken).write(frame())
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_callback_may_interrupt():
    def interrupt(image, frame):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        CallbackSink(interrupt).write(frame())


class TestFanOutSink(FileSinkTests):
    @pytest.fixture
    def make(self, tmp_path):
        def one(**options):
            sinks = []
            for name in ("out.mp4", "out.mkv"):
                info = VideoInfo(96, 64, CLOCK, Fraction(25))
                sinks.append(VideoFileSink(tmp_path / name, info, SinkOptions(**options)))
            return FanOutSink(sinks)

        return one

    def arrived(self, sink, tmp_path):
        one, other = (read_video(tmp_path / name) for name in ("out.mp4", "out.mkv"))
        assert [seconds for seconds, _ in one] == [seconds for seconds, _ in other]
        return one


class Probe:
    """A sink that notes what happens to it, and on which thread."""

    wants_original = False

    def __init__(self, *, skips=False, fail_at=None, fails_to_close=None, error=None):
        self.skips = skips
        self.seen = []
        self.ends = []
        self.threads = set()
        self.gate = threading.Event()
        self.gate.set()
        self._fail_at = fail_at
        self._fails_to_close = fails_to_close
        self._error = error or SinkError("the disk is full")

    def write(self, item):
        assert self.gate.wait(20)
        self.threads.add(threading.current_thread().name)
        if isinstance(item, Frame) and self._fail_at in ("first", item.pts):
            raise self._error
        self.seen.append(item)

    def close(self):
        self.ends.append("close")
        if self._fails_to_close is not None:
            raise SinkError(self._fails_to_close)

    def abort(self):
        self.ends.append("abort")


def fan(*sinks, **options):
    return FanOutSink(sinks, **options)


def connection(sink, pause_s=0.0):
    """Write many frames, until it raises."""
    for index in range(500):
        sink.write(frame(index))
        time.sleep(pause_s)


def pts(probe):
    return [one.pts for one in probe.seen]


def test_each_has_its_own_thread_and_sees_everything():
    one, other = Probe(), Probe()
    sink = fan(one, other)
    for index in range(50):
        sink.write(frame(index))
    sink.close()
    assert pts(one) == pts(other) == list(range(50))
    assert (one.threads, other.threads) == ({"edgerestore-out-1"}, {"edgerestore-out-2"})
    assert one.ends == other.ends == ["close"]


def test_a_slow_branch_that_skips_slows_nobody():
    steady, slow = Probe(), Probe(skips=True)
    slow.gate.clear()
    sink = fan(steady, slow, names=["file", "viewer"])
    for index in range(100):
        sink.write(frame(index))
    wait_for(lambda: len(steady.seen) == 100)
    assert 96 <= sink.dropped["viewer"] <= 97
    assert list(sink.dropped) == ["viewer"]
    slow.gate.set()
    sink.close()
    assert pts(steady) == list(range(100))
    # One was in its hands; of the others it got the newest.
    assert pts(slow)[-3:] == [97, 98, 99]
    assert len(slow.seen) + sink.dropped["viewer"] == 100


def test_a_branch_that_needs_every_frame_makes_write_wait():
    slow = Probe()
    slow.gate.clear()
    sink = fan(slow, Probe())
    written = []

    def write():
        for index in range(10):
            sink.write(frame(index))
            written.append(index)

    writer = threading.Thread(target=write)
    writer.start()
    wait_for(lambda: len(written) >= 4)
    time.sleep(0.05)
    assert len(written) == 4  # one in its hands, three queued
    slow.gate.set()
    writer.join(10)
    sink.close()
    assert pts(slow) == list(range(10))


def test_the_first_failure_that_counts_is_raised():
    failing, other = Probe(fail_at=2), Probe()
    sink = fan(failing, other)
    with pytest.raises(SinkError, match="the disk is full"):
        connection(sink)
    sink.abort()
    assert (failing.ends, other.ends) == (["abort"], ["abort"])


def test_a_failure_wakes_a_writer_that_waits():
    failing = Probe(fail_at=0)
    failing.gate.clear()
    sink = fan(failing, Probe())
    threading.Timer(0.1, failing.gate.set).start()
    with pytest.raises(SinkError):
        connection(sink)
    sink.abort()


def test_a_failure_is_raised_though_another_branch_stands_still():
    failing, still = Probe(fail_at=3), Probe()
    failing.gate.clear()
    still.gate.clear()
    sink = fan(failing, still)
    threading.Timer(0.1, failing.gate.set).start()
    with pytest.raises(SinkError):
        connection(sink)
    still.gate.set()
    sink.abort()
    assert (failing.ends, still.ends) == (["abort"], ["abort"])


@pytest.mark.parametrize("logged", [False, True])
@pytest.mark.parametrize(
    ("branch", "cause"),
    [
        (Probe(skips=True, fail_at="first"), "failed"),
        (Probe(fail_at=2, error=SinkClosedError("-: nobody reads")), "closed"),
    ],
)
def test_a_branch_that_may_end_leaves_the_others(branch, cause, logged, notices):
    branch.ends.clear()
    log = EventLog() if logged else None
    steady = Probe()
    sink = fan(steady, branch, log=log, names=["file", "viewer"])
    for index in range(50):
        sink.write(frame(index))
    sink.close()
    assert pts(steady) == list(range(50))
    assert (steady.ends, branch.ends) == (["close"], ["abort"])
    if log is None:
        assert len(notices) == 1
        assert "the other outputs go on" in notices[0]
    else:
        (event,) = log.events
        assert (event.kind, event.cause) == (EventKind.OUTPUT, cause)
        assert event.details["output"] == "viewer"


def test_the_end_of_the_last_branch_is_the_streams(notices):
    gone = [Probe(fail_at=at, error=SinkClosedError("nobody reads")) for at in (0, 3)]
    sink = fan(*gone)
    with pytest.raises(SinkClosedError):
        connection(sink, 0.001)
    sink.abort()


def test_a_defect_is_never_hidden():
    sink = fan(Probe(), Probe(skips=True, fail_at="first", error=TypeError("a mistake of ours")))
    with pytest.raises(TypeError, match="a mistake of ours"):
        connection(sink, 0.001)
    sink.abort()


def test_all_are_closed_before_the_first_failure_is_raised():
    sinks = [Probe(fails_to_close="one"), Probe(fails_to_close="two"), Probe()]
    sink = fan(*sinks)
    sink.write(frame())
    with pytest.raises(SinkError, match="one|two"):
        sink.close()
    sink.abort()
    assert [one.ends for one in sinks] == [["close", "abort"], ["close", "abort"], ["close"]]


def test_packets_reach_every_file(clip, tmp_path, read):
    source = VideoFileSource(clip(tmp_path / "in.mp4", frames=20, audio=True))
    paths = [tmp_path / "one.mp4", tmp_path / "two.mp4"]
    viewer = Probe(skips=True)
    files = [VideoFileSink(p, source.info, SinkOptions()) for p in paths]
    sink = fan(*files, viewer)
    for item in source:
        sink.write(item)
    sink.close()
    source.close()
    one, two = (read(path).packets["audio"] for path in paths)
    assert len(one) > 20
    assert one == two == read(tmp_path / "in.mp4").packets["audio"]
    assert not any(isinstance(item, Passthrough) for item in viewer.seen)
