"""Registry of sources by address."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import ArgumentError
from ...extensions import extension, load_target
from ..events import EventLog
from ..media.frames import nearest_rate
from ..protocols import Source
from .address import SCHEMES, SOURCE_GROUP, Address, parse_address

if TYPE_CHECKING:
    from .pipe import RawFormat

__all__ = ["SourceOptions", "is_live", "open_source"]


@dataclass(frozen=True)
class SourceOptions:
    """Options of sources; each kind uses those that concern it.

    Parameters
    ----------
    width, height : int or None
        Requested of a camera.
    fps : float or None
        Requested of a camera; elsewhere the rate of a stream that states none or a wrong one.
    fourcc : str or None
        Requested of a camera: ``MJPG``, ``YUYV``, ...
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
        An iterable's arrays are not used again by the caller.
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
        if self.rtsp_transport not in ("tcp", "udp"):
            raise ArgumentError(f"rtsp_transport is tcp or udp, got {self.rtsp_transport!r}")
        if self.fourcc is not None and not (len(self.fourcc) == 4 and self.fourcc.isascii()):
            raise ArgumentError(f"fourcc is four letters such as MJPG, got {self.fourcc!r}")

    @property
    def rate(self) -> Fraction | None:
        """``fps`` as a fraction, the broadcasters' 29.97 as 30000/1001."""
        return None if self.fps is None else nearest_rate(self.fps)


def open_source(
    source: str | os.PathLike[str] | Address | Iterable[Any],
    options: SourceOptions | None = None,
    *,
    log: EventLog,
) -> Source:
    """Open a source, except image files.

    A file is opened here, and fails here. Anything else is returned at once, and opened when
    it is iterated.

    The row of an address (`SCHEMES`, else the entry point of `SOURCE_GROUP` that is named like
    its scheme) is called as ``function(address, options, log)`` and returns a `Source`. What
    an entry point refers to may say ``live = False``; without that, it is taken for live.

    Parameters
    ----------
    source : str, path, Address or iterable
        ``camera:N``, ``/dev/videoN``, an address, ``-`` for standard input, the path of a
        video, or any iterable of images (see `ProducerSource`).
    options : SourceOptions or None
    log : EventLog
        Receives connections and losses as events. What is left out is logged.

    Raises
    ------
    SourceError
        When it is not there, not known, or no video.
    ArgumentError
        When an entry point cannot be loaded.
    """
    options = options or SourceOptions()
    if not isinstance(source, (str, os.PathLike, Address)):
        from .producer import ProducerSource

        return ProducerSource(
            source,
            live=options.live,
            rate=options.rate or Fraction(25),
            stall_s=options.stall_s,
            owned=options.owned,
        )
    if isinstance(source, str):
        source = parse_address(source) or Path(source)
    if isinstance(source, Address):
        opened: Source = _opener(source)(source, options, log)
        return opened
    from .files import VideoFileSource
    from .timeline import PacedSource

    file = VideoFileSource(Path(source), threads=options.threads)
    return PacedSource(file) if options.paced else file


def is_live(address: Address) -> bool:
    """Return whether a source delivers frames whether or not they are taken."""
    row = SCHEMES.get(address.scheme)
    if row is None:
        return bool(getattr(_opener(address), "live", True))
    return row.live and not address.is_file


def _opener(address: Address) -> Any:
    row = SCHEMES.get(address.scheme)
    return load_target(row.target) if row else extension(SOURCE_GROUP, address.scheme)
