"""One connection of a pushed stream: an encoder, and a muxer that waits on a thread of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from fractions import Fraction
from typing import NamedTuple

import av
import numpy as np

from ...errors import SinkError
from ...imaging.arrays import Image
from ..media.color import FromRgb
from ..media.display import Display
from ..media.facts import VideoFacts
from ..media.frames import Frame
from ..media.options import Encoding, VideoOptions, check_size, choose_encoding
from .encoder import prepare_encoder

__all__ = ["PushConnection", "PushKind", "check_push_options"]

# AV_CODEC_FLAG_GLOBAL_HEADER: these formats say once, in their header, how to decode.
_GLOBAL_HEADER = 1 << 22
_CLOCK = Fraction(1, 90_000)
# A viewer who comes late sees nothing before the next key frame.
_KEY_FRAMES_S = Fraction(3, 2)
_QUALITY = {"libx264": "23", "libx265": "25"}
_FAST = {
    "libx264": {"tune": "zerolatency"},
    "libx265": {"tune": "zerolatency"},
    "libvpx-vp9": {"deadline": "realtime", "lag-in-frames": "0"},
    "libvpx": {"deadline": "realtime", "lag-in-frames": "0"},
}


class PushKind(NamedTuple):
    """How a kind of address is written to.

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


def check_push_options(kind: PushKind, options: VideoOptions, where: str) -> None:
    """Refuse an encoder that the format does not hold, before anything is connected.

    Raises
    ------
    SinkError
    """
    _choose_encoding(kind, options, where)


class PushConnection:
    """Connects with the first frame, and stands for that one connection.

    FFmpeg's ``fifo`` muxer does the connecting and sending on a native thread: its other
    muxers hold Python's global lock while they connect, and one silent server would stop the
    whole process. Its queue holds one packet, so that `send` returning three times means that
    the server answered.

    Parameters
    ----------
    url : str
        With its login.
    kind : PushKind
    facts : VideoFacts
    options : VideoOptions
    frame : Frame
        The first; decides the size.
    threads : int
        Of the encoder.
    timeout_s : float
        How long the other side may stay silent.
    where : str
        The address for messages, without its login.
    """

    def __init__(
        self,
        url: str,
        kind: PushKind,
        facts: VideoFacts,
        options: VideoOptions,
        frame: Frame,
        *,
        timeout_s: float,
        threads: int,
        where: str,
    ) -> None:
        self._where = where
        self.packets = 0
        self._start_s = frame.pts * frame.time_base
        self._last_pts = -1
        encoding = _choose_encoding(kind, options, where)
        self._display = Display(facts, kind.format)
        self._even = _halves_chroma(encoding.pix_fmt)
        image = self._fitted(frame.image)
        height, width = image.shape[:2]
        check_size(encoding, width, height, where)
        self._from_rgb = FromRgb(
            encoding.pix_fmt, facts.color, (facts.width, facts.height), encoding.codec
        )
        self._container = av.open(
            url, "w", format="fifo", container_options=_fifo_options(kind, timeout_s)
        )
        stream = self._container.add_stream(
            encoding.codec, rate=facts.rate, options=encoding.options
        )
        if not isinstance(stream, av.VideoStream):
            raise TypeError(f"{encoding.codec} made a {stream.type} stream")
        self._stream = stream
        aspect = facts.sample_aspect_ratio
        prepare_encoder(
            stream,
            size=(width, height),
            pix_fmt=encoding.pix_fmt,
            clock=_CLOCK,
            tags=self._from_rgb.tags_for(width, height),
            aspect=None if aspect is None else self._display.stored_aspect(aspect),
            threads=threads,
        )
        context = stream.codec_context
        context.gop_size = max(1, round(facts.rate * _KEY_FRAMES_S))
        context.max_b_frames = 0
        if kind.global_header:
            context.flags |= _GLOBAL_HEADER

    @property
    def answered(self) -> bool:
        """Whether the other side has taken what was sent so far but for what is queued."""
        return self.packets >= 3

    def send(self, frame: Frame) -> None:
        """Encode a frame and hand it over, waiting for the other side.

        Raises
        ------
        av.error.FFmpegError
            When the connection failed, now or with an earlier frame.
        """
        pts = round((frame.pts * frame.time_base - self._start_s) / _CLOCK)
        if pts <= self._last_pts:
            return
        self._last_pts = pts
        picture = self._from_rgb(self._fitted(frame.image))
        picture.pts, picture.time_base = pts, _CLOCK
        self._mux(self._stream.encode(picture))

    def finish(self) -> None:
        """Send what the encoder holds, and say goodbye.

        Where the other side stalls at this very moment, closing holds Python's lock until the
        time-out: at most two packets are on their way then.
        """
        self._mux(self._stream.encode(None))
        self._container.close()

    def drop(self) -> None:
        """Let go of the connection. Never raises."""
        with contextlib.suppress(Exception):
            self._container.close()

    def _mux(self, packets: list[av.Packet[av.VideoStream]]) -> None:
        for packet in packets:
            self._container.mux(packet)
            self.packets += 1

    def _fitted(self, image: Image) -> Image:
        """Return a frame as it is encoded: turned, and without an odd last row or column.

        A stream that runs for weeks is not to end for a line of it, so that is no error.
        """
        if image.dtype not in (np.uint8, np.uint16):
            raise SinkError(f"{self._where}: a video holds no {image.dtype} frames")
        image = self._display.stored(image)
        if self._even:
            height, width = image.shape[:2]
            image = image[: height - height % 2, : width - width % 2]
        return image


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


def _halves_chroma(pix_fmt: str) -> bool:
    chroma = av.VideoFormat(pix_fmt, 4, 4).components
    return any(part.width < 4 or part.height < 4 for part in chroma)


def _fifo_options(kind: PushKind, timeout_s: float) -> dict[str, str]:
    timeout = str(round(timeout_s * 1e6))
    options = {kind.timeout: timeout, "flush_packets": "1", **kind.options}
    return {
        "fifo_format": kind.format,
        "queue_size": "1",
        "format_opts": ":".join(f"{name}={value}" for name, value in options.items()),
    }
