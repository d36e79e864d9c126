"""Connections read by FFmpeg: RTSP, HTTP (MJPEG, HLS, files), MPEG-TS, RTMP, SRT, pipes."""

from __future__ import annotations

import base64
import logging
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

import av
from av.codec.context import Flags

from ...errors import SourceError
from ...imaging.stated_size import MAX_PIXELS, decoder_options, refuse_pixels
from ..events import EventLog
from ..media.color import ToRgb, sample_bits, stream_tags
from ..media.deinterlacing import Deinterlacer
from ..media.display import captions_of, display_matrix
from ..media.frames import LIVE_TIME_BASE, Frame, VideoInfo
from ..media.hdr import hdr_metadata
from ..options import SourceOptions
from ..protocols import Source
from .address import Address
from .connection import ConnectionFailedError, ConnectionSource, SharedHandle, connection_errors
from .file_clock import FileClock
from .h264 import PictureNumbers, decoding_threads, joined
from .http_bytes import HttpBytes
from .live_source import LiveSource
from .timeline import Pacer

__all__ = ["ContainerConnection", "open_network", "open_source"]

_logger = logging.getLogger(__name__)

# Reading goes on behind a damaged place; this many failures in a row mean the end.
_FAILURES_IN_A_ROW = 64
_USUAL_RATE = Fraction(25)
_LONGEST_HOLD_S = 10.0

# Formats that carry no time: what FFmpeg says of it is a rate it made up.
_TIMELESS = ("mpjpeg", "mjpeg", "h264", "hevc", "image2", "jpeg_pipe", "png_pipe")


