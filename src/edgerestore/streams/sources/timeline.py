"""Timestamps of live streams: one timeline over reconnections, and pacing to real time."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

from ..media.frames import LIVE_TIME_BASE, Frame, Item, VideoInfo
from ..protocols import Source
from .connection import SharedHandle

__all__ = ["NetworkDelay", "PacedSource", "Pacer", "Timeline"]

# A sender's clock may run this far from ours, by drifting or by jumping, before ours counts.
_LARGEST_ERROR_S = 2.0
# A delay that lasts longer is no hiccup but how far away the sender is; twice that at most.
_NORMAL_S = 2.0
# A larger step in the sender's time is no pause between two frames.
_LARGEST_STEP_S = 10


class NetworkDelay:
    """Network delay of each frame over the usual one, by the sender's clock.

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
    """Timestamps of a live source over all its connections: from 0 on, strictly increasing.

    Within a connection the sender's own time counts, which knows nothing of the network's
    delays; between two connections, and where the sender's time goes astray, the wall clock.
    What the network held up is as old as it is: its time of capture is moved back.
    """

    def __init__(self) -> None:
        self._delay = NetworkDelay()
        self._own: Fraction | None = None
        self._began_s: float | None = None
        self._offset: Fraction | None = None
        self._last = -1

    def reconnected(self) -> None:
        """Start another connection with the next frame."""
        self._offset = self._own = None

    def stamped(self, frame: Frame, info: VideoInfo, *, mended: bool = True) -> Frame:
        """Return a frame with its place on this timeline, in units of 1/90000 s.

        Parameters
        ----------
        frame : Frame
            With the time at which it came.
        info : VideoInfo
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
            captured_s=captured_s - (self._delay_s(own, captured_s) if mended else 0.0),
            info=info,
        )

    def _delay_s(self, own: Fraction, captured_s: float) -> float:
        if self._own is None or not 0 <= own - self._own <= _LARGEST_STEP_S:
            self._delay = NetworkDelay()  # another connection, or a clock that was set
        self._own = own
        return self._delay.of(own, captured_s)

    def _astray(self, own: Fraction, wall: float) -> bool:
        """Return whether the sender's time ran back, or too far from the wall clock's."""
        if self._offset is None:
            return False
        here = own + self._offset
        return here / LIVE_TIME_BASE <= self._last or abs(float(here) - wall) > _LARGEST_ERROR_S


# A larger step in the stream's time is a cut, not a wait.
_LONGEST_STEP_S = 2


class Pacer:
    """Pacing of frames to real time, by their timestamps.

    Time that was lost (by a slow download, a slow reader) is made up for. Where the stream's
    own time jumps, the frame is due at once and time goes on from there.
    """

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._began_s = 0.0
        self._first: Fraction | None = None
        self._last = Fraction(0)

    def wait(self, moment: Fraction) -> bool:
        """Wait for a moment of the stream, in seconds of its own; return False once stopped."""
        now_s = time.perf_counter()
        step = moment - self._last
        if self._first is None or not 0 <= step <= _LONGEST_STEP_S:
            self._first, self._began_s = moment, now_s
        self._last = moment
        due_s = self._began_s + float(moment - self._first)
        return not self._stop.wait(max(0.0, due_s - now_s))

    def stop(self) -> None:
        """End the wait of any thread, for good."""
        self._stop.set()


class PacedSource:
    """`Source` that hands out another one's frames in real time, by their ``pts``.

    A file stands in for a camera this way. It is live: its frames come in now, whether or
    not somebody takes them.

    Parameters
    ----------
    source : Source
        Anything with a time in its ``pts``; closed with this one.
    """

    live = interruptible = True

    def __init__(self, source: Source) -> None:
        self.expected_frames = source.expected_frames
        self.lost: Counter[str] = source.lost
        self._pace = Pacer()
        self._handle = SharedHandle(source.close)
        # Kept: a thread that left it would close it, while another is closing the source.
        self._unpaced = iter(source)
        self._items = self._read()

    def __iter__(self) -> Iterator[Item]:
        """Return the one iterator over what remains."""
        return self._items

    def close(self) -> None:
        """Close the input; the wait of a thread inside `__next__` ends at once."""
        self._pace.stop()
        self._handle.close()

    def _read(self) -> Iterator[Item]:
        while True:
            with self._handle.inside() as there:
                item = next(self._unpaced, None) if there else None
            if item is None:
                return
            if not isinstance(item, Frame):
                yield item
            elif self._pace.wait(item.pts * item.time_base):
                yield replace(item, captured_s=time.perf_counter())
            else:
                return
