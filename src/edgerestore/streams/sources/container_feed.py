"""Frames of one container that FFmpeg reads as it comes: a network stream, a pipe."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import av
from av.codec.context import Flags

from ..media.color import ToRgb, sample_bits, stream_tags
from ..media.facts import VideoFacts
from ..media.frames import Frame
from .causes import feed_errors
from .feed import FeedError, Held
from .pacing import Pace

__all__ = ["LIVE_TIME_BASE", "ContainerFeed", "Timing", "nearest_rate"]

LIVE_TIME_BASE = Fraction(1, 90_000)
"""The clock of RTP and MPEG-TS, which every common frame rate divides."""

# Reading goes on behind a damaged place; this many failures in a row mean the end.
_FAILURES_IN_A_ROW = 64
_USUAL_RATE = Fraction(25)

# Formats that carry no time: what FFmpeg says of it is a rate it made up.
_TIMELESS = ("mpjpeg", "mjpeg", "h264", "hevc", "image2", "jpeg_pipe", "png_pipe")


class Timing:
    """Where the time of a feed's frames comes from.

    Parameters
    ----------
    container : av.container.InputContainer
    paced : bool
        Hand frames over when they are due, not when they came: for streams that come in
        bursts, a file's worth or a segment at a time.
    """

    def __init__(self, container: av.container.InputContainer, *, paced: bool) -> None:
        self.by_clock = container.format.name.split(",")[0].startswith(_TIMELESS)
        self.pace = Pace() if paced else None


class ContainerFeed:
    """A `Feed` over an open container.

    Sound and everything else that is not the video is left alone.

    Parameters
    ----------
    container : av.container.InputContainer
        Opened with a time-out for reading; the feed owns it.
    where : str
        The address, redacted, for messages.
    finite : bool
        Its end is no loss.
    timing : Timing or None
        ``None`` is the container's own time, as fast as it comes.
    rate : Fraction or None
        Frames per second; ``None`` believes the stream.
    threads : int
        Threads that decode. Each works on a part of one picture: decoding several pictures
        at once is faster and that many pictures late.
    at_end : callable or None
        Told once the container has ended, with the place in it behind the last packet;
        returns how many frames were cut off.

    Raises
    ------
    FeedError
        When there is no video in it.
    """

    def __init__(
        self,
        container: av.container.InputContainer,
        where: str,
        *,
        finite: bool,
        timing: Timing | None = None,
        rate: Fraction | None = None,
        threads: int = 1,
        at_end: Callable[[int], int] | None = None,
    ) -> None:
        self.lost: Counter[str] = Counter()
        self.finite = finite
        self._container = container
        self._where = where
        self._timing = timing or Timing(container, paced=False)
        self._rate = rate
        self._at_end = at_end
        self._held = Held(container.close)
        self._facts: VideoFacts | None = None
        self._look: tuple[object, ...] = ()
        self._behind = 0
        try:
            self._video = self._choose(threads)
        except BaseException:
            container.close()
            raise
        self._frames = self._read()

    @property
    def facts(self) -> VideoFacts:
        """What the video says of itself; known once the first frame has come."""
        if self._facts is None:
            raise RuntimeError("facts are asked for before the first frame")
        return self._facts

    def __iter__(self) -> Iterator[Frame]:
        """Return the one iterator over what comes."""
        return self._frames

    def close(self) -> None:
        """Let go of the connection, as the protocol says."""
        if self._timing.pace is not None:
            self._timing.pace.stop()
        self._held.let_go()

    def _choose(self, threads: int) -> av.VideoStream:
        videos = self._container.streams.video
        if not videos:
            raise FeedError(f"{self._where}: sends no video; check the address", "no video")
        video = videos[0]
        context = video.codec_context
        if context is None:
            raise FeedError(f"{self._where}: nothing here decodes its video", "no decoder")
        video.thread_type = "SLICE"
        context.thread_count = threads
        # Without it the H.264 decoder holds pictures back in case one of an earlier time
        # comes; where the stream says that there are such, it has to.
        if not context.has_b_frames:
            context.flags |= Flags.low_delay
        if context.name == "mjpeg":
            # A picture that is cut off would otherwise come with its rest grey.
            context.options = {"err_detect": "explode"}
        return video

    def _read(self) -> Generator[Frame, None, None]:
        pace = self._timing.pace
        for packet in self._packets():
            for frame in self._decode(packet):
                if pace is None:
                    yield frame
                elif pace.wait(frame.pts * frame.time_base):
                    yield _now(frame)
                else:
                    return
        if self._at_end is not None:
            self._count("cut off", self._at_end(self._behind))

    def _packets(self) -> Iterator[av.Packet[Any]]:
        """Yield the video's packets, going on behind places that cannot be read."""
        failures = 0
        packets = self._container.demux(self._video)
        while True:
            try:
                with self._held.inside() as open_, feed_errors(self._where):
                    packet = next(packets, None) if open_ else None
            except FeedError as error:
                if error.cause != "no video":
                    raise
                # A generator that raised is at its end; the container is not.
                packets = self._container.demux(self._video)
                failures += 1
                self._count("damaged place")
                if failures >= _FAILURES_IN_A_ROW:
                    raise
                continue
            if packet is None:
                return
            failures = 0
            yield packet

    def _decode(self, packet: av.Packet[Any]) -> list[Frame]:
        # Whatever is asked of a stream is read from the container's memory, so nothing of it
        # may be touched outside: it may have been closed by then.
        with self._held.inside() as open_:
            if not open_:
                return []
            if packet.pos is not None and packet.size:
                self._behind = max(self._behind, packet.pos + packet.size)
            frames = []
            for picture in self._pictures(packet):
                if picture.is_corrupt:
                    self._count("broken picture")
                else:
                    frames.append(self._frame(picture))
            return frames

    def _pictures(self, packet: av.Packet[Any]) -> list[av.VideoFrame]:
        try:
            return self._video.decode(packet if packet.size else None)
        except av.error.EOFError:
            return []
        except av.error.FFmpegError:
            # Whatever the decoder does not like about it, the next one may be better; if none
            # is, somebody notices the silence.
            self._count("broken packet")
            return []

    def _frame(self, picture: av.VideoFrame) -> Frame:
        captured_s = time.perf_counter()
        facts = self._follow(picture)
        pts, duration = picture.pts, picture.duration or 0
        if self._timing.by_clock or pts is None:
            pts, duration = round(captured_s / facts.time_base), 0
        return Frame(
            self._to_rgb(picture),
            pts,
            facts.time_base,
            duration,
            captured_s=captured_s,
            facts=facts,
        )

    def _follow(self, picture: av.VideoFrame) -> VideoFacts:
        """Return the facts that hold for a picture: the same object while nothing changes."""
        video = self._video
        tags = stream_tags(video, picture)
        aspect = video.sample_aspect_ratio
        rate = self._nominal_rate()
        look = picture.width, picture.height, picture.format.name, tags, aspect, rate
        if self._facts is None or look != self._look:
            self._look = look
            self._to_rgb = ToRgb(tags, video.codec_context.name)
            self._facts = VideoFacts(
                width=picture.width,
                height=picture.height,
                time_base=(None if self._timing.by_clock else video.time_base) or LIVE_TIME_BASE,
                rate=rate,
                bits=sample_bits(picture.format),
                color=tags,
                sample_aspect_ratio=aspect,
                pix_fmt=picture.format.name,
            )
        return self._facts

    def _nominal_rate(self) -> Fraction:
        guessed = self._rate or self._video.guessed_rate or self._video.average_rate
        return guessed or _USUAL_RATE

    def _count(self, cause: str, count: int = 1) -> None:
        if count:
            self.lost[cause] += count


def nearest_rate(fps: float) -> Fraction:
    """Return frames per second as a fraction: 29.97 is the broadcasters' 30000/1001."""
    thousands = round(fps * 1.001)
    if thousands and abs(thousands - fps * 1.001) < 1e-3 and fps != round(fps):
        return Fraction(thousands * 1000, 1001)
    return Fraction(fps).limit_denominator(1000)


def _now(frame: Frame) -> Frame:
    return replace(frame, captured_s=time.perf_counter())
