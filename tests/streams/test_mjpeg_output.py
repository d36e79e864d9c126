"""Motion JPEG over HTTP: what watchers see, and that none of them slows the stream."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from contextlib import suppress
from fractions import Fraction
from urllib.parse import quote

import av
import cv2
import numpy as np
import pytest

from edgerestore.errors import ArgumentError, SinkError
from edgerestore.server import mjpeg
from edgerestore.server.mjpeg import MjpegSink
from edgerestore.streams.media.frames import Frame, VideoInfo
from edgerestore.testing.sinks import SinkTests

from ..checked import not_none

RATE = Fraction(1, 25)


@pytest.fixture
def serve():
    sinks: list[MjpegSink] = []

    def one(**options):
        sinks.append(MjpegSink(**options))
        return sinks[-1]

    yield one
    for sink in sinks:
        sink.abort()


@pytest.fixture
def encodings(monkeypatch):
    """Count what is encoded."""
    counted: list[int] = []
    encode = mjpeg._encode

    def counting(image, quality):
        counted.append(threading.get_ident())
        return encode(image, quality)

    monkeypatch.setattr(mjpeg, "_encode", counting)
    return counted


class Watcher:
    """Reads a stream part by part, as browsers do."""

    def __init__(self, sink, path="/"):
        self.connection = http.client.HTTPConnection("127.0.0.1", sink.port, timeout=5)
        self.connection.request("GET", path)
        self.answer = self.connection.getresponse()
        kind, _, boundary = self.answer.headers["Content-Type"].partition("; boundary=")
        assert (self.answer.status, kind) == (200, "multipart/x-mixed-replace")
        self.boundary = b"--" + boundary.encode()
        assert self.answer.read(len(self.boundary)) == self.boundary

    def part(self):
        """Return the time and the picture of the next part; None at the end."""
        line = self.answer.readline()
        if line == b"--\r\n":
            assert self.answer.read() == b""
            return None
        assert line == b"\r\n"
        headers = http.client.parse_headers(self.answer)
        assert headers["Content-Type"] == "image/jpeg"
        data = self.answer.read(int(headers["Content-Length"]))
        assert self.answer.read(len(self.boundary) + 2) == b"\r\n" + self.boundary
        return float(headers["X-Timestamp"]), decoded(data)

    def close(self):
        self.answer.close()
        self.connection.close()


def decoded(data):
    image = not_none(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def flat(value, index=0, dtype=np.uint8, shape=(48, 64, 3)):
    return Frame(np.full(shape, value, dtype), index, RATE)


def get(sink, path):
    connection = http.client.HTTPConnection("127.0.0.1", sink.port, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, dict(answer.headers), answer.read()
    finally:
        connection.close()


def until(condition, wait_s=3.0):
    end_s = time.monotonic() + wait_s
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.01)


@pytest.mark.parametrize("path", ["/", "/stream.mjpg"])
def test_frames_are_shown_as_they_are(serve, picture_at, path):
    sink = serve(quality=95)
    sink.write(Frame(picture_at(0, 48, 64), 0, RATE))
    watcher = Watcher(sink, path)
    for index in range(5):
        seconds, image = watcher.part()
        assert seconds == pytest.approx(index / 25)
        difference = np.abs(image.astype(int) - picture_at(index, 48, 64))
        assert difference.mean() < 3
        sink.write(Frame(picture_at(index + 1, 48, 64), index + 1, RATE))
    watcher.close()


def test_another_decoder_agrees(serve, picture_at):
    """FFmpeg's own reader of such streams, which is stricter than browsers."""
    sink = serve()
    ending = threading.Event()

    def connection():
        for index in range(500):
            sink.write(Frame(picture_at(index, 48, 64), index, RATE))
            if ending.wait(0.01):
                return

    feeder = threading.Thread(target=connection)
    feeder.start()
    try:
        with av.open(sink.url, format="mpjpeg", timeout=5) as container:
            images = [frame.to_ndarray(format="rgb24") for frame, _ in
                      zip(container.decode(video=0), range(5), strict=False)]  # fmt: skip
    finally:
        ending.set()
        feeder.join()
    assert [image.shape for image in images] == [(48, 64, 3)] * 5


