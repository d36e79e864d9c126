"""Video encoding: encoder choice and setup, display rotation, stream copy."""

from __future__ import annotations

import contextlib
import io
import logging
from collections import Counter
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import av
import numpy as np

from ...errors import SinkError, counted
from ...imaging.arrays import Image
from .color import FromRgb, is_gray, is_rgb, sample_bits
from .frames import Frame, Passthrough, VideoInfo

__all__ = [
    "DisplayRotation",
    "Encoding",
    "StreamCopier",
    "VideoEncoder",
    "VideoOptions",
    "check_size",
    "choose_encoding",
    "copied_tags",
    "info_of",
    "is_chapter_track",
    "stream_kind",
]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class VideoOptions:
    """Options of the encoder; ``None`` is the default.

    Parameters
    ----------
    codec : str or None
        An encoder of FFmpeg. By default ``libx264``, or what the container prefers where it
        cannot hold that.
    crf : float or None
        Constant quality, in the encoder's own scale; lower is better and larger.
    preset : str or None
        Speed against size, in the encoder's own words.
    pix_fmt : str or None
        By default ``yuv420p`` for 8 bit input and ``yuv420p10le`` for deeper input.
    audio : bool
        Copy the sound.
    """

    codec: str | None = None
    crf: float | None = None
    preset: str | None = None
    pix_fmt: str | None = None
    audio: bool = True


@dataclass(frozen=True)
class Encoding:
    """Encoder, pixel format and settings that were chosen."""

    codec: str
    pix_fmt: str
    options: dict[str, str]


# Visually lossless or close to it, at a speed that leaves the cores to the model.
_DEFAULTS: dict[str, dict[str, str]] = {
    "libx264": {"crf": "18", "preset": "veryfast"},
    "libx265": {"crf": "20", "preset": "veryfast", "x265-params": "log-level=error"},
    "libvpx-vp9": {"crf": "24", "b": "0", "deadline": "good", "cpu-used": "5", "row-mt": "1"},
    "libvpx": {"crf": "10", "b": "8M", "deadline": "good", "cpu-used": "5"},
    "libsvtav1": {"crf": "24", "preset": "9"},
}
_SUGGESTED = ("libx264", "libx265", "libvpx-vp9", "libsvtav1", "ffv1", "prores_ks", "mjpeg")
_HEVC = ("libx265", "hevc_vaapi", "hevc_qsv", "hevc_nvenc", "hevc_videotoolbox")
_NEEDS_EVEN = ("libx264", "libx265", "libsvtav1", "libopenh264", "h264", "hevc")


def choose_encoding(
    container: av.container.OutputContainer, options: VideoOptions, bits: int, where: object
) -> Encoding:
    """Choose the encoder, its pixel format and its settings.

    Parameters
    ----------
    container : av.container.OutputContainer
        Where the video goes.
    bits : int
        Bits of one sample of the source.
    where : object
        The output, for messages.

    Raises
    ------
    SinkError
        When the encoder does not exist, does not fit the container, or lacks a setting.
    """
    codec = _find(container, options.codec, where)
    formats = [one.name for one in codec.video_formats or ()]
    pix_fmt = options.pix_fmt or _default_format(formats, bits)
    if formats and pix_fmt not in formats:
        raise SinkError(
            f"{where}: {codec.name} does not take --pix-fmt {pix_fmt};"
            f" it takes {', '.join(formats[:8])}"
        )
    settings = dict(_DEFAULTS.get(codec.name, {}))
    wanted = {"crf": None if options.crf is None else f"{options.crf:g}", "preset": options.preset}
    context = av.CodecContext.create(codec.name, "w")
    known = {option.name for option in context.supported_options.private}
    for name, value in wanted.items():
        if value is None:
            continue
        if name not in known:
            raise SinkError(f"{where}: {codec.name} has no --{name}; leave it out")
        settings[name] = value
    return Encoding(codec.name, pix_fmt, settings)


