"""Frames of the live mode of MMCore, which no signal brings: the newest image, again and again."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from ..imaging.arrays import Image

__all__ = ["LivePoller"]

_logger = logging.getLogger(__name__)

# Looking copies the image, and holds a lock that the camera waits for.
_LEAST_S, _MOST_S = 0.004, 0.05
_POSITION_S = 0.5  # a stage is asked by a cable, so not for each frame
_NUMBERS = ("ImageNumber", "TimeReceivedByCore", "ElapsedTime-ms")


class LivePoller:
    """Thread that takes each new image of a camera that runs outside an acquisition.

    Images are looked at, not popped: whoever else shows them has them, too. What comes and goes
    between two looks is not seen; the numbers in the metadata (``missed``) tell of it.

    Parameters
    ----------
    core : CMMCorePlus
    put : callable
        Given the image and its metadata, on a thread of its own.
    """

    def __init__(self, core: Any, put: Callable[[Image, Mapping[str, Any]], object]) -> None:
        self._core, self._put = core, put
        self._started, self._closed = threading.Event(), threading.Event()
        self._latest: tuple[Any, ...] | None = None
        self._number: int | None = None
        self._position: Any = {}
        self._asked_s = -_POSITION_S
        self._signals = [
            core.events.continuousSequenceAcquisitionStarted,
            core.events.sequenceAcquisitionStarted,
        ]
        for signal in self._signals:
            signal.connect(self._wake)
        self._started.set()  # it may run already
        self._thread = threading.Thread(target=self._run, name="edgerestore-live", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Look no more."""
        for signal in self._signals:
            signal.disconnect(self._wake)
        self._closed.set()
        self._started.set()
        self._thread.join()

    def _wake(self, *_: object) -> None:
        self._started.set()

    def _run(self) -> None:
        while True:
            self._started.wait()
            if self._closed.is_set():
                return
            self._started.clear()
            self._latest = self._number = None
            try:
                self._watch()
            except Exception:  # another thread's core: its end is told, and not ours to raise
                _logger.exception("live mode can no longer be looked at")

    def _watch(self) -> None:
        """Look until the camera stops, or an acquisition begins, which brings its own frames."""
        core = self._core
        while core.isSequenceRunning() and not core.mda.is_running():
            pause_s = min(max(core.getExposure() / 2e3, _LEAST_S), _MOST_S)
            if self._closed.wait(pause_s):
                return
            self._look()

    def _look(self) -> None:
        try:
            image, tags = self._core.getLastImageAndMD()
        except (RuntimeError, IndexError):
            return  # nothing has come yet, or somebody has popped it
        mark = tuple(tags.get(name) for name in _NUMBERS)
        if mark == self._latest and any(mark):
            return
        self._latest = mark
        number = int(mark[0]) if mark[0] is not None and str(mark[0]).isdigit() else None
        missed = 0
        if number is not None and self._number is not None:
            missed = max(0, number - self._number - 1)
        self._number = number
        self._put(image, self._facts(dict(tags), missed))

    def _facts(self, tags: dict[str, Any], missed: int) -> dict[str, Any]:
        from pymmcore_plus.metadata.functions import frame_metadata, position

        core, now_s = self._core, time.perf_counter()
        if now_s - self._asked_s >= _POSITION_S:
            self._position, self._asked_s = position(core), now_s
        group = core.getChannelGroup()
        return {
            **frame_metadata(core, camera_metadata=tags, position=self._position),
            "index": {},
            "channel": core.getCurrentConfigFromCache(group) or None if group else None,
            "missed": missed,
        }
