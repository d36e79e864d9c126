"""Live source that reconnects."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from ...errors import SourceError, SourceLostError
from ..events import EventKind, EventLog, StreamState
from ..media.frames import LIVE_TIME_BASE, Frame, VideoInfo
from .connection import Connection, ConnectionFailedError
from .handover import Handover
from .reconnect import Backoff, Prober
from .timeline import Timeline

__all__ = ["LiveSource", "_CaptureThread", "described", "details", "same"]


_RATE_TOLERANCE = 0.05


def same(one: VideoInfo, other: VideoInfo) -> bool:
    """Return whether nothing about a video changed that anybody has to act on."""
    # A guessed rate wavers a little from connection to connection.
    if abs(float(one.rate - other.rate)) > _RATE_TOLERANCE * float(one.rate):
        return False
    return replace(other, rate=one.rate).__dict__ == one.__dict__


def described(info: VideoInfo) -> str:
    """Return size, pixel format and rate, for a person."""
    form = f" {info.pix_fmt}" if info.pix_fmt else ""
    return f"{info.width} x {info.height}{form} at {float(info.rate):.4g} frames a second"


def details(info: VideoInfo) -> dict[str, Any]:
    """Return size, pixel format and rate, for a program."""
    return {
        "width": info.width,
        "height": info.height,
        "rate": round(float(info.rate), 3),
        "pix_fmt": info.pix_fmt,
    }


class _CaptureThread:
    """Opens a connection and takes its frames as they come, until it ends or is abandoned.

    Parameters
    ----------
    open_connection : callable
        Makes the connection; called on the thread.
    """

    def __init__(self, open_connection: Callable[[], Connection]) -> None:
        self._open_connection = open_connection
        self._connection: Connection | None = None
        self._lock = threading.Lock()
        self._handover = Handover()
        self._thread = threading.Thread(target=self._run, name="edgerestore-capture", daemon=True)

    @property
    def connection(self) -> Connection | None:
        """The connection, once it is made."""
        return self._connection

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
        if self._connection is not None:
            lost.update(self._connection.lost)
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
            connection = self._connection
        if connection is not None:
            connection.close()

    def join(self, timeout_s: float) -> None:
        """Give the thread a moment to end; what hangs in a library is left to itself."""
        if self._thread is not threading.current_thread() and self._thread.ident is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            connection = self._open_connection()
            # Its silence is counted from here; so before anybody can see that it is there.
            self._handover.alive()
            with self._lock:
                self._connection = connection
            try:
                self._pump(connection)
            finally:
                connection.close()
        except BaseException as failure:
            error = failure
        self._handover.finish(error)

    def _pump(self, connection: Connection) -> None:
        self._handover.waits = connection.finite
        if self._handover.abandoned:
            return
        for frame in connection:
            if not self._handover.put(frame):
                return


# Threads that hang in a library for good. With so many, another would hang too.
_STUCK_AT_MOST = 3
_JOIN_S = 0.3
# How often a wait for a frame looks whether the connection has been made meanwhile.
_LOOK_S = 0.25
# Failures that took a time-out to notice.
_LISTENED = ("stalled", "timed out")


class LiveSource:
    """A `Source` that waits for its input, and connects again whenever that goes away.

    The connection lives on a thread of its own (`_CaptureThread`); whoever iterates only waits with
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
    open_connection : callable
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
        self._open_connection = open_connection
        self._where = where
        self._log = log
        self._retries = retries
        self._stall_s = stall_s
        self._open_s = open_s
        self._backoff = backoff or Backoff()
        self._prober = Prober(probe, probe_s) if probe is not None else None
        self._timeline = Timeline()
        self._info: VideoInfo | None = None
        self._fed: VideoInfo | None = None
        self._lost_before: Counter[str] = Counter()
        self._capture: _CaptureThread | None = None
        self._stuck: list[_CaptureThread] = []
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
    def info(self) -> VideoInfo | None:
        """What the video said of itself last; ``None`` before the first frame."""
        return self._info

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
            limit_s = self._stall_s if capture.connection is not None else self._open_s
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

    def _connect(self) -> _CaptureThread | None:
        self._stuck = [one for one in self._stuck if one.alive]
        if len(self._stuck) >= _STUCK_AT_MOST:
            line = f"{self._where}: {len(self._stuck)} earlier attempts still hang"
            self._wait_after(ConnectionFailedError(line, "hangs"))
            return None
        with self._lock:
            if self._closed.is_set():
                return None
            self._capture = _CaptureThread(self._open_connection)
            self._capture.start()
        return self._capture

    def _taken(self, capture: _CaptureThread, frame: Frame) -> Frame:
        if not self._connected:
            self._arrived(frame)
        elif frame.info is not self._fed:
            self._look_at(frame)
        if lost := capture.lost:
            self.lost = self._lost_before + lost
        info = self._info
        if info is None:
            raise RuntimeError("a connection's frames bring their info")
        finite = capture.connection is not None and capture.connection.finite
        return self._timeline.stamped(frame, info, mended=not finite)

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
        if frame.info is not None:
            line = f"{self._where}: connected, {described(frame.info)}"
            self._log.tell(EventKind.CONNECTED, line, **details(frame.info))
        self._look_at(frame)

    def _look_at(self, frame: Frame) -> None:
        """Take over a frame's info, if they say anything new."""
        self._fed = frame.info
        if frame.info is None:
            raise RuntimeError("a connection's frames bring their info")
        new, old = replace(frame.info, time_base=LIVE_TIME_BASE), self._info
        if old is not None and same(old, new):
            return
        self._info = new
        if old is not None:
            line = f"{self._where}: was {described(old)}, now {described(new)}"
            self._log.tell(EventKind.CHANGED, line, "source", **details(new))

    def _done(self, capture: _CaptureThread) -> bool:
        """Return whether it came to the end that it was to have."""
        finite = capture.connection is not None and capture.connection.finite
        if finite and self._connected and capture.error is None:
            self._let_go(capture)
            self._connected = False
            return True
        return False

    def _ended(self) -> ConnectionFailedError:
        return ConnectionFailedError(f"{self._where}: the stream ended", "end of stream")

    def _silent(self, capture: _CaptureThread) -> ConnectionFailedError:
        if capture.connection is None:
            line = f"{self._where}: did not answer within {self._open_s:g} s"
            return ConnectionFailedError(line, "timed out")
        return ConnectionFailedError(
            f"{self._where}: no picture for {self._stall_s:g} s", "stalled"
        )

    def _failed(self, capture: _CaptureThread, error: BaseException) -> None:
        """Go on after a connection failed, or raise what nothing can be done about."""
        self._let_go(capture)
        if not isinstance(error, SourceError):
            raise error
        if isinstance(error, ConnectionFailedError) and error.permanent and self._info is None:
            raise SourceError(str(error)) from error
        if (
            isinstance(error, ConnectionFailedError)
            and error.cause == "timed out"
            and capture.connection is not None
        ):
            error = self._silent(capture)
        self._connected = False
        self._wait_after(error)

    def _let_go(self, capture: _CaptureThread) -> None:
        self._lost_before += capture.lost
        self.lost = self._lost_before
        capture.abandon()
        self._stuck.append(capture)
        self._capture = None

    def _wait_after(self, error: SourceError) -> None:
        """Tell of a failure, and wait until it is time for the next attempt."""
        cause = error.cause if isinstance(error, ConnectionFailedError) else "failed"
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