def test_a_new_watcher_gets_the_newest_frame_at_once(serve):
    sink = serve()
    for index in range(3):
        sink.write(flat(10 * index, index))
    watcher = Watcher(sink)
    seconds, image = watcher.part()
    assert seconds == pytest.approx(2 / 25)
    assert abs(image.mean() - 20) < 2
    watcher.close()


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (np.full((8, 8), 100, np.uint8), (100, 100, 100)),
        (np.full((8, 8, 1), 100 * 257, np.uint16), (100, 100, 100)),
        (np.full((8, 8, 3), (65535, 0, 0), np.uint16), (254, 0, 0)),
        (np.full((8, 8, 3), (0.5, 0.5, 2.0), np.float32), (127, 127, 255)),
        (np.full((8, 8), np.nan, np.float32), (0, 0, 0)),
        (np.full((8, 8), -0.5, np.float32), (0, 0, 0)),
        (np.full((8, 8, 4), (200, 0, 0, 0), np.uint8), (255, 255, 255)),
        (np.full((8, 8, 4), (0, 0, 0, 0.5), np.float32), (127, 127, 127)),
    ],
)
def test_every_kind_of_frame_is_shown_in_eight_bits(serve, image, expected):
    sink = serve(quality=100)
    sink.write(Frame(image, 0, RATE))
    shown = decoded(get(sink, "/frame.jpg")[2])
    np.testing.assert_allclose(shown.reshape(-1, 3).mean(0), expected, atol=3)


def test_a_turned_film_is_shown_upright(serve):
    quarter = (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    clock = Fraction(1, 25)
    turned = VideoInfo(64, 48, clock, Fraction(25), display_matrix=quarter)
    sink = serve()
    sink.write(Frame(np.zeros((48, 64, 3), np.uint8), 0, clock, info=turned))
    assert decoded(get(sink, "/frame.jpg")[2]).shape == (64, 48, 3)


@pytest.mark.parametrize(("aspect", "shape"), [((4, 3), (48, 85, 3)), ((1, 2), (96, 64, 3))])
def test_pixels_are_shown_in_their_shape(serve, aspect, shape):
    clock = Fraction(1, 25)
    wide = VideoInfo(64, 48, clock, Fraction(25), sample_aspect_ratio=Fraction(*aspect))
    sink = serve()
    sink.write(Frame(np.zeros((48, 64, 3), np.uint8), 0, clock, info=wide))
    assert decoded(get(sink, "/frame.jpg")[2]).shape == shape


def test_the_newest_frame_alone(serve):
    sink = serve()
    code, headers, body = get(sink, "/frame.jpg")
    assert (code, headers["Retry-After"]) == (503, "1")
    assert json.loads(body) == {"error": "there is no frame yet"}
    sink.write(flat(7, 50))
    code, headers, body = get(sink, "/frame.jpg")
    assert (code, headers["Content-Type"], headers["X-Timestamp"]) == (
        200,
        "image/jpeg",
        "2.000000",
    )
    assert decoded(body).shape == (48, 64, 3)
    assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", ["/left", "/a%20b", "/gr\u00f6\u00dfe"])
def test_another_path(serve, path):
    sink = serve(path=path)
    sink.write(flat(7))
    assert sink.url.endswith(path)
    assert get(sink, "/")[0] == 404
    watcher = Watcher(sink, quote(path, safe="/%"))
    assert watcher.part() is not None
    watcher.close()


def test_nothing_is_encoded_while_nobody_watches(serve, encodings):
    sink = serve()
    for index in range(20):
        sink.write(flat(index, index))
    assert encodings == []
    get(sink, "/frame.jpg")
    get(sink, "/frame.jpg")
    assert len(encodings) == 1


def test_a_frame_is_encoded_once_for_all_and_never_by_the_stream(serve, encodings):
    sink = serve()
    sink.write(flat(0, 0))
    watchers = [Watcher(sink) for _ in range(4)]
    for index in range(1, 6):
        assert all(watcher.part() is not None for watcher in watchers)
        sink.write(flat(index, index))
    for watcher in watchers:
        watcher.part()
        watcher.close()
    assert len(encodings) == 6
    assert threading.get_ident() not in encodings


def test_a_watcher_that_does_not_read_slows_nobody(serve):
    sink = serve()
    noise = np.random.default_rng(1).integers(0, 256, (720, 1280, 3), np.uint8)
    sink.write(Frame(noise, 0, RATE))
    stuck = socket.create_connection(("127.0.0.1", sink.port))
    stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stuck.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    watcher = Watcher(sink)
    longest_s = 0.0
    for index in range(1, 21):
        started_s = time.monotonic()
        sink.write(Frame(noise, index, RATE))
        longest_s = max(longest_s, time.monotonic() - started_s)
        seconds, _ = watcher.part()
        assert seconds >= (index - 1) / 25
    assert longest_s < 0.1
    started_s = time.monotonic()
    sink.close()
    assert time.monotonic() - started_s < 1
    stuck.close()
    watcher.close()


def test_a_client_that_ends_its_side_with_the_request_has_left(serve):
    """Whatever it sends behind the request."""
    sink = serve(max_staleness_s=None)
    sink.write(Frame(np.zeros((16, 16, 3), np.uint8), 0, RATE))
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", sink.port), timeout=5) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nmore")
            client.shutdown(socket.SHUT_WR)
            with suppress(ConnectionResetError):
                while client.recv(1 << 16):
                    pass


