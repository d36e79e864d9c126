"""A connection on a thread of its own, which nothing that happens there can hold up."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

from ..media.frames import Frame
from .feed import Feed
from .handover import Handover

__all__ = ["Capture"]


class Capture:
    """Opens a feed and takes its frames as they come, until it ends or is abandoned.

    Parameters
    ----------
    open_feed : callable
        Makes the connection; called on the thread.
    """

    def __init__(self, open_feed: Callable[[], Feed]) -> None:
        self._open_feed = open_feed
        self._feed: Feed | None = None
        self._lock = threading.Lock()
        self._handover = Handover()
        self._thread = threading.Thread(target=self._run, name="edgerestore-capture", daemon=True)

    @property
    def feed(self) -> Feed | None:
        """The connection, once it is made."""
        return self._feed

    @property
    def error(self) -> BaseException | None:
        """Why it ended."""
        return self._handover.error

    @property
    def finished(self) -> bool:
        """Whether nothing more comes."""
        return self._handover.finished

    @property
    def alive(self) -> bool:
        """Whether the thread has not ended yet."""
        return self._thread.is_alive()

    @property
    def silent_s(self) -> float:
        """Seconds since something last happened."""
        return time.perf_counter() - self._handover.last_s

    @property
    def lost(self) -> Counter[str]:
        """What could not be read, and what nobody took in time."""
        lost: Counter[str] = Counter()
        if self._feed is not None:
            lost.update(self._feed.lost)
        if self._handover.dropped:
            lost["not taken in time"] += self._handover.dropped
        return lost

    def start(self) -> None:
        """Begin to connect."""
        self._thread.start()

    def take(self, timeout_s: float) -> Frame | None:
        """Return the oldest frame held; ``None`` when none comes in time, or none ever."""
        return self._handover.take(timeout_s)

    def abandon(self) -> None:
        """Let go of the connection, without waiting for anything that hangs in it."""
        self._handover.abandon()
        with self._lock:
            feed = self._feed
        if feed is not None:
            feed.close()

    def join(self, timeout_s: float) -> None:
        """Give the thread a moment to end; what hangs in a library is left to itself."""
        if self._thread is not threading.current_thread() and self._thread.ident is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            feed = self._open_feed()
            # Its silence is counted from here; so before anybody can see that it is there.
            self._handover.alive()
            with self._lock:
                self._feed = feed
            try:
                self._pump(feed)
            finally:
                feed.close()
        except BaseException as failure:
            error = failure
        self._handover.finish(error)

    def _pump(self, feed: Feed) -> None:
        self._handover.waits = feed.finite
        if self._handover.abandoned:
            return
        for frame in feed:
            if not self._handover.put(frame):
                return
