"""Motion JPEG over HTTP: a stream shown in a browser on the same machine."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import Counter
from typing import NamedTuple, NoReturn

import cv2
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import ArgumentError, SinkError
from ..imaging.arrays import Image
from ..streams.media.display import check_showable, eight_bit_rgb, fitted
from ..streams.media.frames import Frame, Item
from ..streams.media.rotation import as_shown
from ..streams.options import SinkOptions
from ..streams.sources.address import redacted
from .address import Address, checked_address, parse_address
from .http import Connection, HttpServer, Listener, check_listening, json_response

__all__ = ["MjpegSink", "check_sink", "open_sink"]

logger = logging.getLogger(__name__)

_STREAM_PATH, _FRAME_PATH, _HEALTH_PATH = "/stream.mjpg", "/frame.jpg", "/health"
_BOUNDARY = b"edgerestore-frame"
_STREAM_HEADERS = {"Content-Type": f"multipart/x-mixed-replace; boundary={_BOUNDARY.decode()}"}
_GRACE_S = 0.5  # for watchers to receive the last frame at the end
_SPARE_CLIENTS = 8  # connections for single frames and for refusals
_LONGEST_SIDE_PX = 16384  # browsers show no larger ones; JPEG itself ends at 65535
_STALLED_S = 5.0  # a watcher that reads nothing for so long is disconnected
_RESERVE_S = 0.02  # for the last bytes of a frame to arrive and to be read
_TAIL_BYTES = 2  # JPEG's end marker, without which a frame is not complete

_REMOTE_HINT = "and a tunnel (ssh -L) or a proxy with a login for the others"


class _LatestFrame(NamedTuple):
    """A frame, the count of those before it, and when its age began (`time.perf_counter`)."""

    frame: Frame
    number: int
    since_s: float

    @property
    def timestamp(self) -> str:
        return f"{float(self.frame.pts * self.frame.time_base):.6f}"


class MjpegSink(Listener):
    """Motion JPEG server: the newest frame for browsers, `ffplay` and other viewers.

    A watcher receives the newest frame at once, then each one that it is quick enough for; it
    never slows the stream or another watcher. Each frame is encoded once, and only for a
    watcher.

    At most one frame is on its way to a watcher. Its last bytes are sent when the watcher has
    read all before them: a frame that grows older than ``max_staleness_s`` on its way is never
    completed, and the watcher is disconnected.

    Parameters
    ----------
    host : str
        Of this machine only, because there is no login.
    port : int
        0 lets the system choose.
    quality : int
        Of JPEG, 1 to 100.
    max_clients : int
        Watchers at a time.
    path : str
        Where the stream is, besides ``/stream.mjpg``. ``/frame.jpg`` is the newest frame alone,
        ``/health`` counts the watchers.
    max_staleness_s : float or None
        No frame older than this is shown; ``None`` for frames of any age. The age is counted
        from `Frame.captured_s`, or from `write` where that is not there.

    Attributes
    ----------
    disconnected : Counter of str
        Watchers that were disconnected, by cause: ``too slow`` (a frame grew too old on its
        way), ``stalled`` (nothing was read for five seconds).

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
        max_staleness_s: float | None = 1.0,
    ) -> None:
        if not 1 <= quality <= 100:
            raise ArgumentError(f"JPEG quality is a number from 1 to 100, got {quality!r}")
        if max_clients < 1:
            raise ArgumentError(f"at least one client watches, got {max_clients!r}")
        if max_staleness_s is not None and not max_staleness_s > 0:
            raise ArgumentError(f"max_staleness_s is a time above 0, got {max_staleness_s!r}")
        taken = path in (_FRAME_PATH, _HEALTH_PATH) or any(one in path for one in "{}")
        if not path.startswith("/") or not path.isprintable() or taken:
            raise ArgumentError(
                f"a path is / or /NAME, and not {_FRAME_PATH} or {_HEALTH_PATH}, got {path!r}"
            )
        self.disconnected: Counter[str] = Counter()
        self._path = path
        self._quality, self._max_clients, self._limit_s = quality, max_clients, max_staleness_s
        self._newest: _LatestFrame | None = None
        self._encoded: tuple[int, bytes] = (0, b"")
        self._watching = 0
        self._ended = False  # no frame follows
        self._changed = asyncio.Event()
        stream = {"GET": self._stream}
        self._server = HttpServer(
            checked_address(host, port),
            {
                path: stream,
                _STREAM_PATH: stream,
                _FRAME_PATH: {"GET": self._frame},
                _HEALTH_PATH: {"GET": self._health},
            },
            name="mjpeg",
            max_clients=max_clients + _SPARE_CLIENTS,
            remote_hint=_REMOTE_HINT,
        )

    def write(self, item: Item) -> None:
        """Show a frame from now on; never waits for an encoder or a watcher.

        Raises
        ------
        SinkError
            When it is no picture.
        """
        if not isinstance(item, Frame):
            return
        check_showable(item.image)
        item = as_shown(item)
        since_s = time.perf_counter() if item.captured_s is None else item.captured_s
        number = 1 if self._newest is None else self._newest.number + 1
        self._newest = _LatestFrame(item, number, since_s)
        if self._watching:
            self._server.call(self._wake)

    def close(self) -> None:
        """End every watcher's stream after the newest frame, within a second."""
        self._end(_GRACE_S)

    def abort(self) -> None:
        """End every watcher's stream now. Never raises."""
        self._end(0.0)

    def _end(self, grace_s: float) -> None:
        self._ended = True
        self._server.call(self._wake)
        self._server.close(grace_s)

    # All that follows runs on the server's thread.

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _health(self, _: Request) -> Response:
        newest = self._newest
        age_s = None if newest is None else round(time.perf_counter() - newest.since_s, 3)
        return json_response(
            {
                "frames": 0 if newest is None else newest.number,
                "age_s": age_s,
                "watching": self._watching,
                "disconnected": dict(self.disconnected),
            }
        )

    async def _frame(self, request: Request) -> ASGIApp:
        newest = self._fresh()
        if newest is None:
            old = "yet" if self._newest is None else "that is new enough"
            raise HTTPException(503, f"there is no frame {old}", {"Retry-After": "1"})
        data = self._jpeg(newest)
        headers = {
            "Content-Type": "image/jpeg",
            "Content-Length": str(len(data)),
            "X-Timestamp": newest.timestamp,
        }
        if request.method == "HEAD":
            return Response(headers=headers)

        async def deliver(scope: Scope, _: Receive, send: Send) -> None:
            await _begin(send, headers)
            await self._send_body(send, scope["connection"], newest, data[:-_TAIL_BYTES])
            await _write(send, data[-_TAIL_BYTES:], more=False)

        return deliver

    async def _stream(self, request: Request) -> ASGIApp:
        if self._watching >= self._max_clients:
            message = f"{self._max_clients} are watching already; close one of them"
            raise HTTPException(503, message, {"Retry-After": "5"})
        if request.method == "HEAD":
            return Response(headers=_STREAM_HEADERS)
        return self._follow

    async def _follow(self, scope: Scope, _: Receive, send: Send) -> None:
        connection: Connection = scope["connection"]
        connection.close_delimited()
        self._watching += 1
        try:
            await _begin(send, _STREAM_HEADERS)
            await _write(send, b"--" + _BOUNDARY)
            number, spare_s = 0, _RESERVE_S
            while (newest := await self._next(number, spare_s)) is not None:
                # A watcher that has read this is ready for a frame, and gets the newest one
                # then. A frame sent before would wait in its kernel and grow old.
                await _write(send, b"\r\n")
                if not await connection.delivered(time.perf_counter() + _STALLED_S):
                    self._disconnect(connection, "stalled")
                newest = await self._next(number, spare_s)
                if newest is None:
                    return
                data = self._jpeg(newest)
                most = _head(newest, data) + data[:-_TAIL_BYTES]
                began_s = time.perf_counter()
                await self._send_body(send, connection, newest, most)
                spare_s = _RESERVE_S + 2 * (time.perf_counter() - began_s)
                # Browsers show a frame only when they have seen the next boundary.
                await _write(send, data[-_TAIL_BYTES:] + b"\r\n--" + _BOUNDARY)
                number = newest.number
            await _write(send, b"--\r\n", more=False)
        finally:
            self._watching -= 1

    async def _send_body(
        self, send: Send, connection: Connection, newest: _LatestFrame, data: bytes
    ) -> None:
        """Send a frame but its last bytes; disconnect where it grows too old meanwhile."""
        if self._limit_s is None:
            until_s = time.perf_counter() + _STALLED_S
        else:
            until_s = newest.since_s + self._limit_s - min(_RESERVE_S, self._limit_s / 4)
        await _write(send, data)
        if not await connection.delivered(until_s):
            self._disconnect(connection, "stalled" if self._limit_s is None else "too slow")

    def _disconnect(self, connection: Connection, cause: str) -> NoReturn:
        self.disconnected[cause] += 1
        logger.info("%s: a watcher was disconnected (%s)", self.url, cause)
        connection.transport.abort()
        raise ClientDisconnect

    async def _next(self, number: int, spare_s: float) -> _LatestFrame | None:
        """Wait for a frame after ``number`` that has some time left; None at the end."""
        while True:
            changed = self._changed
            newest = self._fresh(spare_s)
            if newest is not None and newest.number > number:
                return newest
            if self._ended:
                return None
            await changed.wait()

    def _fresh(self, spare_s: float = _RESERVE_S) -> _LatestFrame | None:
        newest = self._newest
        if newest is None or self._limit_s is None:
            return newest
        spare_s = min(spare_s, self._limit_s / 2)
        age_s = time.perf_counter() - newest.since_s
        return newest if age_s + spare_s < self._limit_s else None

    def _jpeg(self, newest: _LatestFrame) -> bytes:
        if self._encoded[0] != newest.number:
            self._encoded = newest.number, _encode(newest.frame.image, self._quality)
        return self._encoded[1]


