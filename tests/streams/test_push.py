"""Streams pushed to targets on the network that are there, absent, silent, or come back."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from edgerestore.errors import SinkError
from edgerestore.streams.events import EventKind, EventLog
from edgerestore.streams.media.encoding import VideoOptions
from edgerestore.streams.media.frames import Frame
from edgerestore.streams.options import SinkOptions
from edgerestore.streams.sinks.push import PUSH_KINDS, PushSink
from edgerestore.streams.sources.reconnect import Backoff
from edgerestore.testing.sinks import SinkTests

from ..checked import not_none
from .servers import wait_for

MILLISECOND = Fraction(1, 1000)
LISTENERS = {
    "tcp": ("tcp://127.0.0.1:{}", "?listen=1", {}),
    "udp": ("udp://127.0.0.1:{}", "", {}),
    "rtmp": ("rtmp://127.0.0.1:{}/live/cam", "", {"listen": "1"}),
    "rtsp": ("rtsp://127.0.0.1:{}/cam", "", {"rtsp_flags": "listen", "listen_timeout": "10"}),
}


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Viewer:
    """Listens once, on a thread, and takes at most some frames."""

    def __init__(self, kind, port, frames=10_000, last_shape=None):
        address, suffix, options = LISTENERS[kind]
        self.url = address.format(port)
        self.frames = []
        self._open = (self.url + suffix, {"analyzeduration": "300000", **options})
        self._count = frames
        self._last_shape = last_shape
        self._thread = threading.Thread(target=self._view)
        self._thread.start()
        wait_for(lambda: listens(port))

    def _view(self):
        url, options = self._open
        with (
            contextlib.suppress(av.error.FFmpegError),
            av.open(url, options=options, timeout=10) as container,
        ):
            for frame in container.decode(video=0):
                at = None if frame.pts is None else frame.pts * not_none(frame.time_base)
                self.frames.append((at, frame.to_ndarray(format="rgb24")))
                if len(self.frames) >= self._count or self.shape == self._last_shape:
                    return

    @property
    def shape(self):
        return self.frames[-1][1].shape

    def wait(self, frames=1, timeout_s=10):
        ends = time.perf_counter() + timeout_s
        while len(self.frames) < frames:
            assert time.perf_counter() < ends, f"{len(self.frames)} of {frames} frames came"
            time.sleep(0.01)

    def join(self):
        self._thread.join(15)
        assert not self._thread.is_alive()


def listens(port):
    """Whether a socket of this machine waits at a port."""
    tables = [Path(f"/proc/net/{kind}").read_text().splitlines() for kind in ("tcp", "udp")]
    return any(
        line.split()[1].endswith(f":{port:04X}") and line.split()[3] in ("0A", "07")
        for line in [*tables[0], *tables[1]]
    )


def picture(index, size=(64, 96)):
    return Frame(np.full((*size, 3), 20 + index % 200, np.uint8), index * 20, MILLISECOND)


class Camera:
    """Writes a frame every 20 ms, as a stream does, and notes the slowest write."""

    def __init__(self, sink, size=(64, 96)):
        self.size = size
        self.slowest_s = 0.0
        self.written = 0
        self._sink = sink
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        while not self._stop.wait(0.02):
            before = time.perf_counter()
            self._sink.write(picture(self.written, self.size))
            self.slowest_s = max(self.slowest_s, time.perf_counter() - before)
            self.written += 1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()


class TestPushSink(SinkTests):
    count = 40
    all_arrive = False
    tolerance = 6.0

    @pytest.fixture
    def make(self, notices):
        viewers = []

        def one():
            viewers.append(Viewer("tcp", free_port()))
            self.viewer = viewers[-1]
            return PushSink(self.viewer.url, SinkOptions(), timeout_s=3)

        yield one
        for viewer in viewers:
            with contextlib.suppress(OSError):  # whoever still waits for a stream gets its end
                port = int(viewer.url.rpartition(":")[2])
                socket.create_connection(("127.0.0.1", port), 1).close()
            viewer.join()

    @pytest.fixture
    def frames(self, picture_at):
        return [
            Frame(picture_at(index * 9, 64, 96), index, Fraction(1, 25), 1, f"{index}.png")
            for index in range(self.count)
        ]

    def arrived(self, sink, tmp_path):
        self.viewer.join()
        return self.viewer.frames


@pytest.mark.parametrize("kind", list(LISTENERS))
def test_frames_arrive_by(kind):
    viewer = Viewer(kind, free_port(), frames=25)
    log = EventLog()
    sink = PushSink(viewer.url, SinkOptions(log=log), timeout_s=3)
    with Camera(sink):
        viewer.wait(25)
        assert sink.connected
    sink.close()
    viewer.join()
    shown = [(at, round(image.mean())) for at, image in viewer.frames if at is not None]
    assert shown == sorted(shown)
    # Time advances with what is shown, a level in 20 ms; an RTSP reader may set its clock once.
    late_s = sorted(float(at) - 0.02 * level for at, level in shown)
    usual_s = late_s[len(late_s) // 2]
    assert sum(abs(one - usual_s) < 0.025 for one in late_s) >= len(late_s) / 2
    if kind != "rtsp":
        assert late_s[-1] - late_s[0] < 0.05
    assert (log.events[0].kind, log.events[0].cause) == (EventKind.OUTPUT, "connected")


def test_a_target_that_comes_late_goes_and_comes_back():
    port, log = free_port(), EventLog()
    sink = PushSink(f"tcp://127.0.0.1:{port}", SinkOptions(log=log), timeout_s=3)
    with Camera(sink) as camera:
        wait_for(lambda: log.events)
        assert not sink.connected
        first = Viewer("tcp", port, frames=10)
        first.wait(10, timeout_s=4.0)  # it had failed once, and was tried again after 1 s
        first.join()
        second = Viewer("tcp", port, frames=10)
        second.wait(10, timeout_s=8.0)
    sink.close()
    second.join()
    assert camera.slowest_s < 0.5
    causes = [event.cause for event in log.events]
    assert causes[:4] == ["absent", "connected", "lost", "connected"]
    assert 0.8 <= log.events[0].details["retry_in_s"] <= 1
    assert sink.dropped["not connected"] >= 25


def test_a_silent_server_holds_up_nothing():
    with socket.create_server(("127.0.0.1", 0)) as server:
        log = EventLog()
        url = f"rtmp://127.0.0.1:{server.getsockname()[1]}/live/cam"
        sink = PushSink(url, SinkOptions(log=log), timeout_s=1.2)
        beats = [time.perf_counter()]
        with Camera(sink) as camera:
            while time.perf_counter() < beats[0] + 1.7:
                time.sleep(0.005)
                beats.append(time.perf_counter())
        sink.abort()
    # The interpreter itself was never held up either.
    assert max(later - one for one, later in pairwise(beats)) < 0.7
    assert camera.slowest_s < 0.7
    assert [event.cause for event in log.events] == ["absent"]
    assert "did not answer in time" in log.events[0].message


def test_a_target_that_takes_nothing_costs_frames_only():
    with socket.create_server(("127.0.0.1", 0)) as server:
        sink = PushSink(
            f"tcp://127.0.0.1:{server.getsockname()[1]}",
            SinkOptions(video=VideoOptions(crf=0)),
            timeout_s=0.5,
        )
        random = np.random.default_rng(1)
        noise = [random.integers(0, 255, (256, 256, 3)).astype(np.uint8) for _ in range(5)]
        slowest_s = 0.0
        for index in range(200):
            before = time.perf_counter()
            sink.write(Frame(noise[index % 5], index * 20, MILLISECOND))
            slowest_s = max(slowest_s, time.perf_counter() - before)
            time.sleep(0.01)
        sink.abort()
    assert slowest_s < 0.4
    assert sum(sink.dropped.values()) > 20


def test_another_size_begins_another_connection(notices):
    port, log = free_port(), EventLog()
    sink = PushSink(f"udp://127.0.0.1:{port}", SinkOptions(log=log))
    viewer = Viewer("udp", port, last_shape=(32, 48, 3))
    with Camera(sink) as camera:
        viewer.wait(5)
        camera.size = (33, 49)  # an odd side is cropped
        viewer.join()
    sink.close()
    assert viewer.shape == (32, 48, 3)
    assert [event.cause for event in log.events] == ["connected"]
    assert "an odd last row or column is left out, for frames of 48x32" in notices[0]


def test_logins_are_never_told():
    log = EventLog()
    url = f"rtsp://admin:secret@127.0.0.1:{free_port()}/cam?token=hidden"
    sink = PushSink(url, SinkOptions(log=log), timeout_s=1)
    with Camera(sink):
        wait_for(lambda: log.events)
    sink.close()
    told = " ".join(f"{event.message} {event.details}" for event in log.events)
    assert "; trying again in " in told
    assert "secret" not in told
    assert "hidden" not in told


def test_waiting_doubles_up_to_its_limit_and_close_does_not_wait_for_it():
    log = EventLog()
    sink = PushSink(
        f"tcp://127.0.0.1:{free_port()}",
        SinkOptions(log=log),
        backoff=Backoff(0.05, 0.2, jitter=0),
    )
    with Camera(sink):
        wait_for(lambda: sink._backoff.failures == 5)
    sink.close()
    # It goes on trying, but tells no more of what stays the same.
    assert [event.details["retry_in_s"] for event in log.events] == [0.05, 0.1, 0.2]
    long = PushSink(f"tcp://127.0.0.1:{free_port()}", SinkOptions(), backoff=Backoff(30, 30))
    long.write(picture(0))
    long.write(picture(1))
    wait_for(lambda: long._backoff.failures)
    before = time.perf_counter()
    long.close()
    assert time.perf_counter() - before < 1


@pytest.mark.parametrize(
    ("url", "options", "says"),
    [
        ("ftp://u:pw@host/x", {}, "ftp://.*@host/x: cannot be sent to; send to one of rtsp://"),
        ("tcp://host:1", {"pix_fmt": "rgb24"}, "does not take --pix-fmt"),
        ("tcp://host:1", {"codec": "libnothing"}, "no video encoder libnothing"),
        ("rtmp://host/x", {"codec": "libvpx"}, "cannot hold libvpx; leave --codec out"),
    ],
)
def test_what_is_refused_at_once(url, options, says):
    with pytest.raises(SinkError, match=says) as caught:
        PushSink(url, SinkOptions(video=VideoOptions(**options)))
    assert "pw" not in str(caught.value)


def test_a_protocol_that_is_not_built_in_is_refused_at_once():
    try:
        av.open("srt://127.0.0.1:1", timeout=0.1)
    except av.error.ProtocolNotFoundError:
        with pytest.raises(SinkError, match="built without srt; use another kind of address"):
            PushSink("srt://host:5000", SinkOptions())
    except (av.error.FFmpegError, OSError):
        PushSink("srt://host:5000", SinkOptions()).abort()


def test_every_kind_names_a_format_that_is_there():
    assert {kind.format for kind in PUSH_KINDS.values()} <= av.formats_available
    assert "fifo" in av.formats_available
