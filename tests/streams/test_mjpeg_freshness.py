"""Motion JPEG: the age of frames at the moment when a slow reader has read them."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from fractions import Fraction

import numpy as np
import pytest

from edgerestore.errors import ArgumentError
from edgerestore.server import mjpeg
from edgerestore.server.delivery import DeliveryProbe
from edgerestore.server.mjpeg import MjpegSink
from edgerestore.streams.media.frames import Frame
from edgerestore.streams.options import SinkOptions
from edgerestore.streams.sinks.registry import open_sink

from .servers import wait_for

pytestmark = pytest.mark.slow

LIMIT_S = 1.0
MICROSECONDS = Fraction(1, 1_000_000)
BUFFERS = (None, 4096)  # bytes that a reader's kernel may hold; the system's own choice, few
SIZES = {"24 kB": (124, 124), "132 kB": (288, 300)}


class Reader:
    """Reads parts from a plain socket, so that nothing but its kernel buffers for it.

    Parameters
    ----------
    rcvbuf : int or None
        Bytes that its kernel may hold; ``None`` for the system's own choice.
    sip, pause_s : int, float
        Bytes of one read, and the pause after each.
    every_s : float
        The pause after each part.
    parts : int
        Read before it stops for the first time.
    """

    def __init__(self, sink, rcvbuf=None, sip=65536, pause_s=0.0, every_s=0.0, parts=0):
        self.socket = socket.socket()
        if rcvbuf is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        self.socket.settimeout(8)
        self.socket.connect(("127.0.0.1", sink.port))
        self.socket.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.sip, self.pause_s, self.every_s, self.parts = sip, pause_s, every_s, parts
        self.buffer = b""
        self.until(b"\r\n\r\n--edgerestore-frame")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def until(self, mark):
        while mark not in self.buffer:
            self.more()
        head, _, self.buffer = self.buffer.partition(mark)
        return head

    def more(self):
        read = self.socket.recv(self.sip)
        if not read:
            raise EOFError
        self.buffer += read
        time.sleep(self.pause_s)

    def part(self):
        """Return the age of the next frame, its last byte being read, and its size."""
        head = self.until(b"\r\n\r\n")
        fields = dict(line.split(": ") for line in head.decode().split("\r\n")[1:])
        length = int(fields["Content-Length"])
        while len(self.buffer) < length:
            self.more()
        age_s = time.perf_counter() - float(fields["X-Timestamp"])
        assert self.buffer[:2] == b"\xff\xd8"
        assert self.buffer[length - 2 : length] == b"\xff\xd9"
        self.buffer = self.buffer[length:]
        assert self.until(b"--edgerestore-frame") == b"\r\n"
        return age_s, length

    def ages(self, seconds):
        """Return the ages of all parts, read for some time or until the server ends it."""
        found, end_s = [], time.perf_counter() + seconds
        try:
            while time.perf_counter() < end_s:
                found.append(self.part()[0])
                time.sleep(self.every_s)
        except (EOFError, ConnectionError):
            pass
        return found


@contextmanager
def camera(size, rate=30, **options) -> Iterator[MjpegSink]:
    """Serve frames that carry the time of their capture."""
    sink = MjpegSink(**options)
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for _ in range(4)]
    ending = threading.Event()

    def feed():
        start_s, index = time.perf_counter(), 0
        while not ending.wait(max(0.0, start_s + index / rate - time.perf_counter())):
            now_s = time.perf_counter()
            pts = round(now_s * 1e6)
            sink.write(Frame(images[index % 4], pts, MICROSECONDS, captured_s=now_s))
            index += 1

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        yield sink
    finally:
        ending.set()
        feeder.join()
        sink.abort()


def at_once(sink, readers, run):
    """Run readers at the same time, each on a thread; return what each found."""
    with ThreadPoolExecutor(len(readers)) as pool, ExitStack() as stack:
        opened = [stack.enter_context(Reader(sink, **options)) for options in readers]
        return list(pool.map(run, opened))


def health(sink):
    connection = http.client.HTTPConnection("127.0.0.1", sink.port, timeout=5)
    connection.request("GET", "/health")
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return answer


@pytest.mark.parametrize("size", SIZES)
def test_readers_of_few_parts_a_second(size):
    rates = [rate for rate in (10, 5) for _ in BUFFERS]
    readers = [{"rcvbuf": rcvbuf, "every_s": 1 / rate} for rate in (10, 5) for rcvbuf in BUFFERS]
    with camera(SIZES[size]) as sink:
        found = at_once(sink, readers, lambda one: one.ages(2.5))
        assert not sink.disconnected
    for rate, ages in zip(rates, found, strict=True):
        assert len(ages) >= 2.5 * rate * 0.6
        assert max(ages) < LIMIT_S


def test_readers_that_trickle():
    rates = [400_000, 400_000, 60_000, 60_000]
    readers = [
        {"rcvbuf": rcvbuf, "sip": rate // 100, "pause_s": 0.01}
        for rate, rcvbuf in zip(rates, (*BUFFERS, *BUFFERS), strict=True)
    ]
    with camera(SIZES["24 kB"]) as sink:
        found = at_once(sink, readers, lambda one: one.ages(2.5))
        assert not sink.disconnected
    for rate, ages in zip(rates, found, strict=True):
        assert len(ages) >= 2.5 * rate / 24_000 * 0.6
        assert max(ages) < LIMIT_S


@pytest.mark.parametrize("size", SIZES)
def test_readers_too_slow_for_the_limit_are_disconnected(size, notices):
    readers = [{"rcvbuf": rcvbuf, "sip": 100, "pause_s": 0.01} for rcvbuf in BUFFERS]
    with camera(SIZES[size]) as sink:
        assert at_once(sink, readers, lambda one: one.ages(2.5)) == [[], []]
        assert sink.disconnected == {"too slow": 2}
        assert notices == [f"{sink.url}: a watcher was disconnected (too slow)"] * 2
        told = health(sink)
        assert (told["watching"], told["disconnected"]) == (0, {"too slow": 2})


def test_readers_that_stop_and_read_on_later(notices):
    """What lies in a reader's kernel is no whole frame, so nothing old becomes complete."""

    def stop_and_go_on(reader):
        for _ in range(reader.parts):
            reader.part()
        time.sleep(1.5)
        return reader.ages(0.5)

    readers = [{"rcvbuf": rcvbuf, "parts": parts} for parts in (0, 1, 3) for rcvbuf in BUFFERS]
    with camera(SIZES["24 kB"]) as sink:
        for ages in at_once(sink, readers, stop_and_go_on):
            assert all(age < LIMIT_S for age in ages)


