"""Whether a video is still what it was, and how to say what it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..media.facts import VideoFacts

__all__ = ["described", "details", "same"]

_RATE_TOLERANCE = 0.05


def same(one: VideoFacts, other: VideoFacts) -> bool:
    """Return whether nothing about a video changed that anybody has to act on."""
    # A guessed rate wavers a little from connection to connection.
    if abs(float(one.rate - other.rate)) > _RATE_TOLERANCE * float(one.rate):
        return False
    return replace(other, rate=one.rate).__dict__ == one.__dict__


def described(facts: VideoFacts) -> str:
    """Return size, pixel format and rate, for a person."""
    form = f" {facts.pix_fmt}" if facts.pix_fmt else ""
    return f"{facts.width} x {facts.height}{form} at {float(facts.rate):.4g} frames a second"


def details(facts: VideoFacts) -> dict[str, Any]:
    """Return size, pixel format and rate, for a program."""
    return {
        "width": facts.width,
        "height": facts.height,
        "rate": round(float(facts.rate), 3),
        "pix_fmt": facts.pix_fmt,
    }
