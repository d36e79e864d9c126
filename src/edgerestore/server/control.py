"""The control endpoint: a running stream asked and turned over HTTP, on this machine."""

from __future__ import annotations

import hmac
import threading
from functools import partial
from http import HTTPStatus
from typing import Any

from ..errors import ArgumentError
from ..streams.protocols import Controls
from .address import Address, parse_address
from .control_request import Change, parse_change
from .requests import Refusal, RequestHandler, Routes
from .server import open_server

__all__ = ["ControlServer"]

_MAX_CLIENTS = 16


class ControlServer:
    """Answers ``GET /`` with a stream's status, and ``PATCH /`` by changing it.

    A change is checked whole before anything of it is done. Web pages cannot reach it: a
    request must name this machine as its host and say that its body is JSON, which a browser
    sends to another site only after asking, and it is never told yes.

    Parameters
    ----------
    controls : Controls
    address : str
        ``HOST:PORT``; port 0 lets the system choose.
    token : str or None
        Requests must bring it, as ``Authorization: Bearer TOKEN``. Needed where other machines
        reach the address: whoever reaches it can then stop the picture, or have any model
        loaded. It travels unencrypted; use a tunnel on networks that are not yours.

    Raises
    ------
    ArgumentError
        For an address that is none, or that other machines reach while there is no token.
    SinkError
        When the address cannot be listened on, because it is in use for instance.
    """

    def __init__(self, controls: Controls, address: str, *, token: str | None = None) -> None:
        if token is not None and not (token and token.isascii() and token.isprintable()):
            raise ArgumentError("a control token is one or more printable ASCII characters")
        self._server = open_server(
            parse_address(address),
            partial(_Handler, controls, token, threading.Lock()),
            name="control",
            max_clients=_MAX_CLIENTS,
            remote=token is not None,
            remote_hint="or give a token",
        )

    def __enter__(self) -> ControlServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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
        """What to ask."""
        return f"http://{self.address}/"

    def close(self) -> None:
        """Answer nobody any more; the stream goes on. May be called often."""
        self._server.close()


class _Handler(RequestHandler):
    def __init__(
        self, controls: Controls, token: str | None, changing: threading.Lock, *args: Any
    ) -> None:
        self._controls = controls
        self._token = token
        self._changing = changing
        super().__init__(*args)

    def routes(self) -> Routes:
        return {"/": {"GET": self._tell, "PATCH": self._change}, "/status": {"GET": self._tell}}

    def check_access(self) -> None:
        if self._token is None:
            return
        wanted = f"Bearer {self._token}".encode()
        given = self.headers.get("Authorization", "").encode("latin-1", "replace")
        if not hmac.compare_digest(wanted, given):
            raise Refusal(
                HTTPStatus.UNAUTHORIZED,
                "the token is missing or wrong; send Authorization: Bearer TOKEN",
                {"WWW-Authenticate": "Bearer"},
            )

    def _tell(self) -> None:
        self.answer_json(self._controls.status())

    def _change(self) -> None:
        if self.headers.get_content_type() != "application/json":
            raise Refusal(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send it as Content-Type: application/json"
            )
        body = self.read_body()
        try:
            change = parse_change(body)
        except ArgumentError as error:
            raise Refusal(HTTPStatus.BAD_REQUEST, str(error)) from error
        with self._changing:  # two changes at once must not be done by halves
            self._apply(change)
        status = self._controls.status()
        # What runs already is not switched to.
        under_way = change.switches and status.get("switching", True)
        self.answer_json(status, HTTPStatus.ACCEPTED if under_way else HTTPStatus.OK)

    def _apply(self, change: Change) -> None:
        # The switch comes first: it alone can still be refused.
        if change.switches:
            try:
                self._controls.switch(model=change.model, precision=change.precision)
            except ArgumentError as error:
                raise Refusal(HTTPStatus.CONFLICT, str(error)) from error
        if change.strength is not None:
            self._controls.strength = change.strength
        if change.paused is not None:
            (self._controls.pause if change.paused else self._controls.resume)()
