"""Source, restorer and sink at work at the same time, in order, each bounded."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from ...pixels import Image
from ..media.frames import Frame, Item
from ..sinks.protocol import Sink
from ..sources.protocol import Source
from .bounded_queue import BoundedQueue, QueueAbortedError, QueueEndedError
from .telemetry import Telemetry

__all__ = ["PendingImage", "Restores", "run_pipeline"]

# Frames held between two threads: enough to ride over a slow one, few enough for memory.
_QUEUED_FRAMES = 3.0
_PACKET_WEIGHT = 1 / 256
_PACKET_WEIGHT_PER_BYTE = 1 / (1 << 20)


class PendingImage(Protocol):
    """A restored image on its way."""

    def result(self, timeout: float | None = None) -> Image:
        """Wait for the image; raise what its restoration raised."""


class Restores(Protocol):
    """What the pipeline needs of a restorer."""

    @property
    def depth(self) -> int:
        """Images worth keeping in flight."""

    def submit(self, image: Image) -> PendingImage:
        """Start on one image; it is only read, and only until its result is there."""


Stamped = tuple[Item, float]
"""An item, and when it was read (seconds of `time.perf_counter`)."""


def run_pipeline(
    source: Source,
    restorer: Restores,
    sink: Sink,
    telemetry: Telemetry,
    stop: threading.Event | None = None,
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
    stop : threading.Event or None
        Once set, no more is read; what was read is restored and the sink is closed.

    Raises
    ------
    BaseException
        The first failure of any stage, once, after every thread has ended.
    """
    run = _Run(source, restorer, sink, telemetry, stop or threading.Event())
    run.execute()


class _Run:
    def __init__(
        self,
        source: Source,
        restorer: Restores,
        sink: Sink,
        telemetry: Telemetry,
        stop: threading.Event,
    ) -> None:
        self._source = source
        self._restorer = restorer
        self._sink = sink
        self._telemetry = telemetry
        self._stop = stop
        self._read_ahead: BoundedQueue[Stamped] = BoundedQueue(_QUEUED_FRAMES)
        self._restored: BoundedQueue[Stamped] = BoundedQueue(_QUEUED_FRAMES)
        self._flying: deque[tuple[Item, PendingImage | None, float]] = deque()
        self._frames_flying = 0
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
        self._read_ahead.abort()
        self._restored.abort()

    def _join(self, thread: threading.Thread) -> None:
        while thread.ident is not None and thread.is_alive():
            try:
                thread.join()
            except KeyboardInterrupt as error:
                self._fail(error)

    def _read(self) -> None:
        for item in self._source:
            if isinstance(item, Frame):
                self._telemetry.frame_read()
            self._read_ahead.put((item, time.perf_counter()), _weight(item))
            if self._stop.is_set():
                break
        self._telemetry.set_lost(self._source.lost)
        self._read_ahead.end()

    def _restore(self) -> None:
        depth = max(1, self._restorer.depth)
        while True:
            try:
                # While something is in flight there is something better to do than wait.
                stamped = self._read_ahead.get_now() if self._flying else self._read_ahead.get()
            except QueueEndedError:
                break
            if stamped is None:
                self._collect()
                continue
            item, read_s = stamped
            if isinstance(item, Frame):
                while self._frames_flying >= depth:
                    self._collect()
                self._flying.append((item, self._restorer.submit(item.image), read_s))
                self._frames_flying += 1
            else:
                self._flying.append((item, None, read_s))
        while self._flying:
            self._collect()
        self._restored.end()

    def _collect(self) -> None:
        item, pending, read_s = self._flying[0]
        if pending is not None and isinstance(item, Frame):
            item = replace(item, image=pending.result())
            self._frames_flying -= 1
        # Only now: until its result is there, a failure must still find it in flight.
        self._flying.popleft()
        self._restored.put((item, read_s), _weight(item))

    def _land(self) -> None:
        """Wait for what a failure left in flight: its buffers are in use until then."""
        while self._flying:
            _, pending, _ = self._flying.popleft()
            if pending is not None:
                with contextlib.suppress(Exception):
                    pending.result()

    def _write(self) -> None:
        while True:
            try:
                item, read_s = self._restored.get()
            except QueueEndedError:
                break
            self._sink.write(item)
            if isinstance(item, Frame):
                self._telemetry.frame_written(time.perf_counter() - read_s)
        self._sink.close()


def _weight(item: Item) -> float:
    if isinstance(item, Frame):
        return 1.0
    return _PACKET_WEIGHT + item.packet.size * _PACKET_WEIGHT_PER_BYTE
