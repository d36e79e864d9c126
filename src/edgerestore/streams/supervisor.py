"""Supervision of a running stream: its watchdog, the rate it keeps up with, and its model."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from ..bundle.bundle import Bundle
from ..bundle.manifest import Manifest, TilingMode
from ..engine.family import HEADROOM, lighter_members
from ..engine.guard import GuardCounts
from ..errors import ArgumentError
from ..imaging.arrays import ImageKind
from .events import EventKind, EventLog
from .model_switch import ModelSwitch, Wanted
from .options import LiveOptions
from .pipeline import PauseEvent
from .protocols import Source
from .telemetry import Snapshot, Telemetry

__all__ = ["Level", "RateGovernor", "Watchdog", "levels_for"]

logger = logging.getLogger(__name__)

_TICK_S = 1.0
_POLL_S = 0.1
_STALE_S = 2.0  # frames come, and none is shown

_KEPT_UP = 0.95  # of the wanted rate: less is behind
_BEHIND_S = 2.0  # behind for this long, one step down
_SETTLE_S = 3.0  # after a step the counts of before it have to leave the averages
_CALM_S = 10.0  # kept up for this long, one step up is considered ...
_LONGEST_CALM_S = 300.0  # ... and twice as long each time that it had to be taken back
_INTERVALS = (2, 3)


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
        self._shown = self._stale = 0
        self._stale_since_s: float | None = None
        self._told_stale = False
        self._governor: RateGovernor | None = None
        self._governed: Wanted = (None, None)
        self.govern()

    def govern(self, kind: ImageKind | None = None) -> None:
        """Begin at the level of the model that is asked for, where a rate is wanted.

        Parameters
        ----------
        kind : ImageKind or None
            Frames that the lighter models of the family are timed with; None takes their order
            from their multiply-adds.
        """
        switch, options = self._switch, self._options
        if options.target_fps is None or switch is None:
            return
        restorer, self._governed = switch.restorer, switch.asked
        manifest, precision = restorer.bundle.manifest, restorer.precision
        family: Sequence[Bundle] = ()
        if restorer.loader is not None and not options.lighter:
            family = lighter_members(restorer.loader, restorer.bundle, kind)
        turns = restorer.predictor.partial
        levels = levels_for(manifest, precision, options.lighter, turns=turns, family=family)
        apply, live = partial(_go_to, switch), self._source.live
        self._governor = RateGovernor(options.target_fps, levels, apply, self._log, live=live)

    @property
    def level(self) -> Level | None:
        """Level that the stream runs at; None where no rate is wanted."""
        return None if self._governor is None else self._governor.level

    def start(self, stopped: Callable[[], bool]) -> None:
        """Start the thread; it ends at `join`, or once ``stopped``, called ten times a second."""
        self._thread = threading.Thread(
            target=self._watch, args=(stopped,), name="edgerestore-watchdog"
        )
        self._thread.start()

    def wake(self) -> None:
        """Check at once whether the stream is stopped."""
        self._wake.set()

    def join(self) -> None:
        """End the thread."""
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
                try:
                    self._look(self._telemetry.snapshot(), now_s)
                except Exception:
                    # This thread is also the one that ends the stream when it is asked to.
                    logger.exception("the stream's watchdog failed")

    def _look(self, counts: Snapshot, now_s: float) -> None:
        if self._governor is not None and self._switch is not None:
            if self._switch.asked != self._governed:
                self._switch.restorer.refresh_interval = 1
                self.govern()  # another model has other levels
            if self._pause.paused:
                self._governor.forget()
            else:
                self._governor.look(counts, now_s)
        if self._switch is not None:
            self._tell_guarded(self._switch.restorer.guarded)
        self._look_for_stale(counts, now_s)

    def _look_for_stale(self, counts: Snapshot, now_s: float) -> None:
        """Tell, once each time that it begins, that every frame is too old to be shown."""
        stale = counts.frames_dropped.get("stale", 0)
        grew, self._stale = stale > self._stale, stale
        if counts.frames_out > self._shown:
            self._shown, self._stale_since_s, self._told_stale = counts.frames_out, None, False
        elif grew and self._stale_since_s is None:
            self._stale_since_s = now_s
        elif grew and not self._told_stale and now_s - (self._stale_since_s or now_s) >= _STALE_S:
            self._told_stale = True
            limit_s, service_ms = self._options.max_staleness_s or 0.0, counts.service_ms
            if service_ms is not None and service_ms / 1e3 > limit_s / 2:
                line = (
                    f"no frame is restored within {limit_s:g} s, so none is shown (the model takes"
                    f" {service_ms:.0f} ms); allow more (--max-staleness), or use a lighter model"
                )
                self._log.record(EventKind.STALE, line, "too slow")
            else:
                line = (
                    f"frames come more than {limit_s:g} s late, so none is shown; check the"
                    " network, or allow more (--max-staleness)"
                )
                self._log.record(EventKind.STALE, line, "late")

    def _tell_guarded(self, counts: GuardCounts | None) -> None:
        fallen = 0 if counts is None else counts.fallen_back
        if counts is not None and fallen > self._guarded:
            message = f"{fallen - self._guarded} tiles were wrong and are shown as they came in"
            self._log.record(EventKind.GUARDED, message, "artefact", **counts.as_dict())
        self._guarded = fallen


def _go_to(switch: ModelSwitch, level: Level) -> bool:
    try:
        switch.adapt(level.model, level.precision)
    except ArgumentError:
        return False  # another switch is under way: the governor asks again
    switch.restorer.refresh_interval = level.refresh_interval
    return True


@dataclass(frozen=True)
class Level:
    """Level of work that a stream runs at.

    Parameters
    ----------
    name : str
        Shown in messages: ``as asked``, ``int8``, ``every tile each 2nd frame``, ...
    model, precision : str or None
        None is what was asked for.
    refresh_interval : int
        Tiles are refreshed every so many frames.
    """

    name: str
    model: str | None = None
    precision: str | None = None
    refresh_interval: int = 1


def levels_for(
    manifest: Manifest,
    precision: str,
    lighter: Sequence[str] = (),
    *,
    turns: bool = True,
    family: Sequence[Bundle] = (),
) -> tuple[Level, ...]:
    """Return the levels of work of a model, each less than the one before.

    First the precision, then lighter models of the family, then how often each tile of the last
    of them is refreshed, then other models.

    Parameters
    ----------
    manifest : Manifest
    precision : str
        What it runs in now.
    lighter : sequence of str
        Models that do the same with less, the best first.
    turns : bool
        Whether the restorer can refresh the parts of a frame in turn.
    family : sequence of Bundle
        Lighter models of its family, the dearest first.
    """
    levels = [Level("as asked")]
    lowest = None
    int8 = manifest.variants.get("int8")
    if precision != "int8" and int8 is not None and int8.quality.get("within_budget") is not False:
        lowest = "int8"
        levels.append(Level("int8", precision=lowest))
    interval, least = 1, None
    for member in family:
        # Another model has its own choice of precision.
        manifest, least, lowest = member.manifest, str(member.folder), "auto"
        levels.append(Level(manifest.name, least, lowest))
    if turns and manifest.tiling.mode is TilingMode.EXACT:
        for interval in _INTERVALS:
            name = f"each part on one frame of {interval}"
            levels.append(Level(name, least, lowest, interval))
    levels += [
        Level(name, model=name, precision="auto", refresh_interval=interval) for name in lighter
    ]
    return tuple(levels)


class RateGovernor:
    """Chooses the level of work, once a second, from the counts of the stream.

    Behind the wanted rate for two seconds it goes one level down. It comes back up when it
    has kept up for ten seconds and the higher level, whose cost it knows from having been
    there, would leave a sixth of the time free; a step up that had to be taken back is
    tried again only after twice as long.

    Parameters
    ----------
    target_fps : float
        Frames a second; of a slower source, its own rate.
    levels : sequence of Level
        The first is what was asked for; each next one is less work.
    apply : callable
        Changes the stream; returns whether it could (another change may be under way).
    log : EventLog
        Gets ``STEPPED`` at each step.
    live : bool
        The source sets the pace; one that waits is always as fast as we are.
    """

    def __init__(
        self,
        target_fps: float,
        levels: Sequence[Level],
        apply: Callable[[Level], bool],
        log: EventLog,
        *,
        live: bool = True,
    ) -> None:
        self._target_fps, self._levels, self._live = target_fps, tuple(levels), live
        self._apply, self._log = apply, log
        self._place = 0
        # How many times as long a frame takes one level up, for each level that was reached.
        self._dearer: dict[int, float] = {}
        self._cost_above_ms: float | None = None
        self._behind_since_s: float | None = None
        self._calm_since_s: float | None = None
        self._calm_s = _CALM_S
        self._rose = False
        self._settled_s = 0.0
        self._told_least = False

    @property
    def level(self) -> Level:
        """The present one."""
        return self._levels[self._place]

    def forget(self) -> None:
        """Begin to watch anew: nothing was shown for a while."""
        self._behind_since_s = self._calm_since_s = None

    def look(self, counts: Snapshot, now_s: float) -> None:
        """Take the counts of now, and step if they ask for it."""
        goal = min(self._target_fps, counts.fps_in_now) if self._live else self._target_fps
        if now_s < self._settled_s or goal <= 0 or counts.service_ms is None:
            self._behind_since_s = self._calm_since_s = None
            return
        if self._cost_above_ms is not None:
            self._dearer[self._place] = self._cost_above_ms / counts.service_ms
            self._cost_above_ms = None
        if counts.fps_now < _KEPT_UP * goal:
            self._calm_since_s = None
            since = self._behind_since_s = self._behind_since_s or now_s
            if now_s - since >= _BEHIND_S:
                self._step_down(counts, goal, now_s)
        else:
            self._behind_since_s = None
            since = self._calm_since_s = self._calm_since_s or now_s
            if now_s - since >= self._calm_s and self._would_fit(counts.service_ms, goal):
                self._step(-1, f"room for it again at {goal:.3g} frames a second", counts, now_s)

    def _step_down(self, counts: Snapshot, goal: float, now_s: float) -> None:
        if self._rose:
            self._calm_s = min(2 * self._calm_s, _LONGEST_CALM_S)
        why = f"{counts.fps_now:.3g} frames a second of {goal:.3g} wanted"
        if self._place + 1 < len(self._levels):
            self._step(+1, why, counts, now_s)
        elif not self._told_least:
            self._told_least = True
            self._log.record(EventKind.STEPPED, f"{why}; there is nothing left to lower", "least")

    def _would_fit(self, service_ms: float, goal: float) -> bool:
        if self._place == 0:
            return False
        return self._dearer.get(self._place, 1.0) * service_ms * goal / 1e3 < HEADROOM

    def _step(self, by: int, why: str, counts: Snapshot, now_s: float) -> None:
        level = self._levels[self._place + by]
        if not self._apply(level):
            return
        self._place += by
        self._cost_above_ms = counts.service_ms if by > 0 else None
        self._rose = by < 0
        self._behind_since_s = self._calm_since_s = None
        self._settled_s = now_s + _SETTLE_S
        self._told_least = False
        self._log.record(
            EventKind.STEPPED,
            f"{'raised' if by < 0 else 'lowered'} to {level.name}: {why}",
            "raised" if by < 0 else "lowered",
            level=level.name,
            step=self._place,
            fps=counts.fps_now,
        )
