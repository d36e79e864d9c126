"""How long to wait before trying again, and when not to wait that long."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["Backoff", "Prober"]


class Backoff:
    """Delays that double with every failure in a row: 1, 2, 4, ... 30 seconds.

    Parameters
    ----------
    first_s, longest_s : float
    """

    def __init__(self, first_s: float = 1.0, longest_s: float = 30.0) -> None:
        self._first_s = min(first_s, longest_s)
        self._longest_s = longest_s
        self.failures = 0

    def next_s(self, *, listened: bool = False) -> float:
        """Count one more failure and return the delay after it.

        Parameters
        ----------
        listened : bool
            The attempt itself waited in vain until its time-out. That spaces attempts by
            itself, and who does not listen cannot hear the silence end: the first delay.
        """
        # The exponent is bounded: after weeks of failures 2 ** n would not fit a float.
        delay_s = self._first_s * 2.0 ** min(self.failures, 32)
        self.failures += 1
        return self._first_s if listened else min(delay_s, self._longest_s)

    def reset(self) -> None:
        """Begin again with the first delay."""
        self.failures = 0


class Prober:
    """Looks, while somebody waits, whether a source has come back.

    A source that was away for an hour is waited for 30 seconds at a time. So that its return
    is noticed at once, it is looked for twice a second by something much cheaper than a
    connection; only an answer that is *better than before* ends the wait, so that a server
    which answers and refuses is left in peace.

    Parameters
    ----------
    probe : callable
        Returns how far the source answers: 0 not at all, more for more. Must return within
        half a second; called on a thread of its own, since looking up a name may hang.
    every_s : float
    """

    def __init__(self, probe: Callable[[], int], every_s: float = 0.5) -> None:
        self._probe = probe
        self._every_s = every_s
        self._seen: int | None = None

    def forget(self) -> None:
        """Begin a new absence: what was seen before it counts no more."""
        self._seen = None

    def watch(self, found: Callable[[], None], ended: threading.Event) -> threading.Thread:
        """Look until ``ended`` is set, or the source answers better; then call ``found``."""

        def look() -> None:
            while not ended.is_set():
                answer = self._probe()
                better = self._seen is not None and answer > self._seen
                self._seen = answer
                if better and not ended.is_set():
                    found()
                    return
                ended.wait(self._every_s)

        thread = threading.Thread(target=look, name="edgerestore-probe", daemon=True)
        thread.start()
        return thread
