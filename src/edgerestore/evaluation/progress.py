"""How far an evaluation is, on a terminal."""

from __future__ import annotations

import sys
import time
from collections import deque
from typing import TextIO

from ..reports.tables import shorten

__all__ = ["ProgressLine"]

_CELLS = 24
_LABEL = 24  # a line that wraps cannot be taken back
_RECENT = 16  # pictures that tell the pace: each row has one of its own
_PERIOD_S = 0.1


class ProgressLine:
    """A bar with counts and the time left; silent where nobody watches.

    Parameters
    ----------
    stream : text stream, optional
        Standard error when not given.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._draws = self._stream.isatty()
        self._times = deque([time.monotonic()], maxlen=_RECENT + 1)
        self._drawn = 0.0

    def tick(self, done: int, total: int, label: str) -> None:
        """Take note of a picture that is done."""
        now = time.monotonic()
        self._times.append(now)
        if not self._draws or (done < total and now - self._drawn < _PERIOD_S):
            return
        self._drawn = now
        pace_s = (now - self._times[0]) / (len(self._times) - 1)
        filled = done * _CELLS // total
        bar = f"[{'#' * filled}{'.' * (_CELLS - filled)}]"
        left = _clock(pace_s * (total - done))
        counts = f"{done}/{total} pictures, {shorten(label, _LABEL)}"
        self._write(f"{bar} {done / total:4.0%}  {counts}  {left} left")

    def clear(self) -> None:
        """Give the line back."""
        if self._draws:
            self._write("")

    def _write(self, line: str) -> None:
        self._stream.write(f"\r{line}\x1b[K")
        self._stream.flush()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
