"""One time for frames that come over several connections, each with a clock of its own."""

from __future__ import annotations

import time
from dataclasses import replace
from fractions import Fraction

from ..media.facts import VideoFacts
from ..media.frames import Frame
from .container_feed import LIVE_TIME_BASE

__all__ = ["Timeline"]

# A sender's clock may run this far from ours, by drifting or by jumping, before ours counts.
_LARGEST_ERROR_S = 2.0


class Timeline:
    """Stamps the frames of a live source: from 0 on, strictly increasing, gaps kept.

    Within a connection the sender's own time counts, which knows nothing of the network's
    delays; between two connections, and where the sender's time goes astray, the wall clock.
    """

    def __init__(self) -> None:
        self._began_s: float | None = None
        self._offset: Fraction | None = None
        self._last = -1

    def reconnected(self) -> None:
        """Say that the next frame is from another connection."""
        self._offset = None

    def stamped(self, frame: Frame, facts: VideoFacts, *, mended: bool = True) -> Frame:
        """Return a frame with its place on this timeline, in units of 1/90000 s.

        Parameters
        ----------
        frame : Frame
            With the time of its capture.
        facts : VideoFacts
            What the frame shall bring.
        mended : bool
            Whether the wall clock corrects the frames' own time; not so for a file.
        """
        captured_s = frame.captured_s if frame.captured_s is not None else time.perf_counter()
        if self._began_s is None:
            self._began_s = captured_s
        wall = captured_s - self._began_s
        own = frame.pts * frame.time_base
        if self._offset is None or (mended and self._astray(own, wall)):
            self._offset = Fraction(round(wall * 1_000_000), 1_000_000) - own
        pts = max(self._last + 1, round((own + self._offset) / LIVE_TIME_BASE))
        self._last = pts
        return replace(
            frame,
            pts=pts,
            time_base=LIVE_TIME_BASE,
            duration=round(frame.duration * frame.time_base / LIVE_TIME_BASE),
            captured_s=captured_s,
            facts=facts,
        )

    def _astray(self, own: Fraction, wall: float) -> bool:
        """Return whether the sender's time ran back, or too far from the wall clock's."""
        if self._offset is None:
            return False
        here = own + self._offset
        return here / LIVE_TIME_BASE <= self._last or abs(float(here) - wall) > _LARGEST_ERROR_S
