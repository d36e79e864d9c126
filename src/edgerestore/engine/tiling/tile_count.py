"""Count of the tiles of one image that are done."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from ...runtimes.protocol import Completion

__all__ = ["OnProgress", "TileCount"]

OnProgress = Callable[[int, int], None]
"""Takes how many tiles of an image are done, and how many there are."""


class TileCount:
    """Tiles of one image that are done, of all that it takes.

    Parameters
    ----------
    notify : callable
        Called after each tile by the thread that submits, or that asks for the result. What it
        raises ends the work there.

    Attributes
    ----------
    parts : int
        Times that the image is restored, each with its own `expect`: models of an ensemble.
    """

    def __init__(self, notify: OnProgress) -> None:
        self.parts = 1
        self._notify = notify
        self._expected: list[int] = []
        self._done = 0
        self._waiting: deque[_Counted] = deque()
        self._lock = threading.Lock()

    def expect(self, tiles: int) -> None:
        """Add the tiles of one part, before any of it is submitted."""
        with self._lock:
            self._expected.append(tiles)

    def submitted(self, completion: Completion) -> Completion:
        """Count a tile once it is done; return the completion to wait for instead."""
        counted = _Counted(completion, self)
        self._waiting.append(counted)
        while self._waiting and self._waiting[0].done():
            self._waiting.popleft().count()
        return counted

    def tick(self) -> None:
        """Count one more tile."""
        with self._lock:
            self._done += 1
            known = self._expected or [1]
            missing = max(0, self.parts - len(known)) * known[-1]
            done, total = self._done, sum(known) + missing
        self._notify(done, total)


class _Counted:
    """A completion that is counted once, when it is found done or waited for."""

    def __init__(self, completion: Completion, tiles: TileCount) -> None:
        self._completion, self._tiles = completion, tiles
        self._counted = False
        self._lock = threading.Lock()

    def done(self) -> bool:
        return self._completion.done()

    def result(self, timeout: float | None = None) -> object:
        outcome = self._completion.result(timeout)
        self.count()
        return outcome

    def count(self) -> None:
        with self._lock:
            if self._counted:
                return
            self._counted = True
        self._tiles.tick()
