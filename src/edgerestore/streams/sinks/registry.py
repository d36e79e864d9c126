"""Registry of sinks by address."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

from ...errors import EdgerestoreError, SinkError
from ...imaging.arrays import Image
from ...imaging.image_files import IMAGE_SUFFIXES
from ..events import EventLog
from ..media.encoding import VideoOptions
from ..media.frames import Frame, Item, VideoInfo
from ..protocols import Controls, Sink
from ..sources.address import redacted

__all__ = ["CallbackSink", "Output", "SinkOptions", "is_path", "open_sink", "open_sinks"]


class CallbackSink:
    """A `Sink` that calls a function with each restored image and its frame.

    Parameters
    ----------
    function : callable
        Called as ``function(image, frame)``, one frame after the other, on a thread of the
        stream's. ``image`` is ``frame.image``: it may be kept and must not be written to.
        What it returns is ignored; what it raises ends the stream.
    skips : bool
        Whether it may miss frames where it is slower than the stream.
    wants_original : bool
        Whether ``frame.original`` shall be there.
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
        """Call the function.

        Raises
        ------
        SinkError
            From whatever the function raised; an error of ours comes as it is.
        """
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


Output = str | Path | Callable[[Image, Frame], object] | Sink
"""What may be named as an output."""

_VIRTUAL_RATE = 30  # of a virtual camera whose source has not said its own yet


@dataclass(frozen=True)
class SinkOptions:
    """What sinks need to know besides the OUTPUT itself.

    Parameters
    ----------
    notice : callable
        Takes one line about anything that a person should know and that is no failure.
    log : EventLog or None
    video : VideoOptions
    segment_s : float or None
        Length of a recording's files; ``None`` for one file.
    overwrite : bool
    threads : int
        Threads of an encoder.
    info : VideoInfo or None
        Of a source that is a file: the output is then one whole file. ``None`` for a live
        source, whose frames bring them.
    size : (int, int) or None
        Width and height of restored frames, where ``info`` are there.
    inputs : sequence of Path
        Files that must not be replaced.
    controls : Controls or None
        What the keys and the slider of a window turn.
    max_staleness_s : float or None
        A frame older than this is not shown to a slow watcher; ``None`` for any age.
    """

    notice: Callable[[str], None]
    log: EventLog | None = None
    video: VideoOptions = field(default_factory=VideoOptions)
    segment_s: float | None = None
    overwrite: bool = False
    threads: int = 1
    info: VideoInfo | None = None
    size: tuple[int, int] | None = None
    inputs: Sequence[Path] = ()
    controls: Controls | None = None
    max_staleness_s: float | None = 1.0


def open_sink(text: str, settings: SinkOptions) -> Sink:
    """Return the sink that an OUTPUT means.

    What a killed recording of the same name left is recovered first.

    Parameters
    ----------
    text : str
        A path of a video file; ``-`` (y4m); ``rtsp://``, ``rtmp://``, ``udp://``, ``tcp://``,
        ``srt://`` (to send there); ``http://host:port`` (to be looked at there); ``window``;
        ``virtualcam`` or ``virtualcam:/dev/video9``. A file that is called ``window`` is
        ``./window``.
    settings : SinkOptions

    Raises
    ------
    SinkError
        For anything else, and for what the sink itself refuses.
    """
    for pattern, factory in _ROWS:
        match = pattern.fullmatch(text)
        if match is not None:
            return factory(match, settings)
    return _file(Path(text), settings)


