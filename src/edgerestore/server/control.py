"""Control endpoint: a running stream's status and its changes over HTTP."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ..bundle.precision import Precision
from ..engine.strength import MAXIMUM
from ..errors import ArgumentError, BundleError, BusyError
from ..streams.protocols import Controls
from .address import parse_address
from .http import HttpServer, Listener, check_listening, json_response, read_body

__all__ = ["Change", "ControlServer", "check_control", "parse_change"]

_MAX_CLIENTS = 16
_REMOTE_HINT = "or give a token"
_PRECISIONS = ("auto", *Precision)
_HEALTHY = ("RUNNING", "PAUSED")


class ControlServer(Listener):
    """Control endpoint of a stream: ``GET /`` is its status, ``PATCH /`` changes it.

    A change is checked whole before anything of it is done. ``GET /health`` is 200 while frames
    flow or are paused, and 503 otherwise. Web pages cannot reach it: a request must name this
    machine as its host and say that its body is JSON, which a browser sends to another site
    only after asking, and it is never told yes.

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
        _check_token(token)
        self._controls = controls
        self._server = HttpServer(
            parse_address(address),
            {
                "/": {"GET": self._status, "PATCH": self._change},
                "/status": {"GET": self._status},
                "/health": {"GET": self._health},
            },
            name="control",
            max_clients=_MAX_CLIENTS,
            remote=token is not None,
            remote_hint=_REMOTE_HINT,
            token=token,
        )

    def __enter__(self) -> ControlServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the server; the stream goes on. May be called often."""
        self._server.close()

    async def _status(self, _: Request) -> Response:
        return json_response(self._controls.status())

    async def _health(self, _: Request) -> Response:
        state = str(self._controls.status()["state"])
        return json_response({"state": state}, 200 if state in _HEALTHY else 503)

    async def _change(self, request: Request) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0]
        if kind.strip().lower() != "application/json":
            raise HTTPException(415, "send it as Content-Type: application/json")
        body = await read_body(request)
        try:
            change = parse_change(body)
        except ArgumentError as error:
            raise HTTPException(400, str(error)) from error
        # Nothing is awaited from here on, so two changes at once are done one after the other.
        self._apply(change)
        status = self._controls.status()
        # What runs already is not switched to.
        under_way = (change.switches or change.cancels) and status.get("switching", True)
        return json_response(status, 202 if under_way else 200)

    def _apply(self, change: Change) -> None:
        # The switch comes first: it alone can still be refused.
        if change.switches:
            try:
                self._controls.switch(
                    model=change.model or None, precision=change.precision or None
                )
            except BusyError as error:
                raise HTTPException(409, str(error)) from error
            except (ArgumentError, BundleError) as error:
                raise HTTPException(400, str(error)) from error
        if change.cancels:
            self._controls.cancel_switch()
        if change.strength is not UNSET:
            self._controls.strength = change.strength
        if change.paused is not UNSET:
            (self._controls.pause if change.paused else self._controls.resume)()


def check_control(address: str, *, token: str | None = None) -> None:
    """Refuse what a `ControlServer` of these parameters would refuse."""
    _check_token(token)
    check_listening(parse_address(address), remote=token is not None, remote_hint=_REMOTE_HINT)


def _check_token(token: str | None) -> None:
    if token is not None and not re.fullmatch(r"[!-~]+(?: +[!-~]+)*", token):
        raise ArgumentError(
            "a control token is one or more printable ASCII characters, none at its ends a space"
        )


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A change of a running stream; what is ``UNSET`` stays as it is."""

    strength: Annotated[float, msgspec.Meta(ge=0, le=MAXIMUM)] | UnsetType = UNSET
    paused: bool | UnsetType = UNSET
    # The longest path that the system takes.
    model: Annotated[str, msgspec.Meta(max_length=4096)] | UnsetType = UNSET
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16", "int8"] | UnsetType = UNSET
    switching: bool | UnsetType = UNSET

    @property
    def switches(self) -> bool:
        """Whether something has to be compiled."""
        return self.model is not UNSET or self.precision is not UNSET

    @property
    def cancels(self) -> bool:
        """Whether a switch under way is cancelled."""
        return self.switching is False


_MEANING = {
    "strength": f"a number from 0 to {MAXIMUM:g}",
    "paused": "true or false",
    "model": "a name",
    "precision": f"one of {', '.join(_PRECISIONS)}",
    "switching": "false, which cancels the switch under way and goes without another one",
}


def parse_change(body: bytes) -> Change:
    """Read a change from JSON.

    Parameters
    ----------
    body : bytes
        An object with any of ``strength``, ``paused``, ``model``, ``precision`` and ``switching``.

    Raises
    ------
    ArgumentError
        On anything else; the message says which value, and what it may be.
    """
    wanted = _object(body)
    try:
        change = msgspec.convert(wanted, Change)
    except (msgspec.ValidationError, OverflowError) as error:
        raise ArgumentError(_reason(str(error), wanted)) from error
    # What is not printable (line ends, halves of surrogate pairs) is in no name or path here.
    if change.model is not UNSET and not (change.model.strip() and change.model.isprintable()):
        raise ArgumentError(f"model is a name in printable characters, got {_short(change.model)}")
    if change.switching is True or (change.cancels and change.switches):
        raise ArgumentError(f"switching is {_MEANING['switching']}")
    return change


def _reason(error: str, wanted: dict[str, Any]) -> str:
    """Return what msgspec found, with the field's name and what it may be."""
    unknown = [key for key in wanted if key not in _MEANING]
    if unknown:
        return f"{unknown[0]!a:.80} is not known; there is {', '.join(_MEANING)}"
    found = re.search(r"\$\.(\w+)", error)
    key = found[1] if found else next(iter(wanted))
    return f"{key} is {_MEANING[key]}, got {_short(wanted[key])}"


def _object(body: bytes) -> dict[str, Any]:
    # Not by msgspec, which takes the last of two equal keys.
    try:
        value = json.loads(
            body.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant
        )
    except ArgumentError:
        raise
    except (ValueError, RecursionError) as error:
        raise ArgumentError(
            'the body is not JSON; send an object such as {"strength": 0.5}'
        ) from error
    if not isinstance(value, dict):
        raise ArgumentError('the body is no JSON object; send one such as {"strength": 0.5}')
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ArgumentError("a key stands twice in one object; say it once")
    return found


def _no_constant(name: str) -> None:
    raise ArgumentError(f"{name} is no number of JSON; strength is a number from 0 to 2")


def _short(value: object) -> str:
    return f"{repr(value) if isinstance(value, float) else json.dumps(value):.60}"
