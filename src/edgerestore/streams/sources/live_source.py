"""A source that comes and goes, and never ends by itself."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

from ...errors import SourceError, SourceLostError
from ..events import EventKind, EventLog, StreamState
from ..media.facts import VideoFacts
from ..media.frames import Frame
from .backoff import Backoff, Prober
from .capture import Capture
from .changes import described, details, same
from .container_feed import LIVE_TIME_BASE
from .feed import Feed, FeedError
from .timeline import Timeline

__all__ = ["LiveSource"]

# Threads that hang in a library for good. With so many, another would hang too.
_STUCK_AT_MOST = 3
_JOIN_S = 0.3
# How often a wait for a frame looks whether the connection has been made meanwhile.
_LOOK_S = 0.25
# Failures that took a time-out to notice.
_LISTENED = ("stalled", "timed out")


class LiveSource:
    """A `Source` that waits for its input, and connects again whenever that goes away.

    The connection lives on a thread of its own (`Capture`); whoever iterates only waits with
    a limit, so nothing that hangs in a camera's driver or a network library holds it up.
    What is not taken in time makes room for what is newer and is counted in `lost`.

    A failure is told as an event with its cause and the time until the next attempt, which
    doubles from 1 to 30 seconds; the source is looked for in between. Only what trying again
    cannot mend (a wrong login, a web page, no such camera) is raised, and only as long as
    there was no connection yet: a source that worked once will work again.

    Its states are RUNNING and RECONNECTING; while the stream is PAUSED it leaves the state
    alone, and `connected` tells.

    `close` may be called from any thread, also while another one is inside `__next__`, which
    then ends; this is more than a `Source` promises.

    Parameters
    ----------
    open_feed : callable
        Makes one connection.
    where : str
        For messages; without credentials.
    log : EventLog
    retries : int or None
        Further attempts in a row after which it gives up; ``None`` never does.
    stall_s : float
        Connected and silent for so long is a failure too.
    open_s : float
        Given up on is a connection that takes longer than this to be made.
    backoff : Backoff or None
        ``None`` is 1 s doubling to 30 s.
    probe : callable or None
        See `Prober`; ``None`` only waits.
    probe_s : float
        Seconds between two looks.

    Raises
    ------
    SourceError
        From the iterator: trying again is of no use.
    SourceLostError
        From the iterator: the retries are used up.
    """

    live = interruptible = True

    def __init__(
        self,
        open_feed: Callable[[], Feed],
        where: str,
        log: EventLog,
        *,
        retries: int | None = None,
        stall_s: float = 10.0,
        open_s: float = 30.0,
        backoff: Backoff | None = None,
        probe: Callable[[], int] | None = None,
        probe_s: float = 0.5,
    ) -> None:
        self.expected_frames: int | None = None
        self.lost: Counter[str] = Counter()
        self._open_feed = open_feed
        self._where = where
        self._log = log
        self._retries = retries
        self._stall_s = stall_s
        self._open_s = open_s
        self._backoff = backoff or Backoff()
        self._prober = Prober(probe, probe_s) if probe is not None else None
        self._timeline = Timeline()
        self._facts: VideoFacts | None = None
        self._fed: VideoFacts | None = None
        self._lost_before: Counter[str] = Counter()
        self._capture: Capture | None = None
        self._stuck: list[Capture] = []
        self._failures = 0
        self._connected = False
        self._closed = threading.Event()
        self._wake = threading.Event()
        self._lock = threading.Lock()

    @property
    def connected(self) -> bool:
        """Whether frames come."""
        return self._connected

    @property
    def facts(self) -> VideoFacts | None:
        """What the video said of itself last; ``None`` before the first frame."""
        return self._facts

    def __iter__(self) -> Iterator[Frame]:
        """Return the one iterator over what comes."""
        return self

    def __next__(self) -> Frame:
        """Wait for the next frame, through as many connections as it takes."""
        try:
            frame = self._next()
        except Exception:
            self._closed.set()
            raise
        if frame is None:
            self._closed.set()
            raise StopIteration
        return frame

    def close(self) -> None:
        """End it, from any thread; a thread inside `__next__` leaves at once."""
        with self._lock:
            self._closed.set()
            capture = self._capture
        self._connected = False
        self._wake.set()
        if capture is not None:
            capture.abandon()
        deadline_s = time.monotonic() + _JOIN_S
        for one in [*([capture] if capture is not None else []), *self._stuck]:
            one.join(max(0.0, deadline_s - time.monotonic()))

    def _next(self) -> Frame | None:
        while not self._closed.is_set():
            capture = self._capture or self._connect()
            if capture is None:
                continue
            # Asked before the silence: the limit of a connection that is just made would else
            # be held against the time that it took to make it.
            limit_s = self._stall_s if capture.feed is not None else self._open_s
            frame = capture.take(min(_LOOK_S, max(0.0, limit_s - capture.silent_s)))
            if frame is not None:
                return self._taken(capture, frame)
            if self._closed.is_set():
                break
            if capture.finished:
                if self._done(capture):
                    break
                self._failed(capture, capture.error or self._ended())
            elif capture.silent_s >= limit_s:
                self._failed(capture, self._silent(capture))
        return None

    def _connect(self) -> Capture | None:
        self._stuck = [one for one in self._stuck if one.alive]
        if len(self._stuck) >= _STUCK_AT_MOST:
            line = f"{self._where}: {len(self._stuck)} earlier attempts still hang"
            self._wait_after(FeedError(line, "hangs"))
            return None
        with self._lock:
            if self._closed.is_set():
                return None
            self._capture = Capture(self._open_feed)
            self._capture.start()
        return self._capture

    def _taken(self, capture: Capture, frame: Frame) -> Frame:
        if not self._connected:
            self._arrived(frame)
        elif frame.facts is not self._fed:
            self._look_at(frame)
        if lost := capture.lost:
            self.lost = self._lost_before + lost
        facts = self._facts
        if facts is None:
            raise RuntimeError("a feed's frames bring their facts")
        finite = capture.feed is not None and capture.feed.finite
        return self._timeline.stamped(frame, facts, mended=not finite)

    def _arrived(self, frame: Frame) -> None:
        """Note the first frame of a connection."""
        self._connected = True
        self._failures = 0
        self._backoff.reset()
        if self._prober is not None:
            self._prober.forget()
        self._timeline.reconnected()
        line = f"{self._where}: running"
        self._log.move(StreamState.RUNNING, line, unless=StreamState.PAUSED)
        if frame.facts is not None:
            line = f"{self._where}: connected, {described(frame.facts)}"
            self._log.tell(EventKind.CONNECTED, line, **details(frame.facts))
        self._look_at(frame)

    def _look_at(self, frame: Frame) -> None:
        """Take over a frame's facts, if they say anything new."""
        self._fed = frame.facts
        if frame.facts is None:
            raise RuntimeError("a feed's frames bring their facts")
        new, old = replace(frame.facts, time_base=LIVE_TIME_BASE), self._facts
        if old is not None and same(old, new):
            return
        self._facts = new
        if old is not None:
            line = f"{self._where}: was {described(old)}, now {described(new)}"
            self._log.tell(EventKind.CHANGED, line, "source", **details(new))

    def _done(self, capture: Capture) -> bool:
        """Return whether it came to the end that it was to have."""
        finite = capture.feed is not None and capture.feed.finite
        if finite and self._connected and capture.error is None:
            self._let_go(capture)
            self._connected = False
            return True
        return False

    def _ended(self) -> FeedError:
        return FeedError(f"{self._where}: the stream ended", "end of stream")

    def _silent(self, capture: Capture) -> FeedError:
        if capture.feed is None:
            line = f"{self._where}: did not answer within {self._open_s:g} s"
            return FeedError(line, "timed out")
        return FeedError(f"{self._where}: no picture for {self._stall_s:g} s", "stalled")

    def _failed(self, capture: Capture, error: BaseException) -> None:
        """Go on after a connection failed, or raise what nothing can be done about."""
        self._let_go(capture)
        if not isinstance(error, SourceError):
            raise error
        if isinstance(error, FeedError) and error.permanent and self._facts is None:
            raise SourceError(str(error)) from error
        if isinstance(error, FeedError) and error.cause == "timed out" and capture.feed is not None:
            error = self._silent(capture)
        self._connected = False
        self._wait_after(error)

    def _let_go(self, capture: Capture) -> None:
        self._lost_before += capture.lost
        self.lost = self._lost_before
        capture.abandon()
        self._stuck.append(capture)
        self._capture = None

    def _wait_after(self, error: SourceError) -> None:
        """Tell of a failure, and wait until it is time for the next attempt."""
        cause = error.cause if isinstance(error, FeedError) else "failed"
        delay_s = self._backoff.next_s(listened=cause in _LISTENED)
        self._failures += 1
        if self._retries is not None and self._failures > self._retries:
            line = f"{error} (given up after {self._failures} failures in a row)"
            raise SourceLostError(line) from error
        line = f"{error}; trying again in {delay_s:g} s"
        self._log.move(StreamState.RECONNECTING, line, cause, unless=StreamState.PAUSED)
        kind = EventKind.STALLED if cause == "stalled" else EventKind.LOST
        self._log.tell(kind, line, cause, retry_in_s=delay_s, failures=self._failures)
        self._wait(delay_s)

    def _wait(self, delay_s: float) -> None:
        if self._prober is None:
            self._wake.wait(delay_s)
            return
        ended = threading.Event()
        found = threading.Event()

        def notice() -> None:
            found.set()
            self._wake.set()

        thread = self._prober.watch(notice, ended)
        self._wake.wait(delay_s)
        ended.set()
        thread.join(_JOIN_S)
        if found.is_set():
            # Something changed over there, so what failed before says nothing any more.
            self._backoff.reset()
            self._wake.clear()
        if self._closed.is_set():
            self._wake.set()