def open_sinks(outputs: Sequence[Output], settings: SinkOptions) -> Sink:
    """Return one sink for one or more outputs.

    Parameters
    ----------
    outputs : sequence of str, Path, callable or Sink
        A text as `open_sink` takes it; a path; a function as `CallbackSink` takes it; or a
        sink as it is.
    settings : SinkOptions

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
    try:
        for output in outputs:
            sinks.append(_opened(output, settings))  # noqa: PERF401 - what was opened is aborted
    except BaseException:
        for sink in sinks:
            sink.abort()
        raise
    if len(sinks) == 1:
        return sinks[0]
    return FanOutSink(sinks, notice=settings.notice, log=settings.log, names=names)


def _opened(output: Output, settings: SinkOptions) -> Sink:
    if isinstance(output, str):
        return open_sink(output, settings)
    if isinstance(output, Path):
        return _file(output, settings)
    if callable(output):
        return CallbackSink(output)
    return output


def _name(output: Output) -> str:
    if isinstance(output, (str, Path)):
        return redacted(str(output))
    # Two of one kind are two, by whatever they are.
    return f"{type(output).__name__} {id(output):#x}"


def is_path(text: str) -> bool:
    """Return whether an OUTPUT is a path, and so a file that can be there already."""
    return not any(pattern.fullmatch(text) for pattern, _ in _ROWS)


def _file(path: Path, settings: SinkOptions) -> Sink:
    if path.suffix.lower() in IMAGE_SUFFIXES:
        raise SinkError(f"{path}: holds one image, not a stream; use .mp4 or .mkv")
    if settings.info is None:
        from .recording import RecordingSink, recover_partials

        # Before the new one is numbered.
        recover_partials(path, settings.notice)
        return RecordingSink(
            path,
            settings.video,
            segment_s=settings.segment_s,
            overwrite=settings.overwrite,
            notice=settings.notice,
            log=settings.log,
            threads=settings.threads,
        )
    from .files import VideoFileSink

    return VideoFileSink(
        path,
        settings.info,
        settings.video,
        size=settings.size,
        overwrite=settings.overwrite,
        inputs=settings.inputs,
        notice=settings.notice,
        threads=settings.threads,
    )


def _y4m(_: re.Match[str], settings: SinkOptions) -> Sink:
    from .y4m import Y4mSink

    return Y4mSink(pix_fmt=settings.video.pix_fmt, notice=settings.notice)


def _push(match: re.Match[str], settings: SinkOptions) -> Sink:
    from .push import PushSink

    return PushSink(match[0], settings.video, log=settings.log, threads=settings.threads)


def _mjpeg(match: re.Match[str], settings: SinkOptions) -> Sink:
    # By name: the server's room is above this one.
    sink: Sink = import_module("edgerestore.server.mjpeg").open_sink(match, settings)
    return sink


def _window(_: re.Match[str], settings: SinkOptions) -> Sink:
    from .window import WindowSink

    return WindowSink(settings.controls)


def _virtual_camera(match: re.Match[str], settings: SinkOptions) -> Sink:
    from .virtual_camera import VirtualCameraSink

    rate = settings.info.rate if settings.info is not None else _VIRTUAL_RATE
    return VirtualCameraSink(match["device"], float(rate))


def _unknown_address(match: re.Match[str], _: SinkOptions) -> Sink:
    known = "rtsp:// rtsps:// rtmp:// rtmps:// udp:// tcp:// srt:// http://"
    raise SinkError(f"{redacted(match[0])}: cannot be sent to; known are {known}")


Factory = Callable[[re.Match[str], SinkOptions], Sink]

# Each imports what it needs when it is asked for; the first row that fits the whole text
# counts, and what fits none is a path.
_ROWS: tuple[tuple[re.Pattern[str], Factory], ...] = (
    (re.compile(r"-"), _y4m),
    (re.compile(r"(?:rtsps?|rtmps?|udp|tcp|srt)://.+", re.IGNORECASE), _push),
    (re.compile(r"http://(?P<address>[^/]+)(?P<path>/.*)?", re.IGNORECASE), _mjpeg),
    (re.compile(r"window"), _window),
    (re.compile(r"virtualcam(?::(?P<device>.+))?"), _virtual_camera),
    (re.compile(r"[a-z][a-z0-9+.-]*://.*", re.IGNORECASE), _unknown_address),
)
