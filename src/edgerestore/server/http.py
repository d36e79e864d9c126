"""HTTP server on a thread of its own: an ASGI application behind bounded connections."""

from __future__ import annotations

import asyncio
import errno
import hmac
import json
import logging
import re
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from contextvars import copy_context
from email.utils import formatdate
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import h11
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from ..errors import ArgumentError, EdgerestoreError, SinkError
from .address import Address, is_local_name
from .delivery import DeliveryProbe

__all__ = [
    "Connection",
    "HttpServer",
    "Listener",
    "Routes",
    "check_listening",
    "json_response",
    "read_body",
]

Routes = Mapping[str, Mapping[str, Callable[[Request], Awaitable[ASGIApp]]]]
"""Path -> method -> endpoint. HEAD is answered by the endpoint of GET."""

logger = logging.getLogger(__name__)
# uvicorn's own messages, about refused requests and clients that left, are not logged.
_SILENT = logging.Logger("edgerestore.server.silent", logging.CRITICAL + 1)

_MAX_HEAD_BYTES, _MAX_HEADERS, _MAX_BODY_BYTES = 32 * 1024, 100, 64 * 1024
_REQUEST_S = 5.0  # for a whole request, however steadily it trickles in
_ANSWER_S = 5.0  # for an answer to be sent
_FULL_WAIT_S = 0.05  # for clients that have left to be noticed
_PIECE_BYTES = 1024
# Closing on unread bytes resets the connection, and the answer is lost.
_DRAIN_S, _DRAIN_BYTES = 0.25, 1 << 20
_SEND_BUFFER_BYTES = 64 * 1024
_BACKLOG = 32
_ABORT_S = 1.0  # for aborted connections to end, far more than they need
_POLL_S, _LONGEST_POLL_S = 0.001, 0.01  # of delivery

_HOST = re.compile(rb"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.-]+))(?::[0-9]{1,5})?")
_LENGTH = re.compile(r"[0-9]{1,18}", re.ASCII)
_REFUSALS = {
    errno.EADDRINUSE: "is in use; choose another port",
    errno.EACCES: "may not be opened; choose a port above 1023",
    errno.EADDRNOTAVAIL: "is no address of this machine; use 127.0.0.1",
}


