"""A small HTTP server for one machine: few connections, each bounded in time, gone when closed."""

from __future__ import annotations

import errno
import logging
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import ThreadingHTTPServer
from socketserver import BaseRequestHandler
from typing import Any

from ..errors import ArgumentError, SinkError
from .address import Address, is_local_name

__all__ = ["Connection", "LocalServer", "open_server"]

_LOOK_EVERY_S = 0.1  # how often the accepting thread looks for overdue requests and its own end
_FULL_WAIT_S = 0.1  # what a client beyond the bound may cost the accepting thread
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
    b"Retry-After: 1\r\nConnection: close\r\n\r\n"
    b'{"error": "too many connections; try again later"}\n'
)
_REFUSALS = {
    errno.EADDRINUSE: "is in use; choose another port",
    errno.EACCES: "may not be opened; choose a port above 1023",
    errno.EADDRNOTAVAIL: "is no address of this machine; use 127.0.0.1",
}


class Connection:
    """One client: its socket, its thread, and until when its request may take.

    Attributes
    ----------
    due_s : float or None
        In seconds of `time.monotonic`; ``None`` once the request is read.
    """

    def __init__(self, connected: socket.socket, request_s: float) -> None:
        self.socket = connected
        self.thread: threading.Thread | None = None
        self.due_s: float | None = time.monotonic() + request_s

    def cut(self) -> None:
        """End it from any thread: whoever reads or writes it is woken."""
        with suppress(OSError):  # it is gone already
            self.socket.shutdown(socket.SHUT_RDWR)


class LocalServer(ThreadingHTTPServer):
    """Serves on threads of its own until `close`; made by `open_server`.

    Parameters
    ----------
    address : Address
    handler : callable
        Makes a `serving.requests.RequestHandler` of a socket, a client and this server.
    name : str
        Of the threads: ``edgerestore-http-NAME``.
    max_clients : int
        Connections at a time; one more is answered 503.
    any_host : bool
        Whether requests may name any host; otherwise only this machine's loopback.
    request_s : float
        A request that is not read by then is cut off, however busily it trickles in.

    Attributes
    ----------
    closing : threading.Event
        Set when the server is about to end; handlers that go on for long look at it.
    """

    allow_reuse_address = True
    request_queue_size = 32

    def __init__(
        self,
        address: Address,
        handler: Callable[[Any, Any, Any], BaseRequestHandler],
        *,
        name: str,
        max_clients: int,
        any_host: bool = False,
        request_s: float = 5.0,
    ) -> None:
        self.address_family, host = address.resolved()
        self.any_host = any_host
        self.closing = threading.Event()
        self._name = f"edgerestore-http-{name}"
        self._max_clients = max_clients
        self._request_s = request_s
        self._connections: dict[socket.socket, Connection] = {}
        self._lock = threading.Lock()
        super().__init__((host, address.port), handler)
        self.address = Address(address.host, int(self.server_address[1]))
        self._thread = threading.Thread(
            target=self.serve_forever, args=(_LOOK_EVERY_S,), name=self._name, daemon=True
        )
        self._thread.start()

    def close(self, grace_s: float = 0.0) -> None:
        """Take no more connections and end those that are open; may be called often.

        Parameters
        ----------
        grace_s : float
            How long open connections may finish by themselves before they are cut.
        """
        if self.closing.is_set():
            return
        self.closing.set()
        self.shutdown()
        self._thread.join()
        self.server_close()
        until_s = time.monotonic() + grace_s
        for one in self._open():
            if one.thread is not None:
                one.thread.join(max(0.0, until_s - time.monotonic()))
        for one in self._open():
            one.cut()
            if one.thread is not None:
                one.thread.join()

    def connection(self, connected: socket.socket) -> Connection:
        """Return what is kept of a client's socket."""
        with self._lock:
            return self._connections[connected]

    # The rest is what socketserver calls.

    def server_bind(self) -> None:
        """Bind, without asking the name service for this machine's name as the parent does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def service_actions(self) -> None:
        """Cut off the requests that are overdue."""
        now_s = time.monotonic()
        for one in self._open():
            if one.due_s is not None and one.due_s < now_s:
                one.cut()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer a connection on a thread of its own, or 503 when there are too many."""
        with self._lock:
            full = len(self._connections) >= self._max_clients
            if not full:
                one = self._connections[request] = Connection(request, self._request_s)
        if full:
            self._turn_away(request)
            return
        one.thread = threading.Thread(
            target=self.process_request_thread,
            args=(request, client_address),
            name=f"{self._name}-client",
            daemon=True,
        )
        one.thread.start()

    def shutdown_request(self, request: Any) -> None:
        """Forget a connection and close it."""
        with self._lock:
            self._connections.pop(request, None)
        super().shutdown_request(request)

    def handle_error(
        self,
        request: Any,  # noqa: ARG002  # the parent hands it over
        client_address: Any,  # noqa: ARG002
    ) -> None:
        """Log what no handler expected; clients that went away are not worth a line."""
        logging.getLogger("edgerestore").exception("%s: a request failed", self._name)

    def _open(self) -> list[Connection]:
        with self._lock:
            return list(self._connections.values())

    def _turn_away(self, request: socket.socket) -> None:
        with suppress(OSError):  # it went away by itself
            request.settimeout(_FULL_WAIT_S)
            request.recv(65536)  # closing on unread bytes would take the answer back
            request.sendall(_FULL)
        self.shutdown_request(request)


def open_server(
    address: Address,
    handler: Callable[[Any, Any, Any], BaseRequestHandler],
    *,
    name: str,
    max_clients: int,
    remote_hint: str,
    remote: bool = False,
) -> LocalServer:
    """Return a running server.

    Parameters
    ----------
    address, handler, name, max_clients
        See `LocalServer`.
    remote_hint : str
        What to do for other machines, where ``remote`` is not allowed.
    remote : bool
        Whether other machines may be served.

    Raises
    ------
    ArgumentError
        For an address that other machines reach, unless ``remote``.
    SinkError
        When the address cannot be listened on.
    """
    _, numeric = address.resolved()
    local = is_local_name(numeric)
    if not local and not remote:
        raise ArgumentError(
            f"{address}: other machines would reach it; use 127.0.0.1, {remote_hint}"
        )
    try:
        return LocalServer(address, handler, name=name, max_clients=max_clients, any_host=not local)
    except OSError as error:
        reason = _REFUSALS.get(error.errno or 0, f"cannot be listened on ({error.strerror})")
        raise SinkError(f"{address}: {reason}") from error
