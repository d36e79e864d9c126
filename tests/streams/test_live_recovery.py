"""Sources on the network that are absent, die, fall silent, come back changed, or send rubbish."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest

from edgerestore.streams.events import EventKind, EventLog, StreamState
from edgerestore.streams.options import SourceOptions
from edgerestore.streams.sources import live_source
from edgerestore.streams.sources.address import parse_address
from edgerestore.streams.sources.ffmpeg import open_network
from edgerestore.streams.sources.live_source import LiveSource
from edgerestore.streams.sources.reconnect import Backoff, probe
from edgerestore.testing.sources import open_files

from ..checked import not_none
from .servers import HttpServer, RtspServer, TsServer, UdpSender, wait_for
from .tools import QUICK, Taker, kinds, open_live, told

RETURN_S = 2.0
SERVERS = [HttpServer, TsServer, RtspServer, UdpSender]


@pytest.fixture
def log():
    return EventLog()


@pytest.fixture(params=SERVERS, ids=lambda kind: kind.__name__)
def server(request):
    with request.param() as one:
        yield one


@pytest.fixture
def soon(monkeypatch):
    """Try again after 0.1 s, for tests that are not about the delay."""
    monkeypatch.setattr(live_source, "Backoff", lambda **_: Backoff(0.1))


def check_time(frames):
    """Time runs on one clock, and no faster or slower than it does here."""
    pts = [frame.pts for frame in frames]
    assert pts == sorted(set(pts))
    assert pts[0] == 0
    passed_s = frames[-1].captured_s - frames[0].captured_s
    assert abs(pts[-1] / 90_000 - passed_s) < 1.0


def test_absent_at_start_is_waited_for(server, log):
    server.stop()
    with Taker(open_live(server.url, log)) as taker:
        wait_for(told(log, EventKind.LOST), 8)
        state = log.state
        assert state is StreamState.RECONNECTING
        assert 0.8 <= log.events[-1].details["retry_in_s"] <= 1
        server.start()
        assert taker.more() < RETURN_S
        assert log.state is StreamState.RUNNING
    assert kinds(log).index(EventKind.LOST) < kinds(log).index(EventKind.CONNECTED)
    connected = next(event for event in log.events if event.kind is EventKind.CONNECTED)
    assert (connected.details["width"], connected.details["height"]) == (64, 48)


def test_one_that_dies_comes_back_with_another_size(server, log, soon):
    with Taker(open_live(server.url, log)) as taker:
        taker.more()
        before = not_none(taker.frames[-1].info)
        server.stop()
        wait_for(lambda: log.state is StreamState.RECONNECTING, 8)
        server.size = (96, 64)
        server.start()
        assert taker.more() < RETURN_S
        after = taker.frames[-1]
        assert after.image.shape == (64, 96, 3)
        assert (before.width, not_none(after.info).width) == (64, 96)
    assert kinds(log).count(EventKind.CONNECTED) == 2
    assert kinds(log).count(EventKind.CHANGED) == 1
    check_time(taker.frames)


@pytest.mark.parametrize("kind", [HttpServer, TsServer, RtspServer])
def test_silence_is_noticed_and_its_end_too(kind, log):
    # By UDP there is no telling silence from absence, nor any need.
    with kind() as server, Taker(open_live(server.url, log)) as taker:
        taker.more()
        info = taker.frames[-1].info
        server.mode = "silent"
        assert wait_for(told(log, EventKind.STALLED), 3) < 1.5
        assert log.state is StreamState.RECONNECTING
        event = next(event for event in log.events if event.kind is EventKind.STALLED)
        assert event.cause == "stalled"
        assert 0.8 <= event.details["retry_in_s"] <= 1
        time.sleep(0.3)
        server.mode = "run"
        assert taker.more() < RETURN_S
        # Nothing changed, so nobody is bothered with new info.
        assert taker.frames[-1].info is info
    assert EventKind.CHANGED not in kinds(log)
    check_time(taker.frames)


@pytest.mark.parametrize("kind", [HttpServer, RtspServer])
def test_a_return_is_noticed_in_the_middle_of_a_long_wait(kind, log):
    with kind() as server:
        server.stop()
        address = not_none(parse_address(server.url))
        source = LiveSource(
            lambda: open_network(address, SourceOptions(open_timeout_s=2)),
            str(address),
            log,
            backoff=Backoff(25),
            probe=lambda: probe(address),
            probe_s=0.3,
        )
        with Taker(source) as taker:
            wait_for(told(log, EventKind.LOST), 3)
            time.sleep(0.5)
            server.start()
            assert taker.more() < RETURN_S


def test_size_may_change_in_mid_stream(log):
    with HttpServer() as server, Taker(open_live(server.url, log)) as taker:
        taker.more()
        server.size = (96, 64)
        wait_for(lambda: taker.frames[-1].image.shape == (64, 96, 3), 2)
        taker.more()
        info = [frame.info for frame in taker.frames]
    assert len({id(one) for one in info}) == 2
    shapes = [frame.image.shape[:2] for frame in taker.frames]
    assert shapes == [(one.height, one.width) for one in map(not_none, info)]
    assert kinds(log).count(EventKind.CHANGED) == 1
    assert kinds(log).count(EventKind.CONNECTED) == 1


def test_broken_pictures_are_skipped_and_counted(log):
    with (
        HttpServer(broken=frozenset({6, 8})) as server,
        Taker(open_live(server.url, log)) as taker,
    ):
        taker.more(12)
        assert taker.source.lost["broken packet"] == 2
    assert kinds(log).count(EventKind.LOST) == 0


def test_broken_packets_do_not_end_it(log):
    with TsServer(damage=4) as server, Taker(open_live(server.url, log)) as taker:
        taker.more(25)
        assert sum(taker.source.lost.values()) > 0
    assert kinds(log).count(EventKind.CONNECTED) == 1


def test_rubbish_between_the_pictures_does_not_end_it(log, soon):
    with HttpServer() as server, Taker(open_live(server.url, log)) as taker:
        taker.more()
        server.mode = "garbage"
        time.sleep(0.3)
        server.mode = "run"
        assert taker.more(10) < RETURN_S
        check_time(taker.frames)


def test_one_that_sends_only_rubbish_is_lost_and_tried_again(log, soon):
    with HttpServer() as server, Taker(open_live(server.url, log)) as taker:
        taker.more()
        server.broken = frozenset(range(10_000))
        wait_for(told(log, EventKind.STALLED), 3)
        server.broken = frozenset()
        taker.more()
        assert taker.source.lost["broken packet"] > 0


def test_rtsp_may_bring_its_packets_by_udp(log):
    options = replace(QUICK, rtsp_transport="udp")
    with RtspServer() as server, Taker(open_live(server.url, log, options)) as taker:
        taker.more(10)
        assert server.by_udp == 1
    check_time(taker.frames)


class Cutting(HttpServer):
    """Ends each connection after ten pictures."""

    def pause(self, seconds=0.0):
        self.sent = getattr(self, "sent", 0) + 1
        super().pause(0.002)
        if self.sent % 10 == 0:
            raise OSError


def test_many_connections_leave_nothing_behind(log):
    with Cutting() as server:
        address = not_none(parse_address(server.url))
        source = LiveSource(
            lambda: open_network(address, SourceOptions()), "there", log, backoff=Backoff(0.001)
        )
        files = 0
        for _ in source:
            if server.connections == 5:
                files = open_files()
            elif server.connections == 40:
                break
        source.close()
        assert open_files() <= files
        names = [thread.name for thread in threading.enumerate()]
        assert names.count("edgerestore-capture") == 0
