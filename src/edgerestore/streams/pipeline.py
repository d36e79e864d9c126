"""Source, restorer and sink at work at the same time: in order, each bounded."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import replace
from typing import NamedTuple, Protocol

from ..engine.restorer import Restorer
from ..errors import InferenceError, NoAnswerError
from ..imaging.arrays import Image
from .frame_buffer import BufferAbortedError, BufferEndedError, FrameBuffer, Overrun
from .media.frames import Frame, Item, Passthrough
from .options import LiveOptions
from .protocols import Sink, Source
from .telemetry import Telemetry

__all__ = ["PauseEvent", "PendingImage", "Restores", "StoppedError", "run_pipeline"]

# Frames held between two threads: enough to ride over a slow one, few enough for memory.
_QUEUED_FRAMES = 3.0
# On a live stream what waits grows old. A burst, as connections begin with, may be worked off by
# a model that is quick enough; otherwise a frame gives way to a newer one after this time.
_QUEUED_LIVE_FRAMES = 6.0
_PATIENCE_S = 0.08
# A live stream lets single frames fail; this many in a row are no accident.
_FAILURES_IN_A_ROW = 5
_PAUSE_POLL_S = 0.1


class StoppedError(Exception):
    """The run was stopped in the middle of a frame, which is left out."""


class PendingImage(Protocol):
    """A restored image on its way."""

    def result(self, timeout: float | None = None) -> Image:
        """Wait for the image; raise what its restoration raised, or `TimeoutError`."""


class Restores(Protocol):
    """Restorer, as far as a pipeline uses it."""

    @property
    def depth(self) -> int:
        """Images worth keeping in flight."""

    def submit(self, image: Image) -> PendingImage:
        """Start on one image; it is only read, and only until its result is there."""


class PauseEvent:
    """Pause of a stream; set and waited for by any thread."""

    def __init__(self) -> None:
        self._running = threading.Event()
        self._running.set()

    @property
    def paused(self) -> bool:
        """Whether the stream is paused."""
        return not self._running.is_set()

    def pause(self) -> None:
        """Pause the stream."""
        self._running.clear()

    def resume(self) -> None:
        """End the pause."""
        self._running.set()

    def wait(self, stopped: Callable[[], bool]) -> None:
        """Wait until the pause ends, or the stream is stopped."""
        while not stopped() and not self._running.wait(_PAUSE_POLL_S):
            pass


def run_pipeline(
    source: Source,
    restorer: Restores,
    sink: Sink,
    telemetry: Telemetry,
    stopped: Callable[[], bool] = lambda: False,
    *,
    options: LiveOptions | None = None,
    pause: PauseEvent | None = None,
    on_failure: Callable[[InferenceError], None] | None = None,
    on_first: Callable[[Frame], None] | None = None,
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
        Frames bring their originals if it wants them.
    telemetry : Telemetry
        Every frame that came in is counted out, or dropped with its cause. Reads the source's
        losses from here on.
    stopped : callable
        Asked after each item, by any thread: once true, no more is read; what was read is
        restored and the sink is closed.
    options : LiveOptions or None
        Its ``overrun``, ``max_staleness_s`` and ``answer_s`` count here.
    pause : PauseEvent or None
        While it is paused, no frame is restored: a source that may drop frames loses them, any
        other waits.
    on_failure : callable or None
        Called on the caller's thread when the device refused a frame or did not answer in
        time, and the stream may go on without it (its policy drops frames); it may put the
        restorer right. Five times in a row are a failure.
    on_first : callable or None
        Called on the caller's thread with the first frame, before it is submitted.

    Raises
    ------
    BaseException
        The first failure of any stage, once, after every thread has ended. `StoppedError` of the
        restorer is none: that frame is left out, what was restored before it is written.
    """
    options, telemetry.source = options or LiveOptions(), source
    if source.live:
        options = replace(options, overrun=options.overrun or Overrun.DROP_OLDEST)
    else:
        overrun = options.overrun or Overrun.WAIT
        options = replace(options, overrun=overrun, max_staleness_s=None, answer_s=None)
    pause = pause or PauseEvent()
    _Run(source, restorer, sink, telemetry, stopped, options, pause, on_failure, on_first).execute()


