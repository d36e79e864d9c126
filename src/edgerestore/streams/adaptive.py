"""Keeping up with a wanted rate: the work is lowered in stated steps, and raised again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..bundle.manifest import Manifest, TilingMode
from .events import EventKind, EventLog
from .telemetry import Snapshot

__all__ = ["Governor", "Level", "levels_for"]

_KEPT_UP = 0.95  # of the wanted rate: less is behind
_BEHIND_S = 2.0  # behind for this long, one step down
_SETTLE_S = 3.0  # after a step the counts of before it have to leave the averages
_CALM_S = 10.0  # kept up for this long, one step up is considered ...
_LONGEST_CALM_S = 300.0  # ... and twice as long each time that it had to be taken back
_CADENCES = (2, 3)
_SPARE = 0.85  # of the time between two frames, which the step up may fill


@dataclass(frozen=True)
class Level:
    """One way to run, and what it gives up against the one before.

    Parameters
    ----------
    name : str
        For people: ``as asked``, ``int8``, ``every tile each 2nd frame``, ...
    model, precision : str or None
        None is what was asked for.
    cadence : int
        Tiles are refreshed every so many frames.
    """

    name: str
    model: str | None = None
    precision: str | None = None
    cadence: int = 1


def levels_for(
    manifest: Manifest, precision: str, lighter: Sequence[str] = (), *, turns: bool = True
) -> tuple[Level, ...]:
    """Return the ways to run a model that are less and less work.

    First the precision, then how often each tile is refreshed, then lighter models.

    Parameters
    ----------
    manifest : Manifest
    precision : str
        What it runs in now.
    lighter : sequence of str
        Models that do the same with less, the best first.
    turns : bool
        Whether the restorer can refresh the parts of a frame in turn.
    """
    levels = [Level("as asked")]
    lowest = None
    int8 = manifest.variants.get("int8")
    if precision != "int8" and int8 is not None and int8.quality.get("within_budget") is not False:
        lowest = "int8"
        levels.append(Level("int8", precision=lowest))
    cadence = 1
    if turns and manifest.tiling.mode is TilingMode.EXACT:
        for cadence in _CADENCES:
            name = f"each part on one frame of {cadence}"
            levels.append(Level(name, precision=lowest, cadence=cadence))
    # Another model has its own choice of precision.
    levels += [Level(name, model=name, precision="auto", cadence=cadence) for name in lighter]
    return tuple(levels)


class Governor:
    """Chooses a level once a second from what the stream counts.

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
        Told ``STEPPED`` at each step.
    live : bool
        Whether the source sets the pace: one that waits is always as fast as we are.
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
            self._log.tell(EventKind.STEPPED, f"{why}; there is nothing left to lower", "least")

    def _would_fit(self, service_ms: float, goal: float) -> bool:
        if self._place == 0:
            return False
        return self._dearer.get(self._place, 1.0) * service_ms * goal / 1e3 < _SPARE

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
        self._log.tell(
            EventKind.STEPPED,
            f"{'raised' if by < 0 else 'lowered'} to {level.name}: {why}",
            "raised" if by < 0 else "lowered",
            level=level.name,
            step=self._place,
            fps=counts.fps_now,
        )
