"""Looking whether a source is there, without connecting to its stream."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

from .address import Address, AddressKind

__all__ = ["ABSENT", "ANSWERS", "READY", "probe", "probed"]

ABSENT, ANSWERS, READY = 0, 1, 2
"""Nothing there; something that takes connections; something that answers as it should."""

_LIMIT_S = 0.4


def probed(address: Address) -> bool:
    """Return whether an address can be probed at all.

    Not so ``udp://``, which nobody can be asked about, and ``tcp://``: what serves one may
    serve a single connection, and take the probe for it. Trying again is as cheap there.
    """
    return address.kind is AddressKind.CAMERA or (
        address.endpoint is not None and address.scheme != "tcp"
    )


def probe(address: Address) -> int:
    """Look for a source.

    Parameters
    ----------
    address : Address

    Returns
    -------
    int
        `ABSENT`, `ANSWERS` or `READY`. Takes less than half a second, if the name of the
        host is looked up fast.
    """
    if address.camera is not None:
        return READY if Path(f"/dev/video{address.camera}").exists() else ABSENT
    endpoint = address.endpoint
    if endpoint is None:
        return ABSENT
    deadline_s = time.monotonic() + _LIMIT_S
    try:
        with socket.create_connection(endpoint, timeout=_LIMIT_S) as connection:
            request = _request(address)
            if request is None:
                return ANSWERS
            return _asked(connection, request, deadline_s)
    except (OSError, UnicodeError):  # a name that is none is a UnicodeError
        return ABSENT


def _asked(connection: socket.socket, request: bytes, deadline_s: float) -> int:
    try:
        connection.sendall(request)
        return READY if _answers(connection, deadline_s) else ANSWERS
    except OSError:
        return ANSWERS


def _request(address: Address) -> bytes | None:
    """Return what to ask a server; ``None`` where its protocol is not spoken here."""
    parts = urlsplit(address.text)
    # Never with a login: FFmpeg sends it to those who ask for one, and as they ask for it.
    host = parts.netloc.rpartition("@")[2]
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if address.scheme == "rtsp":
        lines = [f"DESCRIBE rtsp://{host}{path} RTSP/1.0", "CSeq: 1", "Accept: application/sdp"]
    elif address.scheme == "http":
        lines = [f"GET {path} HTTP/1.1", f"Host: {host}", "Connection: close"]
    else:
        return None
    return "\r\n".join([*lines, "", ""]).encode()


def _answers(connection: socket.socket, deadline_s: float) -> bool:
    """Return whether a good status comes, and something behind it."""
    got = b""
    while (left_s := deadline_s - time.monotonic()) > 0:
        connection.settimeout(left_s)
        piece = connection.recv(4096)
        got += piece
        head, blank, body = got.partition(b"\r\n\r\n")
        status = head.split(b" ", 2)[1:2]
        if status == [b"401"]:
            return True  # it is there, and wants a login
        if not piece or (status and not status[0].startswith(b"2")):
            return False
        if blank and body:
            return True
    return False