def test_a_reader_that_pauses_for_longer_than_the_limit_gets_the_newest():
    with camera(SIZES["132 kB"], max_staleness_s=0.4) as sink:
        (ages,) = at_once(sink, [{"every_s": 0.7}], lambda one: one.ages(2.5))
        assert not sink.disconnected
    assert len(ages) == 4
    assert max(ages) < 0.4


def test_a_watcher_that_reads_nothing_is_disconnected(monkeypatch, notices):
    monkeypatch.setattr(mjpeg, "_STALLED_S", 0.3)
    with camera(SIZES["24 kB"]) as sink, socket.create_connection(sink.address) as watcher:
        watcher.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_for(lambda: sink.disconnected, 3)
        assert sink.disconnected == {"stalled": 1}
        assert notices == [f"{sink.url}: a watcher was disconnected (stalled)"]


def test_frames_that_are_too_old_are_not_shown():
    with camera(SIZES["24 kB"], rate=0.01, max_staleness_s=0.3) as sink:
        wait_for(lambda: health(sink)["frames"], 3)
        time.sleep(0.3)
        connection = http.client.HTTPConnection("127.0.0.1", sink.port, timeout=5)
        connection.request("GET", "/frame.jpg")
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert json.loads(answer.read()) == {"error": "there is no frame that is new enough"}
        connection.close()
        with Reader(sink) as reader:
            reader.socket.settimeout(0.3)
            with pytest.raises(TimeoutError):
                reader.part()
            now_s = time.perf_counter()
            image = np.zeros((48, 64, 3), np.uint8)
            sink.write(Frame(image, round(now_s * 1e6), MICROSECONDS, captured_s=now_s))
            assert reader.part()[0] < 0.3


def test_frames_of_any_age_where_there_is_no_limit():
    with camera(SIZES["24 kB"], rate=0.01, max_staleness_s=None) as sink:
        wait_for(lambda: health(sink)["frames"], 3)
        time.sleep(1.1)
        with Reader(sink) as reader:
            assert reader.part()[0] > 1


def test_eight_watchers_end_at_once_and_hold_little(monkeypatch):
    with camera(SIZES["132 kB"]) as sink:
        stalled = Reader(sink, rcvbuf=4096)
        readers = [Reader(sink) for _ in range(7)]
        for reader in readers:
            reader.part()
        held = [
            connection.transport.get_write_buffer_size()
            for connection in list(sink._server.state.connections)
        ]
        assert len(held) == 8
        assert max(held) <= 140_000
        started_s = time.perf_counter()
        sink.close()
        assert time.perf_counter() - started_s < 1
        for reader in (stalled, *readers):
            reader.socket.close()


def test_frames_flow_where_the_kernel_gives_no_diagnostics(notices):
    with camera(SIZES["24 kB"]) as sink:
        sink._server.probe.close()
        with Reader(sink) as reader:
            ages = reader.ages(1.0)
    assert len(ages) >= 10
    assert max(ages) < LIMIT_S
    assert [line[:56] for line in notices] == [
        "the kernel does not tell what watchers have read (a serv"
    ]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_what_a_reader_has_read(host, notices):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, 0), family=family)
    except OSError:
        pytest.skip("this machine has no IPv6")
    probe = DeliveryProbe()
    with listener, socket.create_connection(listener.getsockname()[:2]) as reader:
        writer, _ = listener.accept()
        with writer:
            writer.sendall(b"x" * 5000)
            assert not probe.delivered(writer, 5000)
            assert reader.recv(4999)
            assert not probe.delivered(writer, 5000)
            assert reader.recv(1)
            assert probe.delivered(writer, 5000)
            probe.close()  # what is received counts where nothing more is known
            writer.sendall(b"x")
            wait_for(lambda: probe.delivered(writer, 5001), 1)


def test_the_limit_is_the_streams():
    for limit_s, expected in ((0.001, 503), (None, 200)):
        sink = open_sink("http://127.0.0.1:0/left", SinkOptions(max_staleness_s=limit_s))
        assert isinstance(sink, MjpegSink)
        sink.write(Frame(np.zeros((8, 8, 3), np.uint8), 0, MICROSECONDS))
        connection = http.client.HTTPConnection("127.0.0.1", sink.port, timeout=5)
        time.sleep(0.01)
        connection.request("GET", "/frame.jpg")
        assert connection.getresponse().status == expected
        connection.close()
        sink.close()
    with pytest.raises(ArgumentError, match="max_staleness_s is a time above 0"):
        MjpegSink(max_staleness_s=0)
