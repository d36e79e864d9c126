"""Registry of sinks by address."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from ...errors import EdgerestoreError, SinkError
from ...extensions import extension, extension_names, load_target
from ...imaging.arrays import Image
from ...imaging.image_files import NOT_READ, image_suffixes
from ..media.frames import Frame, Item
from ..options import VIDEO_SUFFIXES, SinkOptions
from ..protocols import Sink
from ..sources.address import redacted

__all__ = [
    "ROWS",
    "SINK_GROUP",
    "CallbackSink",
    "Output",
    "check_outputs",
    "is_path",
    "open_sink",
    "open_sinks",
]

Output = str | Path | Callable[[Image, Frame], object] | Sink
"""Output of a run, by address, path, function or sink."""

SINK_GROUP = "edgerestore.sinks"
"""Entry points of sinks; NAME takes the outputs ``NAME`` and ``NAME:...``."""

ROWS: dict[str, str] = {
    r"-": "edgerestore.streams.sinks.y4m:open_sink",
    r"(?i:rtsps?|rtmps?|udp|tcp|srt)://.+": "edgerestore.streams.sinks.push:open_sink",
    r"(?i:http)://(?P<address>[^/]+)(?P<path>/.*)?": "edgerestore.server.mjpeg:open_sink",
    r"window": "edgerestore.streams.sinks.window:open_sink",
    r"virtualcam(?::(?P<device>.+))?": "edgerestore.streams.sinks.virtual_camera:open_sink",
}
"""Pattern of the whole OUTPUT -> ``module:function``, imported when it is asked for.

The function is called with the `re.Match` of the pattern and the `SinkOptions`, and returns a
`Sink`. Of an entry point, the match has the groups ``name`` and ``rest`` (behind the colon).
"""

_NAMED = re.compile(r"(?P<name>[a-z][a-z0-9+-]+)(?::(?P<rest>.*))?", re.IGNORECASE)
_URL = re.compile(r"[a-z][a-z0-9+.-]*://.*", re.IGNORECASE)
_KNOWN = "rtsp:// rtsps:// rtmp:// rtmps:// udp:// tcp:// srt:// http://"


def open_sink(text: str, options: SinkOptions) -> Sink:
    """Return the sink of an OUTPUT.

    What a killed recording of the same name left is recovered first.

    Parameters
    ----------
    text : str
        A path of a video file; ``-`` (y4m); ``rtsp://``, ``rtmp://``, ``udp://``, ``tcp://``,
        ``srt://`` (to send there); ``http://host:port`` (to be looked at there); ``window``;
        ``virtualcam`` or ``virtualcam:/dev/video9``; or the name of an entry point of
        `SINK_GROUP`. A file that is called ``window`` is ``./window``.
    options : SinkOptions

    Raises
    ------
    SinkError
        For anything else, and for what the sink itself refuses.
    ArgumentError
        When an entry point cannot be loaded.
    """
    found = _row_of(text)
    if found is not None:
        match, opener = found
        sink: Sink = opener()(match, options)
        return sink
    _check_path(text)
    return _file(Path(text), options)


def open_sinks(outputs: Sequence[Output], options: SinkOptions) -> Sink:
    """Return one sink for one or more outputs.

    Parameters
    ----------
    outputs : sequence of str, Path, callable or Sink
        A text as `open_sink` takes it; a path; a function as `CallbackSink` takes it; or a
        sink as it is.
    options : SinkOptions

    Raises
    ------
    SinkError
        As `open_sink`, and for an output that is named twice; nothing is left open then.
    """
    from .fan_out import FanOutSink

    names = [_name(output) for output in outputs]
    if not outputs:
        raise SinkError("there is no output; name one")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise SinkError(f"{twice}: is named twice; name each output once")
    sinks: list[Sink] = []
    with ExitStack() as failing:
        for output in outputs:
            sinks.append(_opened(output, options))
            failing.callback(sinks[-1].abort)
        failing.pop_all()
    return sinks[0] if len(sinks) == 1 else FanOutSink(sinks, log=options.log, names=names)


def check_outputs(outputs: Sequence[str], options: SinkOptions) -> None:
    """Refuse what can be refused of outputs before anything is loaded or opened.

    The module of a row may have a ``check_sink`` of the same parameters as its ``open_sink``.

    Raises
    ------
    SinkError, ArgumentError
        As `open_sinks`.
    """
    for text in outputs:
        found = _row_of(text)
        if found is None:
            from .files import check_video_file

            _check_path(text)
            numbered = options.segment_s is not None
            own = replace(options, overwrite=options.overwrite or numbered)
            check_video_file(Path(text), own)
        elif check := getattr(import_module(found[1]().__module__), "check_sink", None):
            check(found[0], options)


def is_path(text: str) -> bool:
    """Return whether an OUTPUT is a path, and so a file that can be there already."""
    return _row_of(text) is None and not _URL.fullmatch(text)


def _row_of(text: str) -> tuple[re.Match[str], Callable[[], Any]] | None:
    """Return the match of an output with its row, and what imports the row's function."""
    for pattern, target in ROWS.items():
        if match := re.fullmatch(pattern, text):
            return match, partial(load_target, target)
    match = _NAMED.fullmatch(text)
    if match and match["name"].lower() in extension_names(SINK_GROUP):
        return match, partial(extension, SINK_GROUP, match["name"])
    return None