class ContainerConnection:
    """`Connection` over an open container.

    Sound and everything else that is not the video is left alone.

    Parameters
    ----------
    container : av.container.InputContainer
        Opened with a time-out for reading; the connection owns it.
    where : str
        The address, redacted, for messages.
    finite : bool
        Its end is no loss.
    paced : bool
        Hand frames over when they are due, not when they came: for streams that come in
        bursts, a file's worth or a segment at a time.
    rate : Fraction or None
        Frames per second; ``None`` believes the stream.
    threads : int
        Threads that may decode (`decoding_threads`). Each works on a part of one picture: decoding
        several pictures at once is faster and that many pictures late.
    deinterlace : bool
        Interlaced pictures become whole ones, one picture late.
    keep_gaps : bool
        Of a finite one, as `FileClock` takes it.
    max_pixels : int or None
        Larger pictures are not decoded.
    hold_damaged : bool
        After a damaged picture, the next one that is handed out is a key frame: pictures between
        the two are built on what is damaged.
    body : HttpBytes or None
        What the container is read through, if not by FFmpeg alone; the connection owns it.
    cut_off : callable or None
        Given the place behind the last packet when the container has ended; returns how many
        frames were cut off there.

    Raises
    ------
    ConnectionFailedError
        When there is no video in it.
    """

    def __init__(
        self,
        container: av.container.InputContainer,
        where: str,
        *,
        finite: bool,
        paced: bool = False,
        rate: Fraction | None = None,
        threads: int = 1,
        deinterlace: bool = True,
        keep_gaps: bool = False,
        max_pixels: int | None = MAX_PIXELS,
        hold_damaged: bool = False,
        body: HttpBytes | None = None,
        cut_off: Callable[[int], int] | None = None,
    ) -> None:
        self.lost: Counter[str] = Counter()
        self.finite = finite
        self._container = container
        self._where = where
        self._by_clock = container.format.name.split(",")[0].startswith(_TIMELESS)
        self._pacer = Pacer() if paced else None
        self._rate = rate
        self._cut_off = cut_off
        self._body = body
        self._handle = SharedHandle(self._release)
        # Elsewhere the wall clock mends what jumps.
        timed = finite and not self._by_clock
        self._clock = FileClock(container, keep_gaps=keep_gaps) if timed else None
        self._info: VideoInfo | None = None
        self._look: tuple[object, ...] = ()
        self._behind = 0
        self._told_interlaced = False
        self._hold_damaged = hold_damaged
        self._damaged_s: float | None = None
        self._numbers: PictureNumbers | None = None
        try:
            self._video = self._choose(threads, max_pixels)
        except BaseException:
            self._release()
            raise
        clock = self._video.time_base or LIVE_TIME_BASE
        self._deinterlacer = Deinterlacer(clock) if deinterlace else None
        self._frames = self._read()

    def __iter__(self) -> Iterator[Frame]:
        """Return the one iterator over what comes."""
        return self._frames

    def close(self) -> None:
        """Close the container, as the protocol says."""
        if self._pacer is not None:
            self._pacer.stop()
        self._handle.close()

    def _release(self) -> None:
        self._container.close()
        if self._body is not None:
            self._body.close()

    def _choose(self, threads: int, max_pixels: int | None) -> av.VideoStream:
        videos = self._container.streams.video
        if not videos:
            raise ConnectionFailedError(
                f"{self._where}: sends no video; check the address", "no video"
            )
        video = videos[0]
        context = video.codec_context
        if context is None:
            raise ConnectionFailedError(
                f"{self._where}: nothing here decodes its video", "no decoder"
            )
        try:
            refuse_pixels(context.width, context.height, self._where, max_pixels)
        except SourceError as error:
            raise ConnectionFailedError(str(error), "too large", permanent=True) from error
        video.thread_type = "SLICE"
        rate = video.guessed_rate or video.average_rate or _USUAL_RATE
        context.thread_count = decoding_threads(context, rate, threads)
        parameters = context.extradata or b""
        has_lengths = parameters[:1] == b"\1"  # instead of start codes
        if context.name == "h264" and not has_lengths:
            self._numbers = PictureNumbers(parameters)
        # Without it the H.264 decoder holds pictures back in case one of an earlier time
        # comes; where the stream says that there are such, it has to.
        if not context.has_b_frames:
            context.flags |= Flags.low_delay
        options = decoder_options(max_pixels)
        if context.name == "mjpeg":
            # A picture that is cut off would otherwise come with its rest grey.
            options["err_detect"] = "explode"
        context.options = options
        return video

    def _read(self) -> Generator[Frame, None, None]:
        pacer, packets = self._pacer, self._packets()
        for packet in joined(packets) if self._numbers else packets:
            if self._numbers and self._numbers.lost_before(packet):
                self._count("lost picture")
                self._damaged_s = time.perf_counter()
            for frame in self._decode(packet):
                if pacer is None:
                    yield frame
                elif pacer.wait(frame.pts * frame.time_base):
                    yield replace(frame, captured_s=time.perf_counter())
                else:
                    return
        if self._clock is not None:
            self._clock.report(self._where)
        if self._cut_off is not None:
            self._count("cut off", self._cut_off(self._behind))

    def _packets(self) -> Iterator[av.Packet[Any]]:
        """Yield the video's packets, going on behind places that cannot be read."""
        failures = 0
        packets = self._container.demux(self._video)
        while True:
            try:
                with self._handle.inside() as open_, connection_errors(self._where):
                    packet = next(packets, None) if open_ else None
                    if packet is not None and self._clock is not None:
                        self._clock.set(packet)
            except ConnectionFailedError as error:
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
            if self._body is not None:
                self._body.restart()
            yield packet

    def _decode(self, packet: av.Packet[Any]) -> list[Frame]:
        # Whatever is asked of a stream is read from the container's memory, so nothing of it
        # may be touched outside: it may have been closed by then.
        with self._handle.inside() as open_:
            if not open_:
                return []
            if packet.pos is not None and packet.size:
                self._behind = max(self._behind, packet.pos + packet.size)
            frames: list[Frame] = []
            for picture in self._pictures(packet):
                if picture.is_corrupt:
                    self._count("broken picture")
                    self._damaged_s = time.perf_counter()
                elif self._is_held(picture):
                    self._count("held back until a key frame")
                else:
                    frames += map(self._frame, self._whole(picture))
            if not packet.size and self._deinterlacer is not None:
                frames += map(self._frame, self._deinterlacer.flush())
            return frames

    def _whole(self, picture: av.VideoFrame) -> Iterable[av.VideoFrame]:
        """Return the pictures that are ready, deinterlaced; tell of the first interlaced one."""
        if picture.interlaced_frame and not self._told_interlaced:
            self._told_interlaced = True
            done = "deinterlaced (--deinterlace off keeps them)"
            if self._deinterlacer is None:
                done = "restored as they are, and marked progressive"
            _logger.warning("%s: has interlaced frames; %s", self._where, done)
        return [picture] if self._deinterlacer is None else self._deinterlacer(picture)

    def _pictures(self, packet: av.Packet[Any]) -> list[av.VideoFrame]:
        try:
            return self._video.decode(packet if packet.size else None)
        except av.error.EOFError:
            return []
        except av.error.FFmpegError:
            # Whatever the decoder does not like about it, the next one may be better; if none
            # is, somebody notices the silence.
            self._count("broken packet")
            self._damaged_s = time.perf_counter()
            return []

    def _is_held(self, picture: av.VideoFrame) -> bool:
        """Return whether a picture is held back since it is built on a damaged one."""
        if self._damaged_s is None or not self._hold_damaged:
            return False
        # Some streams have no key frames: they renew the picture bit by bit.
        over = time.perf_counter() - self._damaged_s > _LONGEST_HOLD_S
        if picture.key_frame or over:
            self._damaged_s = None
        return self._damaged_s is not None

    def _frame(self, picture: av.VideoFrame) -> Frame:
        captured_s = time.perf_counter()
        info = self._follow(picture)
        pts, duration = picture.pts, picture.duration or 0
        if self._by_clock or pts is None:
            pts, duration = round(captured_s / info.time_base), 0
        image = self._to_rgb(picture)
        return Frame(
            image,
            pts,
            info.time_base,
            duration,
            captured_s=captured_s,
            info=info,
            captions=captions_of(picture),
        )

    def _follow(self, picture: av.VideoFrame) -> VideoInfo:
        """Return the info of a picture: the same object while nothing changes."""
        video = self._video
        tags = stream_tags(video, picture)
        aspect = video.sample_aspect_ratio
        rate = self._rate or video.guessed_rate or video.average_rate or _USUAL_RATE
        look = picture.width, picture.height, picture.format.name, tags, aspect, rate
        if self._info is None or look != self._look:
            self._look = look
            self._to_rgb = ToRgb(tags, video.codec_context.name)
            self._info = VideoInfo(
                width=picture.width,
                height=picture.height,
                time_base=(None if self._by_clock else video.time_base) or LIVE_TIME_BASE,
                rate=rate,
                bits=sample_bits(picture.format),
                color=tags,
                sample_aspect_ratio=aspect,
                display_matrix=display_matrix(picture),
                hdr=hdr_metadata(picture),
                pix_fmt=picture.format.name,
            )
        return self._info

    def _count(self, cause: str, count: int = 1) -> None:
        if count:
            self.lost[cause] += count


