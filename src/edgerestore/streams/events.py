"""State and typed events of a stream, and the log lines that tell of them."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

__all__ = ["Event", "EventKind", "EventLog", "StreamState", "notices_to", "run_of"]

logger = logging.getLogger(__name__)

_EVENTS_KEPT = 256
_run: ContextVar[object] = ContextVar("edgerestore_run", default=None)


class StreamState(StrEnum):
    """State of a stream."""

    NOT_STARTED = "NOT_STARTED"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    RECONNECTING = "RECONNECTING"
    ENDED = "ENDED"
    FAILED = "FAILED"


class EventKind(StrEnum):
    """Kind of an event."""

    STATE = "state"  # the stream's state changed
    CONNECTED = "connected"  # a source answered; its size and rate are in the details
    LOST = "lost"  # a source could not be reached, or went away; when it is tried again
    STALLED = "stalled"  # connected, and silent for too long
    CHANGED = "changed"  # a source goes on with another size, rate or pixel format
    CHOSEN = "chosen"  # a model of the family was chosen for the stream
    SWITCHED = "switched"  # another model or precision runs from the next frame on
    REFUSED = "refused"  # a switch that was asked for did not succeed; the old model goes on
    STEPPED = "stepped"  # the work was lowered or raised to keep up
    GUARDED = "guarded"  # tiles fell back to their input
    STALE = "stale"  # frames come, and for seconds each is too old to be shown
    STUCK = "stuck"  # the device did not answer in time
    OUTPUT = "output"  # an output was lost, came back, or began another file

    @property
    def level(self) -> int:
        """Level of the line in the log: a warning where something is lost or changed."""
        good = (EventKind.CONNECTED, EventKind.CHOSEN, EventKind.SWITCHED, EventKind.OUTPUT)
        return logging.INFO if self in good else logging.WARNING


_OUTPUT_AWAY = ("absent", "failed", "lost")
_ERRORS = frozenset(
    [
        *(EventKind.LOST, EventKind.STALLED, EventKind.REFUSED, EventKind.GUARDED),
        *(EventKind.STALE, EventKind.STUCK),
    ]
)


@dataclass(frozen=True)
class Event:
    """Event of a stream: what happened, why, and when.

    Parameters
    ----------
    kind : EventKind
    message : str
        One line, without credentials.
    state : StreamState
        State of the stream afterwards.
    cause : str
        A short word for programs (``stalled``, ``refused``, ``end of stream``, ...).
    details : mapping
        Values of JSON.
    seconds : float
        Since the stream began.
    at : datetime
        The time of day, UTC.
    """

    kind: EventKind
    message: str
    state: StreamState
    cause: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON; ``event`` is its kind."""
        return {
            "event": self.kind.value,
            "state": self.state.value,
            "cause": self.cause,
            "message": self.message,
            **self.details,
            "seconds": round(self.seconds, 3),
            "at": self.at.isoformat(timespec="milliseconds"),
        }


class EventLog:
    """State of a stream and its last events; every method may be called by any thread.

    Each event but a change of state, beside which another one says why, is also a line of the
    logger ``edgerestore.streams.events``.

    Parameters
    ----------
    listener : callable or None
        Given each event on the thread where it happened; it must not block.
    """

    def __init__(self, listener: Callable[[Event], None] | None = None) -> None:
        self._listeners = [listener] if listener is not None else []
        self._state = StreamState.NOT_STARTED
        self._events: deque[Event] = deque(maxlen=_EVENTS_KEPT)
        self._last_error: Event | None = None
        self._started_s = time.perf_counter()
        self._lock = threading.Lock()

    @property
    def state(self) -> StreamState:
        """State of the stream."""
        return self._state

    @property
    def events(self) -> list[Event]:
        """The last 256 events, the oldest first."""
        with self._lock:
            return list(self._events)

    @property
    def last_error(self) -> Event | None:
        """The last event that says what went wrong; it may have been mended since."""
        with self._lock:
            return self._last_error

    def listen(self, listener: Callable[[Event], None]) -> None:
        """Give each event from now on to one more listener."""
        with self._lock:
            self._listeners.append(listener)

    def record(self, kind: EventKind, message: str, cause: str = "", **details: Any) -> None:
        """Add an event, and give it to the listeners."""
        self._add(kind, message, cause, details, self._state)

    def move(
        self,
        state: StreamState,
        message: str,
        cause: str = "",
        *,
        unless: StreamState | None = None,
    ) -> None:
        """Change the state, with an event; a final state stays.

        Parameters
        ----------
        state : StreamState
        message, cause : str
        unless : StreamState or None
            A stream in this state stays in it.
        """
        with self._lock:
            final = self._state in (StreamState.ENDED, StreamState.FAILED)
            if final or self._state in (state, unless):
                return
            self._state = state
        self._add(EventKind.STATE, message, cause, {}, state)

    def _add(
        self,
        kind: EventKind,
        message: str,
        cause: str,
        details: Mapping[str, Any],
        state: StreamState,
    ) -> None:
        seconds = time.perf_counter() - self._started_s
        event = Event(kind, message, state, cause, dict(details), seconds)
        with self._lock:
            self._events.append(event)
            if _is_error(event):
                self._last_error = event
            listeners = list(self._listeners)
        if kind is not EventKind.STATE:
            logger.log(kind.level, "%s", message)
        for listener in listeners:
            listener(event)


def _is_error(event: Event) -> bool:
    if event.kind is EventKind.STATE:
        return event.state is StreamState.FAILED
    away = event.kind is EventKind.OUTPUT and event.cause in _OUTPUT_AWAY
    return away or event.kind in _ERRORS


@contextmanager
def run_of(run: object) -> Iterator[None]:
    """Log on behalf of a run, on this thread and on those that start with its context."""
    token = _run.set(run)
    try:
        yield
    finally:
        _run.reset(token)


@contextmanager
def notices_to(notice: Callable[[str], None] | None, run: object = None) -> Iterator[None]:
    """Give the lines that the package logs meanwhile to a function; ``None`` changes nothing.

    Lines from `logging.INFO` on, from the thread where they arise. Those of events, which have
    listeners, are left out, and so are those on behalf of another run than ``run`` (`run_of`).
    """
    if notice is None:
        yield
        return
    reader, package = (notice, run), logging.getLogger("edgerestore")
    with _changing:
        if not _handler.readers:
            _handler.level_before = package.level
            if package.getEffectiveLevel() > logging.INFO:
                package.setLevel(logging.INFO)
            package.addHandler(_handler)
        _handler.readers.append(reader)
    try:
        yield
    finally:
        with _changing:
            _handler.readers.remove(reader)
            if not _handler.readers:
                package.removeHandler(_handler)
                package.setLevel(_handler.level_before)


class _NoticeHandler(logging.Handler):
    """Handler for the functions of all runs; while there is one, INFO is logged."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.readers: list[tuple[Callable[[str], None], object]] = []
        self.level_before = logging.NOTSET

    def emit(self, record: logging.LogRecord) -> None:
        logging_run = _run.get()
        for notice, run in [] if record.name == __name__ else list(self.readers):
            if run is None or logging_run is None or run is logging_run:
                notice(record.getMessage())


_changing, _handler = threading.Lock(), _NoticeHandler()
