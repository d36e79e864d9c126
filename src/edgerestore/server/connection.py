"""HTTP connection: one request and one answer, bounded in time and in memory."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import h11
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from uvicorn.protocols.http.h11_impl import H11Protocol

from .answers import error_response, head_fields

if TYPE_CHECKING:
    from .http import HttpServer

__all__ = ["MAX_HEAD_BYTES", "MOST_WAITING", "Connection"]

logger = logging.getLogger(__name__)
# uvicorn's own messages, about refused requests and clients that left, are not logged.
_SILENT = logging.Logger("edgerestore.server.silent", logging.CRITICAL + 1)

MAX_HEAD_BYTES = 32 * 1024
MOST_WAITING = 64
"""Connections whose request is not read and found allowed yet."""

_ANSWER_S = 5.0  # for an answer to be sent
_FULL_WAIT_S = 0.05  # for clients that have left to be noticed
_PIECE_BYTES = 1024
# Closing on unread bytes resets the connection, and the answer is lost.
_DRAIN_S, _DRAIN_BYTES = 0.25, 1 << 20
_POLL_S, _LONGEST_POLL_S = 0.001, 0.01  # of delivery


class Connection(H11Protocol):
    """HTTP connection of one request and one answer, bounded in time and in memory.

    h11 parses it and uvicorn turns it into ASGI. What uvicorn does not limit is limited here:
    the time of a request, the time of an answer, and what is buffered of it.
    """

    transport: Any

    def __init__(self, server: HttpServer) -> None:
        super().__init__(server.config, server.state, {}, server.loop)
        self._owner = server
        self.app = self._answer
        self.logger, self.access_log = _SILENT, False
        self._task: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._placed = False
        self._request_read = False
        self._close_delimited = False
        self._half_closed = False
        self._discarded_bytes = 0

    def close_delimited(self) -> None:
        """Answer without a length and without chunks, until the connection is closed.

        The simplest clients read that. A client that closes its sending side has left.
        """
        self._close_delimited = True
        if self._half_closed:
            self.transport.abort()
        self.conn.their_http_version = b"1.0"

    def request_read(self) -> None:
        """Lift the time limit of the request, since nothing more of it is wanted."""
        self._request_read = True
        self._limit(None)
        self.flow.resume_reading()  # h11 pauses it at what follows the request: its end, too

    async def take_place(self) -> None:
        """Count among the clients that are served.

        Raises
        ------
        HTTPException
            503 where there are as many as are served at a time.
        """
        if self._owner.clients >= self._owner.max_clients:
            await asyncio.sleep(_FULL_WAIT_S)  # some may have left, which is not noticed yet
        if self._owner.clients >= self._owner.max_clients:
            message = "too many connections; try again later"
            raise HTTPException(503, message, {"Retry-After": "1"})
        self._owner.waiting.pop(self, None)
        self._owner.clients += 1
        self._placed = True

    async def delivered(self, until_s: float) -> bool:
        """Wait until the client has read every byte that was written so far.

        On this machine that is what its program has read, not what its kernel has received.

        Parameters
        ----------
        until_s : float
            When to give up, in seconds of `time.perf_counter`.

        Returns
        -------
        bool
            False where it has not by then; True at once where the server is closing.
        """
        wait_s = _POLL_S
        while (left_s := until_s - time.perf_counter()) > 0:
            if self._owner.closing.is_set():
                return True
            if not self.transport.get_write_buffer_size():
                writer = self.transport.get_extra_info("socket")
                if self._owner.probe.delivered(writer, self.transport.sent):
                    return True
            await asyncio.sleep(min(wait_s, left_s))
            wait_s = min(1.5 * wait_s, _LONGEST_POLL_S)
        return False

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        self._task = asyncio.current_task()
        scope["connection"] = self
        if scope["method"] in ("GET", "HEAD"):
            self.request_read()
        try:
            await self._owner.app(scope, receive, send)
        except (ClientDisconnect, asyncio.CancelledError):
            return  # the client has left
        except Exception:
            logger.exception("%s: a request failed", self._owner.address)

    def _limit(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds is not None:
            self._timer = self.loop.call_later(seconds, self.transport.abort)

    def _refuse(self, answer: Response) -> None:
        """Answer without the application."""
        status = HTTPStatus(answer.status_code)
        head = [b"HTTP/1.1 %d %s" % (status, status.phrase.encode())]
        head += [b"%s: %s" % field for field in head_fields(answer.raw_headers)]
        self.transport.write(b"\r\n".join([*head, b"", bytes(answer.body)]))
        self.transport.close()

    # The rest is what asyncio and uvicorn call.

    def connection_made(self, transport: Any) -> None:
        """Start the time limit; uvicorn closes the transport through `closed`."""
        transport.set_write_buffer_limits(high=0)
        super().connection_made(_CountingTransport(transport, self.closed))  # type: ignore[arg-type]
        self._limit(self._owner.request_s)
        if self._owner.closing.is_set():
            self.transport.abort()
            return
        if len(self._owner.waiting) >= MOST_WAITING:
            self._owner.close_one_waiting()
        peer = self.transport.get_extra_info("peername")
        self._owner.waiting[self] = str(peer[0]) if peer else ""

    def closed(self, transport: asyncio.Transport) -> None:
        """Close after the answer; where the request was not read, read on for a moment."""
        if self._request_read:
            transport.close()
            self._limit(_ANSWER_S)
            return
        self._request_read = True
        with suppress(OSError):  # the client has left
            transport.write_eof()
        transport.resume_reading()
        self._limit(_DRAIN_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the endpoint, if it still runs."""
        super().connection_lost(exc)
        self._owner.clients -= self._placed
        self._owner.waiting.pop(self, None)
        self._limit(None)
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        """Parse the request; discard what follows it."""
        # In pieces, because h11 bounds only heads that are not complete yet.
        for at in range(0, len(data), _PIECE_BYTES):
            if self._request_read:
                self._discarded_bytes += len(data) - at
                break
            super().data_received(data[at : at + _PIECE_BYTES])
        if self._discarded_bytes > _DRAIN_BYTES:
            self.transport.abort()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep the sending side open where an answer is still due."""
        self._half_closed = True
        if self._close_delimited:
            self.transport.abort()
            return False
        if self._request_read:
            return not self.transport.is_closing()
        if self.conn.their_state is not h11.SEND_BODY:
            return False
        self.conn.receive_data(b"")
        self.handle_events()
        return True

    def send_400_response(self, msg: str) -> None:
        """Refuse what h11 cannot parse, with the status that it names."""
        error = sys.exception()
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if self.cycle.response_started:
                self.transport.abort()
                return
        status = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        if status == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
            msg = f"the head is longer than {MAX_HEAD_BYTES} bytes"
        else:  # without the malformed line, which may hold a token
            msg = f"{error or msg}".partition(":")[0]
        self._refuse(error_response(status, msg))


class _CountingTransport:
    """Transport that counts the bytes written, and is closed by its connection."""

    def __init__(
        self, transport: asyncio.Transport, closed: Callable[[asyncio.Transport], None]
    ) -> None:
        self._transport = transport
        self._closed = closed
        self._closing = False
        self.sent = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        self.sent += len(data)
        self._transport.write(data)

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._closed(self._transport)

    def is_closing(self) -> bool:
        return self._closing or self._transport.is_closing()
