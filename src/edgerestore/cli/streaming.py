"""``edgerestore run`` on cameras, streams and pipes: what was asked for becomes a `Live`."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction

from ..engine.restorer import Restorer
from ..errors import ArgumentError
from ..server.control import ControlServer
from ..streams.events import Event, EventKind
from ..streams.job import JobSummary
from ..streams.live import Live
from ..streams.media.encoding import VideoOptions
from ..streams.options import LiveOptions
from ..streams.progress import Progress
from ..streams.rules import Overrun
from ..streams.sinks.registry import is_path
from ..streams.sources.address import parse_address, redacted
from ..streams.sources.pipe import RawFormat
from ..streams.sources.registry import SourceOptions
from .durations import parse_duration

__all__ = ["StreamWishes", "is_stream", "run_stream"]

_STDOUT = "-"


@dataclass(frozen=True)
class StreamWishes:
    """The options of ``edgerestore run`` that concern streams, as they were typed."""

    segment: str | None
    control: str | None
    control_token: str | None
    max_staleness_s: float
    overrun: str
    retries: int | None
    stall_s: float
    size: str | None
    fps: str | None
    fourcc: str | None
    raw: str | None
    rtsp_transport: str
    target_fps: float | None
    lighter: tuple[str, ...]
    realtime: bool | None
    overwrite: bool
    progress: str

    def options(self, video: VideoOptions) -> LiveOptions:
        """Return them checked.

        Raises
        ------
        ArgumentError
            On the first that is not usable.
        """
        size = _size(self.size)
        rate = _rate(self.fps)
        width, height = size or (None, None)
        return LiveOptions(
            source=SourceOptions(
                width=width,
                height=height,
                fps=None if rate is None else float(rate),
                fourcc=self.fourcc,
                rtsp_transport=self.rtsp_transport,
                stall_s=self.stall_s,
                retries=self.retries,
                raw=_raw(self.raw, size, rate),
            ),
            video=video,
            overrun=None if self.overrun == "auto" else Overrun(self.overrun),
            max_staleness_s=self.max_staleness_s,
            segment_s=None if self.segment is None else parse_duration(self.segment),
            overwrite=self.overwrite,
            target_fps=self.target_fps,
            lighter=self.lighter,
            realtime=self.realtime,
        )


def is_stream(source: str, outputs: list[str], wishes: StreamWishes) -> bool:
    """Whether a run is more than one path restored into another.

    Raises
    ------
    ArgumentError
        When no output is named, and nothing else would be done with the frames.
    SourceError, SinkError
        On an address of an unknown kind.
    """
    if not outputs:
        raise ArgumentError("nothing to write to; add -o OUTPUT, or --preview")
    more = (wishes.segment, wishes.control, wishes.target_fps, wishes.raw)
    return (
        parse_address(source) is not None
        or len(outputs) > 1
        or not is_path(outputs[0])
        or any(one is not None for one in more)
    )


def run_stream(
    restorer: Restorer,
    source: str,
    outputs: list[str],
    wishes: StreamWishes,
    video: VideoOptions,
    stop: threading.Event,
    notice: Callable[[str], None],
) -> JobSummary:
    """Run a stream to its end, with its progress and its control endpoint.

    Parameters
    ----------
    restorer : Restorer
    source : str
    outputs : list of str
    wishes : StreamWishes
    video : VideoOptions
    stop : threading.Event
        Ends it once set.
    notice : callable
        Takes one line for a person.

    Raises
    ------
    EdgerestoreError
        As `Live` and `Live.run`.
    """
    reporter: Progress | None = None

    def tell(line: str) -> None:
        if reporter is not None:
            reporter.make_room()
        notice(line)

    def tell_event(event: Event) -> None:
        # Each change of state has an event beside it that says why; JSON has both.
        if wishes.progress != "json" and event.kind is not EventKind.STATE:
            tell(event.message)

    live = Live(restorer, source, outputs, wishes.options(video), listener=tell_event, notice=tell)
    with ExitStack() as stack:
        stack.enter_context(live)
        if wishes.control is not None:
            server = ControlServer(live, wishes.control, token=wishes.control_token)
            stack.enter_context(server)
            tell(f"control: http://{server.address}/")
        named = ", ".join(redacted(one) for one in outputs)
        # Standard output may be taken by frames.
        stdout = sys.stderr if _STDOUT in outputs else None
        progress = Progress(wishes.progress, live.telemetry, named, stdout=stdout)
        reporter = stack.enter_context(progress)
        summary = live.run(stop)
        reporter.done(summary.interrupted)
    return summary


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if not found or not (int(found[1]) and int(found[2])):
        raise ArgumentError(f"size is WIDTHxHEIGHT such as 1280x720, got {text!r}")
    return int(found[1]), int(found[2])


def _rate(text: str | None) -> Fraction | None:
    if text is None:
        return None
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not 0 < rate <= 1000:
        raise ArgumentError(f"fps is a number up to 1000 such as 30 or 30000/1001, got {text!r}")
    return rate


def _raw(
    pix_fmt: str | None, size: tuple[int, int] | None, rate: Fraction | None
) -> RawFormat | None:
    if pix_fmt is None:
        return None
    if size is None:
        raise ArgumentError("raw frames need their size; add --size WxH")
    return RawFormat(pix_fmt, *size, rate or Fraction(25))