class _Run:
    """The three stages of one run, and the failure that ends them."""

    def __init__(
        self,
        source: Source,
        restorer: Restores,
        sink: Sink,
        telemetry: Telemetry,
        stopped: Callable[[], bool],
        options: LiveOptions,
        pause: PauseEvent,
        on_failure: Callable[[InferenceError], None] | None,
        on_first: Callable[[Frame], None] | None,
    ) -> None:
        self._source, self._sink, self._telemetry = source, sink, telemetry
        self._stopped, self._pause, self._on_first = stopped, pause, on_first
        self._max_staleness_s, policy = options.max_staleness_s, options.overrun or Overrun.WAIT
        # Then the source never waits, and single frames may be lost.
        self._drops = policy is not Overrun.WAIT
        capacity = _QUEUED_LIVE_FRAMES if self._drops else _QUEUED_FRAMES
        drop = telemetry.frame_dropped
        self._read_ahead = FrameBuffer(capacity, policy, patience_s=_PATIENCE_S, on_drop=drop)
        self._restored = FrameBuffer(1.0 if self._drops else capacity, on_drop=drop)
        self._in_flight = _InFlight(
            restorer, self._restored, telemetry, options, on_failure, originals=sink.wants_original
        )
        self._failure: BaseException | None = None
        self._failure_lock = threading.Lock()

    def execute(self) -> None:
        threads = [
            threading.Thread(
                target=copy_context().run, args=(self._guard, stage), name=f"edgerestore-{name}"
            )
            for name, stage in (("read", self._read), ("write", self._write))
        ]
        try:
            for thread in threads:
                thread.start()
            self._guard(self._restore)
        finally:
            for thread in threads:
                self._join(thread)
            self._in_flight.settle()
        if self._failure is not None:
            self._sink.abort()
            raise self._failure

    def _guard(self, stage: Callable[[], None]) -> None:
        """Run a stage; its failure ends the other stages too."""
        try:
            stage()
        except BufferAbortedError:
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
        while thread.is_alive():
            try:
                thread.join()
            except KeyboardInterrupt as error:
                self._fail(error)

    def _read(self) -> None:
        for item in self._source:
            if isinstance(item, Frame):
                if item.captured_s is None:
                    item = replace(item, captured_s=time.perf_counter())
                self._telemetry.frame_read()
            if isinstance(item, Frame) and self._drops and self._pause.paused:
                self._telemetry.frame_dropped("paused")
            else:
                self._read_ahead.put(item)
            if self._stopped():
                self._telemetry.cut_short = True
                break
        self._read_ahead.end()

    def _restore(self) -> None:
        while True:
            try:
                # While something is in flight there is something better to do than wait.
                item = self._read_ahead.get(0.0 if self._in_flight else None)
            except BufferEndedError:
                break
            if item is None:
                self._in_flight.collect()
            elif not isinstance(item, Frame):
                self._in_flight.take_along(item)
            elif self._drops and self._pause.paused:
                self._telemetry.frame_dropped("paused")
            else:
                self._submit(item)
            if self._in_flight.stopped:
                self._telemetry.cut_short = True
                self._read_ahead.abort()
                break
        self._in_flight.drain()
        self._restored.end()

    def _submit(self, frame: Frame) -> None:
        try:
            if self._on_first is not None:
                self._on_first(frame)
                self._on_first = None
            if self._pause.paused:
                self._in_flight.drain()
                self._pause.wait(self._stopped)
            self._in_flight.make_room()
        except BaseException:
            self._telemetry.frame_dropped("ended")
            raise
        self._in_flight.submit(frame)

    def _write(self) -> None:
        while True:
            try:
                item = self._restored.get()
            except BufferEndedError:
                break
            if isinstance(item, Frame):
                self._write_frame(item)
            elif item is not None:
                self._sink.write(item)
        if self._in_flight.stopped and not self._telemetry.snapshot().frames_out:
            self._sink.abort()  # the one image was left out
        else:
            self._sink.close()

    def _write_frame(self, frame: Frame) -> None:
        if frame.older_than(self._max_staleness_s):
            self._telemetry.frame_dropped("stale")
            return
        try:
            self._sink.write(frame)
        except BaseException:
            self._telemetry.frame_dropped("ended")
            raise
        self._telemetry.frame_written(time.perf_counter() - (frame.captured_s or 0.0))


class _Submitted(NamedTuple):
    """An item between submission and outcome; a packet has nothing pending."""

    item: Item
    pending: PendingImage | None = None
    submitted_s: float = 0.0


