"""Counts of a run, in memory that does not grow."""

from __future__ import annotations

import statistics
import threading
import time
from collections import Counter, deque
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .events import EventLog
from .options import InputKind
from .protocols import Source

__all__ = ["RunSummary", "Snapshot", "Telemetry", "percentiles_ms"]

_LATENCIES_KEPT = 2048
_SERVICES_KEPT = 64
_RECENT_S = 2.0
_TIMES_KEPT = 512
_INTERRUPTED = 130


@dataclass(frozen=True)
class Snapshot:
    """Counts of a run at one moment.

    Every frame that came in has gone out, was dropped, or is on its way; at the end
    ``frames_in`` is ``frames_out`` and all of ``frames_dropped``.

    Parameters
    ----------
    frames_in, frames_out : int
        Frames read, and frames handed to the output.
    frames_lost : dict of str to int
        Frames that could not be read, by cause.
    frames_expected : int or None
        Of the input, where it is known.
    seconds : float
        Since the start.
    fps : float
        ``frames_out`` over ``seconds``.
    latency_ms : dict of str to float
        ``p50``, ``p95``, ``p99`` over the last 2048 frames, from a frame captured to the
        same frame written.
    device, runtime, precision, plan : str
        Device, precision and tiling of the model; empty where the restorer has none.
    frames_dropped : dict of str to int
        Frames read and not handed on, by cause: ``overrun`` (there was no room), ``stale``
        (too old to be shown), ``paused``, ``failed`` (the device refused or did not
        answer), ``ended`` (on their way when the run failed or was stopped).
    fps_now, fps_in_now : float
        Frames out, and in, a second, over the last two seconds.
    service_ms : float or None
        Median over the last 64 frames, from a frame submitted to its outcome.
    state : str
        Of a live stream: `StreamState`; empty elsewhere.
    outputs_dropped : dict of str to int
        Frames that outputs which may skip went without, by output or cause.
    reuse, guarded : dict or None
        Counts of what was not inferred because it had not changed, and of tiles that fell back
        to their input.
    intensity : dict or None
        Range of intensities, window of the latest image, images mapped, values left outside.
    tiles : (int, int) or None
        Of a large image that is being restored: tiles done, and all.
    """

    frames_in: int
    frames_out: int
    frames_lost: dict[str, int]
    frames_expected: int | None
    seconds: float
    fps: float
    latency_ms: dict[str, float]
    device: str = ""
    precision: str = ""
    plan: str = ""
    frames_dropped: dict[str, int] = field(default_factory=dict)
    fps_now: float = 0.0
    fps_in_now: float = 0.0
    service_ms: float | None = None
    state: str = ""
    outputs_dropped: dict[str, int] = field(default_factory=dict)
    reuse: dict[str, Any] | None = None
    guarded: dict[str, Any] | None = None
    intensity: dict[str, Any] | None = None
    tiles: tuple[int, int] | None = None
    runtime: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class RunSummary(Snapshot):
    """Outcome of a run: its last counts, and how it ended.

    Parameters
    ----------
    kind : InputKind
    interrupted : bool
        Ended early on demand; the output is whole as far as it goes.
    failed : tuple of Path
        Images of a folder or pattern that were skipped.
    """

    kind: InputKind = InputKind.STREAM
    interrupted: bool = False
    failed: tuple[Path, ...] = ()

    @property
    def exit_code(self) -> int:
        """0, 1 where images had to be skipped, 130 where it was interrupted."""
        if self.interrupted:
            return _INTERRUPTED
        return 1 if self.failed else 0

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {**super().as_dict(), "failed": [str(path) for path in self.failed]}


