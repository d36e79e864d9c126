"""Reconnection: exponential back-off with jitter, and probes that end a wait early."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from .address import Address

__all__ = ["ABSENT", "ANSWERS", "READY", "Backoff", "Prober", "probe", "probed"]


class Backoff:
    """Exponential back-off with jitter: 1, 2, 4, ... 30 seconds, each up to a fifth less.

    Parameters
    ----------
    first_s, longest_s : float
    jitter : float
        The largest part of a delay that is left out, by chance, so that many machines which
        lost one server together do not come back to it together.
    """

    def __init__(self, first_s: float = 1.0, longest_s: float = 30.0, jitter: float = 0.2) -> None:
        self._first_s = min(first_s, longest_s)
        self._longest_s = longest_s
        self._jitter = jitter
        self.failures = 0

    @property
    def longest(self) -> bool:
        """Whether delays have stopped growing."""
        return self._bound_s >= self._longest_s

    @property
    def _bound_s(self) -> float:
        # The exponent is bounded: after weeks of failures 2 ** n would not fit a float.
        return min(self._first_s * 2.0 ** min(self.failures, 32), self._longest_s)

    def next_s(self, *, listened: bool = False) -> float:
        """Count one more failure and return the delay after it.

        Parameters
        ----------
        listened : bool
            The attempt itself waited in vain until its time-out. That spaces attempts by
            itself, and who does not listen cannot hear the silence end: the first delay.
        """
        bound_s = self._first_s if listened else self._bound_s
        self.failures += 1
        return round(bound_s * (1 - self._jitter * random.random()), 4)  # noqa: S311 - no secret

    def reset(self) -> None:
        """Begin again with the first delay."""
        self.failures = 0


class Prober:
    """Probe that ends the wait for a source as soon as it is back.

    A source that was away for an hour is waited for 30 seconds at a time. So that its return
    is noticed at once, it is looked for twice a second by something much cheaper than a
    connection; only an answer that is *better than before* ends the wait, so that a server
    which answers and refuses is left in peace.

    Parameters
    ----------
    probe : callable
        Returns how far the source answers: 0 not at all, more for more. Must return within
        half a second; called on a thread of its own, since looking up a name may hang.
    every_s : float
    """

    def __init__(self, probe: Callable[[], int], every_s: float = 0.5) -> None:
        self._probe = probe
        self._every_s = every_s
        self._seen: int | None = None

    def forget(self) -> None:
        """Forget earlier answers: a new absence begins."""
        self._seen = None

    def wait(self, delay_s: float, wake: threading.Event) -> bool:
        """Wait for a delay; return early when ``wake`` is set, here or elsewhere.

        Returns
        -------
        bool
            Whether the source answers better than before, which sets ``wake``.
        """
        found, ended = threading.Event(), threading.Event()

        def look() -> None:
            while not ended.is_set():
                answer = self._probe()
                better = self._seen is not None and answer > self._seen
                self._seen = answer
                if better and not ended.is_set():
                    found.set()
                    wake.set()
                    return
                ended.wait(self._every_s)

        thread = threading.Thread(target=look, name="edgerestore-probe", daemon=True)
        thread.start()
        wake.wait(delay_s)
        ended.set()
        thread.join(_JOIN_S)
        return found.is_set()


ABSENT, ANSWERS, READY = 0, 1, 2
"""Nothing there; something that takes connections; something that answers as it should."""

_LIMIT_S = 0.4
_JOIN_S = 0.3


def probed(address: Address) -> bool:
    """Return whether an address can be probed at all.

    Not so ``udp://``, behind which there is no server to ask, and ``tcp://``: what serves one may
    serve a single connection, and take the probe for it. Trying again is as cheap there.
    """
    return address.camera is not None or (address.endpoint is not None and address.scheme != "tcp")


def probe(address: Address) -> int:
    """Probe a source.

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
            try:
                if request is not None:
                    connection.sendall(request)
                    return READY if _answers(connection, deadline_s) else ANSWERS
            except OSError:
                pass
            return ANSWERS
    except (OSError, UnicodeError):  # a name that is none is a UnicodeError
        return ABSENT


def _request(address: Address) -> bytes | None:
    """Return the request for a server; ``None`` for a protocol without one here."""
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
    """Return whether a status of success comes, with a body."""
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
