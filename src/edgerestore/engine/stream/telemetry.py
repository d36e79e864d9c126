"""What a run counts while it runs, in memory that does not grow."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["Snapshot", "Telemetry"]

_LATENCIES_KEPT = 2048


@dataclass(frozen=True)
class Snapshot:
    """The counts at one moment.

    Parameters
    ----------
    frames_in, frames_out : int
        Frames read, and frames handed to the output.
    frames_lost : dict of str to int
        Frames that could not be read, by cause.
    frames_expected : int or None
        As far as the input says.
    seconds : float
        Since the start.
    fps : float
        ``frames_out`` over ``seconds``.
    latency_ms : dict of str to float
        ``p50``, ``p95``, ``p99`` over the last 2048 frames, from a frame read to the same
        frame written.
    device, precision, plan : str
        Where and how the model runs; empty where the restorer does not say.
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

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


@dataclass
class Telemetry:
    """Counts a run; every method may be called from any thread.

    Parameters
    ----------
    restorer : object
        Asked for its ``device``, ``precision`` and ``plan`` where it has them.
    frames_expected : int or None
    """

    restorer: object = None
    frames_expected: int | None = None
    _lost: Counter[str] = field(default_factory=Counter)
    _latencies_s: deque[float] = field(default_factory=lambda: deque(maxlen=_LATENCIES_KEPT))
    _frames_in: int = 0
    _frames_out: int = 0
    _started_s: float = field(default_factory=time.perf_counter)
    _ended_s: float | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def frame_read(self) -> None:
        """Count a frame that came in."""
        with self._lock:
            self._frames_in += 1

    def frame_written(self, latency_s: float) -> None:
        """Count a frame that went out, ``latency_s`` seconds after it came in."""
        with self._lock:
            self._frames_out += 1
            self._latencies_s.append(latency_s)

    def set_lost(self, lost: Counter[str]) -> None:
        """Take over what a source has lost so far."""
        with self._lock:
            self._lost = Counter(lost)

    def end(self) -> None:
        """Stop the clock."""
        with self._lock:
            self._ended_s = time.perf_counter()

    def snapshot(self) -> Snapshot:
        """Return the counts as they are now."""
        with self._lock:
            now = self._ended_s if self._ended_s is not None else time.perf_counter()
            seconds = max(now - self._started_s, 1e-9)
            return Snapshot(
                frames_in=self._frames_in,
                frames_out=self._frames_out,
                frames_lost=dict(self._lost),
                frames_expected=self.frames_expected,
                seconds=round(seconds, 3),
                fps=round(self._frames_out / seconds, 2),
                latency_ms=_percentiles_ms(list(self._latencies_s)),
                device=str(getattr(self.restorer, "device", "")),
                precision=str(getattr(self.restorer, "precision", "")),
                plan=str(getattr(self.restorer, "plan", "")),
            )


def _percentiles_ms(latencies_s: list[float]) -> dict[str, float]:
    if not latencies_s:
        return {}
    ordered = sorted(latencies_s)
    last = len(ordered) - 1
    return {
        name: round(ordered[round(share * last)] * 1e3, 2)
        for name, share in (("p50", 0.50), ("p95", 0.95), ("p99", 0.99))
    }
