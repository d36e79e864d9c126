"""What a person writes as OUTPUT, and the sink that it means."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import SinkError
from ...imaging.arrays import Image
from ...imaging.image_files import IMAGE_SUFFIXES
from ..events import EventLog
from ..media.facts import VideoFacts
from ..media.frames import Frame
from ..media.options import VideoOptions
from ..protocols.controls import Controls
from ..protocols.sink import Sink
from ..sources.address import redacted

Output = str | Path | Callable[[Image, Frame], object] | Sink
"""What may be named as an output."""

_VIRTUAL_RATE = 30  # of a virtual camera whose source has not said its own yet

__all__ = ["Output", "OutputSettings", "is_path", "open_sink", "open_sinks"]


@dataclass(frozen=True)
class OutputSettings:
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
    facts : VideoFacts or None
        Of a source that is a file: the output is then one whole file. ``None`` for a live
        source, whose frames bring them.
    size : (int, int) or None
        Width and height of restored frames, where ``facts`` are there.
    inputs : sequence of Path
        Files that must not be replaced.
    controls : Controls or None
        What the keys and the slider of a window turn.
    """

    notice: Callable[[str], None]
    log: EventLog | None = None
    video: VideoOptions = field(default_factory=VideoOptions)
    segment_s: float | None = None
    overwrite: bool = False
    threads: int = 1
    facts: VideoFacts | None = None
    size: tuple[int, int] | None = None
    inputs: Sequence[Path] = ()
    controls: Controls | None = None


def open_sink(text: str, settings: OutputSettings) -> Sink:
    """Return the sink that an OUTPUT means.

    What a killed recording of the same name left is recovered first.

    Parameters
    ----------
    text : str
        A path of a video file; ``-`` (y4m); ``rtsp://``, ``rtmp://``, ``udp://``, ``tcp://``,
        ``srt://`` (to send there); ``http://host:port`` (to be looked at there); ``window``;
        ``virtualcam`` or ``virtualcam:/dev/video9``. A file that is called ``window`` is
        ``./window``.
    settings : OutputSettings

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


def open_sinks(outputs: Sequence[Output], settings: OutputSettings) -> Sink:
    """Return one sink for one or more outputs.

    Parameters
    ----------
    outputs : sequence of str, Path, callable or Sink
        A text as `open_sink` takes it; a path; a function as `CallbackSink` takes it; or a
        sink as it is.
    settings : OutputSettings

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


def _opened(output: Output, settings: OutputSettings) -> Sink:
    if isinstance(output, str):
        return open_sink(output, settings)
    if isinstance(output, Path):
        return _file(output, settings)
    if callable(output):
        from .callback import CallbackSink

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


def _file(path: Path, settings: OutputSettings) -> Sink:
    if path.suffix.lower() in IMAGE_SUFFIXES:
        raise SinkError(f"{path}: holds one image, not a stream; use .mp4 or .mkv")
    if settings.facts is None:
        from .recording import RecordingSink
        from .recovery import recover_partials

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
    from .video_file import VideoFileSink

    return VideoFileSink(
        path,
        settings.facts,
        settings.video,
        size=settings.size,
        overwrite=settings.overwrite,
        inputs=settings.inputs,
        notice=settings.notice,
        threads=settings.threads,
    )


def _y4m(_: re.Match[str], settings: OutputSettings) -> Sink:
    from .y4m import Y4mSink

    return Y4mSink(pix_fmt=settings.video.pix_fmt, notice=settings.notice)


def _push(match: re.Match[str], settings: OutputSettings) -> Sink:
    from .push import PushSink

    return PushSink(match[0], settings.video, log=settings.log, threads=settings.threads)


def _mjpeg(match: re.Match[str], _: OutputSettings) -> Sink:
    from ...server.address import parse_address
    from ...server.mjpeg import MjpegSink

    if "@" in match["address"]:
        raise SinkError(f"{redacted(match[0])}: takes no login; use http://127.0.0.1:8080")
    address = parse_address(match["address"])
    return MjpegSink(address.host, address.port, path=match["path"] or "/")


def _window(_: re.Match[str], settings: OutputSettings) -> Sink:
    from .window import WindowSink

    return WindowSink(settings.controls)


def _virtual_camera(match: re.Match[str], settings: OutputSettings) -> Sink:
    from .virtual_camera import VirtualCameraSink

    rate = settings.facts.rate if settings.facts is not None else _VIRTUAL_RATE
    return VirtualCameraSink(match["device"], float(rate))


def _unknown_address(match: re.Match[str], _: OutputSettings) -> Sink:
    known = "rtsp:// rtsps:// rtmp:// rtmps:// udp:// tcp:// srt:// http://"
    raise SinkError(f"{redacted(match[0])}: cannot be sent to; known are {known}")


Factory = Callable[[re.Match[str], OutputSettings], Sink]

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
