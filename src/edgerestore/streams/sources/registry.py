"""Registry of sources by address."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from ...errors import ArgumentError
from ..events import EventLog
from ..protocols import Source
from .address import Address, AddressKind, parse_address
from .camera import CameraRequest, open_camera
from .connection import Connection, ConnectionSource
from .ffmpeg import nearest_rate, open_network
from .files import VideoFileSource
from .live_source import LiveSource
from .pipe import RawFormat, open_pipe
from .producer import ProducerSource
from .reconnect import Backoff, probe, probed
from .timeline import PacedSource

__all__ = ["SourceOptions", "is_live", "open_source"]


_TRANSPORTS = ("tcp", "udp")
_LONGEST_BACKOFF_S = 30.0
# Where trying again costs nobody anything: a socket that listens, a port that refuses.
_CHEAP_BACKOFF_S = 1.0
_CHEAP = ("udp", "tcp")

# An address that ends like this is a file: it waits, nothing of it is dropped, and it ends.
_FILES = frozenset([".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".y4m"])


@dataclass(frozen=True)
class SourceOptions:
    """How a source is opened; each kind takes what concerns it.

    Parameters
    ----------
    width, height : int or None
        What is asked of a camera.
    fps : float or None
        What is asked of a camera; elsewhere the rate of a stream that states none or a wrong
        one.
    fourcc : str or None
        What is asked of a camera: ``MJPG``, ``YUYV``, ...
    rtsp_transport : str
        ``tcp`` or ``udp``.
    open_timeout_s : float
        To connect, and as much again to find video.
    stall_s : float
        Connected and silent for so long is taken for lost.
    retries : int or None
        Further attempts in a row after which a live source is given up; ``None`` never.
    raw : RawFormat or None
        What comes on standard input, where it has no header.
    paced : bool
        Hand out a file in real time, as a stand-in for a camera.
    live : bool
        An iterable's frames come whether or not they are taken.
    owned : bool
        An iterable's arrays are not used again by whoever gave them.
    threads : int
        Threads that decode.

    Raises
    ------
    ArgumentError
        On a value that is not usable.
    """

    width: int | None = None
    height: int | None = None
    fps: float | None = None
    fourcc: str | None = None
    rtsp_transport: str = "tcp"
    open_timeout_s: float = 10.0
    stall_s: float = 10.0
    retries: int | None = None
    raw: RawFormat | None = None
    paced: bool = False
    live: bool = False
    owned: bool = False
    threads: int = field(default_factory=lambda: min(4, os.cpu_count() or 1))

    def __post_init__(self) -> None:
        for name in ("width", "height", "fps", "open_timeout_s", "stall_s", "threads"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise ArgumentError(f"{name} is a number above 0, got {value!r}")
        if self.retries is not None and self.retries < 0:
            raise ArgumentError(f"retries is 0 or more, got {self.retries}")
        if self.rtsp_transport not in _TRANSPORTS:
            raise ArgumentError(f"rtsp_transport is tcp or udp, got {self.rtsp_transport!r}")
        if self.fourcc is not None and not (len(self.fourcc) == 4 and self.fourcc.isascii()):
            raise ArgumentError(f"fourcc is four letters such as MJPG, got {self.fourcc!r}")

    @property
    def rate(self) -> Fraction | None:
        """``fps`` as a fraction, the broadcasters' 29.97 as 30000/1001."""
        return None if self.fps is None else nearest_rate(self.fps)


def open_source(
    source: str | os.PathLike[str] | Iterable[Any],
    options: SourceOptions | None = None,
    *,
    log: EventLog,
    notice: Callable[[str], None],
) -> Source:
    """Open whatever delivers frames, except image files.

    A file is opened here, and fails here. Anything else is returned at once, and opened when
    it is iterated.

    Parameters
    ----------
    source : str, path or iterable
        ``camera:N``, ``/dev/videoN``, an address, ``-`` for standard input, the path of a
        video, or any iterable of images (see `ProducerSource`).
    options : SourceOptions or None
    log : EventLog
        Told of connections and losses.
    notice : callable
        Takes one line about anything worth knowing that is no failure.

    Returns
    -------
    Source

    Raises
    ------
    SourceError
        When it is not there, not known, or no video.
    """
    options = options or SourceOptions()
    if not isinstance(source, (str, os.PathLike)):
        return _producer(source, options)
    address = parse_address(source) if isinstance(source, str) else None
    if address is None:
        file = VideoFileSource(Path(source), notice, threads=options.threads)
        return PacedSource(file) if options.paced else file
    if address.kind is AddressKind.PIPE:
        return open_pipe(raw=options.raw, notice=notice, threads=options.threads)
    if address.kind is AddressKind.NETWORK and _is_file(address) and not options.paced:
        return ConnectionSource(
            lambda: _network_connection(address, options, paced=False), str(address)
        )
    return _live(address, options, log)


def is_live(source: str) -> bool:
    """Whether what a person names delivers frames whether or not they are taken.

    Raises
    ------
    SourceError
        On an address of an unknown kind.
    """
    address = parse_address(source)
    if address is None or address.kind is AddressKind.PIPE:
        return False
    return not (address.kind is AddressKind.NETWORK and _is_file(address))


def _producer(frames: Iterable[Any], options: SourceOptions) -> ProducerSource:
    return ProducerSource(
        frames,
        live=options.live,
        rate=options.rate or Fraction(25),
        stall_s=options.stall_s,
        owned=options.owned,
    )


def _live(address: Address, options: SourceOptions, log: EventLog) -> LiveSource:
    def open_connection() -> Connection:
        if address.camera is None:
            return _network_connection(address, options, paced=True)
        request = CameraRequest(options.width, options.height, options.fps, options.fourcc)
        return open_camera(address.camera, request)

    longest_s = _CHEAP_BACKOFF_S if address.scheme in _CHEAP else _LONGEST_BACKOFF_S
    return LiveSource(
        open_connection,
        str(address),
        log,
        retries=options.retries,
        stall_s=options.stall_s,
        # FFmpeg takes its time twice, and a name may have to be looked up.
        open_s=2 * options.open_timeout_s + 5,
        backoff=Backoff(longest_s=longest_s),
        probe=(lambda: probe(address)) if probed(address) else None,
    )


def _network_connection(address: Address, options: SourceOptions, *, paced: bool) -> Connection:
    return open_network(
        address,
        transport=options.rtsp_transport,
        open_timeout_s=options.open_timeout_s,
        read_timeout_s=options.stall_s,
        rate=options.rate,
        threads=options.threads,
        paced=paced,
    )


def _is_file(address: Address) -> bool:
    if address.scheme not in ("http", "https"):
        return False
    return PurePosixPath(urlsplit(address.text).path).suffix.lower() in _FILES
