"""One time for frames that come over several connections, each with a clock of its own."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from fractions import Fraction

from ..media.facts import VideoFacts
from ..media.frames import Frame
from .container_feed import LIVE_TIME_BASE

__all__ = ["Lag", "Timeline"]

# A sender's clock may run this far from ours, by drifting or by jumping, before ours counts.
_LARGEST_ERROR_S = 2.0
# A delay that lasts longer is no hiccup but how far away the sender is; twice that at most.
_NORMAL_S = 2.0
# A larger step in the sender's time is no pause between two frames.
_LARGEST_STEP_S = 10


class Lag:
    """How late a frame comes, by the sender's own time: what a network held up is old.

    Judged against the least delay of the seconds before in which frames came as they were due:
    neither a silence nor the backlog after it counts as time. So a backlog is late until it is
    worked off; a delay that stays, or a clock that drifts, is the new normal after a while.
    """

    def __init__(self) -> None:
        self._least = self._least_before = math.inf
        self._last: tuple[Fraction, float] | None = None
        self._flowed_s = 0.0

    def of(self, own: Fraction, wall_s: float) -> float:
        """Return a frame's lag in seconds.

        Parameters
        ----------
        own : Fraction
            The sender's time of it, in seconds; ascending.
        wall_s : float
            When it came, in seconds of any clock here.
        """
        if self._last is not None:
            self._flowed_s += min(float(own - self._last[0]), wall_s - self._last[1])
        self._last = own, wall_s
        if self._flowed_s > _NORMAL_S:
            self._flowed_s, self._least_before, self._least = 0.0, self._least, math.inf
        delay_s = wall_s - float(own)
        self._least = min(self._least, delay_s)
        return delay_s - min(self._least, self._least_before)


class Timeline:
    """Stamps the frames of a live source: from 0 on, strictly increasing, gaps kept.

    Within a connection the sender's own time counts, which knows nothing of the network's
    delays; between two connections, and where the sender's time goes astray, the wall clock.
    What the network held up is as old as it is: its time of capture is moved back.
    """

    def __init__(self) -> None:
        self._lag = Lag()
        self._own: Fraction | None = None
        self._began_s: float | None = None
        self._offset: Fraction | None = None
        self._last = -1

    def reconnected(self) -> None:
        """Say that the next frame is from another connection."""
        self._offset = self._own = None

    def stamped(self, frame: Frame, facts: VideoFacts, *, mended: bool = True) -> Frame:
        """Return a frame with its place on this timeline, in units of 1/90000 s.

        Parameters
        ----------
        frame : Frame
            With the time at which it came.
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
            captured_s=captured_s - (self._lag_s(own, captured_s) if mended else 0.0),
            facts=facts,
        )

    def _lag_s(self, own: Fraction, captured_s: float) -> float:
        if self._own is None or not 0 <= own - self._own <= _LARGEST_STEP_S:
            self._lag = Lag()  # another connection, or a clock that was set
        self._own = own
        return self._lag.of(own, captured_s)

    def _astray(self, own: Fraction, wall: float) -> bool:
        """Return whether the sender's time ran back, or too far from the wall clock's."""
        if self._offset is None:
            return False
        here = own + self._offset
        return here / LIVE_TIME_BASE <= self._last or abs(float(here) - wall) > _LARGEST_ERROR_S