def test_a_slow_watcher_skips_to_the_newest(serve):
    sink = serve()
    sink.write(flat(0, 0))
    watcher = Watcher(sink)
    assert watcher.part()[0] == 0
    noise = np.random.default_rng(1).integers(0, 256, (720, 1280, 3), np.uint8)
    for index in range(1, 60):
        sink.write(Frame(noise, index, RATE))
        time.sleep(0.002)
    seen = [watcher.part()[0]]
    while seen[-1] < 59 / 25:
        seen.append(watcher.part()[0])
    assert seen == sorted(set(seen))
    assert len(seen) < 50
    watcher.close()


def test_the_last_frame_arrives_and_the_stream_ends(serve):
    sink = serve()
    sink.write(flat(0, 0))
    watcher = Watcher(sink)
    watcher.part()
    sink.write(flat(9, 9))
    started_s = time.monotonic()
    sink.close()
    assert time.monotonic() - started_s < 1
    seconds, _ = watcher.part()
    assert seconds == pytest.approx(9 / 25)
    assert watcher.part() is None
    watcher.close()


def test_watchers_are_bounded_and_single_frames_still_come(serve):
    sink = serve(max_clients=2)
    sink.write(flat(0))
    watchers = [Watcher(sink) for _ in range(2)]
    code, _, body = get(sink, "/")
    assert code == 503
    assert json.loads(body)["error"] == "2 are watching already; close one of them"
    assert get(sink, "/frame.jpg")[0] == 200
    watchers[0].close()
    # No frame comes meanwhile, as while a stream is paused: the place is free all the same.
    until(lambda: get_head(sink) == 200)
    watchers[1].close()


def get_head(sink):
    connection = http.client.HTTPConnection("127.0.0.1", sink.port, timeout=5)
    try:
        connection.request("HEAD", "/")
        return connection.getresponse().status
    finally:
        connection.close()


def test_watching_before_the_first_frame(serve):
    sink = serve()
    watcher = Watcher(sink)
    sink.write(flat(5, 1))
    assert watcher.part()[0] == pytest.approx(1 / 25)
    watcher.close()


def test_what_is_refused_before_any_work(serve):
    with pytest.raises(ArgumentError, match=r"use 127\.0\.0\.1, and a tunnel"):
        serve(host="0.0.0.0")
    with pytest.raises(SinkError, match="is in use; choose another port"):
        serve(port=serve().port)
    for options in ({"quality": 0}, {"quality": 101}, {"max_clients": 0}, {"path": "x"},
                    {"path": "/frame.jpg"}, {"path": "/health"}, {"path": "/{x}"},
                    {"port": 70_000}, {"host": "a b"}):  # fmt: skip
        with pytest.raises(ArgumentError):
            serve(**options)


def test_pages_elsewhere_cannot_show_it(serve):
    sink = serve()
    sink.write(flat(0))
    _, headers, _ = get(sink, "/frame.jpg")
    assert headers["Cross-Origin-Resource-Policy"] == "same-site"
    assert not [name for name in headers if name.lower().startswith("access-control")]


def test_its_skipping_is_declared():
    assert MjpegSink.skips
    assert not MjpegSink.wants_original


class TestMjpegSink(SinkTests):
    all_arrive = False

    @pytest.fixture
    def make(self, serve):
        self.watchers: list[Watcher] = []

        def one():
            sink = serve(quality=95)
            self.watchers.append(Watcher(sink))
            return sink

        yield one
        for watcher in self.watchers:
            watcher.close()

    def arrived(self, sink, tmp_path):
        return list(iter(self.watchers[-1].part, None))