def check_size(encoding: Encoding, width: int, height: int, where: object) -> None:
    """Refuse a frame that the encoder cannot hold in its pixel format.

    Raises
    ------
    SinkError
        For an odd side that chroma of half the size cannot cover.
    """
    across, down = _halves_chroma(encoding.pix_fmt)
    odd = (width % 2 and across) or (height % 2 and down)
    if odd and encoding.codec.startswith(_NEEDS_EVEN):
        raise SinkError(
            f"{where}: {encoding.codec} cannot hold {width}x{height} pixels as"
            f" {encoding.pix_fmt}, an odd side; add --pix-fmt yuv444p"
        )


def _find(container: av.container.OutputContainer, name: str | None, where: object) -> av.Codec:
    supported = set(container.supported_codecs)
    if container.format.name == "mpegts":
        # PyAV does not list what a transport stream mostly holds.
        supported |= {"libx264", "libx265"}
    if name is None:
        name = "libx264"
        if "libx264" not in supported:
            usual = container.default_video_codec
            name = {"vp9": "libvpx-vp9", "vp8": "libvpx", "av1": "libsvtav1"}.get(usual, usual)
    try:
        codec = av.Codec(name, "w")
    except ValueError:
        codec = None
    if codec is None or codec.type != "video":
        there = [one for one in _SUGGESTED if one in av.codecs_available]
        raise SinkError(f"{where}: no video encoder {name}; there are {', '.join(there)}")
    if codec.name not in supported:
        other = "" if container.format.name == "matroska" else "use .mkv or "
        raise SinkError(
            f"{where}: a {container.format.name} file cannot hold {codec.name};"
            f" {other}choose another --codec"
        )
    return codec


def _default_format(formats: list[str], bits: int) -> str:
    preferred = "yuv420p" if bits <= 8 else "yuv420p10le"
    if formats[:1] == [
        "yuvj420p"
    ]:  # mjpeg, whose limited range FFmpeg refuses and players take for full
        return "yuvj420p"
    if not formats or preferred in formats:
        return preferred

    def fitness(name: str) -> tuple[bool, bool, int]:
        pix_fmt = av.VideoFormat(name)
        return is_gray(pix_fmt), is_rgb(pix_fmt), abs(sample_bits(pix_fmt) - bits)

    return min(formats, key=fitness)


# What a container writes about itself, or about the stream as it was encoded before.
_STALE = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration", "bps"}
_STALE_STARTS = ("_statistics_", "number_of_")


_TS_NONSTRICT = 0x20000  # AVFMT_TS_NONSTRICT: times need not increase


