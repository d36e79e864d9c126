"""A camera by RTSP with viewers of every kind: nobody who misbehaves holds up the others."""

from __future__ import annotations

import http.client
import socket
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgerestore.server.mjpeg import MjpegSink
from edgerestore.streams.options import LiveOptions
from edgerestore.streams.session import Live

from ..live.live_tools import Shown
from ..streams.servers import RtspServer
from ..streams.tools import QUICK

STREAM = b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n"
VIEWERS = {
    "silent": b"",
    "half a request": STREAM[:-2],
    "never reads": STREAM,
    "sends on": STREAM + b"x" * 5000,
    "another protocol": b"\x16\x03\x01\x02\x00" + bytes(512),
    "RTSP": b"OPTIONS rtsp://localhost/live RTSP/1.0\r\nCSeq: 1\r\n\r\n",
}
RESET = b"\1\0\0\0\0\0\0\0"


class Inverted:
    depth = 2

    def submit(self, image: NDArray[Any]) -> Any:
        done: Future[object] = Future()
        done.set_result(255 - image)
        return done


def newest(port: int) -> NDArray[Any]:
    """Return the picture of now, as a viewer who behaves gets it."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/frame.jpg")
    answer = connection.getresponse()
    assert answer.status == 200
    image = cv2.imdecode(np.frombuffer(answer.read(), np.uint8), cv2.IMREAD_COLOR)
    connection.close()
    return np.asarray(image)


def test_a_camera_by_rtsp_is_shown_whatever_its_viewers_do() -> None:
    shown, sink = Shown(), MjpegSink(max_staleness_s=None)
    with RtspServer() as camera, ExitStack() as stack:
        live = stack.enter_context(
            Live(Inverted(), camera.url, [shown, sink], LiveOptions(source=QUICK))
        )
        live.start()
        shown.wait_for(3)
        for sent in [one for one in VIEWERS.values() for _ in range(3)]:
            viewer = socket.create_connection(("127.0.0.1", sink.port), timeout=5)
            stack.callback(viewer.close)
            viewer.sendall(sent)
        for sent in VIEWERS.values():  # and who goes without a farewell
            with socket.create_connection(("127.0.0.1", sink.port), timeout=5) as viewer:
                viewer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                viewer.sendall(sent)
        count = len(shown.images)
        shown.wait_for(count + 10)
        assert newest(sink.port).shape == shown.images[-1].shape
        live.stop()
        summary = live.join(20)
        assert summary is not None
        assert summary.frames_out >= count + 10
