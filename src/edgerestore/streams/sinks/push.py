"""Sink that pushes encoded video to a server or viewer on the network."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import av

from ...errors import SinkError
from ...imaging.error_translation import translate
from ..events import EventKind
from ..frame_buffer import BufferAbortedError, BufferEndedError, FrameBuffer, Overrun
from ..media.encoding import (
    Encoding,
    VideoEncoder,
    VideoOptions,
    choose_encoding,
    info_of,
    stream_kind,
)
from ..media.frames import LIVE_TIME_BASE, Frame, Item, VideoInfo
from ..options import SinkOptions
from ..sources.address import redacted
from ..sources.reconnect import Backoff

__all__ = ["PUSH_KINDS", "PushConnection", "PushKind", "PushSink", "check_sink", "open_sink"]

# AV_CODEC_FLAG_GLOBAL_HEADER: these formats say once, in their header, how to decode.
_GLOBAL_HEADER = 1 << 22
# A viewer who comes late sees nothing before the next key frame.
_KEY_FRAMES_S = 1.5
_QUALITY = {"libx264": "23", "libx265": "25"}
_FAST = {
    "libx264": {"tune": "zerolatency"},
    "libx265": {"tune": "zerolatency"},
    "libvpx-vp9": {"deadline": "realtime", "lag-in-frames": "0"},
    "libvpx": {"deadline": "realtime", "lag-in-frames": "0"},
}


class PushKind(NamedTuple):
    """Muxer and options for a kind of address.

    Parameters
    ----------
    format : str
        FFmpeg's muxer.
    encoders : str
        The format whose encoders are taken: some muxers do not say what they hold.
    global_header : bool
    timeout : str
        What its option for the longest silence is called; in microseconds.
    options : mapping of str
        For the muxer and the protocol. FFmpeg fails on one that neither knows.
    """

    format: str
    encoders: str
    global_header: bool
    timeout: str
    options: Mapping[str, str]


class PushConnection:
    """Connection to a target, made with the first frame.

    FFmpeg's ``fifo`` muxer does the connecting and sending on a native thread: its other
    muxers hold Python's global lock while they connect, and one silent server would stop the
    whole process. Its queue holds one packet, so that `send` returning three times means that
    the server answered.

    Parameters
    ----------
    url : str
        With its login.
    kind : PushKind
    info : VideoInfo
    options : SinkOptions
    frame : Frame
        The first; decides the size.
    timeout_s : float
        How long the other side may stay silent.
    where : str
        The address for messages, without its login.
    """

    def __init__(
        self,
        url: str,
        kind: PushKind,
        info: VideoInfo,
        options: SinkOptions,
        frame: Frame,
        *,
        timeout_s: float,
        where: str,
    ) -> None:
        self.packets = 0
        self._start_s = frame.pts * frame.time_base
        self._last_pts = -1
        settings = {kind.timeout: str(round(timeout_s * 1e6)), "flush_packets": "1", **kind.options}
        fifo = {
            "fifo_format": kind.format,
            "queue_size": "1",
            "format_opts": ":".join(f"{name}={value}" for name, value in settings.items()),
        }
        self._container = av.open(url, "w", format="fifo", container_options=fifo)
        # A stream that runs for weeks does not end for an odd line of its picture.
        encoding = _choose_encoding(kind, options.video, where)
        self._encoder = VideoEncoder(
            self._container, encoding, info, where, muxer=kind.format, even=True
        )
        self._encoder.open(
            frame.image, LIVE_TIME_BASE, threads=options.threads, key_frames_s=_KEY_FRAMES_S
        )
        context = self._encoder.stream.codec_context
        context.max_b_frames = 0
        if kind.global_header:
            context.flags |= _GLOBAL_HEADER

    def send(self, frame: Frame) -> None:
        """Encode a frame and hand it over, waiting for the other side.

        Raises
        ------
        av.error.FFmpegError
            When the connection failed, now or with an earlier frame.
        """
        pts = round((frame.pts * frame.time_base - self._start_s) / LIVE_TIME_BASE)
        if pts <= self._last_pts:
            return
        self._last_pts = pts
        self._mux(self._encoder.encode(frame, pts, LIVE_TIME_BASE))

    def finish(self) -> None:
        """Send what the encoder holds, and end the connection.

        Where the other side stalls at this very moment, closing holds Python's lock until the
        time-out: at most two packets are on their way then.
        """
        self._mux(self._encoder.stream.encode(None))
        self._container.close()

    def drop(self) -> None:
        """Close the connection. Never raises."""
        with contextlib.suppress(Exception):
            self._container.close()

    def _mux(self, packets: list[av.Packet[av.VideoStream]]) -> None:
        for packet in packets:
            self._container.mux(packet)
            self.packets += 1


def _choose_encoding(kind: PushKind, options: VideoOptions, where: str) -> Encoding:
    unopened = av.open("unopened", "w", format=kind.encoders)
    if options.codec in av.codecs_available and options.codec not in unopened.supported_codecs:
        raise SinkError(f"{where}: this stream cannot hold {options.codec}; leave --codec out")
    # 8 bits whatever comes: hardly a player decodes deeper H.264.
    encoding = choose_encoding(unopened, options, 8, where)
    unopened.close()
    settings = {**encoding.options, **_FAST.get(encoding.codec, {})}
    if options.crf is None and encoding.codec in _QUALITY:
        settings["crf"] = _QUALITY[encoding.codec]
    return Encoding(encoding.codec, encoding.pix_fmt, settings)


_RTSP = PushKind("rtsp", "mp4", True, "timeout", {"rtsp_transport": "tcp"})
_FLV = PushKind("flv", "flv", True, "rw_timeout", {"flvflags": "no_duration_filesize"})

PUSH_KINDS = {
    "rtsp": _RTSP,
    "rtsps": _RTSP,
    "rtmp": _FLV,
    "rtmps": _FLV,
    # 1316 bytes: seven packets of the transport stream, which no network cuts.
    "udp": PushKind("mpegts", "mp4", False, "rw_timeout", {"pkt_size": "1316"}),
    "tcp": PushKind("mpegts", "mp4", False, "timeout", {}),
    "srt": PushKind("mpegts", "mp4", False, "rw_timeout", {}),
}
"""How each scheme of an address is written to."""

# What FFmpeg has only where it was built with another library.
_OPTIONAL = ("srt", "rtmps", "rtsps")
# Two, so that one may be encoded while the next comes in.
_QUEUED_FRAMES = 2
# A server that takes a connection and drops it at once is not there again.
_STANDS_S = 10.0


def open_sink(match: re.Match[str], options: SinkOptions) -> PushSink:
    """Open an address to send to, as the registry of sinks does."""
    return PushSink(match[0], options)


def check_sink(match: re.Match[str], options: SinkOptions) -> None:
    """Refuse an address or an encoder as `open_sink` would; nothing is connected."""
    PushSink(match[0], options)


class PushSink:
    """`Sink` that encodes for low delay and sends to an address.

    `write` never waits. Connecting, encoding and sending happen on a thread of their own; of
    what comes meanwhile the newest two frames are kept. A target that is absent or goes away
    is tried again after 1 s, 2 s, and so on up to 30 s, for as long as the stream runs; the
    frames of that time are dropped. Frames of another size or kind begin another connection.

    Parameters
    ----------
    url : str
        ``rtsp://``, ``rtsps://`` (over TCP), ``rtmp://``, ``rtmps://``, and as MPEG-TS
        ``udp://``, ``tcp://``, ``srt://``.
    options : SinkOptions
        By default H.264 at crf 23, ``veryfast``, ``zerolatency``, a key frame every 1.5 s. Its
        ``log`` receives when the target answers, and why it was lost; never a login.
    timeout_s : float
        How long the target may stay silent.
    backoff : Backoff or None

    Attributes
    ----------
    dropped : Counter of str
        Frames that were not sent, by cause: ``slow``, ``not connected``.
    connected : bool
        Whether the target takes frames now.

    Raises
    ------
    SinkError
        For an unknown scheme, or an encoder that the format does not hold.
    """

    skips = True
    wants_original = False

    def __init__(
        self,
        url: str,
        options: SinkOptions,
        *,
        timeout_s: float = 5.0,
        backoff: Backoff | None = None,
    ) -> None:
        self.dropped: Counter[str] = Counter()
        self.connected = False
        scheme, separator, rest = url.partition("://")
        self._url = scheme.lower() + separator + rest
        self._where = redacted(self._url)
        kind = PUSH_KINDS.get(scheme.lower())
        if kind is None:
            known = " ".join(f"{one}://" for one in PUSH_KINDS)
            raise SinkError(f"{self._where}: cannot be sent to; send to one of {known}")
        self._kind = kind
        self._options = options
        self._timeout_s = timeout_s
        self._backoff = backoff or Backoff()
        _check_protocol(scheme.lower(), self._where)
        _choose_encoding(self._kind, options.video, self._where)  # refused before it is connected
        self._connection: PushConnection | None = None
        self._sent: tuple[object, ...] = ()
        self._connected_s = 0.0
        self._told: tuple[object, ...] = ()
        self._buffer = FrameBuffer(_QUEUED_FRAMES, Overrun.DROP_OLDEST, on_drop=self._count)
        self._ending = threading.Event()
        self._failure: BaseException | None = None
        self._thread: threading.Thread | None = None

    def write(self, item: Item) -> None:
        """Queue a frame for the thread that sends.

        Raised is what no other attempt would mend: the encoder refuses the frames.
        """
        if not isinstance(item, Frame):
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="edgerestore-push")
            self._thread.start()
        if self._failure is not None:
            raise self._failure
        self._buffer.put(item)

    def close(self) -> None:
        """Send what is left, if the target takes it, and end the connection."""
        self._buffer.end()
        self._join()
        if self._failure is not None:
            raise self._failure

    def abort(self) -> None:
        """Close the connection."""
        self._buffer.abort()
        self._join()

    def _join(self) -> None:
        self._ending.set()
        if self._thread is not None:
            self._thread.join()

    def _count(self, cause: str) -> None:
        """Count a dropped frame; those left at the end are not counted."""
        if cause == "overrun":
            self.dropped["slow" if self.connected else "not connected"] += 1
        elif cause != "ended":
            self.dropped[cause] += 1

    def _run(self) -> None:
        try:
            with contextlib.suppress(BufferAbortedError):
                with contextlib.suppress(BufferEndedError):
                    while isinstance(frame := self._buffer.get(), Frame):
                        self._attempt(partial(PushConnection.send, frame=frame), frame)
                if self._connection is not None:
                    self._attempt(PushConnection.finish)
        except BaseException as error:
            self._failure = error
        finally:
            self._drop()

    def _attempt(
        self, action: Callable[[PushConnection], None], frame: Frame | None = None
    ) -> None:
        try:
            if frame is not None:
                self._connect(frame)
            if self._connection is not None:
                action(self._connection)
                self._note_answer(self._connection)
        except (av.error.FFmpegError, OSError) as error:
            self._lose(error)

    def _connect(self, frame: Frame) -> None:
        """Connect, unless the present connection fits the frame."""
        info = info_of(frame)
        kind = stream_kind(frame, info)
        if self._connection is not None and self._sent != kind:
            self._connection.finish()
            self._connection = None
        if self._connection is None:
            self._sent = kind
            self._connection = PushConnection(
                self._url,
                self._kind,
                info,
                self._options,
                frame,
                timeout_s=self._timeout_s,
                where=self._where,
            )

    def _note_answer(self, connection: PushConnection) -> None:
        if connection.packets < 3:  # the others may still be queued
            return
        now_s = time.perf_counter()
        if not self.connected:
            self.connected = True
            self._connected_s = now_s
            self._told = ()
            self._tell(f"{self._where}: takes frames", "connected")
        elif now_s - self._connected_s > _STANDS_S:
            self._backoff.reset()

    def _lose(self, error: Exception) -> None:
        """Close the connection, report why, and wait until the next attempt."""
        was_connected = self.connected
        self._drop()
        if self._ending.is_set():
            self._buffer.abort()  # not another attempt for each frame that is left
            return
        longest, wait_s = self._backoff.longest, self._backoff.next_s()
        self._tell_lost(error, wait_s, "lost" if was_connected else "absent", longest=longest)
        self._ending.wait(wait_s)
        self._buffer.clear("not connected")  # those before have made room, and are counted

    def _tell_lost(self, error: Exception, wait_s: float, cause: str, *, longest: bool) -> None:
        message = str(translate(error, SinkError, self._where))
        if isinstance(error, av.error.ArgumentError):
            # How FFmpeg reports a server that says nothing, or nothing of the protocol.
            message = f"{self._where}: does not answer as it should; check the address"
        told = (message, cause, longest)
        # A target that is away for a week is told of until nothing about it changes any more.
        if not longest or told != self._told:
            self._told = told
            self._tell(f"{message}; trying again in {wait_s:.2g} s", cause, retry_in_s=wait_s)

    def _drop(self) -> None:
        self.connected = False
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.drop()

    def _tell(self, message: str, cause: str, **details: object) -> None:
        if self._options.log is not None:
            self._options.log.record(
                EventKind.OUTPUT, message, cause, output=self._where, **details
            )


def _check_protocol(scheme: str, where: str) -> None:
    """Refuse a scheme that this FFmpeg was built without."""
    if scheme not in _OPTIONAL:
        return
    try:
        # Nobody listens there, or at least nobody who would answer.
        av.open(f"{scheme}://127.0.0.1:1/", timeout=0.1).close()
    except av.error.ProtocolNotFoundError as error:
        raise SinkError(
            f"{where}: this FFmpeg was built without {scheme}; use another kind of address"
        ) from error
    except (av.error.FFmpegError, OSError):
        return
