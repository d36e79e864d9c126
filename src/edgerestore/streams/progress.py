"""Progress of a run on a terminal, as lines of JSON, or not at all."""

from __future__ import annotations

import json
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, suppress
from enum import StrEnum
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Self, TextIO, cast

from ..errors import ArgumentError, counted, printable
from .telemetry import Snapshot, Telemetry

if TYPE_CHECKING:
    from rich.table import Table

__all__ = [
    "BarState",
    "CountedBar",
    "Progress",
    "ProgressMode",
    "TerminalBar",
    "run_state",
    "summary_line",
    "tell",
]

_BAR_CELLS = 24
_REDRAWS_PER_S = 4
_LAST_LINE_S = 2.0  # that a reader may take to come to the last line
_JSON_PERIOD_S = 1.0
_RECENT = 16  # steps that tell the pace of an evaluation: each model has one of its own


class ProgressMode(StrEnum):
    """Kind of progress report.

    ``AUTO`` draws a bar on a terminal and else prints the last line only; ``JSON`` prints a
    line a second on standard output; ``NONE`` prints nothing.
    """

    AUTO = "auto"
    JSON = "json"
    NONE = "none"


class BarState(NamedTuple):
    """State of a progress bar at one moment.

    Parameters
    ----------
    done : int
    total : int or None
        Without one there is no bar, only the columns.
    columns : tuple of str
        Shown to the right of the bar.
    """

    done: int
    total: int | None
    columns: tuple[str, ...]


class _WhereReady:
    """A terminal that loses what it does not take at once: Ctrl-S stops no run.

    Parameters
    ----------
    stream : text stream
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        return self._stream.write(text) if _is_ready(self._stream) else len(text)

    def flush(self) -> None:
        if _is_ready(self._stream):
            self._stream.flush()


class TerminalBar:
    """Progress bar on a terminal, redrawn four times a second; silent elsewhere.

    Whatever is printed on standard error meanwhile comes to stand above it.

    Parameters
    ----------
    read : callable
        Returns the `BarState`; called from a thread of its own.
    stream : text stream, optional
        Standard error when not given.
    """

    def __init__(self, read: Callable[[], BarState], stream: TextIO | None = None) -> None:
        self._read, self._stream = read, stream or sys.stderr
        self._shown = ExitStack()

    def __enter__(self) -> Self:
        if self._stream.isatty():
            # Imported here: it costs a tenth of a second, and most runs have no terminal.
            from rich.console import Console
            from rich.live import Live

            bar = Live(
                get_renderable=lambda: _drawn(self._read()),
                console=Console(file=cast("IO[str]", _WhereReady(self._stream))),
                refresh_per_second=_REDRAWS_PER_S,
                transient=True,
                redirect_stdout=False,
            )
            self._shown.enter_context(bar)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the bar. May be called twice."""
        self._shown.close()


class CountedBar(TerminalBar):
    """Progress bar over a known number of steps, with the pace of the latest ones.

    Parameters
    ----------
    unit : str
        Name of the steps, in the plural.
    stream : text stream, optional
        As for `TerminalBar`.
    """

    def __init__(self, unit: str, stream: TextIO | None = None) -> None:
        self._unit = unit
        self._recent: deque[tuple[float, int]] = deque(maxlen=_RECENT + 1)
        self._state = BarState(0, None, ())
        super().__init__(lambda: self._state, stream)

    def tick(self, done: int, total: int, label: str) -> None:
        """Count the steps that are done; the label names what is worked on.

        The first call sets the count to go on from. Calls may be several steps apart.
        """
        self._recent.append((time.monotonic(), done))
        columns: tuple[str, ...] = (f"{done}/{total} {self._unit}", label)
        (start, before), (now, _) = self._recent[0], self._recent[-1]
        if done > before:
            rate = (done - before) / max(now - start, 1e-9)
            columns += (f"{rate:.1f} per second", _left(total - done, rate))
        self._state = BarState(done, total, columns)


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
        For JSON, and for the bar and the last line.

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
        self._telemetry, self._output = telemetry, output
        self._stdout, self._stderr = stdout or sys.stdout, stderr or sys.stderr
        self._lock = threading.Lock()
        self._untold = 0  # lines that nobody took
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._bar = TerminalBar(lambda: run_state(telemetry.snapshot()), self._stderr)

    def __enter__(self) -> Progress:
        if self._mode is ProgressMode.AUTO:
            self._bar.__enter__()
        elif self._mode is ProgressMode.JSON:
            if self._telemetry.log is not None:
                self._telemetry.log.listen(lambda event: self._print(event.as_dict()))
            self._thread = threading.Thread(target=self._print_counts, name="edgerestore-progress")
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def done(self, interrupted: bool) -> None:
        """Print the last line, after the run has ended well or by Ctrl-C."""
        self._end()
        snapshot = self._telemetry.snapshot()
        if self._mode is ProgressMode.JSON:
            last = {"event": "done", **snapshot.as_dict(), "interrupted": interrupted}
            self._print(last, wait_s=_LAST_LINE_S)
        elif self._mode is ProgressMode.AUTO:
            line = summary_line(snapshot, self._output, interrupted)
            tell(line, self._stderr, wait_s=_LAST_LINE_S)

    def _end(self) -> None:
        self._ended.set()
        self._bar.close()
        if self._thread is not None:
            self._thread.join()

    def _print_counts(self) -> None:
        while not self._ended.wait(_JSON_PERIOD_S):
            self._print({"event": "progress", **self._telemetry.snapshot().as_dict()})

    def _print(self, line: dict[str, Any], *, wait_s: float = 0.0) -> None:
        with self._lock:
            if self._untold and tell(
                json.dumps({"event": "untold", "lines": self._untold}), self._stdout
            ):
                self._untold = 0
            self._untold += not tell(json.dumps(line), self._stdout, wait_s=wait_s)


