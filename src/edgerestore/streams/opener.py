"""The two ends of a stream: where frames come from, and all that they go to."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from .events import EventLog
from .job import codec_threads
from .options import LiveOptions
from .protocols import Controls, Sink, Source
from .sinks.registry import SinkOptions, open_sinks
from .sources.address import parse_address, redacted
from .sources.files import VideoFileSource
from .sources.registry import open_source
from .sources.timeline import PacedSource

__all__ = ["Ends", "named"]


class Ends:
    """Opens a source and its outputs, both or neither.

    Parameters
    ----------
    options : LiveOptions
    log : EventLog
    notice : callable
        Takes one line about anything worth knowing that is no failure.
    controls : Controls
        What the keys and the slider of a window turn.
    upscale : int
        How much larger restored frames are.
    """

    def __init__(
        self,
        options: LiveOptions,
        log: EventLog,
        notice: Callable[[str], None],
        controls: Controls,
        upscale: int,
    ) -> None:
        self._options, self._log, self._notice = options, log, notice
        self._controls, self._upscale = controls, upscale

    def open(
        self, source: str | os.PathLike[str] | Iterable[Any], outputs: Sequence[Any]
    ) -> tuple[Source, Sink]:
        """Return them; as `Live` takes them.

        Raises
        ------
        SourceError, SinkError, ArgumentError
            Where one of them is not usable; nothing is left open then.
        """
        if _is_file(source):
            # Its info are the outputs' to keep; nothing else is read before there is a need.
            opened = self._open_source(source)
            try:
                sink = open_sinks(outputs, self._settings(opened, source))
            except BaseException:
                opened.close()
                raise
        else:
            sink = open_sinks(outputs, self._settings(None, source))
            try:
                opened = self._open_source(source)
            except BaseException:
                sink.abort()
                raise
        asked = self._options.realtime
        watched = sink.skips if asked is None else asked
        if watched and isinstance(opened, VideoFileSource):
            return PacedSource(opened), sink
        return opened, sink

    def _open_source(self, source: str | os.PathLike[str] | Iterable[Any]) -> Source:
        return open_source(source, self._options.source, log=self._log, notice=self._notice)

    def _settings(self, opened: Source | None, source: object) -> SinkOptions:
        options = self._options
        file = opened if isinstance(opened, VideoFileSource) else None
        # In segments, or beside a source that may change its size, each file is its own.
        info = file.info if file is not None and options.segment_s is None else None
        scale = self._upscale
        return SinkOptions(
            notice=self._notice,
            log=self._log,
            video=options.video,
            segment_s=options.segment_s,
            overwrite=options.overwrite,
            threads=codec_threads(os.cpu_count() or 1),
            info=info,
            size=None if info is None else (info.width * scale, info.height * scale),
            inputs=[] if file is None else [Path(str(source))],
            controls=self._controls,
        )


def named(source: object) -> str:
    """Return a source as messages name it."""
    if isinstance(source, (str, os.PathLike)):
        return redacted(str(source))
    return type(source).__name__


def _is_file(source: object) -> bool:
    return isinstance(source, os.PathLike) or (
        isinstance(source, str) and parse_address(source) is None
    )
