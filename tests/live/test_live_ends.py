"""How a stream ends, and what it says of what goes wrong."""

from __future__ import annotations

import threading
import time
from itertools import repeat

import numpy as np
import pytest

from edgerestore.engine.guard import GuardCounts
from edgerestore.engine.predictors.protocol import Pending
from edgerestore.engine.restorer import Restorer
from edgerestore.errors import SinkError, SourceError, SourceLostError
from edgerestore.streams.events import EventKind, EventLog, StreamState
from edgerestore.streams.options import LiveOptions, SourceOptions
from edgerestore.streams.pipeline import PauseEvent
from edgerestore.streams.session import Live
from edgerestore.streams.sources.producer import ProducerSource
from edgerestore.streams.supervisor import Watchdog
from edgerestore.streams.telemetry import Telemetry

from ..checked import not_none
from .live_tools import CAMERA, Shown, camera, of_kind, states, until

pytestmark = pytest.mark.usefixtures("no_thread_left")


def test_stopping_while_the_source_is_silent(restorer, image):
    silent = threading.Event()

    def frames():
        yield image
        silent.wait(30)

    live = Live(restorer, frames(), [Shown()])
    live.start()
    until(lambda: live.snapshot().frames_out == 1)
    start_s = time.perf_counter()
    live.stop()
    summary = not_none(live.join(10))
    assert time.perf_counter() - start_s < 1.5
    assert summary.exit_code == 0
    silent.set()


def test_an_outside_stop_counts_as_interrupted(restorer, image):
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    summary = Live(restorer, camera(image), [Shown()], LiveOptions(source=CAMERA)).run(stop)
    assert summary.exit_code == 130


def test_a_source_that_does_not_come_back_within_its_retries(restorer, tmp_path):
    options = LiveOptions(source=SourceOptions(retries=1))
    live = Live(restorer, "tcp://127.0.0.1:9", [str(tmp_path / "out.mp4")], options)
    with pytest.raises(SourceLostError) as caught:
        live.run()
    assert caught.value.exit_code == 4
    assert states(live) == [StreamState.RECONNECTING, StreamState.FAILED]
    assert list(tmp_path.iterdir()) == []


def broken(image):
    yield image
    raise OSError("the camera was unplugged")


@pytest.mark.parametrize(
    ("frames", "error", "words"),
    [
        (broken, SourceError, "the camera was unplugged"),
        (lambda image: [image, np.zeros((4, 4, 9), np.uint8)], SourceError, "9"),
        (lambda image: [image, "no image"], SourceError, "str"),
    ],
)
def test_a_producer_that_goes_wrong_is_one_line(restorer, image, frames, error, words):
    shown = Shown()
    live = Live(restorer, frames(image), [shown])
    with pytest.raises(error, match=words) as caught:
        live.run()
    assert "\n" not in str(caught.value)
    assert live.state is StreamState.FAILED


def test_a_producer_that_blocks_for_ever_is_lost(restorer, image):
    release = threading.Event()

    def frames():
        yield image
        release.wait(30)

    options = LiveOptions(source=SourceOptions(stall_s=0.3))
    live = Live(restorer, frames(), [Shown()], options)
    with pytest.raises(SourceLostError, match=r"0\.3 s"):
        live.run()
    release.set()


def test_a_callback_that_raises_is_one_line(restorer, image):
    def fails(_image, _frame):
        raise KeyError("no such thing")

    with pytest.raises(SinkError, match="no such thing"):
        Live(restorer, repeat(image, 5), [fails]).run()


class Hangs:
    """A predictor whose device stops answering at some image."""

    depth = 1
    partial = True
    reuse = None
    plan = precision_reason = ""

    def __init__(self, inner, at):
        self._inner, self._at, self._count = inner, at, 0
        self.bundle, self.device, self.precision = inner.bundle, inner.device, inner.precision
        self.runtime = inner.runtime

    @property
    def guarded(self) -> GuardCounts | None:
        return None

    def submit(self, image, kind, settings):
        self._count += 1
        if self._count == self._at:
            return Pending([Never()], image.copy)
        return self._inner.submit(image, kind, settings)

    def close(self):
        """The other one is closed by its owner."""

    def forget(self):
        self._inner.forget()


def hanging(restorer, at):
    """Return a restorer whose device hangs, and that becomes a good one when reopened."""
    good = restorer.predictor
    return Restorer(Hangs(good, at), opener=lambda _model, _precision: good)


class Never:
    def done(self):
        return False

    def result(self, timeout=None):
        time.sleep(timeout)
        raise TimeoutError


