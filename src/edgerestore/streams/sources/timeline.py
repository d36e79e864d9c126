"""Timestamps of live streams: one timeline over reconnections, and pacing to real time."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

from ..media.frames import LIVE_TIME_BASE, Frame, Item, VideoInfo
from ..protocols import Source
from .connection import SharedHandle

__all__ = ["NetworkDelay", "PacedSource", "Pacer", "Timeline"]

# Further from the estimate of when a frame was captured, the clock here counts.
_LARGEST_ERROR_S = 2.0
# Closer, the sender's own spacing counts; between the two, time is led back within a second.
_USUAL_ERROR_S, _CORRECTED_IN_S = 0.1, Fraction(1, 2)
# Of frames that came as they were due: what the estimate of a clock rests on.
_WINDOW_S, _FEWEST, _MOST = 1.0, 8, 512
# Seconds here for one of the sender's; nearer to 1 is jitter, or a drift that costs nothing.
_FASTEST, _SLOWEST, _RIGHT = 0.2, 5.0, 0.05
# A step so much further than its time here is the clock's, not the camera's.
_JUMP_S = 1.0
_USUAL_STEPS = 3
# A wait of so many usual ones is a silence.
_SILENT_GAPS = 4
# More delay than a network's jitter; while it falls by this part, a backlog is worked off.
_DELAYED_S, _FALLING = 0.1, 0.1


class NetworkDelay:
    """Network delay of each frame over the usual one, by the sender's clock at its own speed.

    A sender may count half or three times the seconds that pass here: frames that come as they
    are due lie on a line in its time and ours. That line is the edge of their convex hull from
    below, over the last second of them, under which no frame came; what a frame came later
    than that is its delay (the clock skew of Moon, Skelly and Towsley, INFOCOM 1999). Neither a
    silence nor the backlog after it counts as time, so a backlog is late until it is worked
    off. A delay that stays, or a clock of another speed, is the new normal within seconds; a
    clock that is set changes nothing.
    """

    def __init__(self) -> None:
        self._points: deque[tuple[float, float, float]] = deque()  # theirs, ours, time that flowed
        self._flowed_s = self._delay_s = self._set_by_s = 0.0
        self._slope = self._usual_slope = 1.0

    def of(self, own_s: float, wall_s: float) -> float:
        """Return a frame's delay in seconds.

        Parameters
        ----------
        own_s : float
            The sender's time of it.
        wall_s : float
            When it came, on any clock here; ascending.
        """
        own_s += self._set_by_s
        flowed_s, points = 0.0, self._points
        if points:
            last_s, came_s, _ = points[-1]
            step_s, took_s = own_s - last_s, wall_s - came_s
            spaces = len(points) - 1
            usual_s = (last_s - points[0][0]) / spaces if spaces else took_s
            gap_s = (came_s - points[0][1]) / spaces if spaces else took_s
            ahead = step_s * self._slope > took_s + _JUMP_S and step_s > _USUAL_STEPS * usual_s
            if step_s < 0 or ahead:
                self._set_by_s += usual_s - step_s
                own_s, step_s = last_s + usual_s, usual_s
            slope = min(self._slope, self._usual_slope)
            falls = self._delay_s > _DELAYED_S and step_s * slope > (1 + _FALLING) * took_s
            if not falls and took_s < _SILENT_GAPS * gap_s:
                flowed_s = min(step_s * max(1.0, self._usual_slope), took_s)
        points.append((own_s, wall_s, flowed_s))
        self._flowed_s += flowed_s
        while len(points) > _MOST or (
            len(points) > _FEWEST and self._flowed_s - points[0][2] > _WINDOW_S
        ):
            self._flowed_s -= points.popleft()[2]
        self._fit()
        slope = self._slope
        least_s = min(came - slope * sent for sent, came, _ in points)
        self._delay_s = wall_s - slope * own_s - least_s
        if self._delay_s < _DELAYED_S:
            self._usual_slope = slope
        return self._delay_s

    def _fit(self) -> None:
        """Lay the line along the edge of the hull below the mean of the time that flowed."""
        hull: list[tuple[float, float]] = []
        for own_s, wall_s, _ in self._points:
            while len(hull) > 1:
                (x, y), (next_x, next_y) = hull[-2:]
                if (next_y - y) * (own_s - next_x) < (wall_s - next_y) * (next_x - x):
                    break
                hull.pop()
            hull.append((own_s, wall_s))
        if self._flowed_s > 0 and len(hull) > 1:
            mean_s = sum(own_s * part for own_s, _, part in self._points) / self._flowed_s
            edges = list(pairwise(hull))
            (x, y), (next_x, next_y) = next((e for e in edges if e[1][0] >= mean_s), edges[-1])
            if next_x > x:
                slope = min(max((next_y - y) / (next_x - x), _FASTEST), _SLOWEST)
                self._slope = 1.0 if abs(slope - 1) < _RIGHT else slope


class Timeline:
    """Timestamps of a live source over all its connections: from 0 on, strictly increasing.

    Within a connection the sender's own spacing counts, which knows nothing of the network's
    delays; the clock here corrects it where it runs away, and counts between two connections
    and where the sender's is set. What the network held up is as old as it is: its time of
    capture is moved back.
    """

    def __init__(self) -> None:
        self._delay = NetworkDelay()
        self._own: Fraction | None = None
        self._began_s: float | None = None
        self._at = Fraction(0)
        self._last = -1

    def reconnected(self) -> None:
        """Start another connection with the next frame."""
        self._own, self._delay = None, NetworkDelay()

    def stamped(self, frame: Frame, info: VideoInfo, *, mended: bool = True) -> Frame:
        """Return a frame with its place on this timeline, in units of 1/90000 s.

        Parameters
        ----------
        frame : Frame
            With the time at which it came.
        info : VideoInfo
            What the frame shall bring.
        mended : bool
            Whether the clock here corrects the frames' own time; not so for a file.
        """
        captured_s = frame.captured_s if frame.captured_s is not None else time.perf_counter()
        if self._began_s is None:
            self._began_s = captured_s
        own = frame.pts * frame.time_base
        came_s = captured_s
        if mended:
            captured_s -= self._delay.of(float(own), captured_s)
        here = captured_s if mended else came_s
        self._at = self._placed(own, here - self._began_s, mended=mended)
        self._own = own
        pts = max(self._last + 1, round(self._at / LIVE_TIME_BASE))
        self._last = pts
        return replace(
            frame,
            pts=pts,
            time_base=LIVE_TIME_BASE,
            duration=round(frame.duration * frame.time_base / LIVE_TIME_BASE),
            captured_s=captured_s,
            info=info,
        )

    def _placed(self, own: Fraction, here_s: float, *, mended: bool) -> Fraction:
        """Return the place of a frame in seconds, given its own time and that of its capture."""
        here = Fraction(round(here_s * 1_000_000), 1_000_000)
        if self._own is None:
            return here
        step = own - self._own
        if not mended:
            return self._at + step
        error = here - (self._at + step)
        if step < 0 or abs(error) > _LARGEST_ERROR_S:
            return here
        part = min(Fraction(1), step / _CORRECTED_IN_S) if abs(error) > _USUAL_ERROR_S else 0
        return self._at + step + Fraction(round(error * part * 1_000_000), 1_000_000)


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
