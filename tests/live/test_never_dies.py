"""A network camera's whole life, seen through the running stream: nothing of it ends the stream."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from edgerestore.streams.events import EventKind, StreamState
from edgerestore.streams.options import LiveOptions, SourceOptions
from edgerestore.streams.session import Live

from ..streams.servers import HttpServer, TsServer, wait_for

pytestmark = pytest.mark.slow

STALENESS_S = 1.0
BACK_S = 2.0  # a source that is there again is shown again within this


class Screen:
    """Notes when each frame was shown, how old it was, and its size."""

    def __init__(self):
        self.times_s, self.oldest_s, self.sizes = [], 0.0, []

    def __call__(self, image, frame):
        now_s = time.perf_counter()
        self.oldest_s = max(self.oldest_s, now_s - frame.captured_s)
        self.times_s.append(now_s)
        self.sizes.append(image.shape[1::-1])

    def shown_after(self, moment_s):
        return any(one > moment_s for one in self.times_s)


def resident_mib():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def back_within(screen, since_s):
    """Wait for a frame that is shown after a moment; return how long it took."""
    wait_for(lambda: screen.shown_after(since_s), 8.0)
    return next(one for one in screen.times_s if one > since_s) - since_s


@pytest.mark.parametrize("kind", [HttpServer, TsServer])
def test_absent_dies_falls_silent_changes_its_size_and_lies(restorer, kind):
    server = kind()
    server.stop()  # the port is known, and nobody listens there
    screen = Screen()
    options = LiveOptions(source=SourceOptions(stall_s=0.6), max_staleness_s=STALENESS_S)
    with Live(restorer, server.url, [screen], options) as live:
        live.start()
        wait_for(lambda: live.state is StreamState.RECONNECTING, 5.0)
        assert not screen.times_s

        server.start()
        took_s = {"absent at start": back_within(screen, time.perf_counter())}

        server.stop()
        wait_for(lambda: live.state is StreamState.RECONNECTING, 5.0)
        time.sleep(1.5)  # away for longer than the first waits
        server.start()
        took_s["died"] = back_within(screen, time.perf_counter())

        server.mode = "silent"
        wait_for(lambda: live.state is StreamState.RECONNECTING, 5.0)
        stalled = [e for e in live.events if e.kind is EventKind.STALLED]
        assert stalled
        server.mode = "run"
        took_s["silent"] = back_within(screen, time.perf_counter())

        server.stop()
        wait_for(lambda: live.state is StreamState.RECONNECTING, 5.0)
        server.size = (96, 80)
        server.start()
        took_s["another size"] = back_within(screen, time.perf_counter())
        wait_for(lambda: screen.sizes[-1] == (96, 80), 3.0)
        assert any(e.kind is EventKind.CHANGED for e in live.events)

        if kind is HttpServer:
            server.broken = frozenset(range(0, 10_000, 3))
        else:
            server.damage = 3
        server.stop()
        server.start()
        took_s["broken packets"] = back_within(screen, time.perf_counter())
        before = len(screen.times_s)
        wait_for(lambda: len(screen.times_s) > before + 10, 5.0)
    server.stop()
    assert max(took_s.values()) < BACK_S, took_s
    assert screen.oldest_s < STALENESS_S
    counts = live.snapshot()
    assert counts.frames_in == counts.frames_out + sum(counts.frames_dropped.values())
    assert counts.frames_out == len(screen.times_s)
    assert live.state is StreamState.ENDED


def test_memory_threads_and_descriptors_stay_as_they_were(restorer):
    """A source that dies again and again, faster than any real one."""
    server = HttpServer()
    screen = Screen()
    with Live(restorer, server.url, [screen], LiveOptions(max_staleness_s=STALENESS_S)) as live:
        live.start()
        marks = []
        for round_ in range(8):
            wait_for(lambda: live.state is StreamState.RUNNING, 8.0)
            seen = len(screen.times_s)
            wait_for(lambda seen=seen: len(screen.times_s) >= seen + 5, 8.0)
            if round_ >= 2:
                marks.append((resident_mib(), len(os.listdir("/proc/self/fd"))))  # noqa: PTH208
            server.stop()
            wait_for(lambda: live.state is StreamState.RECONNECTING, 8.0)
            server.start()
    server.stop()
    assert max(one for one, _ in marks) - marks[0][0] < 10
    assert marks[-1][1] <= marks[0][1] + 1
    wait_for(lambda: not [t for t in threading.enumerate() if t.name.startswith("edgerestore")])
    assert np.diff(screen.times_s).max() < BACK_S + 1