# How much of a stream FFmpeg looks at before it gives its first packet. Its own 5 s and 5 MB
# are for files; pictures of any size and rate are found in less.
_LOOK_AT = {"analyzeduration": "1500000", "probesize": "1000000", "fpsprobesize": "3"}

# Not set: `fflags=nobuffer`. It throws away what was looked at, the first key frame with it,
# and so trades a start within a second for one within a key frame's interval; what it saves,
# a live source drops by itself.
_BY_SCHEME: dict[str, dict[str, str]] = {
    "rtsp": {"allowed_media_types": "video", "max_delay": "500000"},
    "rtsps": {"allowed_media_types": "video", "max_delay": "500000"},
    "udp": {"overrun_nonfatal": "1", "fifo_size": "50000", "buffer_size": "4194304"},
    "rtmp": {"rtmp_live": "live"},
}

_PAGE_STARTS = (b"<!doctype html", b"<html")


def open_source(address: Address, options: SourceOptions, log: EventLog) -> Source:
    """Open an address on the network, as the registry of sources does."""
    connect = partial(open_network, address, options)
    if address.is_file and not options.paced:
        return ConnectionSource(partial(connect, paced=False), str(address))
    return LiveSource.of(address, options, connect, log)


def open_network(
    address: Address, options: SourceOptions, *, paced: bool = True
) -> ContainerConnection:
    """Connect to a stream on the network.

    Waits for the connection, and for enough of the stream to know what it is.

    Parameters
    ----------
    address : Address
    options : SourceOptions
    paced : bool
        Hand out what comes in bursts (a file, the segments of HLS) in real time.

    Raises
    ------
    ConnectionFailedError
        When it does not answer, refuses, or sends no video; permanent where trying again is
        of no use.
    """
    where = str(address)
    container, body = _connect(address, where, options)
    over_http = address.scheme in ("http", "https")
    finite = over_http and (container.duration or 0) > 0
    try:
        return ContainerConnection(
            container,
            where,
            finite=finite,
            paced=paced and (finite or "hls" in container.format.name),
            rate=options.rate,
            threads=options.threads,
            deinterlace=options.deinterlace,
            keep_gaps=options.keep_gaps,
            max_pixels=options.max_pixels,
            hold_damaged=options.hold_damaged,
            body=body,
        )
    except ConnectionFailedError as error:
        if over_http:
            raise ConnectionFailedError(str(error), error.cause, permanent=True) from error
        raise