class StreamCopier:
    """Stream copy: the other streams of a source, added to an output without re-encoding.

    Parameters
    ----------
    output : av.container.OutputContainer
        Its header is not written yet.
    info : VideoInfo
    audio : bool
        Copy the sound.
    where : object
        The output, for messages.
    """

    def __init__(
        self, output: av.container.OutputContainer, info: VideoInfo, *, audio: bool, where: object
    ) -> None:
        self._output, self._where = output, where
        self._streams: dict[int, av.stream.Stream] = {}
        self._last_dts: dict[int, int] = {}
        self._moved: Counter[int] = Counter()
        self._strict = not output.format.flags & _TS_NONSTRICT
        for stream in info.others:
            if stream.type == "audio" and not audio:
                continue
            if is_chapter_track(stream, info) or _is_timecode(stream, info, output.format.name):
                continue
            picture = info.covers.get(stream.index)
            if picture is not None and output.format.name == "matroska":
                name, kind = _cover_name(stream)
                output.add_attachment(name, kind, picture)
                continue
            if not _fits(output.format.name, stream):
                _logger.warning(
                    "%s: stream %d (%s) is left out; a %s file cannot take it",
                    where,
                    stream.index,
                    f"{stream.type} {getattr(stream, 'name', None) or ''}".strip(),
                    output.format.name,
                )
                continue
            copy = _added(output, stream)
            copy.metadata.update(copied_tags(stream.metadata))
            copy.disposition = stream.disposition
            self._streams[stream.index] = copy

    def write(self, item: Passthrough) -> None:
        """Write a packet of a stream that is copied; any other is let go."""
        stream, packet = self._streams.get(item.stream), item.packet
        if stream is None:
            return
        if packet.time_base and stream.time_base:
            by = packet.time_base / stream.time_base
            packet.pts, packet.dts = (
                None if one is None else round(one * by) for one in (packet.pts, packet.dts)
            )
            packet.duration = round((packet.duration or 0) * by)
            packet.time_base = stream.time_base
        self._give_time(packet, item.stream, stream)
        packet.stream = stream
        self._output.mux(packet)

    def report(self) -> None:
        """Tell what was changed of the packets."""
        for index, count in self._moved.items():
            _logger.warning(
                "%s: stream %d (%s): %s stood still or ran back in time;"
                " moved behind the one before",
                self._where,
                index,
                self._streams[index].type,
                counted(count, "packet"),
            )

    def _give_time(self, packet: av.Packet[Any], index: int, stream: av.stream.Stream) -> None:
        """Give a packet a time that the container takes: later than the one before, mostly."""
        last = self._last_dts.get(index)
        if packet.pts is None and packet.dts is None:  # a cover has none
            packet.pts = packet.dts = 0 if last is None else last + 1
        if packet.dts is None:
            if stream.type == "video":
                return  # the muxer works it out from the order of what is shown
            packet.dts = packet.pts
        # Lines that begin together are no fault, nor are units shorter than a tick.
        strict = self._strict and stream.type in ("audio", "video")
        least = None if last is None else last + strict
        if packet.dts is not None and least is not None and packet.dts < least:
            if packet.pts is not None and packet.pts >= packet.dts:
                packet.pts = max(packet.pts, least)
            packet.dts = least
            self._moved[index] += 1
        if packet.dts is not None:
            self._last_dts[index] = packet.dts


def _cover_name(stream: av.stream.Stream) -> tuple[str, str]:
    """Return the file name and the media type of a picture that is attached."""
    codec = stream.codec_context.name if stream.codec_context is not None else "jpg"
    ending = {"mjpeg": "jpg"}.get(codec, codec)
    usual = f"cover.{ending}", f"image/{'jpeg' if ending == 'jpg' else ending}"
    return stream.metadata.get("filename", usual[0]), stream.metadata.get("mimetype", usual[1])


def copied_tags(tags: dict[str, str]) -> dict[str, str]:
    """Return the tags that stay true in another file."""
    return {
        key: value
        for key, value in tags.items()
        if key.lower() not in _STALE and not key.lower().startswith(_STALE_STARTS)
    }


def is_chapter_track(stream: av.stream.Stream, info: VideoInfo) -> bool:
    """Return whether a stream holds mp4's chapter titles: the output gets it with its chapters."""
    return stream.type == "data" and 0 < stream.frames == len(info.chapters)


def _is_timecode(stream: av.stream.Stream, info: VideoInfo, container: str) -> bool:
    """Return whether a stream is QuickTime's timecode, which the muxer makes from its tag."""
    tagged = "timecode" in stream.metadata and "timecode" in info.stream_metadata
    return stream.type == "data" and tagged and container in _HOLD_MATRIX


def _fits(container: str, stream: av.stream.Stream) -> bool:
    # Only a header that was written proves it: for some containers and streams FFmpeg
    # answers the question itself wrongly.
    trial = av.open(io.BytesIO(), "w", format=container)
    try:
        _added(trial, stream)
        trial.start_encoding()
        trial.close()  # mp4 looks at a stream when it writes its index
    except (av.error.FFmpegError, ValueError):
        with contextlib.suppress(av.error.FFmpegError, ValueError):
            trial.close()
        return False
    return True


_USUAL_LAYOUTS = {1: "mono", 2: "stereo"}


