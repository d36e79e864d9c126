"""How much of what was sent over a TCP connection its reader has read."""

from __future__ import annotations

import fcntl
import logging
import socket
import struct
import termios
from typing import Any

__all__ = ["DeliveryProbe"]

logger = logging.getLogger(__name__)

_UNKNOWN = (
    "the kernel does not tell what watchers have read (a service needs AF_NETLINK for that); "
    "slow ones may see frames older than the limit"
)
# linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h and linux/tcp.h
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_INET_DIAG_INFO = 2
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBxI")
_NO_COOKIE = struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)  # any interface
_RQUEUE_AT = _HEADER.size + 56
_ATTRIBUTES_AT = _HEADER.size + 72
_BYTES_RECEIVED_AT = 128


class DeliveryProbe:
    """Query of the kernel: what the other end of a connection has read.

    TCP tells a sender what the other kernel has received, not what its program has read; a
    slow reader's frames grow old in between. On loopback both ends belong to this kernel, and
    its socket diagnostics (``NETLINK_SOCK_DIAG``, what ``ss`` shows; no rights needed) give
    the bytes in the other end's receive queue. A query takes about 15 us.

    Where the other end is on another machine, or a sandbox has no diagnostics, what is
    acknowledged counts as read, and a warning is logged once.

    Used on one thread.
    """

    def __init__(self) -> None:
        self._warned = False
        self._socket: socket.socket | None = None
        try:
            self._socket = socket.socket(
                socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG
            )
            self._socket.setblocking(False)
        except (OSError, AttributeError):
            self.close()

    def delivered(self, writer: Any, sent: int) -> bool:
        """Return whether the reader has read all that was sent.

        Parameters
        ----------
        writer : socket
            The sending end.
        sent : int
            Bytes, from the connection's beginning.
        """
        try:
            read = self._read(writer.getpeername(), writer.getsockname())
            if read is not None:
                return read >= sent
            if self._socket is None and not self._warned:
                self._warned = True
                logger.warning(_UNKNOWN)
            return not any(fcntl.ioctl(writer.fileno(), termios.TIOCOUTQ, b"\0" * 4))
        except OSError:  # the connection is gone
            return False

    def close(self) -> None:
        """Close the query's socket; may be called often."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _read(self, reader: tuple[Any, ...], writer: tuple[Any, ...]) -> int | None:
        """Return the bytes that the other end's program has read, None where that is unknown."""
        if self._socket is None:
            return None
        try:
            self._socket.sendto(_request(reader, writer), (0, 0))
            reply = self._socket.recv(4096)  # it is there when the request has been sent
        except OSError:
            return None
        return _bytes_read(reply)


def _request(reader: tuple[Any, ...], writer: tuple[Any, ...]) -> bytes:
    family = socket.AF_INET6 if ":" in reader[0] else socket.AF_INET
    extensions, any_state = 1 << (_INET_DIAG_INFO - 1), 0xFFFFFFFF
    body = _REQUEST.pack(family, socket.IPPROTO_TCP, extensions, any_state)
    body += struct.pack("!HH", reader[1], writer[1])
    body += socket.inet_pton(family, reader[0]).ljust(16, b"\0")
    body += socket.inet_pton(family, writer[0]).ljust(16, b"\0")
    body += _NO_COOKIE
    size = _HEADER.size + len(body)
    return _HEADER.pack(size, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 0, 0) + body


def _bytes_read(reply: bytes) -> int | None:
    length, kind = struct.unpack_from("=IH", reply)
    if kind != _SOCK_DIAG_BY_FAMILY:
        return None  # there is no such socket on this machine
    (queued,) = struct.unpack_from("=I", reply, _RQUEUE_AT)
    at = _ATTRIBUTES_AT
    while at + 4 <= length:
        size, attribute = struct.unpack_from("=HH", reply, at)
        if attribute == _INET_DIAG_INFO and size >= 4 + _BYTES_RECEIVED_AT + 8:
            (received,) = struct.unpack_from("=Q", reply, at + 4 + _BYTES_RECEIVED_AT)
            return int(received - queued)
        at += (max(size, 4) + 3) & ~3
    return None
