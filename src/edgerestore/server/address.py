"""Addresses to listen on: HOST:PORT, and whether they are this machine's loopback."""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import NamedTuple

from ..errors import ArgumentError, SinkError

__all__ = ["Address", "checked_address", "is_local_name", "parse_address"]

_HIGHEST_PORT = 65535
_NAME = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?:\.(?!-)[A-Za-z0-9-]{1,63})*\.?", re.ASCII)
_FORM = re.compile(r"(?:\[(?P<v6>[^\[\]]*)\]|(?P<name>[^:\[\]]*)):(?P<port>[0-9]{1,5})", re.ASCII)


class Address(NamedTuple):
    """A host, a name or an address without brackets, and a port; port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def resolved(self) -> tuple[socket.AddressFamily, str]:
        """Return the family and the numeric address to listen on.

        Raises
        ------
        SinkError
            When this machine does not know the name.
        """
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise SinkError(f"{self}: the host is not known; use 127.0.0.1") from error
        # `localhost` may be ::1 first, where every client but the IPv6 ones would miss it.
        family, _, _, _, place = min(found, key=lambda one: one[0] != socket.AF_INET)
        return family, str(place[0])


def parse_address(text: str) -> Address:
    """Read ``HOST:PORT``, ``[IPV6]:PORT`` for an IPv6 address.

    Raises
    ------
    ArgumentError
        On anything else.

    Examples
    --------
    >>> parse_address("127.0.0.1:8080")
    Address(host='127.0.0.1', port=8080)
    >>> str(parse_address("[::1]:0"))
    '[::1]:0'
    """
    form = _FORM.fullmatch(text) if isinstance(text, str) else None
    if form is None:
        raise ArgumentError(f"an address is HOST:PORT such as 127.0.0.1:8080, got {text!r}")
    return checked_address(form["v6"] or form["name"] or "", int(form["port"]))


def checked_address(host: str, port: int) -> Address:
    """Return a host and a port as an address.

    Raises
    ------
    ArgumentError
        When the host is neither a name nor an address, or the port is out of range.
    """
    if not _is_address(host) and not _NAME.fullmatch(host):
        raise ArgumentError(f"a host is a name or an address such as 127.0.0.1, got {host!r}")
    if not _is_address(host) and not re.search("[A-Za-z]", host):
        raise ArgumentError(f"{host!r} is no complete address; write it as 127.0.0.1")
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= _HIGHEST_PORT:
        raise ArgumentError(f"a port is a number from 0 to {_HIGHEST_PORT}, got {port!r}")
    return Address(host, port)


def is_local_name(host: str) -> bool:
    """Return whether a host, by its spelling alone, is this machine's loopback."""
    host = host.removesuffix(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    return _is_address(host) and ipaddress.ip_address(host).is_loopback


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
