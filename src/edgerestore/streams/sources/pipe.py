"""Source on a pipe: y4m, raw frames, or any container that needs no seeking."""

from __future__ import annotations

import logging
import os
import select
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import BinaryIO

import av

from ...errors import SourceError
from ...imaging.stated_size import MAX_PIXELS
from ..events import EventLog
from ..options import RawFormat, SourceOptions
from .address import Address
from .connection import ConnectionFailedError, ConnectionSource, connection_errors
from .ffmpeg import ContainerConnection

__all__ = ["open_pipe", "open_source"]

_logger = logging.getLogger(__name__)

_HINT = "pipe a video in, such as: ffmpeg -i IN -f yuv4mpegpipe - | edgerestore run - -o OUT"
# How long a wait for bytes lasts until it is asked whether there is still need of them.
_POLL_S = 0.1
# Whoever waits for the first picture waits for what FFmpeg looks at before it.
_LOOK_AT = {"fpsprobesize": "3"}
# Formats whose packets say where they lie, one after the other.
_IN_ONE_PIECE = ("yuv4mpegpipe", "rawvideo")


def open_source(_address: Address, options: SourceOptions, _log: EventLog) -> ConnectionSource:
    """Open standard input, as the registry of sources does."""
    return open_pipe(
        raw=options.raw,
        threads=options.threads,
        deinterlace=options.deinterlace,
        keep_gaps=options.keep_gaps,
        max_pixels=options.max_pixels,
    )


def open_pipe(
    stream: BinaryIO | None = None,
    raw: RawFormat | None = None,
    *,
    threads: int = 1,
    deinterlace: bool = True,
    keep_gaps: bool = False,
    max_pixels: int | None = MAX_PIXELS,
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
    deinterlace : bool
        Interlaced pictures become whole ones.
    keep_gaps : bool
        As `FileClock` takes it.
    max_pixels : int or None
        Larger pictures are not decoded.

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
    made = partial(
        ContainerConnection,
        where="-",
        finite=True,
        threads=threads,
        deinterlace=deinterlace,
        keep_gaps=keep_gaps,
        max_pixels=max_pixels,
    )
    return ConnectionSource(partial(_connect, bytes_, raw, made), "-", bytes_.stop)


def _connect(
    bytes_: _Bytes, raw: RawFormat | None, made: Callable[..., ContainerConnection]
) -> ContainerConnection:
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
    cut_off = (lambda behind: int(bytes_.count > behind)) if in_one_piece else None
    return made(container, cut_off=cut_off)


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