class _InFlight:
    """In-flight scheduler: submits up to the device's depth, and collects in order.

    Packets queue up with the frames, for their order. Used by one thread.
    """

    def __init__(
        self,
        restorer: Restores,
        restored: FrameBuffer,
        telemetry: Telemetry,
        options: LiveOptions,
        on_failure: Callable[[InferenceError], None] | None,
        *,
        originals: bool,
    ) -> None:
        self._restorer, self._restored, self._telemetry = restorer, restored, telemetry
        self._options, self._on_failure, self._originals = options, on_failure, originals
        self._submitted: deque[_Submitted] = deque()
        self.stopped = False  # in the middle of a frame, which was left out
        self._frames = 0
        self._failures_in_a_row = 0

    def __bool__(self) -> bool:
        return bool(self._submitted)

    def make_room(self) -> None:
        """Collect until the device would take another frame at once."""
        while self._frames >= max(1, self._restorer.depth):
            self.collect()

    def take_along(self, packet: Passthrough) -> None:
        """Append a packet."""
        self._submitted.append(_Submitted(packet))

    def submit(self, frame: Frame) -> None:
        """Start on a frame, unless it is too old."""
        if frame.older_than(self._options.max_staleness_s):
            self._telemetry.frame_dropped("stale")
            return
        submitted_s = time.perf_counter()
        try:
            pending = self._start(frame)
        except StoppedError:
            self._telemetry.frame_dropped("ended")
            self.stopped = True
            return
        except BaseException as error:
            self._telemetry.frame_dropped("failed")
            if isinstance(error, NoAnswerError):
                self._give_up_all()
            self._failed(error)
            return
        self._submitted.append(_Submitted(frame, pending, submitted_s))
        self._frames += 1

    def _start(self, frame: Frame) -> PendingImage:
        channel = (frame.metadata or {}).get("channel")
        if channel and isinstance(self._restorer, Restorer):
            return self._restorer.submit(frame.image, series=str(channel))
        return self._restorer.submit(frame.image)

    def drain(self) -> None:
        """Collect everything."""
        while self._submitted:
            self.collect()

    def collect(self) -> None:
        """Wait for the oldest item's outcome, and hand it on."""
        item, pending, submitted_s = self._submitted[0]
        if pending is not None and isinstance(item, Frame):
            try:
                image = pending.result(self._options.answer_s)
            except TimeoutError:
                self._give_up_all()
                limit_s = self._options.answer_s
                self._failed(NoAnswerError(f"the device has not answered for {limit_s:g} s"))
                return
            except StoppedError:
                self._drop_first("ended")
                self.stopped = True
                return
            except InferenceError as error:
                self._drop_first("failed")
                self._failed(error)
                return
            self._telemetry.frame_restored(time.perf_counter() - submitted_s)
            self._failures_in_a_row = 0
            self._frames -= 1
            original = item.image if self._originals else None
            tags, note = item.tags, getattr(pending, "note", "")
            if note and tags is not None:
                tags = replace(tags, history=note)
            item = replace(item, image=image, original=original, tags=tags)
        # Only now: until its result is there, a failure must still find it in flight.
        self._submitted.popleft()
        self._restored.put(item)

    def settle(self) -> None:
        """Wait for what a failure left in flight: its buffers are in use until then."""
        while self._submitted:
            pending = self._submitted[0].pending
            if pending is not None:
                with contextlib.suppress(Exception):
                    pending.result(self._options.answer_s)
            self._drop_first("ended")

    def _give_up_all(self) -> None:
        """Drop everything in flight: a device that does not answer one does not answer any.

        Nothing waits for it any more, so its buffers stay alive as long as it holds them.
        """
        while self._submitted:
            self._drop_first("failed")

    def _drop_first(self, cause: str) -> None:
        if self._submitted.popleft().pending is not None:
            self._frames -= 1
            self._telemetry.frame_dropped(cause)

    def _failed(self, error: BaseException) -> None:
        """Raise the error, unless the stream may go on without this frame."""
        self._failures_in_a_row += 1
        final = self._failures_in_a_row >= _FAILURES_IN_A_ROW
        if final or self._options.overrun is Overrun.WAIT or not isinstance(error, InferenceError):
            raise error
        if self._on_failure is not None:
            self._on_failure(error)