@dataclass
class Telemetry:
    """Counters of a run; every method may be called from any thread.

    Parameters
    ----------
    restorer : object
        Its ``device``, ``precision``, ``plan``, ``reuse``, ``guarded`` and ``intensity`` are
        read where it has them.
    log : EventLog or None
        Of a live stream.
    sink : object
        Its ``dropped`` is read where it has that.
    source : Source or None
        Its ``lost`` and ``expected_frames`` are read.
    cut_short : bool
        The run was stopped before its source ended.
    """

    restorer: object = None
    log: EventLog | None = None
    sink: object = None
    source: Source | None = None
    cut_short: bool = False
    _dropped: Counter[str] = field(default_factory=Counter)
    _latencies_s: deque[float] = field(default_factory=lambda: deque(maxlen=_LATENCIES_KEPT))
    _services_s: deque[float] = field(default_factory=lambda: deque(maxlen=_SERVICES_KEPT))
    _read_s: deque[float] = field(default_factory=lambda: deque(maxlen=_TIMES_KEPT))
    _written_s: deque[float] = field(default_factory=lambda: deque(maxlen=_TIMES_KEPT))
    _tiles: tuple[int, int] | None = None
    _frames_in: int = 0
    _frames_out: int = 0
    _started_s: float = field(default_factory=time.perf_counter)
    _ended_s: float | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def frame_read(self) -> None:
        """Count a frame that came in."""
        with self._lock:
            self._frames_in += 1
            self._read_s.append(time.perf_counter())

    def tile_restored(self, done: int, total: int) -> None:
        """Note how many tiles of an image are done."""
        with self._lock:
            self._tiles = (done, total) if done < total else None

    def frame_restored(self, service_s: float) -> None:
        """Record the time from a frame's submission to its outcome."""
        with self._lock:
            self._services_s.append(service_s)

    def frame_written(self, latency_s: float) -> None:
        """Count a frame that went out, ``latency_s`` seconds after it came in."""
        with self._lock:
            self._frames_out += 1
            self._latencies_s.append(latency_s)
            self._written_s.append(time.perf_counter())

    def frame_dropped(self, cause: str) -> None:
        """Count a frame that came in and does not go out."""
        with self._lock:
            self._dropped[cause] += 1

    def end(self) -> None:
        """Stop the clock."""
        with self._lock:
            self._ended_s = time.perf_counter()

    def _expected(self) -> int | None:
        """Return how many frames to expect; None once there were more: it was an estimate."""
        expected = None if self.source is None else self.source.expected_frames
        return None if expected is None or self._frames_in > expected else expected

    def snapshot(self) -> Snapshot:
        """Return the counts as they are now."""
        with self._lock:
            now = self._ended_s if self._ended_s is not None else time.perf_counter()
            seconds = max(now - self._started_s, 1e-9)
            return Snapshot(
                frames_in=self._frames_in,
                frames_out=self._frames_out,
                frames_lost={} if self.source is None else dict(self.source.lost),
                frames_expected=self._expected(),
                seconds=round(seconds, 3),
                fps=round(self._frames_out / seconds, 2),
                latency_ms=percentiles_ms(list(self._latencies_s)),
                device=str(getattr(self.restorer, "device", "")),
                runtime=str(getattr(self.restorer, "runtime", "")),
                precision=str(getattr(self.restorer, "precision", "")),
                plan=str(getattr(self.restorer, "plan", "")),
                frames_dropped=dict(self._dropped),
                fps_now=_recent_rate(self._written_s, now, seconds),
                fps_in_now=_recent_rate(self._read_s, now, seconds),
                state="" if self.log is None else self.log.state.value,
                outputs_dropped=dict(getattr(self.sink, "dropped", {})),
                service_ms=_median_ms(self._services_s),
                reuse=_counts(self.restorer, "reuse"),
                guarded=_counts(self.restorer, "guarded"),
                intensity=_counts(self.restorer, "intensity"),
                tiles=self._tiles,
            )


def _counts(restorer: object, name: str) -> dict[str, Any] | None:
    found = getattr(restorer, name, None)
    return None if found is None else dict(found.as_dict())


def _recent_rate(times_s: deque[float], now: float, seconds: float) -> float:
    recent = [one for one in times_s if now - one <= _RECENT_S]
    # A fast run fills what is kept in less than that.
    full = len(recent) == times_s.maxlen
    span = now - recent[0] if full else min(_RECENT_S, seconds)
    return round(len(recent) / max(span, 1e-9), 2)


def _median_ms(services_s: deque[float]) -> float | None:
    return round(statistics.median(services_s) * 1e3, 2) if services_s else None


def percentiles_ms(latencies_s: list[float]) -> dict[str, float]:
    """Return ``p50``, ``p95`` and ``p99`` of seconds, in milliseconds; nothing of none."""
    if not latencies_s:
        return {}
    ordered = sorted(latencies_s)
    last = len(ordered) - 1
    return {
        name: round(ordered[round(share * last)] * 1e3, 2)
        for name, share in (("p50", 0.50), ("p95", 0.95), ("p99", 0.99))
    }