class HttpServer:
    """Server of routes on a thread of its own, until `close`.

    A connection takes one request and is closed after its answer. Errors are answered as
    ``{"error": "one line"}``. Endpoints run on the server's one thread, so no two of them run
    at once; they must not block. Their request's ``scope["connection"]`` is the `Connection`.

    Parameters
    ----------
    address : Address
        Port 0 lets the system choose.
    routes : Routes
    name : str
        Of the thread: ``edgerestore-http-NAME``.
    max_clients : int
        Connections at a time; one more is answered 503.
    remote_hint : str
        What to do for other machines, where ``remote`` is not allowed.
    remote : bool
        Whether other machines may be served. Requests may then name any host.
    token : str or None
        Every request must bring it, as ``Authorization: Bearer TOKEN``.
    request_s : float
        A request that is not read by then is cut off.

    Attributes
    ----------
    address : Address
        Where it listens, with the port that was chosen.
    closing : asyncio.Event
        Set when the server is about to end; endpoints that go on for long look at it.

    Raises
    ------
    ArgumentError
        For an address that other machines reach, unless ``remote``.
    SinkError
        When the address cannot be listened on.
    """

    def __init__(
        self,
        address: Address,
        routes: Routes,
        *,
        name: str,
        max_clients: int,
        remote_hint: str,
        remote: bool = False,
        token: str | None = None,
        request_s: float = _REQUEST_S,
    ) -> None:
        self._socket, local = _listening(address, remote=remote, remote_hint=remote_hint)
        self.address = Address(address.host, int(self._socket.getsockname()[1]))
        self.max_clients, self.request_s = max_clients, request_s
        routes = {unquote(path): methods for path, methods in routes.items()}
        self.app = _Guard(_application(routes), any_host=not local, token=token)
        self.config = Config(
            self.app,
            http=Connection,
            ws="none",
            interface="asgi3",
            lifespan="off",
            log_config=None,
            proxy_headers=False,
            h11_max_incomplete_event_size=_MAX_HEAD_BYTES,
        )
        self.state = ServerState()
        self.clients = 0
        self.loop = asyncio.SelectorEventLoop()  # whatever loop the host program prefers
        self.closing = asyncio.Event()
        self.probe = DeliveryProbe()
        self._grace_s = 0.0
        self._thread = threading.Thread(
            target=copy_context().run,
            args=(self._run,),
            name=f"edgerestore-http-{name}",
            daemon=True,
        )
        self._thread.start()

    def call(self, function: Callable[[], object]) -> None:
        """Call a function on the server's thread, soon; not at all once it has ended."""
        with suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(function)

    def close(self, grace_s: float = 0.0) -> None:
        """Take no more connections and end those that are open; may be called often.

        Parameters
        ----------
        grace_s : float
            How long open connections may finish by themselves before they are cut.
        """
        self._grace_s = grace_s
        self.call(self.closing.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            self.loop.run_until_complete(self._serve())
        finally:
            self.loop.close()
            self.probe.close()

    async def _serve(self) -> None:
        listener = await self.loop.create_server(
            lambda: Connection(self), sock=self._socket, backlog=_BACKLOG
        )
        await self.closing.wait()
        # asyncio leaks a connection that is accepted while its server closes.
        self.loop.remove_reader(self._socket)
        await asyncio.sleep(0)
        listener.close()
        await self._idle(self._grace_s)
        for connection in list(self.state.connections):
            connection.transport.abort()
        await self._idle(_ABORT_S)

    async def _idle(self, limit_s: float) -> None:
        until_s = time.perf_counter() + limit_s
        while self.state.connections or len(asyncio.all_tasks()) > 1:
            if time.perf_counter() >= until_s:
                return
            await asyncio.sleep(0.005)


class Listener:
    """Base class of what listens through an `HttpServer`."""

    _server: HttpServer
    _path = "/"

    @property
    def address(self) -> Address:
        """Address that it listens on, with the port that was chosen."""
        return self._server.address

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self.address.port

    @property
    def url(self) -> str:
        """URL to open in a browser, or with `curl`."""
        return f"http://{self.address}{self._path}"


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
        self._admitted = False
        self._request_read = False
        self._close_delimited = False
        self._discarded_bytes = 0

    def close_delimited(self) -> None:
        """Answer without a length and without chunks, until the connection is closed.

        The simplest clients read that. A client that closes its sending side has left.
        """
        self._close_delimited = True
        self.conn.their_http_version = b"1.0"

    def request_read(self) -> None:
        """Lift the time limit of the request, since nothing more of it is wanted."""
        self._request_read = True
        self._limit(None)

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
        head += [b"%s: %s" % field for field in _head_fields(answer.raw_headers)]
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
        else:
            self._admit()

    def _admit(self, *, again: bool = True) -> None:
        if self._owner.clients < self._owner.max_clients:
            self._owner.clients += 1
            self._admitted = True
            self.transport.resume_reading()
        elif again:  # clients that have left may not have been noticed yet
            self.transport.pause_reading()
            self.loop.call_later(_FULL_WAIT_S, lambda: self._admit(again=False))
        else:
            message = "too many connections; try again later"
            self._refuse(_error(503, message, {"Retry-After": "1"}))

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
        self._owner.clients -= self._admitted
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
            msg = f"the head is longer than {_MAX_HEAD_BYTES} bytes"
        else:  # without the malformed line, which may hold a token
            msg = f"{error or msg}".partition(":")[0]
        self._refuse(_error(status, msg))


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


class _Guard:
    """ASGI middleware: checks before routing, and the header fields of every answer."""

    def __init__(self, app: ASGIApp, *, any_host: bool, token: str | None) -> None:
        self._app = app
        self._any_host = any_host
        self._bearer = None if token is None else f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def complete(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": _head_fields(message["headers"])}
            await send(message)

        answer = self._refusal(scope) or self._app
        await answer(scope, receive, complete)

    def _refusal(self, scope: Scope) -> Response | None:
        fields: list[tuple[bytes, bytes]] = scope["headers"]
        if scope["http_version"] not in ("1.0", "1.1"):
            return _error(505, "this version of HTTP is not spoken; use HTTP/1.1")
        if len(fields) > _MAX_HEADERS:
            return _error(431, f"the head has more than {_MAX_HEADERS} fields")
        hosts = [text for name, text in fields if name == b"host"]
        if len(hosts) != 1:
            return _error(400, "a request names its Host once")
        # DNS rebinding: a page whose name is pointed here after it was loaded.
        form = _HOST.fullmatch(hosts[0].strip())
        named = "" if form is None else (form[1] or form[2]).decode()
        if not self._any_host and not is_local_name(named):
            return _error(421, "this host name is not served; ask localhost")
        given = next((text for name, text in fields if name == b"authorization"), b"")
        if self._bearer is not None and not hmac.compare_digest(self._bearer, given):
            return _error(
                401,
                "the token is missing or wrong; send Authorization: Bearer TOKEN",
                {"WWW-Authenticate": "Bearer"},
            )
        return None


def json_response(value: object, status: int = 200) -> Response:
    """Return a value as JSON on one line."""
    body = json.dumps(value, default=str).encode() + b"\n"
    return Response(body, status, media_type="application/json")


async def read_body(request: Request) -> bytes:
    """Return a request's body.

    Raises
    ------
    HTTPException
        411 without a length, 413 beyond 64 KiB (unread). One that ends early is answered 400.
    """
    headers = request.headers
    if "transfer-encoding" in headers or "content-length" not in headers:
        raise HTTPException(411, "a body comes with its Content-Length")
    if not _LENGTH.fullmatch(headers["content-length"]):
        raise HTTPException(400, "Content-Length is one whole number")
    if int(headers["content-length"]) > _MAX_BODY_BYTES:
        raise HTTPException(413, f"the body is longer than {_MAX_BODY_BYTES} bytes")
    body = await request.body()
    request.scope["connection"].request_read()
    return body


def _application(routes: Routes) -> Starlette:
    async def refused(request: Request, error: Any) -> Response:
        message, headers = error.detail, error.headers
        methods = routes.get(request.scope["path"], {})
        if error.status_code == HTTPStatus.NOT_FOUND:
            message = f"there is no such path; use {', '.join(sorted(routes))}"
        elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            allowed = ", ".join([*(["HEAD"] if "GET" in methods else []), *methods])
            message = f"the method is not taken here; use {allowed}"
            headers = {"Allow": allowed}
        return _error(error.status_code, message, headers)

    async def failed(_: Request, error: Exception) -> Response:
        foreseen = isinstance(error, EdgerestoreError)
        return _error(500, str(error) if foreseen else "the server failed; see its log")

    def route(path: str, methods: Any) -> Route:
        async def endpoint(request: Request) -> ASGIApp:
            method = "GET" if request.method == "HEAD" else request.method
            answer: ASGIApp = await methods[method](request)
            return answer

        return Route(path, endpoint, methods=list(methods))

    app = Starlette(
        routes=[route(path, methods) for path, methods in routes.items()],
        exception_handlers={HTTPException: refused, EdgerestoreError: failed, Exception: failed},
    )
    app.router.redirect_slashes = False
    return app


def check_listening(address: Address, *, remote: bool = False, remote_hint: str = "") -> None:
    """Refuse an address that an `HttpServer` of these parameters would refuse."""
    _listening(address, remote=remote, remote_hint=remote_hint)[0].close()


def _listening(address: Address, *, remote: bool, remote_hint: str) -> tuple[socket.socket, bool]:
    """Return a listening socket, and whether this machine alone reaches it."""
    family, numeric = address.resolved()
    local = is_local_name(numeric)
    if not local and not remote:
        raise ArgumentError(
            f"{address}: other machines would reach it; use 127.0.0.1, {remote_hint}"
        )
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Connections inherit it: megabytes would wait in it for a slow client.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        listener.bind((numeric, address.port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        reason = _REFUSALS.get(error.errno or 0, f"cannot be listened on ({error.strerror})")
        raise SinkError(f"{address}: {reason}") from error
    return listener, local


def _head_fields(own: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [
        (b"Server", b"edgerestore"),  # without a version, which names known bugs
        (b"Date", formatdate(usegmt=True).encode()),
        (b"Connection", b"close"),
        (b"Cache-Control", b"no-store"),
        (b"X-Content-Type-Options", b"nosniff"),
        # Pages of other sites cannot embed it.
        (b"Cross-Origin-Resource-Policy", b"same-site"),
        *((name.title(), text) for name, text in own),
    ]


def _error(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    answer = json_response({"error": message}, status)
    answer.headers.update(headers or {})
    return answer
