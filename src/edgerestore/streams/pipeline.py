"""Source, restorer and sink at work at the same time, in order, each bounded."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ..errors import InferenceError
from .bounded_queue import QueueAbortedError, QueueEndedError
from .frame_buffer import Row, Stamped
from .in_flight import Flight, Restores
from .media.frames import Frame
from .protocols.sink import Sink
from .protocols.source import Source
from .rules import Gate, Overrun, StreamRules
from .telemetry import Telemetry

__all__ = ["run_pipeline"]

# Frames held between two threads: enough to ride over a slow one, few enough for memory.
_QUEUED_FRAMES = 3.0
# On a live stream what waits grows old. A burst, as connections begin with, may be worked off by
# a model that is quick enough; otherwise a frame gives way to a newer one after this time.
_QUEUED_LIVE_FRAMES = 6.0
_PATIENCE_S = 0.08


def run_pipeline(
    source: Source,
    restorer: Restores,
    sink: Sink,
    telemetry: Telemetry,
    stop: threading.Event | None = None,
    *,
    rules: StreamRules | None = None,
    gate: Gate | None = None,
    stumbled: Callable[[InferenceError], None] | None = None,
) -> None:
    """Restore every frame of a source into a sink.

    The source is read on one thread, the sink written on another; frames are submitted and
    collected on the caller's. The sink is closed on success and aborted on failure; closing
    the source is the caller's.

    Parameters
    ----------
    source : Source
    restorer : Restores
    sink : Sink
    telemetry : Telemetry
        Every frame that came in is counted out, or dropped with its cause.
    stop : threading.Event or None
        Once set, no more is read; what was read is restored and the sink is closed.
    rules : StreamRules or None
        By default everything waits for everything.
    gate : Gate or None
        While it is closed, no frame is restored: a live stream lets them go, any other waits.
    stumbled : callable or None
        Told on the caller's thread when, on a live stream, the device refused a frame or did
        not answer in time; it may put the restorer right. Five times in a row, and every
        time on a stream that is not live, is a failure.

    Raises
    ------
    BaseException
        The first failure of any stage, once, after every thread has ended.
    """
    _Run(
        source,
        restorer,
        sink,
        telemetry,
        stop or threading.Event(),
        rules or StreamRules(),
        gate or Gate(),
        stumbled,
    ).execute()


class _Run:
    def __init__(
        self,
        source: Source,
        restorer: Restores,
        sink: Sink,
        telemetry: Telemetry,
        stop: threading.Event,
        rules: StreamRules,
        gate: Gate,
        stumbled: Callable[[InferenceError], None] | None,
    ) -> None:
        self._source = source
        self._sink = sink
        self._telemetry = telemetry
        self._stop = stop
        self._rules, self._gate = rules, gate
        capacity = _QUEUED_LIVE_FRAMES if rules.live else _QUEUED_FRAMES
        self._read_ahead = Row(capacity, telemetry)
        self._restored = Row(1.0 if rules.live else capacity, telemetry)
        self._flight = Flight(restorer, self._restored, telemetry, rules, stumbled)
        self._failure: BaseException | None = None
        self._failure_lock = threading.Lock()

    def execute(self) -> None:
        threads = [
            threading.Thread(target=self._guard, args=(stage,), name=f"edgerestore-{name}")
            for name, stage in (("read", self._read), ("write", self._write))
        ]
        try:
            for thread in threads:
                thread.start()
            self._guard(self._restore)
        finally:
            for thread in threads:
                self._join(thread)
            self._flight.land()
        if self._failure is not None:
            self._sink.abort()
            raise self._failure

    def _guard(self, stage: Callable[[], None]) -> None:
        """Run a stage; its failure ends the other stages too."""
        try:
            stage()
        except QueueAbortedError:
            return
        except BaseException as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        with self._failure_lock:
            # The first failure is the cause; those behind it are its echo.
            if self._failure is None:
                self._failure = error
        self._read_ahead.abort()
        self._restored.abort()
        if self._source.interruptible:
            # It may be waiting for a frame that comes in half a minute, or never.
            self._source.close()

    def _join(self, thread: threading.Thread) -> None:
        while thread.ident is not None and thread.is_alive():
            try:
                thread.join()
            except KeyboardInterrupt as error:
                self._fail(error)

    def _drop(self, stamped: Stamped, cause: str) -> None:
        stamped.drop(self._telemetry, cause)

    def _read(self) -> None:
        for item in self._source:
            since_s = time.perf_counter()
            if isinstance(item, Frame):
                self._telemetry.frame_read()
                self._telemetry.set_lost(self._source.lost)
                since_s = since_s if item.captured_s is None else item.captured_s
            self._take_in(Stamped(item, since_s))
            if self._stop.is_set():
                break
        self._telemetry.set_lost(self._source.lost)
        self._read_ahead.end()

    def _take_in(self, stamped: Stamped) -> None:
        if not self._rules.live:
            self._read_ahead.put(stamped)
        elif self._gate.closed:
            self._drop(stamped, "paused")
        else:
            newest = self._rules.overrun is Overrun.DROP_NEWEST
            self._read_ahead.offer(stamped, newest=newest, patience_s=_PATIENCE_S)

    def _restore(self) -> None:
        while True:
            try:
                # While something is in flight there is something better to do than wait.
                stamped = self._read_ahead.get_now() if self._flight else self._read_ahead.get()
            except QueueEndedError:
                break
            if stamped is None:
                self._flight.collect()
                continue
            if not isinstance(stamped.item, Frame):
                self._flight.take_along(stamped)
                continue
            if self._rules.live and self._gate.closed:
                self._drop(stamped, "paused")
                continue
            try:
                self._make_room()
            except BaseException:
                self._drop(stamped, "ended")
                raise
            self._flight.submit(stamped, stamped.item)
        self._flight.drain()
        self._restored.end()

    def _make_room(self) -> None:
        if self._gate.closed:
            self._flight.drain()
            self._gate.pass_through(self._stop)
        self._flight.make_room()

    def _write(self) -> None:
        while True:
            try:
                stamped = self._restored.get()
            except QueueEndedError:
                break
            if stamped.older_than(self._rules.max_staleness_s):
                self._drop(stamped, "stale")
                continue
            try:
                self._sink.write(stamped.item)
            except BaseException:
                self._drop(stamped, "ended")
                raise
            if isinstance(stamped.item, Frame):
                self._telemetry.frame_written(time.perf_counter() - stamped.since_s)
        self._sink.close()
