"""HTTP server on a thread of its own: an ASGI application behind bounded connections."""

from __future__ import annotations

import asyncio
import errno
import hmac
import logging
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.server import ServerState

from ..errors import ArgumentError, EdgerestoreError, SinkError
from .address import Address, is_local_name
from .answers import error_response, head_fields, json_response
from .connection import MAX_HEAD_BYTES, Connection
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

_MAX_HEADERS, _MAX_BODY_BYTES = 100, 64 * 1024
_REQUEST_S = 5.0  # for a whole request, however steadily it trickles in
_NO_DESCRIPTOR_S = 0.2  # until the next one is accepted
_SEND_BUFFER_BYTES = 64 * 1024
_BACKLOG = 128
_ABORT_S = 1.0  # for aborted connections to end, far more than they need

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
        Requests at a time that were read and are allowed; one more is answered 503. Connections
        whose request is still to come take no place: of 64 and more, the longest waiting one of
        the address with the most of them is closed.
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
            h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        )
        self.config.load()  # modules, which no descriptor may be left for with the first client
        self.state = ServerState()
        self.clients = 0
        self.waiting: dict[Connection, str] = {}  # with their addresses, the oldest first
        self.loop = asyncio.SelectorEventLoop()  # whatever loop the host program prefers
        self.closing = asyncio.Event()
        self.probe = DeliveryProbe()
        self._connecting: set[asyncio.Task[object]] = set()
        self._told = False  # that descriptors have run out
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
        self._socket.setblocking(False)
        self._listen()
        await self.closing.wait()
        self.loop.remove_reader(self._socket)
        self._socket.close()
        await self._idle(self._grace_s)
        for connection in list(self.state.connections):
            connection.transport.abort()
        await self._idle(_ABORT_S)

    def _listen(self) -> None:
        if not self.closing.is_set():
            self.loop.add_reader(self._socket, self._accept)

    def _accept(self) -> None:
        for _ in range(_BACKLOG):
            if not self._accept_one():
                return

    def _accept_one(self) -> bool:
        try:
            client = self._socket.accept()[0]
        except (BlockingIOError, ConnectionAbortedError):
            return False
        except OSError as error:
            # Descriptors have run out, and the socket stays readable: not asked again at once.
            self.loop.remove_reader(self._socket)
            self.loop.call_later(_NO_DESCRIPTOR_S, self._listen)
            self.close_one_waiting()
            if not self._told:
                logger.warning("%s: clients have to wait: %s", self.address, error.strerror)
            self._told = True
            return False
        client.setblocking(False)
        connected = self.loop.connect_accepted_socket(partial(Connection, self), client)
        self._connecting.add(task := self.loop.create_task(connected))
        task.add_done_callback(self._connecting.discard)
        return True

    def close_one_waiting(self) -> None:
        """Close the connection that has waited longest of the address with the most of them."""
        if self.waiting:
            busiest = Counter(self.waiting.values()).most_common(1)[0][0]
            longest = next(one for one, address in self.waiting.items() if address == busiest)
            del self.waiting[longest]
            longest.transport.abort()

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


class _Guard:
    """ASGI middleware: checks before routing, and the header fields of every answer."""

    def __init__(self, app: ASGIApp, *, any_host: bool, token: str | None) -> None:
        self._app = app
        self._any_host = any_host
        self._token = None if token is None else token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def complete(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": head_fields(message["headers"])}
            await send(message)

        answer = self._refusal(scope) or self._app
        if answer is self._app and scope["method"] in ("GET", "HEAD"):
            try:
                await scope["connection"].take_place()
            except HTTPException as full:
                answer = error_response(full.status_code, full.detail, full.headers)
        await answer(scope, receive, complete)

    def _refusal(self, scope: Scope) -> Response | None:
        fields: list[tuple[bytes, bytes]] = scope["headers"]
        if scope["http_version"] not in ("1.0", "1.1"):
            return error_response(505, "this version of HTTP is not spoken; use HTTP/1.1")
        if len(fields) > _MAX_HEADERS:
            return error_response(431, f"the head has more than {_MAX_HEADERS} fields")
        hosts = [text for name, text in fields if name == b"host"]
        if len(hosts) != 1:
            return error_response(400, "a request names its Host once")
        # DNS rebinding: a page whose name is pointed here after it was loaded.
        form = _HOST.fullmatch(hosts[0].strip())
        named = "" if form is None else (form[1] or form[2]).decode()
        if not self._any_host and not is_local_name(named):
            return error_response(421, "this host name is not served; ask localhost")
        if self._token is not None and not self._authorized(fields):
            return error_response(
                401,
                "the token is missing or wrong; send Authorization: Bearer TOKEN",
                {"WWW-Authenticate": "Bearer"},
            )
        return None

    def _authorized(self, fields: list[tuple[bytes, bytes]]) -> bool:
        given = [text for name, text in fields if name == b"authorization"]
        scheme, _, token = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
        # Names of schemes have no case (RFC 9110, 11.1).
        named = scheme.lower() == b"bearer"
        return hmac.compare_digest(self._token or b"", token.strip()) and named


async def read_body(request: Request) -> bytes:
    """Return a request's body.

    Raises
    ------
    HTTPException
        411 without a length, 413 beyond 64 KiB (unread), 503 where too many are served. One that
        ends early is answered 400.
    """
    headers = request.headers
    if "transfer-encoding" in headers or "content-length" not in headers:
        raise HTTPException(411, "a body comes with its Content-Length")
    if not _LENGTH.fullmatch(headers["content-length"]):
        raise HTTPException(400, "Content-Length is one whole number")
    if int(headers["content-length"]) > _MAX_BODY_BYTES:
        raise HTTPException(413, f"the body is longer than {_MAX_BODY_BYTES} bytes")
    body = await request.body()
    connection: Connection = request.scope["connection"]
    connection.request_read()
    await connection.take_place()
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
        return error_response(error.status_code, message, headers)

    async def failed(_: Request, error: Exception) -> Response:
        foreseen = isinstance(error, EdgerestoreError)
        return error_response(500, str(error) if foreseen else "the server failed; see its log")

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
