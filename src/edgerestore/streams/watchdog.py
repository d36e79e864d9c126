"""Watchdog of a stream: once a second, beside the frames."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from ..engine.guard import GuardCounts
from ..errors import ArgumentError
from .adaptive import Governor, Level, levels_for
from .events import EventKind, EventLog
from .options import LiveOptions
from .pipeline import PauseEvent
from .protocols import Source
from .switch import ModelSwitch
from .telemetry import Snapshot, Telemetry

__all__ = ["Watchdog"]

logger = logging.getLogger(__name__)

_TICK_S = 1.0
_POLL_S = 0.1
_STALE_FRAMES = 50  # with none shown meanwhile, it is worth a word


class Watchdog:
    """Thread that keeps up with a wanted rate, reports counts as events, and ends the source.

    Parameters
    ----------
    source : Source
        Closed when the stream is stopped, if it can be: it may be waiting for a frame that
        never comes.
    switch : ModelSwitch or None
        ``None`` where the restorer cannot be switched.
    telemetry : Telemetry
    pause : PauseEvent
    options : LiveOptions
    log : EventLog
    """

    def __init__(
        self,
        source: Source,
        switch: ModelSwitch | None,
        telemetry: Telemetry,
        pause: PauseEvent,
        options: LiveOptions,
        log: EventLog,
    ) -> None:
        self._source, self._switch, self._telemetry = source, switch, telemetry
        self._pause, self._options, self._log = pause, options, log
        self._wake, self._ended = threading.Event(), False
        self._thread: threading.Thread | None = None
        self._guarded = 0
        self._told_stale = False
        self._governor: Governor | None = None
        if options.target_fps is not None and switch is not None:
            restorer = switch.restorer
            turns = restorer.predictor.partial
            manifest, precision = restorer.bundle.manifest, restorer.precision
            levels = levels_for(manifest, precision, options.lighter, turns=turns)
            self._governor = Governor(
                options.target_fps, levels, self._go_to, log, live=source.live
            )

    @property
    def level(self) -> Level | None:
        """Level that the stream runs at; None where no rate is wanted."""
        return None if self._governor is None else self._governor.level

    def start(self, stopped: Callable[[], bool]) -> None:
        """Begin, until `join` or until ``stopped``, which is asked ten times a second."""
        self._thread = threading.Thread(
            target=self._watch, args=(stopped,), name="edgerestore-watchdog"
        )
        self._thread.start()

    def wake(self) -> None:
        """Let it ask at once whether the stream is stopped."""
        self._wake.set()

    def join(self) -> None:
        """End it."""
        self._ended = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self, stopped: Callable[[], bool]) -> None:
        looked_s = time.perf_counter()
        while True:
            self._wake.wait(_POLL_S)
            if self._ended:
                return
            if stopped():
                if self._source.interruptible:
                    self._source.close()
                return
            now_s = time.perf_counter()
            if now_s - looked_s >= _TICK_S:
                looked_s = now_s
                self._look_safely(now_s)

    def _look_safely(self, now_s: float) -> None:
        try:
            self._look(self._telemetry.snapshot(), now_s)
        except Exception:
            # This thread is also the one that ends the stream when it is asked to.
            logger.exception("the stream's watchdog failed")

    def _look(self, counts: Snapshot, now_s: float) -> None:
        if self._governor is not None:
            if self._pause.paused:
                self._governor.forget()
            else:
                self._governor.look(counts, now_s)
        if self._switch is not None:
            self._tell_guarded(self._switch.restorer.guarded)
        stale = counts.frames_dropped.get("stale", 0)
        if stale >= _STALE_FRAMES and not counts.frames_out and not self._told_stale:
            self._told_stale = True
            limit_s, service_ms = self._options.max_staleness_s, counts.service_ms
            taken = "" if service_ms is None else f" (the model takes {service_ms:.0f} ms)"
            self._log.tell(
                EventKind.STALE,
                f"no frame is restored within {limit_s:g} s, so none is shown{taken};"
                " allow more, or use a lighter model",
                "too slow",
            )

    def _tell_guarded(self, counts: GuardCounts | None) -> None:
        fallen = 0 if counts is None else counts.fallen_back
        if counts is not None and fallen > self._guarded:
            message = f"{fallen - self._guarded} tiles were wrong and are shown as they came in"
            self._log.tell(EventKind.GUARDED, message, "artefact", **counts.as_dict())
        self._guarded = fallen

    def _go_to(self, level: Level) -> bool:
        if self._switch is None:
            return False
        try:
            self._switch.adapt(level.model, level.precision)
        except ArgumentError:
            return False  # another switch is under way: the governor asks again
        self._switch.restorer.refresh_interval = level.cadence
        return True
