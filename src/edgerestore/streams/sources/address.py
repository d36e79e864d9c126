"""What a person writes as INPUT when it is no path: a camera, an address, standard input."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from ...errors import SourceError

__all__ = ["PIPE", "Address", "AddressKind", "parse_address", "redacted"]

PIPE = "-"
"""What stands for standard input."""

_HIDDEN = "***"

# Scheme -> the port that is meant where none is written; 0 where there is no usual one.
_PORTS = {
    "http": 80,
    "https": 443,
    "rtmp": 1935,
    "rtsp": 554,
    "rtsps": 322,
    "srt": 0,
    "tcp": 0,
    "udp": 0,
}
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_DEVICE = re.compile(r"/dev/video(\d+)")

# The login of an address reaches to the last @ before its path ...
_LOGIN = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)[^/?#\s'\"]+@")
# ... unless the password holds a character that should have been escaped. Showing too little
# of an odd address is better than showing half a password.
_ODD_LOGIN = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)[^/?#\s'\"@]*:[^?#\s'\"]*@")
_ODDER_LOGIN = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)[^/?#\s'\"@\[\]]*:(?!\d*(?:[/?#\s'\"]|$))[^\s'\"]*@"
)
_SECRET = re.compile(
    r"(?P<name>[?&;#][^=&;#\s'\"]*"
    r"(?:token|pas|pwd|secret|key|auth|sig|user|usr|login|session|credential)"
    r"[^=&;#\s'\"]*=)[^&;#\s'\"]+",
    re.IGNORECASE,
)


class AddressKind(StrEnum):
    """What kind of thing an address names."""

    CAMERA = "camera"
    NETWORK = "network"
    PIPE = "pipe"


@dataclass(frozen=True)
class Address:
    """Where frames come from, if not from a path.

    Parameters
    ----------
    kind : AddressKind
    text : str
        As FFmpeg takes it, login included; never to be shown.
    scheme : str
        In small letters; empty where there is none.
    camera : int or None
        The number of a camera.
    """

    kind: AddressKind
    text: str = field(repr=False)
    scheme: str = ""
    camera: int | None = None

    def __str__(self) -> str:
        """Return what may be shown: without credentials."""
        return f"camera:{self.camera}" if self.camera is not None else redacted(self.text)

    @property
    def endpoint(self) -> tuple[str, int] | None:
        """Host and port of a server that is reached by TCP; ``None`` for all else."""
        if self.kind is not AddressKind.NETWORK or self.scheme in ("udp", "srt"):
            return None
        try:
            parts = urlsplit(self.text)
            host, port = parts.hostname, parts.port or _PORTS[self.scheme]
        except ValueError:
            return None
        return (host, port) if host and port else None


def parse_address(text: str) -> Address | None:
    """Tell what an INPUT names.

    Parameters
    ----------
    text : str
        ``camera:N``, ``/dev/videoN``, a link to such a device (``/dev/v4l/by-id/...``),
        an address with ``://``, or ``-``.

    Returns
    -------
    Address or None
        ``None`` where it is a path or a pattern.

    Raises
    ------
    SourceError
        On a scheme that is not known, or a camera without a number.
    """
    if text == PIPE:
        return Address(AddressKind.PIPE, text)
    if text.startswith("camera:"):
        return _camera(text, text.removeprefix("camera:"))
    if text.startswith("/dev/"):
        device = _DEVICE.fullmatch(str(Path(text).resolve()))
        return _camera(text, device[1]) if device else None
    match = _SCHEME.match(text)
    if match is None:
        return None
    scheme = match[1].lower()
    if scheme not in _PORTS:
        known = " ".join(f"{one}://" for one in sorted(_PORTS))
        raise SourceError(
            f"{redacted(text)}: {scheme}:// is not known; known are {known} camera:N and -"
        )
    return Address(AddressKind.NETWORK, scheme + text[len(match[1]) :], scheme)


def redacted(text: str) -> str:
    """Return a text without the credentials of the addresses in it.

    Names and passwords before an ``@`` go, and so do the values of query parameters whose
    name sounds like a secret (``token=``, ``password=``, ``user=``, ...).
    """
    for pattern in (_LOGIN, _ODD_LOGIN, _ODDER_LOGIN):
        text = pattern.sub(rf"\g<scheme>{_HIDDEN}@", text)
    return _SECRET.sub(rf"\g<name>{_HIDDEN}", text)


def _camera(text: str, number: str) -> Address:
    if not (number.isascii() and number.isdecimal()):
        raise SourceError(f"{text}: a camera has a number; write camera:0, camera:1, ...")
    return Address(AddressKind.CAMERA, text, "camera", int(number))
