"""What a frame's stream is like, as far as an encoder must be told before it begins."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from ..media.facts import VideoFacts
from ..media.frames import Frame

__all__ = ["facts_of", "kind_of"]

_USUAL_RATE = Fraction(30)
_SLOWEST, _FASTEST = Fraction(1, 60), Fraction(1000)
_FINEST = 1_001_000


def facts_of(frame: Frame) -> VideoFacts:
    """Return a frame's facts, with the frame's own clock.

    A frame that brings none (from Python) tells its size and depth, and its duration the rate;
    30 a second without one.
    """
    facts = frame.facts
    if facts is None:
        height, width = frame.image.shape[:2]
        rate = _USUAL_RATE
        if frame.duration > 0:
            rate = 1 / (frame.duration * frame.time_base)
            # An encoder plans by it, and FFmpeg holds it in two small numbers.
            rate = min(max(rate, _SLOWEST), _FASTEST).limit_denominator(_FINEST)
        bits = min(16, 8 * frame.image.dtype.itemsize)
        return VideoFacts(width, height, frame.time_base, rate, bits=bits)
    if facts.time_base != frame.time_base:
        return replace(facts, time_base=frame.time_base)
    return facts


def kind_of(frame: Frame, facts: VideoFacts) -> tuple[object, ...]:
    """Return what cannot change within one encoded stream, to be compared."""
    return (
        frame.image.shape,
        frame.image.dtype,
        facts.bits,
        facts.color,
        facts.sample_aspect_ratio,
        facts.display_matrix,
    )
