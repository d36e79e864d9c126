"""Requests that were made to do harm: an answer in one line or a closed door, and it stays up."""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st

from edgerestore.server.control import ControlServer
from edgerestore.server.http import Listener
from edgerestore.server.mjpeg import MjpegSink
from edgerestore.streams.media.frames import Frame

from ..live.fake_controls import FakeControls
from .fuzz import damaged, fuzz

TOKEN = "a secret"
MOST_GROWN_MIB = 32
LONGEST_S = 10.0  # far more than any answer takes

METHODS = ("GET", "HEAD", "PATCH", "POST", "OPTIONS", "CONNECT", "TRACE", "get", "G\x00T", "")
TARGETS = (
    *("/", "/status", "/health", "/frame.jpg", "/stream.mjpg", "*", "//", "/.."),
    *("/../../etc/passwd", "/%00", "/%2e%2e/", "/?a=1#b", "http://evil.example/", "/\x7f", ""),
    "/" + "x" * 3000,
)
VERSIONS = ("HTTP/1.1", "HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "http/1.1", "", "HTTP/1.1 x")
FIELDS = (
    *("Host: localhost", "Host: evil.example", "Host: [::1]:1", "Host:"),
    "Host: localhost\r\nHost: b",
    *(f"Authorization: Bearer {TOKEN}", f"authorization: bearer  {TOKEN} "),
    *("Authorization: Bearer", "Authorization: Basic YQ==", "Authorization: Bearer \xe9\xff"),
    *("Content-Type: application/json", "Content-Type: text/plain", "Content-Length: 0"),
    *("Content-Length: 17", "Content-Length: -1", "Content-Length: 99999999999999999999"),
    "Content-Length: 5\r\nContent-Length: 6",
    *("Transfer-Encoding: chunked", "Transfer-Encoding: gzip, chunked", "Expect: 100-continue"),
    *("Connection: keep-alive", "Connection: Upgrade\r\nUpgrade: websocket", "Upgrade: h2c"),
    *("Origin: http://evil.example", " folded: line", "no colon", ": nameless"),
    "X: " + "y" * 5000,
    "\r\n".join(["X: 1"] * 150),
)
BODIES = (
    *('{"strength": 0.5}', '{"paused": true}', '{"model": "denoise"}', '{"switching": false}'),
    *("{}", '{"strength": NaN}', '{"strength": 1e999}', "[" * 3000),
    '{"model": "' + "a+" * 2000 + '"}',
    *("0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", "ffffffffffffffff\r\n", "\x00" * 100, "", "\ud800"),
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    first = " ".join(draw(st.sampled_from(part)) for part in (METHODS, TARGETS, VERSIONS))
    fields = draw(st.lists(st.sampled_from(FIELDS), max_size=6))
    usual = ["Host: localhost", f"Authorization: Bearer {TOKEN}", "Content-Type: application/json"]
    body = draw(st.sampled_from(BODIES)).encode("utf-8", "surrogatepass")
    length = [f"Content-Length: {len(body)}"]
    own = [
        *(usual if draw(st.booleans()) else []),
        *fields,
        *(length if draw(st.booleans()) else []),
    ]
    end = draw(st.sampled_from(("\r\n", "\r\n", "\r\n", "\n", "\r")))
    head = end.join([first, *own, "", ""]).encode("latin-1")
    return draw(damaged([head + body])) if draw(st.booleans()) else head + body


def exchange(server: Listener, sent: bytes) -> bytes:
    """Send bytes and end; return all that is answered."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=LONGEST_S) as client:
        with suppress(OSError):  # it is closed already
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
        answer = b""
        with suppress(ConnectionResetError):
            while piece := client.recv(1 << 16):
                answer += piece
        return answer


def check_answer(answer: bytes) -> None:
    """Refuse an answer that is no HTTP, or an error that is not one line of JSON."""
    answer = answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    if not answer:
        return
    head, _, body = answer.partition(b"\r\n\r\n")
    version, code = head.split(b" ")[:2]
    assert version == b"HTTP/1.1"
    assert b"X-Content-Type-Options: nosniff" in head
    assert b"Access-Control" not in head
    assert int(code) in (200, 202, 400, 401, 404, 405, 409, 411, 413, 415, 421, 431, 501, 503, 505)
    if int(code) >= 400 and body:
        (error,) = json.loads(body).values()
        assert "\n" not in error
        assert TOKEN not in error


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.fixture
def controls() -> FakeControls:
    return FakeControls()


@pytest.fixture(params=["control", "motion JPEG"])
def server(request: pytest.FixtureRequest, controls: FakeControls) -> Iterator[Listener]:
    if request.param == "control":
        with ControlServer(controls, "127.0.0.1:0", token=TOKEN) as control:
            yield control
        return
    sink = MjpegSink(max_staleness_s=None)
    sink.write(Frame(np.zeros((16, 16, 3), np.uint8), pts=0, time_base=Fraction(1, 25)))
    yield sink
    sink.abort()


def test_fuzz_requests(
    server: Listener, controls: FakeControls, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[int] = []
    grown_mib = resident_mib()

    def send(sent: bytes) -> None:
        began_s = time.monotonic()
        before = len(controls.calls)
        answer = exchange(server, sent)
        check_answer(answer)
        assert time.monotonic() - began_s < LONGEST_S
        if not answer.startswith((b"HTTP/1.1 2", b"HTTP/1.1 100")):
            assert len(controls.calls) == before, "it was refused and done"
        calls.append(len(answer))

    with caplog.at_level(logging.INFO):
        fuzz(requests(), send)
    assert not caplog.messages
    assert any(calls)
    assert resident_mib() - grown_mib < MOST_GROWN_MIB
    path = "/status" if isinstance(server, ControlServer) else "/health"
    asked = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    assert exchange(server, asked.encode()).startswith(b"HTTP/1.1 200 ")