def test_a_device_that_hangs_is_replaced(restorer, image):
    shown, restored = Shown(), restorer(image)
    options = LiveOptions(source=CAMERA, answer_s=0.3)
    live = Live(hanging(restorer, at=5), camera(image, 150), [shown], options)
    summary = live.run()
    assert len(of_kind(live, EventKind.STUCK)) == 1
    assert summary.frames_dropped["failed"] == 1
    assert len(shown.images) > 20
    np.testing.assert_array_equal(shown.images[-1], restored)


def test_frames_too_slow_to_be_shown_are_explained(restorer, image):
    options = LiveOptions(source=CAMERA, max_staleness_s=1e-4)
    live = Live(restorer, camera(image), [Shown()], options)
    with live:
        live.start()
        until(lambda: of_kind(live, EventKind.STALE))
    assert "none is shown" in of_kind(live, EventKind.STALE)[0].message
    assert live.snapshot().frames_out == 0


def test_frames_that_begin_to_come_late_are_told_of_each_time(restorer, image):
    """The network holds everything up, twice; the model has nothing to do with it."""
    log, telemetry = EventLog(), Telemetry()
    watchdog = Watchdog(
        ProducerSource([]), None, telemetry, PauseEvent(), LiveOptions(max_staleness_s=1.0), log
    )
    for second in range(20):
        telemetry.frame_restored(0.02)
        if second % 10 < 4:
            telemetry.frame_written(0.1)
        else:
            telemetry.frame_dropped("stale")
        watchdog._look(telemetry.snapshot(), float(second))
    told = [event for event in log.events if event.kind is EventKind.STALE]
    assert [event.cause for event in told] == ["late", "late"]
    assert "come more than 1 s late" in told[0].message


class Spoils(Hangs):
    """A predictor of which some tiles come out wrong."""

    @property
    def guarded(self) -> GuardCounts:
        return GuardCounts(tiles=self._count, drift=self._count // 2)


def test_tiles_that_fell_back_are_told(restorer, image):
    live = Live(
        Restorer(Spoils(restorer.predictor, at=0)),
        camera(image),
        [Shown()],
        LiveOptions(source=CAMERA),
    )
    with live:
        live.start()
        until(lambda: of_kind(live, EventKind.GUARDED))
    event = of_kind(live, EventKind.GUARDED)[0]
    assert event.details["drift"] > 0
    assert not_none(live.snapshot().guarded)["drift"] >= event.details["drift"]


def test_a_named_source_that_fails_says_so(restorer, tmp_path):
    with pytest.raises(SourceError):
        next(restorer.stream(str(tmp_path / "none.mp4")))
    lost = restorer.stream(
        "tcp://127.0.0.1:9", options=LiveOptions(source=SourceOptions(retries=0))
    )
    with pytest.raises(SourceLostError):
        next(lost)


def test_a_stream_that_never_ran_leaves_nothing(restorer, image, tmp_path):
    with Live(restorer, [image], [str(tmp_path / "out.mp4"), "http://127.0.0.1:0"]):
        pass
    assert list(tmp_path.iterdir()) == []


def test_pausing_before_the_start(restorer, image):
    shown = Shown()
    with Live(restorer, repeat(image, 3), [shown]) as live:
        live.pause()
        live.start()
        time.sleep(0.3)
        assert (live.state, shown.images) == (StreamState.PAUSED, [])
        live.resume()
        shown.wait_for(3)
    assert live.state is StreamState.ENDED


def test_any_failure_is_told_by_join(restorer, image):
    class Broken:
        skips = wants_original = False

        def write(self, _item):
            raise OSError("out of paper")

        def close(self):
            pass

        def abort(self):
            pass

    live = Live(restorer, [image], [Broken()])
    live.start()
    with pytest.raises(OSError, match="out of paper"):
        live.join(10)


def test_watchdog_that_fails_still_ends_the_stream(restorer, image, caplog):
    """It is also what hears that the stream shall stop."""

    def fails(_event):
        raise RuntimeError("a listener's own mistake")

    options = LiveOptions(source=CAMERA, max_staleness_s=1e-4)
    live = Live(restorer, camera(image), [Shown()], options)
    live.start()
    until(lambda: live.snapshot().frames_in > 5)
    live.log.listen(fails)  # the next event comes from the watchdog
    until(lambda: "watchdog" in caplog.text)
    live.log._listeners.clear()
    live.stop()
    assert live.join(10) is not None


def test_what_cannot_be_opened_leaves_nothing(restorer, image, tmp_path):
    with pytest.raises(SinkError, match="foo"):
        Live(restorer, [image], [str(tmp_path / "out.mp4"), "foo://x"])
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(SourceError):
        Live(restorer, str(tmp_path / "none.mp4"), [Shown()])
    with pytest.raises(SinkError, match="twice"):
        Live(restorer, [image], [str(tmp_path / "out.mp4"), str(tmp_path / "out.mp4")])
    assert list(tmp_path.iterdir()) == []
