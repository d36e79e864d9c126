"""Video encoding: encoder choice and setup."""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.frame import PictureType
from av.video.reformatter import Interpolation

from ...errors import SinkError
from ...imaging.arrays import Image
from .color import FromRgb, is_gray, is_rgb, sample_bits
from .frames import Frame, VideoInfo
from .rotation import HOLD_MATRIX, DisplayRotation

__all__ = [
    "ADVISED",
    "Encoding",
    "VideoEncoder",
    "VideoOptions",
    "check_size",
    "choose_encoding",
    "constant_clock",
    "info_of",
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
# Containers to fall back to: extension -> FFmpeg's name.
ADVISED = {".mkv": "matroska", ".mov": "mov", ".mp4": "mp4", ".avi": "avi"}
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
    codec = _find(container, options.codec, where, bits)
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


# Formats and encoders of one constant rate, which would state the clock's instead or refuse it.
_CONSTANT_RATE = ("avi", "dv", "mxf", "ogg", "ogv", "swf", "mpeg1video", "mpeg2video")
_LARGEST_MPEG4_CLOCK = 65_535


def constant_clock(container: str, codec: str, clock: Fraction, rate: Fraction) -> Fraction | None:
    """Return the clock of a format or an encoder of one constant rate.

    Parameters
    ----------
    container, codec : str
        FFmpeg's names.
    clock : Fraction
        Of the frames, in seconds.
    rate : Fraction
        Frames per second.

    Returns
    -------
    Fraction or None
        ``None`` where each frame may have its own time.
    """
    too_fine = codec == "mpeg4" and clock.denominator > _LARGEST_MPEG4_CLOCK
    return 1 / rate if too_fine or {container, codec} & {*_CONSTANT_RATE} else None


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


def _find(
    container: av.container.OutputContainer, name: str | None, where: object, bits: int
) -> av.Codec:
    supported = _held(container)
    if name is None:
        name = "libx264"
        if "libx264" not in supported:
            usual = container.default_video_codec
            name = {"vp9": "libvpx-vp9", "vp8": "libvpx", "av1": "libsvtav1"}.get(usual, usual)
            if name == "libvpx-vp9" and bits > 8:  # PyAV's holds 8
                name = "libsvtav1"
    try:
        codec = av.Codec(name, "w")
    except ValueError:
        codec = None
    if codec is None or codec.type != "video":
        there = [one for one in _SUGGESTED if one in av.codecs_available]
        raise SinkError(f"{where}: no video encoder {name}; there are {', '.join(there)}")
    if codec.name not in supported:
        holds = (end for end, form in ADVISED.items() if codec.name in _held_by(form))
        other = next((f"use {end} or " for end in holds), "")
        raise SinkError(
            f"{where}: {Path(str(where)).suffix or container.format.name} cannot hold {codec.name};"
            f" {other}choose another --codec"
        )
    return codec


def _held(container: av.container.OutputContainer) -> set[str]:
    """Return the encoders whose streams a container holds."""
    held = set(container.supported_codecs)
    if container.format.name == "mpegts":
        # PyAV does not list what a transport stream mostly holds.
        return held | {"libx264", "libx265"}
    # FFmpeg writes these and says that nothing will read them.
    return held - {"rawvideo"} if container.format.name in HOLD_MATRIX else held


def _held_by(container: str) -> set[str]:
    return _held(av.open(io.BytesIO(), "w", format=container))


def _default_format(formats: list[str], bits: int) -> str:
    preferred = "yuv420p" if bits <= 8 else "yuv420p10le"
    # Of mjpeg, whose limited range FFmpeg refuses and players take for full.
    if formats[:1] == ["yuvj420p"]:
        return "yuvj420p"
    if not formats or preferred in formats:
        return preferred

    def fitness(name: str) -> tuple[bool, bool, int]:
        pix_fmt = av.VideoFormat(name)
        return is_gray(pix_fmt), is_rgb(pix_fmt), abs(sample_bits(pix_fmt) - bits)

    return min(formats, key=fitness)


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
        self._takes_captions: bool | None = None
        self._muxer = muxer or container.format.name
        self.display = DisplayRotation(info, self._muxer)
        source_size = info.width, info.height
        self._from_rgb = FromRgb(encoding.pix_fmt, info.color, source_size, encoding.codec)
        stream = container.add_stream(encoding.codec, rate=info.rate, options=self._settings())
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
        if self.display.stored(image).shape[:2] != (height, width):
            _logger.warning(
                "%s: an odd last row or column is left out, for frames of %dx%d; %s holds none as"
                " %s (--pix-fmt yuv444p does)",
                self._where,
                width,
                height,
                self._encoding.codec,
                self._encoding.pix_fmt,
            )
        check_size(self._encoding, width, height, self._where)
        pixels = av.VideoFormat(self._encoding.pix_fmt)
        if image.shape[2:] == (4,) and not any(part.is_alpha for part in pixels.components):
            _logger.warning(
                "%s: its transparency is left out; %s holds none as %s, ffv1 does as yuva420p",
                self._where,
                self._encoding.codec,
                self._encoding.pix_fmt,
            )
        if pixels.has_palette:
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
        if self.stream.codec_context.name in _HEVC and self._muxer in HOLD_MATRIX:
            context.codec_tag = "hvc1"  # players of Apple's take no other
        context.thread_count = threads
        if key_frames_s is not None:
            context.gop_size = max(1, round(info.rate * Fraction(key_frames_s)))
        self.opened = True

    def encode(
        self, frame: Frame, pts: int, clock: Fraction, duration: int = 0
    ) -> list[av.Packet[av.VideoStream]]:
        """Encode a frame, u8 or u16 of shape (H, W) or (H, W, C); return the packets ready."""
        picture = self._from_rgb(self._stored(frame.image))
        if frame.captions is not None:
            picture = self._captioned(picture, frame.captions)
        picture.pts, picture.time_base = pts, clock
        if duration:
            picture.duration = duration
        return self.stream.encode(picture)

    def _captioned(self, picture: av.VideoFrame, captions: av.VideoFrame) -> av.VideoFrame:
        """Return a picture with closed captions, where the encoder writes them."""
        if self._takes_captions is None:
            options = self.stream.codec_context.supported_options.private
            self._takes_captions = any(option.name == "a53cc" for option in options)
            if not self._takes_captions:
                _logger.warning(
                    "%s: its closed captions are left out; %s cannot be given them, libx264 can",
                    self._where,
                    self._encoding.codec,
                )
        if not self._takes_captions:
            return picture
        made = captions.reformat(
            picture.width, picture.height, picture.format.name, interpolation=Interpolation.POINT
        )
        for to, plane in zip(made.planes, picture.planes, strict=True):
            rows, new = (
                np.frombuffer(memoryview(one), np.uint8).reshape(one.height, -1)
                for one in (to, plane)
            )
            length = min(rows.shape[1], new.shape[1])
            rows[:, :length] = new[:, :length]
        made.pict_type = PictureType.NONE  # the encoder chooses its own
        return made

    def _settings(self) -> dict[str, str]:
        """Return the encoder's settings; tell what of the source's depth and light it loses."""
        encoding, info = self._encoding, self._info
        bits = sample_bits(av.VideoFormat(encoding.pix_fmt))
        if bits < info.bits:
            _logger.warning(
                "%s: %d bits a sample become %d; %s holds no more as %s",
                self._where,
                info.bits,
                bits,
                encoding.codec,
                encoding.pix_fmt,
            )
        if info.hdr is None:
            return encoding.options
        settings = info.hdr.added_to(encoding.options, encoding.codec)
        if settings is None:
            _logger.warning(
                "%s: its HDR10 metadata is left out; %s cannot be given it, libx265 can",
                self._where,
                encoding.codec,
            )
        return settings or encoding.options

    def _stored(self, image: Image) -> Image:
        if image.dtype not in (np.uint8, np.uint16):
            raise SinkError(
                f"{self._where}: a video holds no {image.dtype} frames; use .tif images"
            )
        image = self.display.stored(image)
        if self._even and min(image.shape[:2]) > 1:
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
