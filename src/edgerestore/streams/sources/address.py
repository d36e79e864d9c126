"""Addresses of sources: parsing, and redaction of the credentials in them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import urlsplit

from ...errors import SourceError
from ...extensions import extension_names

__all__ = [
    "HIDDEN_LOGIN",
    "PIPE",
    "SCHEMES",
    "SOURCE_GROUP",
    "Address",
    "Scheme",
    "parse_address",
    "redacted",
]

PIPE, _CAMERA = "-", "camera"

SOURCE_GROUP = "edgerestore.sources"
"""Entry points of sources; each is named like the scheme of its addresses."""


class Scheme(NamedTuple):
    """Row of the registry of sources.

    Parameters
    ----------
    target : str
        ``module:function``, called as ``function(address, options, log)``; see `open_source`.
    port : int or None
        Of servers that are reached by TCP: the usual port, 0 where there is none.
    live : bool
        Frames come whether or not they are taken.
    """

    target: str
    port: int | None = None
    live: bool = True


_FFMPEG = "edgerestore.streams.sources.ffmpeg:open_source"

SCHEMES = {
    PIPE: Scheme("edgerestore.streams.sources.pipe:open_source", live=False),
    _CAMERA: Scheme("edgerestore.streams.sources.camera:open_source"),
    "http": Scheme(_FFMPEG, 80),
    "https": Scheme(_FFMPEG, 443),
    "rtmp": Scheme(_FFMPEG, 1935),
    "rtsp": Scheme(_FFMPEG, 554),
    "rtsps": Scheme(_FFMPEG, 322),
    "srt": Scheme(_FFMPEG),
    "tcp": Scheme(_FFMPEG, 0),
    "udp": Scheme(_FFMPEG),
}
"""Registry of sources by the scheme of their address; ``-`` is standard input."""

_FILES = frozenset([".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".y4m"])
_HIDDEN = "***"
HIDDEN_LOGIN = f"://{_HIDDEN}@"
"""What a login is in an address that is shown."""
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_NAMED = re.compile(r"([A-Za-z][A-Za-z0-9+-]+):")
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


@dataclass(frozen=True)
class Address:
    """Address of a source that is no path.

    Parameters
    ----------
    scheme : str
        In lower case; ``-`` for standard input, ``camera`` for cameras.
    text : str
        As FFmpeg takes it, login included; never to be shown.
    camera : int or None
        The number of a camera.
    """

    scheme: str
    text: str = field(repr=False)
    camera: int | None = None

    def __str__(self) -> str:
        """Return what may be shown: without credentials."""
        return f"camera:{self.camera}" if self.camera is not None else redacted(self.text)

    @property
    def is_file(self) -> bool:
        """Whether it names a file on a server: it waits, nothing of it is dropped, and it ends."""
        path = urlsplit(self.text).path if self.scheme in ("http", "https") else ""
        return PurePosixPath(path).suffix.lower() in _FILES

    @property
    def endpoint(self) -> tuple[str, int] | None:
        """Host and port of a server that is reached by TCP; ``None`` for all else."""
        row = SCHEMES.get(self.scheme)
        if row is None or row.port is None:
            return None
        try:
            parts = urlsplit(self.text)
            host, port = parts.hostname, parts.port or row.port
        except ValueError:
            return None
        return (host, port) if host and port else None


def parse_address(text: str) -> Address | None:
    """Return the address that an INPUT is, ``None`` where it is a path or a pattern.

    Parameters
    ----------
    text : str
        ``camera:N``, ``/dev/videoN``, a link to such a device (``/dev/v4l/by-id/...``),
        an address with ``://``, ``NAME:...`` where NAME is an entry point of `SOURCE_GROUP`,
        or ``-``.

    Raises
    ------
    SourceError
        On a scheme that is not known, or a camera without a number.
    """
    if text == PIPE:
        return Address(PIPE, text)
    if text.lower().startswith("camera:"):
        return _camera(text, text[len("camera:") :])
    if text.startswith("/dev/"):
        device = _DEVICE.fullmatch(str(Path(text).resolve()))
        return _camera(text, device[1]) if device else None
    url = _URL.match(text)
    match = url or _NAMED.match(text)
    if match is None:
        return None
    scheme = match[1].lower()
    if url and scheme in SCHEMES:
        return Address(scheme, scheme + text[len(match[1]) :])
    if scheme in extension_names(SOURCE_GROUP):
        return Address(scheme, text)
    if url is None:
        return None
    known = {f"{one}://" for one in {*SCHEMES, *extension_names(SOURCE_GROUP)} - {PIPE, _CAMERA}}
    raise SourceError(
        f"{redacted(text)}: {scheme}:// is not known; known are"
        f" {' '.join(sorted(known))} camera:N and -"
    )


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
    return Address(_CAMERA, text, int(number))
