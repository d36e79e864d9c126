"""How a run tells what it is doing: a bar, lines of JSON, or nothing."""

from __future__ import annotations

import json
import sys
import threading
from enum import StrEnum
from types import TracebackType
from typing import Any, TextIO

from ..errors import ArgumentError
from .events import Event
from .telemetry import Snapshot, Telemetry

__all__ = ["Progress", "ProgressMode", "bar_line", "summary_line"]

_BAR_CELLS = 24
_PERIODS_S = {"bar": 0.25, "json": 1.0}


class ProgressMode(StrEnum):
    """What a person may ask for.

    ``AUTO`` draws a bar on a terminal and else prints the last line only; ``JSON`` prints a
    line a second on standard output; ``NONE`` prints nothing.
    """

    AUTO = "auto"
    JSON = "json"
    NONE = "none"


class Progress:
    """Reports on a run until its context ends.

    Parameters
    ----------
    mode : str or ProgressMode
    telemetry : Telemetry
        With a log, each event is one more line of JSON, between those of the counts.
    output : str
        Named in the last line.
    stdout, stderr : text stream
        For JSON, and for everything a person reads.

    Raises
    ------
    ArgumentError
        For an unknown mode.
    """

    def __init__(
        self,
        mode: str,
        telemetry: Telemetry,
        output: str,
        *,
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
    ) -> None:
        try:
            self._mode = ProgressMode(mode)
        except ValueError:
            raise ArgumentError(
                f"progress {mode!r} is not known; use {', '.join(ProgressMode)}"
            ) from None
        self._telemetry = telemetry
        self._output = output
        self._stdout = stdout or sys.stdout
        self._stderr = stderr or sys.stderr
        self._draws = self._mode is ProgressMode.AUTO and self._stderr.isatty()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Progress:
        period_s = _PERIODS_S["bar"] if self._draws else None
        if self._telemetry.log is not None and self._mode is ProgressMode.JSON:
            self._telemetry.log.listen(self._tell)
        if self._mode is ProgressMode.JSON:
            period_s = _PERIODS_S["json"]
        if period_s is not None:
            self._thread = threading.Thread(
                target=self._tick, args=(period_s,), name="edgerestore-progress"
            )
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        if error is not None:
            self._clear()

    def make_room(self) -> None:
        """Make room for a line of somebody else's: the bar comes back below it."""
        self._clear()

    def done(self, interrupted: bool) -> None:
        """Print the last line, after the run has ended well or by Ctrl-C."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        snapshot = self._telemetry.snapshot()
        if self._mode is ProgressMode.JSON:
            self._json("done", snapshot, interrupted=interrupted)
        elif self._mode is ProgressMode.AUTO:
            self._clear()
            print(summary_line(snapshot, self._output, interrupted), file=self._stderr, flush=True)

    def _tick(self, period_s: float) -> None:
        while not self._ended.wait(period_s):
            snapshot = self._telemetry.snapshot()
            if self._mode is ProgressMode.JSON:
                self._json("progress", snapshot)
            else:
                with self._lock:
                    self._stderr.write("\r" + bar_line(snapshot) + "\x1b[K")
                    self._stderr.flush()

    def _json(self, event: str, snapshot: Snapshot, **more: Any) -> None:
        self._print({"event": event, **snapshot.as_dict(), **more})

    def _tell(self, event: Event) -> None:
        self._print(event.as_dict())

    def _print(self, line: dict[str, Any]) -> None:
        with self._lock:
            print(json.dumps(line), file=self._stdout, flush=True)

    def _clear(self) -> None:
        if self._draws:
            with self._lock:
                self._stderr.write("\r\x1b[K")
                self._stderr.flush()


def bar_line(snapshot: Snapshot) -> str:
    """Return one line for a terminal: a bar, counts, rate, and the time left."""
    counts = f"{snapshot.frames_out} frames"
    bar = left = ""
    total = snapshot.frames_expected
    if total:
        share = min(1.0, snapshot.frames_out / total)
        filled = round(share * _BAR_CELLS)
        bar = f"[{'#' * filled}{'.' * (_BAR_CELLS - filled)}] {share:4.0%}  "
        counts = f"{snapshot.frames_out}/{total} frames"
        if snapshot.fps > 0:
            left = f"  {_clock(max(0, total - snapshot.frames_out) / snapshot.fps)} left"
    if snapshot.state and not total:
        return _live_line(snapshot)
    return f"{bar}{counts}  {snapshot.fps:.1f} fps{left}"


def _live_line(snapshot: Snapshot) -> str:
    parts = [snapshot.state.lower(), f"{snapshot.frames_out} frames", f"{snapshot.fps_now:.1f} fps"]
    if snapshot.latency_ms:
        parts.append(f"{snapshot.latency_ms['p50']:.0f} ms")
    dropped = sum(snapshot.frames_dropped.values())
    if dropped:
        parts.append(f"{dropped} dropped")
    return "  ".join(parts)


def summary_line(snapshot: Snapshot, output: str, interrupted: bool) -> str:
    """Return the one line that says how a run went."""
    parts = [
        f"{output}: {snapshot.frames_out} frames in {snapshot.seconds:.1f} s,"
        f" {snapshot.fps:.1f} frames per second"
    ]
    where = " ".join(part for part in (snapshot.device, snapshot.precision) if part)
    if where:
        parts.append(where)
    if snapshot.plan:
        parts.append(snapshot.plan)
    if snapshot.frames_dropped:
        causes = ", ".join(f"{count} {cause}" for cause, count in snapshot.frames_dropped.items())
        parts.append(f"dropped: {causes}")
    if snapshot.frames_lost:
        causes = ", ".join(f"{count} {cause}" for cause, count in snapshot.frames_lost.items())
        parts.append(f"lost: {causes}")
    if interrupted:
        parts.append("interrupted")
    return "; ".join(parts)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