def tell(line: str, stream: TextIO, *, wait_s: float = 0.0) -> bool:
    """Print a line if it can be printed now; return whether it was.

    A reader that has gone or stopped reading, or a full disk behind it, is no fault of the run and
    must not hold it up: the line is left out then.

    Parameters
    ----------
    line : str
    stream : text stream
    wait_s : float
        For how long a reader may be waited for.
    """
    if not _is_ready(stream, wait_s):
        return False
    try:
        print(printable(line), file=stream, flush=True)
    except (OSError, ValueError):
        return False
    return True


def _is_ready(stream: TextIO, wait_s: float = 0.0) -> bool:
    """Return whether a stream takes a line, or cannot be asked."""
    with suppress(OSError, ValueError, AttributeError):  # closed, or no file of the system's
        return bool(select.select([], [stream.fileno()], [], wait_s)[1])
    return True


def run_state(snapshot: Snapshot) -> BarState:
    """Return what a progress bar shows of a run: counts, rate, and the time left."""
    done, total = snapshot.frames_out, snapshot.frames_expected
    if snapshot.tiles is not None:
        tiles, all_tiles = snapshot.tiles
        columns = [f"{tiles}/{all_tiles} tiles", _left(all_tiles - tiles, tiles / snapshot.seconds)]
        if total == 1:  # one large image
            return BarState(tiles, all_tiles, tuple(columns))
        columns = [f"{done}/{total} frames" if total else counted(done, "frame"), columns[0]]
    elif total == 1 and not done:
        columns, total = ["preparing"], None
    elif total:
        columns = [f"{done}/{total} frames", f"{snapshot.fps:.1f} fps"]
        if snapshot.fps > 0:
            columns.append(_left(total - done, snapshot.fps))
    elif snapshot.state:
        columns = [snapshot.state.lower(), counted(done, "frame"), f"{snapshot.fps_now:.1f} fps"]
        if snapshot.latency_ms:
            columns.append(f"{snapshot.latency_ms['p50']:.0f} ms")
        dropped = sum(snapshot.frames_dropped.values())
        if dropped:
            columns.append(f"{dropped} dropped")
    else:
        columns = [counted(done, "frame"), f"{snapshot.fps:.1f} fps"]
    return BarState(done, total or None, tuple(columns))


def summary_line(snapshot: Snapshot, output: str, interrupted: bool) -> str:
    """Return the last line of a run: counts, speed, device, and what was dropped or lost."""
    frames = counted(snapshot.frames_out, "frame")
    parts = [
        f"{output}: {frames} in {snapshot.seconds:.1f} s, {snapshot.fps:.1f} frames per second"
    ]
    runtime = f"({snapshot.runtime})" if snapshot.runtime else ""
    where = " ".join(part for part in (snapshot.device, runtime, snapshot.precision) if part)
    if where:
        parts.append(where)
    if snapshot.plan:
        parts.append(snapshot.plan)
    intensity = snapshot.intensity or {}
    if mapped := intensity.get("mapped"):
        window = f"last {intensity['low']:.9g}:{intensity['high']:.9g}, {intensity['range']}"
        parts.append(f"intensities of {counted(mapped, 'frame')} mapped ({window})")
        if intensity["outside"]:
            parts.append(f"{counted(intensity['outside'], 'value')} outside passed through")
    for name, counts in (("dropped", snapshot.frames_dropped), ("lost", snapshot.frames_lost)):
        if counts:
            causes = ", ".join(f"{count} {cause}" for cause, count in counts.items())
            parts.append(f"{name}: {causes}")
    if interrupted:
        parts.append("interrupted")
    return "; ".join(parts)


def _left(steps: int, rate: float) -> str:
    minutes, seconds = divmod(round(max(0, steps) / rate), 60)
    hours, minutes = divmod(minutes, 60)
    clock = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
    return f"{clock} left"


def _drawn(state: BarState) -> Table:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    columns: list[Any] = [
        Text(printable(one), no_wrap=True, overflow="ellipsis") for one in state.columns
    ]
    if state.total:
        share = min(1.0, state.done / state.total)
        bar = ProgressBar(total=state.total, completed=state.done, width=_BAR_CELLS)
        columns = [bar, Text(f"{share:4.0%}"), *columns]
    line = Table.grid(padding=(0, 2, 0, 0))
    line.add_row(*columns)
    return line