def _added(output: av.container.OutputContainer, stream: av.stream.Stream) -> av.stream.Stream:
    """Add a stream like another one."""
    if isinstance(stream, av.AudioStream) and stream.codec_context.name.startswith("pcm_"):
        # An AVI counts channels and does not name them; mp4 wants names.
        layout = _USUAL_LAYOUTS.get(stream.codec_context.layout.nb_channels)
        if layout is not None:
            stream.codec_context.layout = layout
            copy = output.add_stream_from_template(stream, opaque=False)
            copy.codec_context.layout = layout
            return copy
    return output.add_stream_from_template(stream, opaque=True)


# Containers whose header takes a display matrix, by FFmpeg's name.
_HOLD_MATRIX = {"mp4", "mov", "ipod", "3gp", "3g2", "psp", "ismv", "f4v"}
_ONE = 1 << 16


class DisplayRotation:
    """Rotation for display: kept in the header where the format can, else applied to pixels.

    Parameters
    ----------
    info : VideoInfo
    container : str
        FFmpeg's name of the output's format.

    Attributes
    ----------
    matrix : tuple of 9 int, or None
        What to write into the header; ``None`` where nothing is to be written.
    """

    def __init__(self, info: VideoInfo, container: str) -> None:
        matrix = info.display_matrix
        self.matrix = matrix if container in _HOLD_MATRIX else None
        self._turn = None
        if matrix is not None and self.matrix is None:
            self._turn = tuple(round(matrix[index] / _ONE) for index in (0, 1, 3, 4))

    @property
    def _swaps_sides(self) -> bool:
        return self._turn is not None and self._turn[0] == 0

    def stored_size(self, width: int, height: int) -> tuple[int, int]:
        """Return the size that a frame of ``width x height`` is encoded at."""
        return (height, width) if self._swaps_sides else (width, height)

    def stored_aspect(self, aspect: Fraction) -> Fraction:
        """Return the shape of an encoded pixel."""
        return 1 / aspect if self._swaps_sides and aspect else aspect

    def stored(self, image: Image) -> Image:
        """Return a frame as it is encoded: the same array, or a turned copy.

        A turn by anything but quarters (which no camera writes) is not applied.
        """
        if self._turn is None:
            return image
        a, b, c, d = self._turn
        if (a == 0) != (d == 0) or (b == 0) != (c == 0) or (a == 0) == (b == 0):
            return image
        # The matrix takes a stored point (x, y) to (a x + c y, b x + d y) on the screen.
        image = np.swapaxes(image, 0, 1) if a == 0 else image
        x, y = (c, b) if a == 0 else (a, d)
        return np.ascontiguousarray(image[:: -1 if y < 0 else 1, :: -1 if x < 0 else 1])


