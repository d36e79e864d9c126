"""What a video stream says about itself, as far as restoring it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av

__all__ = ["ColorTags", "VideoFacts"]

UNSPECIFIED = 2
"""FFmpeg's number for a primaries, transfer or matrix that nobody stated."""


@dataclass(frozen=True)
class ColorTags:
    """The four colour tags, as the numbers of ITU-T H.273 (which are FFmpeg's).

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
class VideoFacts:
    """What a sink needs to know of the source's video.

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
    metadata, stream_metadata : mapping of str
        Tags of the file, and of the video stream.
    disposition : int
        FFmpeg's bits: default, forced, ...
    chapters : tuple of dict
        As PyAV gives and takes them.
    others : tuple of av.Stream
        The other streams, whose packets may be handed through.
    pix_fmt : str
        FFmpeg's name of the pixel format; empty where nobody said.
    """

    width: int
    height: int
    time_base: Fraction
    rate: Fraction
    bits: int = 8
    color: ColorTags = field(default_factory=ColorTags)
    sample_aspect_ratio: Fraction | None = None
    display_matrix: tuple[int, ...] | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    stream_metadata: Mapping[str, str] = field(default_factory=dict)
    disposition: int = 0
    chapters: tuple[dict[str, Any], ...] = ()
    others: tuple[av.stream.Stream, ...] = ()
    pix_fmt: str = ""