async def _begin(send: Send, headers: dict[str, str]) -> None:
    fields = [(name.encode(), text.encode()) for name, text in headers.items()]
    await send({"type": "http.response.start", "status": 200, "headers": fields})


async def _write(send: Send, data: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": more})


def open_sink(match: re.Match[str], settings: SinkOptions) -> MjpegSink:
    """Return the sink of an output ``http://HOST:PORT/PATH``.

    Parameters
    ----------
    match : re.Match
        Of the output, with groups ``address`` and ``path``.
    settings : SinkOptions

    Raises
    ------
    SinkError, ArgumentError
        As `MjpegSink`, and for an address with a login.
    """
    address = _address(match)
    return MjpegSink(
        address.host,
        address.port,
        path=match["path"] or "/",
        max_staleness_s=settings.max_staleness_s,
    )


def check_sink(match: re.Match[str], _: SinkOptions) -> None:
    """Refuse an address as `open_sink` would."""
    check_listening(_address(match), remote_hint=_REMOTE_HINT)


def _address(match: re.Match[str]) -> Address:
    if "@" in match["address"]:
        raise SinkError(f"{redacted(match[0])}: takes no login; use http://127.0.0.1:8080")
    return parse_address(match["address"])


def _head(newest: _LatestFrame, data: bytes) -> bytes:
    return (
        "Content-Type: image/jpeg\r\n"
        f"Content-Length: {len(data)}\r\n"
        f"X-Timestamp: {newest.timestamp}\r\n\r\n"
    ).encode()


def _encode(image: Image, quality: int) -> bytes:
    shown = eight_bit_rgb(fitted(image, _LONGEST_SIDE_PX, _LONGEST_SIDE_PX))
    done, encoded = cv2.imencode(
        ".jpg", cv2.cvtColor(shown, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    if not done:
        raise SinkError(f"OpenCV cannot write {image.shape} {image.dtype} as JPEG")
    return encoded.tobytes()
