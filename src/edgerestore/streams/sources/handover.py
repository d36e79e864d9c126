"""Frames from the thread that captures them to the one that takes them."""

from __future__ import annotations

import threading
import time
from collections import deque

from ..media.frames import Frame

__all__ = ["Handover"]

# Few, so that none of them is old; more than one, so that a hiccup costs nothing.
_ROOM = 4


class Handover:
    """A short row of frames between two threads, neither of which can shut the other out.

    Parameters
    ----------
    room : int
        Frames held.

    Attributes
    ----------
    waits : bool
        Whether `put` waits for room; otherwise the oldest frame makes room.
    dropped : int
        Frames that made room.
    last_s : float
        When something last came, in seconds of `time.perf_counter`.
    error : BaseException or None
        Why no more frames come; ``None`` where they simply ended.
    """

    def __init__(self, room: int = _ROOM, *, waits: bool = False) -> None:
        self.waits = waits
        self.dropped = 0
        self.last_s = time.perf_counter()
        self.error: BaseException | None = None
        self._room = room
        self._frames: deque[Frame] = deque()
        self._finished = False
        self._abandoned = False
        self._changed = threading.Condition()

    @property
    def finished(self) -> bool:
        """Whether no frame is left and none will come."""
        with self._changed:
            return self._abandoned or (self._finished and not self._frames)

    @property
    def abandoned(self) -> bool:
        """Whether nobody takes frames any more."""
        return self._abandoned

    def alive(self) -> None:
        """Note that something happened which is no frame yet."""
        self.last_s = time.perf_counter()

    def put(self, frame: Frame) -> bool:
        """Add a frame; return whether there is somebody who still wants any."""
        with self._changed:
            while self.waits and len(self._frames) >= self._room and not self._abandoned:
                self._changed.wait()
            if self._abandoned:
                return False
            if len(self._frames) >= self._room:
                self._frames.popleft()
                self.dropped += 1
            self._frames.append(frame)
            self.last_s = time.perf_counter()
            self._changed.notify_all()
            return True

    def finish(self, error: BaseException | None = None) -> None:
        """Say that no more frames come, and why."""
        with self._changed:
            self._finished = True
            self.error = error
            self._changed.notify_all()

    def take(self, timeout_s: float | None) -> Frame | None:
        """Return the oldest frame, or ``None`` when there is none in time or ever."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._frames or self._finished or self._abandoned, timeout_s
            )
            if not self._frames or self._abandoned:
                return None
            frame = self._frames.popleft()
            if self.waits:
                # While it waited for room, it was not silent.
                self.last_s = time.perf_counter()
            self._changed.notify_all()
            return frame

    def abandon(self) -> None:
        """Want no more frames: wakes both sides, drops what is held."""
        with self._changed:
            self._abandoned = True
            self._frames.clear()
            self._changed.notify_all()
