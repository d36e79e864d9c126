"""The rules of a live source, with connections that do what the test says."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from edgerestore.errors import SourceError, SourceLostError
from edgerestore.streams.events import EventKind, EventLog, StreamState
from edgerestore.streams.media.frames import Frame
from edgerestore.streams.options import LiveOptions
from edgerestore.streams.pipeline import run_pipeline
from edgerestore.streams.sources.connection import ConnectionFailedError
from edgerestore.streams.sources.live_source import LiveSource
from edgerestore.streams.sources.reconnect import Backoff, Prober
from edgerestore.streams.telemetry import Telemetry

from .servers import wait_for
from .tools import FakeConnection, Taker, kinds, told


def refused():
    raise ConnectionFailedError("there: nobody answers", "refused")


@pytest.fixture
def log():
    return EventLog()


@pytest.fixture
def live(log):
    """Make a source that calls the functions given, one for each attempt, the last for ever."""
    made = []

    def make(*attempts, **options):
        left = list(attempts)

        def open_connection():
            attempt = left.pop(0) if len(left) > 1 else left[0]
            return attempt()

        options.setdefault("backoff", Backoff(0.01, 0.05, jitter=0))
        made.append(LiveSource(open_connection, "there", log, **options))
        return made[-1]

    yield make
    for source in made:
        source.close()


def test_delays_double_to_thirty_seconds_and_begin_anew():
    backoff = Backoff(jitter=0)
    assert [backoff.next_s() for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    assert backoff.next_s(listened=True) == 1
    backoff.reset()
    assert backoff.next_s() == 1
    backoff.failures = 10**6
    assert backoff.next_s() == 30


def test_delays_differ_by_chance_and_are_never_longer():
    delays = [[backoff.next_s() for _ in range(7)] for backoff in (Backoff(), Backoff())]
    assert delays[0] != delays[1]
    for delay, bound in zip(delays[0], [1, 2, 4, 8, 16, 30, 30], strict=True):
        assert 0.8 * bound <= delay <= bound


def test_delays_are_told_and_a_frame_resets_them(live, log):
    source = live(
        refused, refused, refused, lambda: FakeConnection(1), refused, lambda: FakeConnection()
    )
    with Taker(source) as taker:
        taker.more(4)
    lost = [event for event in log.events if event.kind is EventKind.LOST]
    assert [event.details["failures"] for event in lost] == [1, 2, 3, 1, 2]
    delays = [event.details["retry_in_s"] for event in lost]
    assert delays == [0.01, 0.02, 0.04, 0.01, 0.02]
    assert [event.cause for event in lost] == ["refused"] * 3 + ["end of stream", "refused"]
    assert "trying again in 0.01 s" in lost[0].message


def test_retries_are_bounded(live):
    source = live(refused, retries=2)
    with pytest.raises(SourceLostError, match="nobody answers .given up after 3 failures") as lost:
        next(source)
    assert lost.value.exit_code == 4


def test_an_end_is_an_end(live):
    source = live(refused, retries=0)
    with pytest.raises(SourceLostError):
        next(source)
    assert list(source) == []
    source = live(lambda: FakeConnection(2, finite=True))
    assert len(list(source)) == 2
    assert list(source) == []
    assert not source.connected


def test_a_slow_connection_is_no_silence_and_a_silent_one_is_noticed(live, log):
    connection = FakeConnection(0, hangs=True)

    def slow():
        time.sleep(0.5)
        return connection

    with Taker(live(slow, refused, stall_s=0.3, open_s=30)) as taker:
        assert 0.7 < wait_for(told(log, EventKind.STALLED), 3) < 1.5
        assert not taker.frames
        connection.let_go.set()


def test_a_port_that_flaps_does_not_lengthen_the_retries(live):
    answers = iter([0, 1, 0, 1, 0, 1])
    source = live(
        refused, retries=2, backoff=Backoff(5), probe=lambda: next(answers, 0), probe_s=0.01
    )
    with pytest.raises(SourceLostError):
        next(source)


def test_retries_count_failures_in_a_row_only(live):
    working = lambda: FakeConnection(1)  # noqa: E731
    source = live(refused, working, refused, working, refused, refused, refused, retries=2)
    assert [next(source).image[0, 0, 0] for _ in range(2)] == [0, 0]
    with pytest.raises(SourceLostError):
        next(source)


def test_what_cannot_be_mended_is_raised_at_first_and_tried_again_later(live, log):
    def no_login():
        raise ConnectionFailedError("there: wrong login", "login", permanent=True)

    with pytest.raises(SourceError, match="wrong login") as error:
        next(live(no_login))
    assert error.value.exit_code == 1
    with Taker(live(lambda: FakeConnection(2), no_login, lambda: FakeConnection())) as taker:
        taker.more(6)
    assert [event.cause for event in log.events if event.kind is EventKind.LOST][1] == "login"


def test_a_mistake_of_our_own_is_not_retried(live):
    def broken():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        next(live(broken))


def test_one_that_hangs_is_abandoned_and_its_late_frames_discarded(live, log):
    feeds = []

    def hanging():
        feeds.append(FakeConnection(2, hangs=True, size=(8, 8)))
        return feeds[-1]

    with Taker(live(hanging, lambda: FakeConnection(), stall_s=0.2)) as taker:
        wait_for(told(log, EventKind.STALLED), 2)
        taker.more(2)
        feeds[0].let_go.set()
        taker.more(5)
        sizes = [frame.image.shape[0] for frame in taker.frames]
    assert sizes == [8, 8] + [48] * (len(sizes) - 2)
    assert feeds[0].closed.is_set()


def test_a_connection_that_never_comes_about_is_given_up(live, log):
    end = threading.Event()

    def endless():
        end.wait(10)
        raise ConnectionFailedError("there: too late", "late")

    with Taker(live(endless, lambda: FakeConnection(), open_s=0.2)) as taker:
        taker.more()
        end.set()
    lost = next(event for event in log.events if event.kind is EventKind.LOST)
    assert (lost.cause, "did not answer within 0.2 s" in lost.message) == ("timed out", True)


def test_threads_that_hang_for_good_do_not_pile_up(live, log):
    end = threading.Event()

    def endless():
        end.wait(20)
        refused()

    with Taker(live(endless, open_s=0.05)):
        wait_for(lambda: "hangs" in [event.cause for event in log.events], 5)
        hanging = [one for one in threading.enumerate() if one.name == "edgerestore-capture"]
        assert len(hanging) == 3
        end.set()


@pytest.mark.parametrize("phase", ["back-off", "connecting", "silent"])
def test_close_ends_a_wait_at_once(live, phase):
    connection = FakeConnection(1, hangs=True)
    end, begun = threading.Event(), threading.Event()

    def connecting():
        begun.set()
        end.wait(10)
        refused()

    attempt = {"back-off": refused, "connecting": connecting, "silent": lambda: connection}[phase]
    source = live(attempt, backoff=Backoff(20), probe=lambda: 0)
    taker = Taker(source)
    wait_for(lambda: source._failures or begun.is_set() or taker.frames)
    began_s = time.perf_counter()
    threading.Timer(0.05, lambda: (end.set(), connection.let_go.set())).start()
    source.close()
    taker.ended()
    assert time.perf_counter() - began_s < 0.5
    assert taker.error is None
    with pytest.raises(StopIteration):
        next(source)


def test_a_paused_stream_stays_paused(live, log):
    source = live(lambda: FakeConnection(2), refused, lambda: FakeConnection())
    log.move(StreamState.PAUSED, "paused")
    assert not source.connected
    with Taker(source) as taker:
        taker.more(6)
        assert source.connected
        assert log.state is StreamState.PAUSED
    assert EventKind.LOST in kinds(log)


def test_frames_that_nobody_takes_make_room_and_are_counted(live):
    source = live(lambda: FakeConnection(rate=500))
    next(source)
    wait_for(lambda: source._attempt.lost["not taken in time"] > 50)
    late = [next(source) for _ in range(5)]
    assert all(time.perf_counter() - frame.captured_s < 0.2 for frame in late)
    assert source.lost["not taken in time"] > 50


def test_one_with_an_end_waits_for_its_taker_and_ends(live, log):
    source = live(lambda: FakeConnection(30, finite=True, rate=1000), stall_s=0.3)
    frames = []
    for frame in source:
        frames.append(frame)
        time.sleep(0.05 if len(frames) == 5 else 0)
    assert [frame.image[0, 0, 0] for frame in frames] == list(range(30))
    assert not source.lost
    assert EventKind.LOST not in kinds(log)


def test_a_slow_taker_is_no_silence(live, log):
    source = live(lambda: FakeConnection(7, finite=True, rate=1000), stall_s=0.1)
    for _ in source:
        time.sleep(0.12)
    assert EventKind.STALLED not in kinds(log)


def test_a_clock_that_jumps_is_mended(live):
    jumps = [lambda: FakeConnection(5, first_pts=10**9), lambda: FakeConnection(5, first_pts=0)]
    with Taker(live(*jumps, lambda: FakeConnection(first_pts=-(10**6)))) as taker:
        taker.more(15)
    pts = np.array([frame.pts for frame in taker.frames])
    assert pts[0] == 0
    assert (np.diff(pts) > 0).all()
    assert pts[-1] < 90_000


@pytest.mark.parametrize("clock", [0.33, 3])
def test_a_sender_whose_clock_is_wrong_is_shown(live, clock):
    """Stamped at a third of real time, frames were older each second, and none was shown."""
    source = live(lambda: FakeConnection(150, finite=False, clock=clock), retries=0)
    telemetry = Telemetry()
    shown: list[Frame] = []
    restorer = SimpleNamespace(
        depth=1, submit=lambda image: SimpleNamespace(result=lambda _: image)
    )
    screen = SimpleNamespace(
        write=shown.append, close=list, abort=list, skips=True, wants_original=False
    )
    with pytest.raises(SourceLostError):
        run_pipeline(source, restorer, screen, telemetry, options=LiveOptions(max_staleness_s=0.4))
    counts = telemetry.snapshot()
    assert counts.frames_in == counts.frames_out + sum(counts.frames_dropped.values())
    assert len(shown) == counts.frames_out >= 0.9 * 150
    assert 0.5 < shown[-1].pts / 90_000 < 3


def test_only_a_better_answer_ends_the_wait():
    for answers, expected in [([0, 0, 1], True), ([1, 1, 1], False), ([1, 0, 0, 0], False)]:
        left, wake = list(answers), threading.Event()

        def look(left=left):
            return left.pop(0) if len(left) > 1 else left[0]

        assert Prober(look, 0.01).wait(0.3, wake) is expected
        assert wake.is_set() is expected


def test_the_state_follows(live, log):
    states = []
    log.listen(lambda event: states.append(event.state))
    with Taker(live(refused, lambda: FakeConnection(3), lambda: FakeConnection())) as taker:
        taker.more(6)
    moves = [
        state for state, before in zip(states, [None, *states], strict=False) if state != before
    ]
    assert moves[:4] == ["RECONNECTING", "RUNNING", "RECONNECTING", "RUNNING"]