def _connect(
    address: Address, where: str, options: SourceOptions
) -> tuple[av.container.InputContainer, HttpBytes | None]:
    """Return an open container, and what it is read through."""
    settings = _LOOK_AT | _BY_SCHEME.get(address.scheme, {})
    if address.scheme.startswith("rtsp"):
        settings["rtsp_transport"] = options.rtsp_transport
    timeout_s = options.open_timeout_s, options.stall_s  # to open, and for each packet
    try:
        with connection_errors(where), ExitStack() as unused:
            if address.scheme in ("http", "https") and not address.is_file:
                body = HttpBytes(address.text, where, timeout_s, settings)
                unused.callback(body.close)
                form = body.format()
                if form is not None:
                    made = av.open(body, "r", form, options=settings, metadata_errors="replace")
                    unused.pop_all()
                    return made, body
                unused.close()
            text = address.text
            return av.open(
                text, timeout=timeout_s, options=settings, metadata_errors="replace"
            ), None
    except ConnectionFailedError as error:
        raise _explained(error, address, where, options.open_timeout_s) from error.__cause__


def _explained(
    error: ConnectionFailedError, address: Address, where: str, timeout_s: float
) -> ConnectionFailedError:
    """Return a more precise error where a second look at the address gives one."""
    if error.cause == "unknown protocol":
        line = (
            f"{where}: the installed PyAV cannot read {address.scheme}://; use rtsp:// or http://"
        )
        return ConnectionFailedError(line, error.cause, permanent=True)
    over_http = address.scheme in ("http", "https")
    if error.cause == "no video" and over_http and _is_page(address, timeout_s):
        line = f"{where}: answers with a web page, not a stream; give the stream's own address"
        return ConnectionFailedError(line, "web page", permanent=True)
    return error


def _is_page(address: Address, timeout_s: float) -> bool:
    """Return whether an address answers with HTML."""
    login, _, host = urlsplit(address.text).netloc.rpartition("@")
    request = Request(urlsplit(address.text)._replace(netloc=host, fragment="").geturl())  # noqa: S310 - http or https, by the caller
    try:
        try:
            return _answers_page(request, timeout_s)
        except HTTPError as error:
            wanted = error.headers.get("WWW-Authenticate", "")
            error.close()
            if not (login and error.code == HTTPStatus.UNAUTHORIZED and wanted.startswith("Basic")):
                return False
            # As FFmpeg does: only where it is asked for, and not where that points on to.
            token = base64.b64encode(unquote(login).encode()).decode("ascii")
            request.add_unredirected_header("Authorization", f"Basic {token}")
            return _answers_page(request, timeout_s)
    except HTTPError as error:
        error.close()
        return False
    except (URLError, OSError, ValueError):
        return False


def _answers_page(request: Request, timeout_s: float) -> bool:
    with urlopen(request, timeout=timeout_s) as answer:  # noqa: S310 - http or https, by the caller
        kind = answer.headers.get_content_type()
        start = answer.read(64)
    pages = ("text/html", "application/xhtml+xml")
    return kind in pages or start.lstrip().lower().startswith(_PAGE_STARTS)
