"""Source on a pipe: y4m, raw frames, or any container that needs no seeking."""

from __future__ import annotations

import logging
import os
import select
import sys
import threading
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import BinaryIO

import av

from ...errors import ArgumentError, SourceError
from ..events import EventLog
from .address import Address
from .connection import ConnectionFailedError, ConnectionSource, connection_errors
from .ffmpeg import ContainerConnection
from .registry import SourceOptions

__all__ = ["RawFormat", "open_pipe", "open_source"]

_logger = logging.getLogger(__name__)

_HINT = "pipe a video in, such as: ffmpeg -i IN -f yuv4mpegpipe - | edgerestore run - -o OUT"
# How long a wait for bytes lasts until it is asked whether there is still need of them.
_POLL_S = 0.1
# Whoever waits for the first picture waits for what FFmpeg looks at before it.
_LOOK_AT = {"fpsprobesize": "3"}
# Formats whose packets say where they lie, one after the other.
_IN_ONE_PIECE = ("yuv4mpegpipe", "rawvideo")


@dataclass(frozen=True)
class RawFormat:
    """Format of raw frames on a pipe, one after the other without a header.

    Parameters
    ----------
    pix_fmt : str
        FFmpeg's name: ``rgb24``, ``gray16le``, ``yuv420p``, ...
    width, height : int
    rate : Fraction
        Frames per second.

    Raises
    ------
    ArgumentError
        On a size or rate that is not above 0, or a pixel format that is not known.
    """

    pix_fmt: str
    width: int
    height: int
    rate: Fraction = Fraction(25)

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1 or self.rate <= 0:
            raise ArgumentError(
                f"raw frames of {self.width} x {self.height} at {self.rate} a second;"
                " all three are above 0"
            )
        try:
            av.VideoFormat(self.pix_fmt, self.width, self.height)
        except ValueError as error:
            line = f"pixel format {self.pix_fmt!r} is not known; use rgb24, gray, yuv420p, ..."
            raise ArgumentError(line) from error

    @property
    def options(self) -> dict[str, str]:
        """Options of FFmpeg's rawvideo demuxer."""
        return {
            "pixel_format": self.pix_fmt,
            "video_size": f"{self.width}x{self.height}",
            "framerate": str(self.rate),
        }


def open_source(_address: Address, options: SourceOptions, _log: EventLog) -> ConnectionSource:
    """Open standard input, as the registry of sources does."""
    return open_pipe(raw=options.raw, threads=options.threads)


def open_pipe(
    stream: BinaryIO | None = None, raw: RawFormat | None = None, *, threads: int = 1
) -> ConnectionSource:
    """Open video on a pipe.

    Parameters
    ----------
    stream : binary file or None
        ``None`` is standard input. It is read past Python's own buffer; nothing may have been
        read from it before.
    raw : RawFormat or None
        ``None`` finds out what it is.
    threads : int
        Threads that decode.

    Returns
    -------
    ConnectionSource
        It waits until its frames are taken, and ends with the stream. A last frame that is
        cut off is counted in `lost`. A pipe that is empty, or no video, is a `SourceError` of
        its iterator.

    Raises
    ------
    SourceError
        When there is none, or a terminal in its place.
    """
    if stream is None and sys.stdin is None:
        raise SourceError(f"-: there is no standard input; {_HINT}")
    stream = stream or sys.stdin.buffer
    if stream.isatty():
        raise SourceError(f"-: standard input is a terminal; {_HINT}")
    bytes_ = _Bytes(stream)
    return ConnectionSource(partial(_connect, bytes_, raw, threads), "-", bytes_.stop)


def _connect(bytes_: _Bytes, raw: RawFormat | None, threads: int) -> ContainerConnection:
    try:
        with connection_errors("-"):
            container = av.open(
                bytes_,
                mode="r",
                format="rawvideo" if raw is not None else None,
                options=_LOOK_AT | (raw.options if raw is not None else {}),
                metadata_errors="replace",
            )
    except ConnectionFailedError as error:
        if bytes_.count == 0:
            raise SourceError(f"-: standard input is empty; {_HINT}") from error
        raise SourceError(f"-: is no video, or is damaged; {_HINT}") from error
    if container.streams.audio:
        _logger.warning("-: its sound is left out")
    in_one_piece = container.format.name in _IN_ONE_PIECE
    return ContainerConnection(
        container,
        "-",
        finite=True,
        threads=threads,
        cut_off=(lambda behind: int(bytes_.count > behind)) if in_one_piece else None,
    )


class _Bytes:
    """File object as FFmpeg reads it, whose wait can be ended.

    Attributes
    ----------
    count : int
        Bytes read.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self.count = 0
        self._stream = stream
        self._stopped = threading.Event()
        try:
            self._number: int | None = stream.fileno()
        except (OSError, ValueError):
            self._number = None

    def stop(self) -> None:
        self._stopped.set()

    def read(self, size: int) -> bytes:
        if self._number is None:
            piece = b"" if self._stopped.is_set() else self._stream.read(size)
        else:
            piece = b""
            while not self._stopped.is_set():
                if select.select([self._number], [], [], _POLL_S)[0]:
                    piece = os.read(self._number, size)
                    break
        self.count += len(piece)
        return piece