def _opened(output: Output, options: SinkOptions) -> Sink:
    if isinstance(output, str):
        return open_sink(output, options)
    if isinstance(output, Path):
        return _file(output, options)
    return CallbackSink(output) if callable(output) else output


def _name(output: Output) -> str:
    if isinstance(output, (str, Path)):
        return redacted(str(output))
    # Two of one kind are two, by whatever they are.
    return f"{type(output).__name__} {id(output):#x}"


def _check_path(text: str) -> None:
    if _URL.fullmatch(text):
        raise SinkError(f"{redacted(text)}: cannot be sent to; known are {_KNOWN}")
    if Path(text).suffix.lower() in (image_suffixes() - VIDEO_SUFFIXES) | NOT_READ.keys():
        raise SinkError(f"{text}: holds one image, not a stream; use .mp4 or .mkv")


def _file(path: Path, options: SinkOptions) -> Sink:
    _check_path(str(path))
    from .recording import RecordingSink, recover_partials

    recover_partials(path)  # before the new one is numbered
    if options.info is None:
        return RecordingSink(path, options)
    from .files import VideoFileSink

    return VideoFileSink(path, options.info, options)


class CallbackSink:
    """`Sink` that calls a function with each restored image and its frame.

    Parameters
    ----------
    function : callable
        Called as ``function(image, frame)``, one frame after the other, on a thread of the
        stream's. ``image`` is ``frame.image``: it may be kept and must not be written to.
        What it returns is ignored; what it raises ends the stream.
    skips : bool
        It may miss frames where it is slower than the stream.
    wants_original : bool
        ``frame.original`` is there.
    """

    def __init__(
        self,
        function: Callable[[Image, Frame], object],
        *,
        skips: bool = False,
        wants_original: bool = False,
    ) -> None:
        self.skips = skips
        self.wants_original = wants_original
        self._function = function

    def write(self, item: Item) -> None:
        """Call the function; what it raises becomes a `SinkError`, unless it is one of ours."""
        if not isinstance(item, Frame):
            return
        try:
            self._function(item.image, item)
        except EdgerestoreError:
            raise
        except Exception as error:
            name = getattr(self._function, "__name__", type(self._function).__name__)
            what = " ".join(f"{type(error).__name__}: {error}".split())
            raise SinkError(f"the callback {name} failed ({what})") from error

    def close(self) -> None:
        """Do nothing: every frame was taken."""

    def abort(self) -> None:
        """Do nothing: every frame was taken."""
