"""A stream shown in a browser on the same machine: motion JPEG over HTTP."""

from __future__ import annotations

import select
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from typing import Any

from ..errors import ArgumentError
from ..streams.media.frames import Frame, Item
from ..streams.sinks.latest_picture import Jpeg, LatestPicture
from .address import Address, checked_address
from .requests import Refusal, RequestHandler, Routes
from .server import open_server

__all__ = ["MjpegSink"]

_STREAM_PATH, _FRAME_PATH = "/stream.mjpg", "/frame.jpg"
_BOUNDARY = "edgerestore-frame"
_LOOK_EVERY_S = 0.5  # how often a watcher without frames is asked whether it is still there
_GRACE_S = 0.5  # what watchers have at the end to take the last frame
_SPARE_CLIENTS = 8  # connections for single frames and for being told that it is full


class MjpegSink:
    """Serves the newest frame to browsers, `ffplay` and the like.

    A watcher is sent the newest frame at once, then each one that it is quick enough for; it
    never slows the stream or another watcher. Frames are encoded once each, and only while
    somebody watches. A frame that a watcher does not take within five seconds ends it.

    Parameters
    ----------
    host : str
        Of this machine only: there is no login, and what a camera sees is nobody else's.
    port : int
        0 lets the system choose.
    quality : int
        Of JPEG, 1 to 100.
    max_clients : int
        Watchers at a time.
    path : str
        Where the stream is, besides ``/stream.mjpg``. ``/frame.jpg`` is the newest frame alone.

    Raises
    ------
    ArgumentError
        On a host that other machines reach, or a value that is out of range.
    SinkError
        When the address cannot be listened on, because it is in use for instance.
    """

    skips = True
    wants_original = False

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        quality: int = 85,
        max_clients: int = 8,
        path: str = "/",
    ) -> None:
        if not 1 <= quality <= 100:
            raise ArgumentError(f"JPEG quality is a number from 1 to 100, got {quality!r}")
        if max_clients < 1:
            raise ArgumentError(f"at least one client watches, got {max_clients!r}")
        if not path.startswith("/") or not path.isprintable() or path == _FRAME_PATH:
            raise ArgumentError(f"a path is / or /NAME, and not {_FRAME_PATH}, got {path!r}")
        self._path = path
        self._picture = LatestPicture(quality)
        watchers = _Watchers(max_clients)
        self._server = open_server(
            checked_address(host, port),
            partial(_Handler, self._picture, watchers, path),
            name="mjpeg",
            max_clients=max_clients + _SPARE_CLIENTS,
            remote_hint="and a tunnel (ssh -L) or a proxy with a login for the others",
        )

    @property
    def address(self) -> Address:
        """Where it listens, with the port that was chosen."""
        return self._server.address

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self.address.port

    @property
    def url(self) -> str:
        """What to open in a browser."""
        return f"http://{self.address}{self._path}"

    def write(self, item: Item) -> None:
        """Show a frame from now on; never waits for a watcher.

        Raises
        ------
        SinkError
            When it is no picture.
        """
        if isinstance(item, Frame):
            self._picture.put(item)

    def close(self) -> None:
        """End every watcher's stream after the newest frame, within a second."""
        self._picture.end()
        self._server.close(_GRACE_S)

    def abort(self) -> None:
        """End every watcher's stream now. Never raises."""
        self._picture.end()
        self._server.close()


class _Watchers:
    """Counts who watches."""

    def __init__(self, bound: int) -> None:
        self._free = threading.BoundedSemaphore(bound)
        self._bound = bound

    @contextmanager
    def one_more(self) -> Iterator[None]:
        if not self._free.acquire(blocking=False):
            raise Refusal(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"{self._bound} are watching already; close one of them",
                {"Retry-After": "5"},
            )
        try:
            yield
        finally:
            self._free.release()


class _Handler(RequestHandler):
    def __init__(self, picture: LatestPicture, watchers: _Watchers, path: str, *args: Any) -> None:
        self._picture = picture
        self._watchers = watchers
        self._stream_path = path
        super().__init__(*args)

    def routes(self) -> Routes:
        stream = {"GET": self._stream}
        return {self._stream_path: stream, _STREAM_PATH: stream, _FRAME_PATH: {"GET": self._one}}

    def _one(self) -> None:
        jpeg = self._picture.jpeg()
        if jpeg is None:
            raise Refusal(
                HTTPStatus.SERVICE_UNAVAILABLE, "there is no frame yet", {"Retry-After": "1"}
            )
        self.answer(jpeg.data, "image/jpeg", headers={"X-Timestamp": f"{jpeg.seconds:.6f}"})

    def _stream(self) -> None:
        with self._watchers.one_more():
            self.answer(None, f"multipart/x-mixed-replace; boundary={_BOUNDARY}")
            if self.command == "HEAD":
                return
            self.wfile.write(f"--{_BOUNDARY}".encode())
            self._follow()
            self.wfile.write(b"--\r\n")

    def _follow(self) -> None:
        number = 0
        while True:
            if self._picture.wait_newer(number, _LOOK_EVERY_S):
                jpeg = self._picture.jpeg()
                if jpeg is not None:
                    number = jpeg.number
                    self.wfile.write(_part(jpeg))
            elif self._picture.ended or self._left():
                return

    def _left(self) -> bool:
        """Return whether the watcher has hung up, which no write tells while there is none."""
        ready = select.poll()
        ready.register(self.connection, select.POLLIN)
        # A watcher says nothing after its request: what can be read is the end.
        return bool(ready.poll(0)) and not self.connection.recv(4096)


def _part(jpeg: Jpeg) -> bytes:
    """Return a frame, and the next boundary: browsers show a frame only when they have seen it."""
    head = (
        "\r\nContent-Type: image/jpeg\r\n"
        f"Content-Length: {len(jpeg.data)}\r\n"
        f"X-Timestamp: {jpeg.seconds:.6f}\r\n\r\n"
    )
    return head.encode() + jpeg.data + f"\r\n--{_BOUNDARY}".encode()
