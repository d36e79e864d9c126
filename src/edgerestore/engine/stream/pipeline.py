"""Source, restorer and sink at work at the same time, in order, each bounded."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Protocol

from ...errors import InferenceError, NoAnswerError
from ...pixels import Image
from ..media.frames import Frame, Item
from ..sinks.protocol import Sink
from ..sources.protocol import Source
from .bounded_queue import BoundedQueue, QueueAbortedError, QueueEndedError
from .rules import Gate, Overrun, StreamRules
from .telemetry import Telemetry

__all__ = ["PendingImage", "Restores", "run_pipeline"]

# Frames held between two threads: enough to ride over a slow one, few enough for memory.
_QUEUED_FRAMES = 3.0
# On a live stream what waits grows old: just enough that two frames may come at once.
_QUEUED_LIVE_FRAMES = 2.0
_PACKET_WEIGHT = 1 / 256
_PACKET_WEIGHT_PER_BYTE = 1 / (1 << 20)
# A live stream lets single frames fail; this many in a row are no accident.
_FAILURES_IN_A_ROW = 5


class PendingImage(Protocol):
    """A restored image on its way."""

    def result(self, timeout: float | None = None) -> Image:
        """Wait for the image; raise what its restoration raised, or `TimeoutError`."""


class Restores(Protocol):
    """What the pipeline needs of a restorer."""

    @property
    def depth(self) -> int:
        """Images worth keeping in flight."""

    def submit(self, image: Image) -> PendingImage:
        """Start on one image; it is only read, and only until its result is there."""


@dataclass(frozen=True, eq=False, slots=True)
class _Stamped:
    """An item, and when it came in (seconds of `time.perf_counter`)."""

    item: Item
    since_s: float

    def older_than(self, limit_s: float | None) -> bool:
        return (
            limit_s is not None
            and isinstance(self.item, Frame)
            and time.perf_counter() - self.since_s > limit_s
        )


@dataclass(frozen=True, eq=False, slots=True)
class _Flying:
    """An item in the middle stage; packets fly along with the frames for their order."""

    stamped: _Stamped
    pending: PendingImage | None
    submitted_s: float = 0.0


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
        self._restorer = restorer
        self._sink = sink
        self._telemetry = telemetry
        self._stop = stop
        self._rules, self._gate = rules, gate
        self._stumbled = stumbled
        capacity = _QUEUED_LIVE_FRAMES if rules.live else _QUEUED_FRAMES
        self._read_ahead: BoundedQueue[_Stamped] = BoundedQueue(capacity)
        self._restored: BoundedQueue[_Stamped] = BoundedQueue(1.0 if rules.live else capacity)
        self._flying: deque[_Flying] = deque()
        self._frames_flying = 0
        self._failures_in_a_row = 0
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
            self._land()
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
        self._drop((*self._read_ahead.abort(), *self._restored.abort()), "ended")
        if self._source.interruptible:
            # It may be waiting for a frame that comes in half a minute, or never.
            self._source.close()

    def _join(self, thread: threading.Thread) -> None:
        while thread.ident is not None and thread.is_alive():
            try:
                thread.join()
            except KeyboardInterrupt as error:
                self._fail(error)

    def _drop(self, dropped: Iterable[_Stamped], cause: str) -> None:
        for one in dropped:
            if isinstance(one.item, Frame):
                self._telemetry.frame_dropped(cause)

    def _put(self, queue: BoundedQueue[_Stamped], stamped: _Stamped) -> None:
        try:
            queue.put(stamped, _weight(stamped.item))
        except QueueAbortedError:
            self._drop([stamped], "ended")
            raise

    def _read(self) -> None:
        for item in self._source:
            since_s = time.perf_counter()
            if isinstance(item, Frame):
                self._telemetry.frame_read()
                self._telemetry.set_lost(self._source.lost)
                since_s = since_s if item.captured_s is None else item.captured_s
            self._take_in(_Stamped(item, since_s))
            if self._stop.is_set():
                break
        self._telemetry.set_lost(self._source.lost)
        self._read_ahead.end()

    def _take_in(self, stamped: _Stamped) -> None:
        if not self._rules.live:
            self._put(self._read_ahead, stamped)
        elif self._gate.closed:
            self._drop([stamped], "paused")
        else:
            newest = self._rules.overrun is Overrun.DROP_NEWEST
            try:
                over = self._read_ahead.offer(stamped, _weight(stamped.item), newest=newest)
            except QueueAbortedError:
                self._drop([stamped], "ended")
                raise
            self._drop(over, "overrun")

    def _restore(self) -> None:
        while True:
            try:
                # While something is in flight there is something better to do than wait.
                stamped = self._read_ahead.get_now() if self._flying else self._read_ahead.get()
            except QueueEndedError:
                break
            if stamped is None:
                self._collect()
                continue
            if not isinstance(stamped.item, Frame):
                self._flying.append(_Flying(stamped, None))
                continue
            try:
                self._make_room()
            except BaseException:
                self._drop([stamped], "ended")
                raise
            self._submit(stamped, stamped.item)
        self._drain()
        self._restored.end()

    def _make_room(self) -> None:
        if self._gate.closed:
            self._drain()
            self._gate.pass_through(self._stop)
        while self._frames_flying >= max(1, self._restorer.depth):
            self._collect()

    def _submit(self, stamped: _Stamped, frame: Frame) -> None:
        if stamped.older_than(self._rules.max_staleness_s):
            self._drop([stamped], "stale")
            return
        submitted_s = time.perf_counter()
        try:
            pending = self._restorer.submit(frame.image)
        except BaseException as error:
            self._drop([stamped], "failed")
            self._stumble(error)
            return
        self._flying.append(_Flying(stamped, pending, submitted_s))
        self._frames_flying += 1

    def _drain(self) -> None:
        while self._flying:
            self._collect()

    def _collect(self) -> None:
        first = self._flying[0]
        stamped = first.stamped
        if first.pending is not None and isinstance(stamped.item, Frame):
            try:
                image = first.pending.result(self._rules.answer_s)
            except TimeoutError:
                self._give_up()
                return
            except InferenceError as error:
                self._land_first("failed")
                self._stumble(error)
                return
            self._telemetry.frame_restored(time.perf_counter() - first.submitted_s)
            self._failures_in_a_row = 0
            self._frames_flying -= 1
            original = stamped.item.image if self._rules.originals else None
            stamped = replace(stamped, item=replace(stamped.item, image=image, original=original))
        # Only now: until its result is there, a failure must still find it in flight.
        self._flying.popleft()
        self._put(self._restored, stamped)

    def _give_up(self) -> None:
        """Let go of everything in flight: a device that does not answer one does not answer any.

        Nothing waits for it any more, so its buffers stay alive as long as it holds them.
        """
        while self._flying:
            self._land_first("failed")
        self._stumble(NoAnswerError(f"the device has not answered for {self._rules.answer_s:g} s"))

    def _land_first(self, cause: str) -> None:
        one = self._flying.popleft()
        if one.pending is not None:
            self._frames_flying -= 1
        self._drop([one.stamped], cause)

    def _stumble(self, error: BaseException) -> None:
        self._failures_in_a_row += 1
        tolerable = self._rules.live and isinstance(error, InferenceError)
        if not tolerable or self._failures_in_a_row >= _FAILURES_IN_A_ROW:
            raise error
        if self._stumbled is not None and isinstance(error, InferenceError):
            self._stumbled(error)

    def _land(self) -> None:
        """Wait for what a failure left in flight: its buffers are in use until then."""
        while self._flying:
            pending = self._flying[0].pending
            if pending is not None:
                with contextlib.suppress(Exception):
                    pending.result(self._rules.answer_s)
            self._land_first("ended")

    def _write(self) -> None:
        while True:
            try:
                stamped = self._restored.get()
            except QueueEndedError:
                break
            if stamped.older_than(self._rules.max_staleness_s):
                self._drop([stamped], "stale")
                continue
            try:
                self._sink.write(stamped.item)
            except BaseException:
                self._drop([stamped], "ended")
                raise
            if isinstance(stamped.item, Frame):
                self._telemetry.frame_written(time.perf_counter() - stamped.since_s)
        self._sink.close()


def _weight(item: Item) -> float:
    if isinstance(item, Frame):
        return 1.0
    return _PACKET_WEIGHT + item.packet.size * _PACKET_WEIGHT_PER_BYTE
