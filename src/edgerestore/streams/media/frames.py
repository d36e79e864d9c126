"""Frames, packets and stream information that travel from a source to a sink."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from ...imaging.arrays import Image
from ...imaging.image_files import ImageTags
from .hdr import HdrMetadata

__all__ = [
    "DONE",
    "LIVE_TIME_BASE",
    "ColorTags",
    "Frame",
    "Item",
    "Passthrough",
    "VideoInfo",
    "file_address",
    "image_info",
    "nearest_rate",
]

LIVE_TIME_BASE = Fraction(1, 90_000)
"""The clock of RTP and MPEG-TS, which every common frame rate divides."""

_RATE_TOLERANCE = 0.05  # a guessed rate wavers from connection to connection

UNSPECIFIED = 2
"""FFmpeg's number for a primaries, transfer or matrix that is not stated."""


@dataclass(frozen=True)
class ColorTags:
    """Colour tags, by the numbers of ITU-T H.273 (which are FFmpeg's).

    Parameters
    ----------
    primaries, transfer, matrix : int
        2 where unspecified; matrix 0 is RGB.
    full_range : bool or None
        ``None`` where unspecified.
    """

    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    matrix: int = UNSPECIFIED
    full_range: bool | None = None


@dataclass(frozen=True, eq=False)
class VideoInfo:
    """Properties of a video stream.

    Parameters
    ----------
    width, height : int
        Pixels as stored, before any rotation for display.
    time_base, rate : Fraction
        Seconds of one timestamp unit; frames per second, a mean where they vary.
    bits : int
        Bits of one sample: 8, 10, 12, 16.
    color : ColorTags
    sample_aspect_ratio : Fraction or None
        Width of a pixel over its height; ``None`` or 1 where square.
    display_matrix : tuple of 9 int, or None
        How to turn the picture for display, in FFmpeg's fixed point layout.
    hdr : HdrMetadata or None
        Of HDR10 video.
    metadata, stream_metadata : mapping of str
        Tags of the file, and of the video stream.
    disposition : int
        FFmpeg's bits: default, forced, ...
    chapters : tuple of dict
        As PyAV gives and takes them.
    others : tuple of av.Stream
        The other streams, whose packets may be handed through.
    covers : mapping of int to bytes
        Pictures that are attached to the file, by the index of their stream.
    loops : int or None
        How often a GIF is repeated: -1 never, 0 for ever; ``None`` of all else.
    pix_fmt : str
        FFmpeg's name of the pixel format; empty where unspecified.
    """

    width: int
    height: int
    time_base: Fraction
    rate: Fraction
    bits: int = 8
    color: ColorTags = field(default_factory=ColorTags)
    sample_aspect_ratio: Fraction | None = None
    display_matrix: tuple[int, ...] | None = None
    hdr: HdrMetadata | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    stream_metadata: Mapping[str, str] = field(default_factory=dict)
    disposition: int = 0
    chapters: tuple[dict[str, Any], ...] = ()
    others: tuple[av.stream.Stream, ...] = ()
    covers: Mapping[int, bytes] = field(default_factory=dict)
    loops: int | None = None
    pix_fmt: str = ""

    def __str__(self) -> str:
        """Return size, pixel format and rate, for a person."""
        form = f" {self.pix_fmt}" if self.pix_fmt else ""
        return f"{self.width} x {self.height}{form} at {float(self.rate):.4g} frames a second"

    def as_dict(self) -> dict[str, Any]:
        """Return size, pixel format and rate, for JSON."""
        rate = round(float(self.rate), 3)
        return {"width": self.width, "height": self.height, "rate": rate, "pix_fmt": self.pix_fmt}

    def same_as(self, other: VideoInfo) -> bool:
        """Return whether nothing differs but a rate that wavers by less than a twentieth."""
        if abs(float(self.rate - other.rate)) > _RATE_TOLERANCE * float(self.rate):
            return False
        return replace(other, rate=self.rate).__dict__ == self.__dict__


def image_info(image: Image, rate: Fraction, pix_fmt: str, last: VideoInfo | None) -> VideoInfo:
    """Return the info of an RGB or grey array of a live source; ``last`` while nothing changes."""
    height, width = image.shape[:2]
    bits = min(16, 8 * image.dtype.itemsize)
    look = width, height, bits, pix_fmt
    if last is not None and (last.width, last.height, last.bits, last.pix_fmt) == look:
        return last
    rgb = ColorTags(matrix=0, full_range=True)
    return VideoInfo(width, height, LIVE_TIME_BASE, rate, bits, rgb, pix_fmt=pix_fmt)


@dataclass(frozen=True, eq=False, slots=True)
class Frame:
    """Frame of a stream.

    Parameters
    ----------
    image : ndarray, u8, u16 or f32, shape (H, W) or (H, W, C), RGB order
        Owned by the frame: who holds the frame may keep it and must not write to it.
    pts : int
        When the picture is shown, in units of ``time_base``. Strictly increasing.
    time_base : Fraction
        Seconds of one unit.
    duration : int
        How long it is shown, in units of ``time_base``; 0 where unspecified.
    name : str
        The file name that the picture came from; empty inside a video.
    tags : ImageTags or None
        What the image file said besides; ``None`` inside a video.
    captured_s : float or None
        When it came in, in seconds of `time.perf_counter`: the age that a live stream bounds
        is counted from here. ``None`` where it was not noted; reading it counts then.
    info : VideoInfo or None
        Of the stream: the same object until something about it changes. ``None`` for images.
    original : ndarray or None
        The frame before it was restored, for sinks that compare; only there if asked for.
    captions : av.VideoFrame or None
        Small picture whose side data holds the frame's closed captions (`captions_of`).
    metadata : mapping or None
        What a program said of the frame when it handed it in (channel, position, exposure).
    """

    image: Image
    pts: int
    time_base: Fraction
    duration: int = 0
    name: str = ""
    tags: ImageTags | None = None
    captured_s: float | None = None
    info: VideoInfo | None = None
    original: Image | None = None
    captions: av.VideoFrame | None = None
    metadata: Mapping[str, Any] | None = None

    @property
    def facts(self) -> VideoInfo | None:
        """Another name of `info`, from before it had that one."""
        return self.info

    def older_than(self, limit_s: float | None) -> bool:
        """Return whether it came in longer ago; never where ``captured_s`` is None."""
        if limit_s is None or self.captured_s is None:
            return False
        return time.perf_counter() - self.captured_s > limit_s


@dataclass(frozen=True, eq=False, slots=True)
class Passthrough:
    """Packet of another stream (sound, subtitles, data), to be written as it is.

    Parameters
    ----------
    packet : av.Packet
        Its timestamps and bytes are the source's; ownership passes to the sink.
    stream : int
        Index of its stream in the source.
    """

    packet: av.Packet[Any]
    stream: int


DONE = -1
"""`Passthrough.stream` of an encoded frame of the video itself, from an earlier run."""

Item = Frame | Passthrough
"""Item of a stream: a frame, or a packet that is copied."""


def nearest_rate(fps: float) -> Fraction:
    """Return frames per second as a fraction: 29.97 is the broadcasters' 30000/1001."""
    thousands = round(fps * 1.001)
    if thousands and abs(thousands - fps * 1.001) < 1e-3 and fps != round(fps):
        return Fraction(thousands * 1000, 1001)
    return Fraction(fps).limit_denominator(1000)


def file_address(path: Path) -> str:
    """Return the address of a file for FFmpeg, which takes what stands before a colon for more."""
    return f"file:{path}"
