"""What travels from a source to a sink: frames to restore and packets to hand through."""

from __future__ import annotations

import time
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av

from ...imaging.arrays import Image
from ...imaging.image_files import ImageTags
from .facts import VideoFacts

__all__ = ["Frame", "Item", "Passthrough"]


@dataclass(frozen=True, eq=False, slots=True)
class Frame:
    """One picture of a stream.

    Parameters
    ----------
    image : ndarray, u8, u16 or f32, shape (H, W) or (H, W, C), RGB order
        Owned by the frame: who holds the frame may keep it and must not write to it.
    pts : int
        When the picture is shown, in units of ``time_base``. Strictly increasing.
    time_base : Fraction
        Seconds of one unit.
    duration : int
        How long it is shown, in units of ``time_base``; 0 where nobody said.
    name : str
        The file name that the picture came from; empty inside a video.
    tags : ImageTags or None
        What the image file said besides; ``None`` inside a video.
    captured_s : float or None
        When it came in, in seconds of `time.perf_counter`: the age that a live stream bounds
        is counted from here. ``None`` where nobody noted it; reading it counts then.
    facts : VideoFacts or None
        What the stream says of itself; a live source hands the same object with every frame
        until something about it changes. ``None`` for images.
    original : ndarray or None
        The frame before it was restored, for sinks that compare; only there if asked for.
    """

    image: Image
    pts: int
    time_base: Fraction
    duration: int = 0
    name: str = ""
    tags: ImageTags | None = None
    captured_s: float | None = None
    facts: VideoFacts | None = None
    original: Image | None = None

    def older_than(self, limit_s: float | None) -> bool:
        """Return whether it came in longer ago; never where nobody noted when."""
        if limit_s is None or self.captured_s is None:
            return False
        return time.perf_counter() - self.captured_s > limit_s


@dataclass(frozen=True, eq=False, slots=True)
class Passthrough:
    """A packet of another stream (sound, subtitles, data), to be written as it is.

    Parameters
    ----------
    packet : av.Packet
        Its timestamps and bytes are the source's; ownership passes to the sink.
    stream : int
        Index of its stream in the source.
    """

    packet: av.Packet[Any]
    stream: int


Item = Frame | Passthrough
"""What a source yields and a sink takes."""
