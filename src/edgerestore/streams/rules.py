"""What a stream may do when its parts do not keep up with each other."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass

from ..errors import ArgumentError
from .frame_buffer import Overrun

__all__ = ["Gate", "Overrun", "StreamRules", "check_target"]

_GATE_POLL_S = 0.1
_FASTEST_FPS = 1e4


@dataclass(frozen=True)
class StreamRules:
    """How a stream is run.

    Parameters
    ----------
    overrun : Overrun
        Anything but ``WAIT`` keeps the source from ever waiting.
    max_staleness_s : float or None
        A frame that came in longer ago than this is never written.
    answer_s : float or None
        The device is taken for stuck when a frame's outcome takes longer than this.
    originals : bool
        Written frames bring what they were before (`Frame.original`).

    Raises
    ------
    ArgumentError
        On a time that is not above 0.
    """

    overrun: Overrun = Overrun.WAIT
    max_staleness_s: float | None = None
    answer_s: float | None = None
    originals: bool = False

    def __post_init__(self) -> None:
        for name in ("max_staleness_s", "answer_s"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise ArgumentError(f"{name} is a number of seconds above 0, got {value!r}")

    @property
    def live(self) -> bool:
        """Whether the source is never kept waiting."""
        return self.overrun is not Overrun.WAIT


class Gate:
    """Closed while a stream is paused."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self._open.set()

    @property
    def closed(self) -> bool:
        """Whether the stream is paused."""
        return not self._open.is_set()

    def close(self) -> None:
        """Pause."""
        self._open.clear()

    def open(self) -> None:
        """Go on."""
        self._open.set()

    def pass_through(self, stop: threading.Event) -> None:
        """Wait until it is open, or the stream shall stop."""
        while not stop.is_set() and not self._open.wait(_GATE_POLL_S):
            pass


def check_target(target_fps: float) -> None:
    """Refuse a rate that is none.

    Raises
    ------
    ArgumentError
        When it is not above 0, and below 10 000.
    """
    if not 0 < target_fps < _FASTEST_FPS:
        raise ArgumentError(f"target_fps is a number of frames above 0, got {target_fps:g}")
