"""Frames at the time they are due, of streams that would come faster."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

from ..media.facts import VideoFacts
from ..media.frames import Frame, Item
from ..protocols.source import Source
from .feed import Held

__all__ = ["Pace", "Paced"]

# A larger step in the stream's time is a cut, not a wait.
_LONGEST_STEP_S = 2


class Pace:
    """Waits until a frame is due.

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
        """End the wait of any thread, now and for ever."""
        self._stop.set()


class Paced:
    """A `Source` that hands out another one's frames in real time, by their ``pts``.

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
        self._source = source
        self._pace = Pace()
        self._held = Held(source.close)
        self._items = self._read()

    @property
    def facts(self) -> VideoFacts | None:
        """What the video says of itself, where the source under it knows."""
        facts: VideoFacts | None = getattr(self._source, "facts", None)
        return facts

    def __iter__(self) -> Iterator[Item]:
        """Return the one iterator over what remains."""
        return self._items

    def close(self) -> None:
        """Let go of the input; the wait of a thread inside `__next__` ends at once."""
        self._pace.stop()
        self._held.let_go()

    def _read(self) -> Iterator[Item]:
        items = iter(self._source)
        while True:
            with self._held.inside() as there:
                item = next(items, None) if there else None
            if item is None:
                return
            if not isinstance(item, Frame):
                yield item
            elif self._pace.wait(item.pts * item.time_base):
                facts = item.facts or self.facts
                yield replace(item, captured_s=time.perf_counter(), facts=facts)
            else:
                return
