"""Source that reconnects whenever its input goes away."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

from ...errors import SourceError, SourceLostError
from ..events import EventKind, EventLog, StreamState
from ..frame_buffer import BufferAbortedError, BufferEndedError, FrameBuffer, Overrun
from ..media.frames import LIVE_TIME_BASE, Frame, VideoInfo
from ..options import SourceOptions
from .address import Address
from .connection import Connection, ConnectionFailedError, ReaderThread
from .reconnect import Backoff, Prober, probe, probed
from .timeline import Timeline

__all__ = ["LiveSource"]

# Threads that hang in a library for good. With so many, another would hang too.
_STUCK_AT_MOST = 3
_JOIN_S = 0.3
# How often a wait for a frame looks whether the connection has been made meanwhile.
_LOOK_S = 0.25
# Failures that took a time-out to notice.
_LISTENED = ("stalled", "timed out")
# Schemes where trying again costs nobody anything: a socket that listens, a port that refuses.
_CHEAP, _CHEAP_BACKOFF_S = ("udp", "tcp"), 1.0


class _Attempt(ReaderThread):
    """Thread that makes one connection and reads it, until it ends or is abandoned."""

    def __init__(self, open_connection: Callable[[], Connection]) -> None:
        super().__init__("edgerestore-capture", self._read)
        self._open_connection = open_connection
        self.connection: Connection | None = None

    @property
    def finite(self) -> bool:
        """Whether it is connected to something that is to end."""
        return self.connection is not None and self.connection.finite

    @property
    def lost(self) -> Counter[str]:
        """Frames that could not be read, or were not taken in time."""
        lost: Counter[str] = Counter()
        if self.connection is not None:
            lost.update(self.connection.lost)
        if overrun := self.buffer.dropped["overrun"]:
            lost["not taken in time"] += overrun
        return lost

    def abandon(self) -> None:
        """Close the connection, without waiting for anything that hangs in it."""
        self.buffer.abort()
        if self.connection is not None:
            self.connection.close()

    def _read(self, buffer: FrameBuffer) -> None:
        connection = self._open_connection()
        try:
            # Its silence is counted from here; so before anybody can see that it is there.
            buffer.touch()
            if connection.finite:
                buffer.policy = Overrun.WAIT
            self.connection = connection
            if not buffer.aborted:
                for frame in connection:
                    buffer.put(frame)
        finally:
            connection.close()


class LiveSource:
    """`Source` that waits for its input, and connects again whenever that goes away.

    A connection is made and read by a thread of its own; whoever iterates only waits with a
    limit, so nothing that hangs in a camera's driver or a network library holds it up. What is
    not taken in time makes room for what is newer and is counted in `lost`.

    Each failure is an event with its cause and the time until the next attempt (`Backoff`);
    the source is probed in between. Only what trying again cannot mend (a wrong login, a web
    page, no such camera) is raised, and only as long as there was no connection yet: a source
    that worked once will work again.

    Its states are RUNNING and RECONNECTING; while the stream is PAUSED it leaves the state
    alone, and `connected` tells.

    `close` may be called from any thread, also while another one is inside `__next__`, which
    then ends; this is more than a `Source` promises.

    Parameters
    ----------
    open_connection : callable
        Makes one connection; called on its thread.
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
        open_connection: Callable[[], Connection],
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
        self.connected = False
        self._open_connection = open_connection
        self._where, self._log = where, log
        self._retries, self._stall_s, self._open_s = retries, stall_s, open_s
        self._backoff = backoff or Backoff()
        self._prober = Prober(probe, probe_s) if probe is not None else None
        self._timeline = Timeline()
        self._info: VideoInfo | None = None
        self._own_info: VideoInfo | None = None  # the connection's, of which ours is made
        self._lost_before: Counter[str] = Counter()
        self._attempt: _Attempt | None = None
        self._stuck: list[_Attempt] = []
        self._failures = 0
        self._closed = threading.Event()
        self._wake = threading.Event()
        self._lock = threading.Lock()

    @classmethod
    def of(
        cls,
        address: Address,
        options: SourceOptions,
        open_connection: Callable[[], Connection],
        log: EventLog,
    ) -> LiveSource:
        """Return the source of an address, with the delays and the probe that suit it."""
        cheap = address.scheme in _CHEAP
        return cls(
            open_connection,
            str(address),
            log,
            retries=options.retries,
            stall_s=options.stall_s,
            # FFmpeg takes its time twice, and a name may have to be looked up.
            open_s=2 * options.open_timeout_s + 5,
            backoff=Backoff(longest_s=_CHEAP_BACKOFF_S) if cheap else Backoff(),
            probe=(lambda: probe(address)) if probed(address) else None,
        )

    def __iter__(self) -> Iterator[Frame]:
        """Return the one iterator over what comes."""
        return self

    def __next__(self) -> Frame:
        """Wait for the next frame, through as many connections as it takes."""
        frame = None
        try:
            frame = self._next()
        finally:
            if frame is None:
                self._closed.set()
        if frame is None:
            raise StopIteration
        return frame

    def close(self) -> None:
        """End it, from any thread; a thread inside `__next__` leaves at once."""
        with self._lock:
            self._closed.set()
            attempts = [self._attempt] if self._attempt is not None else []
        self.connected = False
        self._wake.set()
        for one in attempts:
            one.abandon()
        deadline_s = time.monotonic() + _JOIN_S
        for one in [*attempts, *self._stuck]:
            one.join(max(0.0, deadline_s - time.monotonic()))

    def _next(self) -> Frame | None:
        while not self._closed.is_set():
            attempt = self._attempt or self._connect()
            if attempt is None:
                continue
            buffer = attempt.buffer
            # Asked before the silence: the limit of a connection that is just made would else
            # be held against the time that it took to make it.
            limit_s = self._stall_s if attempt.connection is not None else self._open_s
            try:
                frame = buffer.get(min(_LOOK_S, max(0.0, limit_s - buffer.silent_s)))
            except BufferAbortedError:
                break
            except BufferEndedError:
                if attempt.finite and self.connected and buffer.error is None:
                    self._let_go(attempt)
                    break
                self._failed(attempt, buffer.error or self._failure("the stream ended"))
                continue
            if isinstance(frame, Frame):
                return self._taken(attempt, frame)
            if not self._closed.is_set() and buffer.silent_s >= limit_s:
                self._failed(attempt, self._silence(attempt))
        return None

    def _connect(self) -> _Attempt | None:
        self._stuck = [one for one in self._stuck if one.is_alive()]
        if len(self._stuck) >= _STUCK_AT_MOST:
            line = f"{len(self._stuck)} earlier attempts still hang"
            self._wait_after(self._failure(line, "hangs"))
            return None
        with self._lock:
            if self._closed.is_set():
                return None
            self._attempt = _Attempt(self._open_connection)
            self._attempt.start()
        return self._attempt

    def _taken(self, attempt: _Attempt, frame: Frame) -> Frame:
        if frame.info is None:
            raise RuntimeError("a connection's frames bring their info")
        if not self.connected:
            self._arrived(frame.info)
        if frame.info is not self._own_info:
            self._own_info = frame.info
            self._follow(replace(frame.info, time_base=LIVE_TIME_BASE))
        info = self._info or frame.info
        if lost := attempt.lost:
            self.lost = self._lost_before + lost
        return self._timeline.stamped(frame, info, mended=not attempt.finite)

    def _arrived(self, info: VideoInfo) -> None:
        """Note the first frame of a connection."""
        self.connected = True
        self._failures = 0
        self._backoff.reset()
        if self._prober is not None:
            self._prober.forget()
        self._timeline.reconnected()
        line = f"{self._where}: running"
        self._log.move(StreamState.RUNNING, line, unless=StreamState.PAUSED)
        self._log.record(EventKind.CONNECTED, f"{self._where}: connected, {info}", **info.as_dict())

    def _follow(self, new: VideoInfo) -> None:
        """Take over what a video says, if it is anything new."""
        old = self._info
        if old is None or not old.same_as(new):
            self._info = new
            if old is not None:
                line = f"{self._where}: was {old}, now {new}"
                self._log.record(EventKind.CHANGED, line, "source", **new.as_dict())

    def _failure(self, what: str, cause: str = "end of stream") -> ConnectionFailedError:
        return ConnectionFailedError(f"{self._where}: {what}", cause)

    def _silence(self, attempt: _Attempt) -> ConnectionFailedError:
        if attempt.connection is None:
            return self._failure(f"did not answer within {self._open_s:g} s", "timed out")
        return self._failure(f"no picture for {self._stall_s:g} s", "stalled")

    def _failed(self, attempt: _Attempt, error: BaseException) -> None:
        """Go on after a connection failed, or raise what nothing can be done about."""
        self._let_go(attempt)
        if not isinstance(error, SourceError):
            raise error
        if isinstance(error, ConnectionFailedError):
            if error.permanent and self._info is None:
                raise SourceError(str(error)) from error
            if error.cause == "timed out" and attempt.connection is not None:
                error = self._silence(attempt)
        self._wait_after(error)

    def _let_go(self, attempt: _Attempt) -> None:
        self._lost_before += attempt.lost
        self.lost = self._lost_before
        self.connected = False
        attempt.abandon()
        self._stuck.append(attempt)
        self._attempt = None

    def _wait_after(self, error: SourceError) -> None:
        """Tell of a failure, and wait until it is time for the next attempt."""
        cause = error.cause if isinstance(error, ConnectionFailedError) else "failed"
        delay_s = self._backoff.next_s(listened=cause in _LISTENED)
        self._failures += 1
        if self._retries is not None and self._failures > self._retries:
            line = f"{error} (given up after {self._failures} failures in a row)"
            raise SourceLostError(line) from error
        line = f"{error}; trying again in {delay_s:.2g} s"
        self._log.move(StreamState.RECONNECTING, line, cause, unless=StreamState.PAUSED)
        kind = EventKind.STALLED if cause == "stalled" else EventKind.LOST
        self._log.record(kind, line, cause, retry_in_s=delay_s, failures=self._failures)
        if self._prober is None:
            self._wake.wait(delay_s)
        elif self._prober.wait(delay_s, self._wake):
            # Something changed over there, so what failed before says nothing any more.
            self._backoff.reset()
            self._wake.clear()
            if self._closed.is_set():
                self._wake.set()
