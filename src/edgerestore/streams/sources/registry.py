"""Registry of sources by address."""

from __future__ import annotations

import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

from ...extensions import extension, load_target
from ...imaging.image_files import image_suffixes
from ..events import EventLog
from ..options import SourceOptions
from ..protocols import Source
from .address import SCHEMES, SOURCE_GROUP, Address, parse_address

__all__ = ["is_live", "open_source"]


def open_source(
    source: str | os.PathLike[str] | Address | Iterable[Any],
    options: SourceOptions | None = None,
    *,
    log: EventLog,
) -> Source:
    """Open a source.

    A video file is opened here, and fails here. Anything else is returned at once, and opened when
    it is iterated.

    The row of an address (`SCHEMES`, else the entry point of `SOURCE_GROUP` that is named like
    its scheme) is called as ``function(address, options, log)`` and returns a `Source`. What
    an entry point refers to may say ``live = False``; without that, it is taken for live.

    Parameters
    ----------
    source : str, path, Address or iterable
        ``camera:N``, ``/dev/videoN``, an address, ``-`` for standard input, the path of a
        picture or video, any iterable of images (see `ProducerSource`), or a `Source` as it is.
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
    if all(hasattr(source, name) for name in ("lost", "interruptible", "close")):
        given: Source = source  # type: ignore[assignment] # by what it has
        return given
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
    from .images import ImageFilesSource
    from .timeline import PacedSource

    path = Path(source)
    if path.suffix.lower() in image_suffixes() and path.exists():
        return ImageFilesSource([path], max_pixels=options.max_pixels)
    file = VideoFileSource(
        path,
        threads=options.threads,
        keep_gaps=options.keep_gaps,
        deinterlace=options.deinterlace,
        max_pixels=options.max_pixels,
    )
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