class VideoEncoder:
    """Encoder of the frames of one stream, all of the first one's size, turned for display.

    Parameters
    ----------
    container : av.container.OutputContainer
        Its header is not written yet.
    encoding : Encoding
    info : VideoInfo
        Of the source.
    where : object
        The output, for messages.
    muxer : str
        FFmpeg's name of the format, where the container's own does not say it.
    even : bool
        Leave out an odd last row or column that the pixel format does not hold, which is an
        error otherwise.

    Attributes
    ----------
    stream : av.VideoStream
    display : DisplayRotation
    opened : bool
        Whether its settings are complete.
    """

    def __init__(
        self,
        container: av.container.OutputContainer,
        encoding: Encoding,
        info: VideoInfo,
        where: object,
        *,
        muxer: str = "",
        even: bool = False,
    ) -> None:
        self._encoding, self._info, self._where = encoding, info, where
        self._even = even and any(_halves_chroma(encoding.pix_fmt))
        self.opened = False
        self._muxer = muxer or container.format.name
        self.display = DisplayRotation(info, self._muxer)
        source_size = info.width, info.height
        self._from_rgb = FromRgb(encoding.pix_fmt, info.color, source_size, encoding.codec)
        stream = container.add_stream(encoding.codec, rate=info.rate, options=encoding.options)
        if not isinstance(stream, av.VideoStream):
            raise TypeError(f"{encoding.codec} made a {stream.type} stream")
        self.stream = stream

    def open(
        self, image: Image, clock: Fraction, *, threads: int, key_frames_s: float | None = None
    ) -> None:
        """Complete the settings, for the container's header to be written.

        Parameters
        ----------
        image : ndarray
            The first frame, as `encode` takes it.
        clock : Fraction
            Seconds of one unit of its timestamps.
        threads : int
            Threads that encode.
        key_frames_s : float or None
            Seconds from one key frame to the next; ``None`` leaves it to the encoder.

        Raises
        ------
        SinkError
            For frames that the encoder cannot hold.
        """
        height, width = self._stored(image).shape[:2]
        check_size(self._encoding, width, height, self._where)
        if av.VideoFormat(self._encoding.pix_fmt).has_palette:
            _logger.warning(
                "%s: %s holds 256 colours a frame; each gets its own palette",
                self._where,
                self._encoding.codec,
            )
        context, info = self.stream.codec_context, self._info
        tags = self._from_rgb.tags_for(width, height)
        context.width, context.height = width, height
        context.pix_fmt = self._encoding.pix_fmt
        context.time_base = self.stream.time_base = clock
        context.color_primaries = tags.primaries
        context.color_trc = tags.transfer
        context.colorspace = tags.matrix
        if tags.full_range is not None:
            context.color_range = 2 if tags.full_range else 1
        if info.sample_aspect_ratio is not None:
            context.sample_aspect_ratio = self.display.stored_aspect(info.sample_aspect_ratio)
        if self.stream.codec_context.name in _HEVC and self._muxer in _HOLD_MATRIX:
            context.codec_tag = "hvc1"  # players of Apple's take no other
        context.thread_count = threads
        if key_frames_s is not None:
            context.gop_size = max(1, round(info.rate * Fraction(key_frames_s)))
        self.opened = True

    def encode(
        self, image: Image, pts: int, clock: Fraction, duration: int = 0
    ) -> list[av.Packet[av.VideoStream]]:
        """Encode a frame, u8 or u16 of shape (H, W) or (H, W, C); return the packets ready."""
        picture = self._from_rgb(self._stored(image))
        picture.pts, picture.time_base = pts, clock
        if duration:
            picture.duration = duration
        return self.stream.encode(picture)

    def _stored(self, image: Image) -> Image:
        if image.dtype not in (np.uint8, np.uint16):
            raise SinkError(
                f"{self._where}: a video holds no {image.dtype} frames; use .tif images"
            )
        image = self.display.stored(image)
        if self._even:
            height, width = image.shape[:2]
            image = image[: height - height % 2, : width - width % 2]
        return image


def _halves_chroma(pix_fmt: str) -> tuple[bool, bool]:
    parts = av.VideoFormat(pix_fmt, 8, 8).components
    return any(part.width < 8 for part in parts), any(part.height < 8 for part in parts)


_USUAL_RATE = Fraction(30)
_SLOWEST, _FASTEST = Fraction(1, 60), Fraction(1000)
_FINEST = 1_001_000


def info_of(frame: Frame) -> VideoInfo:
    """Return a frame's info, with the frame's own clock.

    Of a frame that brings none (from Python): its size and depth, and the rate by its duration,
    30 a second without one.
    """
    info = frame.info
    if info is None:
        height, width = frame.image.shape[:2]
        rate = _USUAL_RATE
        if frame.duration > 0:
            rate = 1 / (frame.duration * frame.time_base)
            # An encoder plans by it, and FFmpeg holds it in two small numbers.
            rate = min(max(rate, _SLOWEST), _FASTEST).limit_denominator(_FINEST)
        bits = min(16, 8 * frame.image.dtype.itemsize)
        return VideoInfo(width, height, frame.time_base, rate, bits=bits)
    if info.time_base != frame.time_base:
        return replace(info, time_base=frame.time_base)
    return info


def stream_kind(frame: Frame, info: VideoInfo) -> tuple[object, ...]:
    """Return what cannot change within one encoded stream, to be compared."""
    return (
        frame.image.shape,
        frame.image.dtype,
        info.bits,
        info.color,
        info.sample_aspect_ratio,
        info.display_matrix,
    )
