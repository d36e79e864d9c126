"""Reading one request strictly and answering it once, as JSON where nothing else is said."""

from __future__ import annotations

import json
import re
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any, ClassVar, cast

from ..errors import EdgerestoreError
from .address import is_local_name
from .server import LocalServer

__all__ = ["Refusal", "RequestHandler", "Routes"]

_MAX_HEAD_BYTES = 32 * 1024
_DRAIN_S, _DRAIN_BYTES = 0.25, 1 << 20
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.-]+))(?::[0-9]{1,5})?", re.ASCII)
_LENGTH = re.compile(r"[0-9]{1,18}", re.ASCII)

Routes = Mapping[str, Mapping[str, Callable[[], None]]]
"""Path -> method -> what answers it. HEAD is answered by GET's."""


class Refusal(Exception):  # noqa: N818  # an answer, which happens to be raised
    """A request that is answered with an error.

    Parameters
    ----------
    status : HTTPStatus
    message : str
        One line.
    headers : mapping of str
    """

    def __init__(
        self, status: HTTPStatus, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = dict(headers or {})


class RequestHandler(BaseHTTPRequestHandler, ABC):
    """One connection, one request, one answer; then it is closed.

    Subclasses give `routes`. A connection is not kept open for a second request: an idle
    client would hold a thread for nothing, and these servers are asked seldom.
    """

    protocol_version = "HTTP/1.1"
    default_request_version = "HTTP/1.1"  # of requests that cannot be read: refused in full form
    timeout = 5.0  # for one read, and for one write to be taken whole
    max_body_bytes: ClassVar[int] = 64 * 1024

    @abstractmethod
    def routes(self) -> Routes:
        """Return what is answered."""

    def check_access(self) -> None:
        """Refuse who may not ask, with a `Refusal`; everybody may where nothing is said."""

    @property
    def local_server(self) -> LocalServer:
        """The server that this belongs to."""
        return cast(LocalServer, self.server)

    def handle(self) -> None:
        """Read the request and answer it."""
        self.close_connection = True
        self._answered = self._body_read = False
        try:
            self._handle_one()
        except (ConnectionError, TimeoutError):
            return  # the client is gone or too slow, so there is nobody to tell

    def answer_json(
        self, value: object, status: HTTPStatus = HTTPStatus.OK, **headers: str
    ) -> None:
        """Answer with a value of JSON on one line."""
        body = json.dumps(value, default=str).encode() + b"\n"
        self.answer(body, "application/json", status, headers)

    def answer(
        self,
        body: bytes | None,
        content_type: str,
        status: HTTPStatus = HTTPStatus.OK,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Answer with a body, or only begin to where it is ``None`` and follows in parts."""
        self._answered = True
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        if body is not None:
            self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        # Pages of other sites may not even show it.
        self.send_header("Cross-Origin-Resource-Policy", "same-site")
        for name, value in (headers or {}).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if body is not None and self.command != "HEAD":
            self.wfile.write(body)

    def read_body(self) -> bytes:
        """Return the request's body.

        Raises
        ------
        Refusal
            411 without a length, 413 beyond `max_body_bytes` (unread), 400 where it ends early.
        """
        length = self._length()
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.send_response_only(HTTPStatus.CONTINUE)
            self.end_headers()
        body = self.rfile.read(length)
        if len(body) < length:
            raise Refusal(HTTPStatus.BAD_REQUEST, "the body ends before its Content-Length")
        self._body_read = True
        self.request_read()
        return body

    def request_read(self) -> None:
        """Lift the time limit of the request, since nothing more is read."""
        self.local_server.connection(self.connection).due_s = None

    # The rest is what http.server calls.

    def handle_expect_100(self) -> bool:
        """Wait with the go-ahead until the request has been judged: see `read_body`."""
        return True

    def send_error(
        self,
        code: int,
        message: str | None = None,
        explain: str | None = None,  # noqa: ARG002  # the parent hands it over
    ) -> None:
        """Answer what http.server itself refuses, in the form of all others."""
        status = HTTPStatus(code)
        self._refuse(Refusal(status, message or status.phrase))

    def version_string(self) -> str:
        """Return who answers, and no version: nobody here needs to know which bugs there are."""
        return "edgerestore"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Log nothing: a status that is asked for every second is no news."""

    def _handle_one(self) -> None:
        try:
            if self._read_head():
                self._check_host()
                self.check_access()
                self._dispatch()
        except Refusal as refusal:
            self._refuse(refusal)
        except EdgerestoreError as error:
            self._refuse(Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, str(error)))
        except (ConnectionError, TimeoutError):
            raise
        except Exception:
            self._refuse(
                Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "the server failed; see its log")
            )
            raise

    def _read_head(self) -> bool:
        whole, self.rfile = self.rfile, cast(Any, _Head(self.rfile))
        self.command, self.requestline = "", ""
        self.request_version = self.default_request_version
        try:
            self.raw_requestline = self.rfile.readline()
            return bool(self.raw_requestline) and self.parse_request()
        finally:
            self.rfile = whole
            self.close_connection = True

    def _check_host(self) -> None:
        """Refuse names that only look local: a page whose name is pointed here after it loaded."""
        hosts = self.headers.get_all("Host") or []
        if len(hosts) != 1:
            raise Refusal(HTTPStatus.BAD_REQUEST, "a request names its Host once")
        if self.local_server.any_host:
            return
        form = _HOST.fullmatch(hosts[0].strip())
        if form is None or not is_local_name(form[1] or form[2]):
            raise Refusal(
                HTTPStatus.MISDIRECTED_REQUEST, "this host name is not served; ask localhost"
            )

    def _dispatch(self) -> None:
        routes = self.routes()
        methods = routes.get(self.path.partition("?")[0])
        if methods is None:
            known = " ".join(sorted(routes))
            raise Refusal(HTTPStatus.NOT_FOUND, f"there is no such path; there is {known}")
        chosen = methods.get("GET" if self.command == "HEAD" else self.command)
        if chosen is None:
            allowed = ", ".join([*(["HEAD"] if "GET" in methods else []), *methods])
            raise Refusal(
                HTTPStatus.METHOD_NOT_ALLOWED,
                f"the method is not taken here; use {allowed}",
                {"Allow": allowed},
            )
        if self.command in ("GET", "HEAD"):
            self.request_read()
        chosen()

    def _length(self) -> int:
        if "Transfer-Encoding" in self.headers or "Content-Length" not in self.headers:
            raise Refusal(HTTPStatus.LENGTH_REQUIRED, "a body comes with its Content-Length")
        lengths = {value.strip() for value in self.headers.get_all("Content-Length") or []}
        length = lengths.pop()
        if lengths or not _LENGTH.fullmatch(length):
            raise Refusal(HTTPStatus.BAD_REQUEST, "Content-Length is one whole number")
        if int(length) > self.max_body_bytes:
            raise Refusal(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"the body is longer than {self.max_body_bytes} bytes",
            )
        return int(length)

    def _refuse(self, refusal: Refusal) -> None:
        if self._answered:
            return  # a second answer would stand inside the first
        self.answer_json({"error": refusal.message}, refusal.status, **refusal.headers)
        if not self._body_read:
            self._drain()

    def _drain(self) -> None:
        """Read on for a moment: closing on unread bytes would take the answer back."""
        until_s, left = time.monotonic() + _DRAIN_S, _DRAIN_BYTES
        with suppress(OSError):  # it went away by itself
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(_DRAIN_S)
            while left > 0 and time.monotonic() < until_s:
                got = len(self.connection.recv(65536))
                if not got:
                    return
                left -= got


class _Head:
    """Lines of a request's head, up to a bound in all."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._left = _MAX_HEAD_BYTES

    def readline(self, limit: int = -1) -> bytes:  # noqa: ARG002  # the bound in all is lower
        line: bytes = self._stream.readline(self._left + 1)
        self._left -= len(line)
        if self._left < 0:
            raise Refusal(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                f"the head is longer than {_MAX_HEAD_BYTES} bytes",
            )
        return line
