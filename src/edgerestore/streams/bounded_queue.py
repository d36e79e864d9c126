"""A queue between two threads that can be ended from either side."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["BoundedQueue", "QueueAbortedError", "QueueEndedError"]

T = TypeVar("T")


class QueueEndedError(Exception):
    """Nothing is left and nothing more will come."""


class QueueAbortedError(Exception):
    """The other side has failed; stop what you do."""


class BoundedQueue(Generic[T]):
    """First in, first out, bounded by the weight of what it holds.

    Unlike `queue.Queue`, whoever waits here is woken when the other side ends or fails, so
    a thread can never be joined while it sleeps on a full queue.

    Parameters
    ----------
    capacity : float
        `put` waits while the items held weigh this much or more. An item heavier than that
        is taken when the queue is empty.
    """

    def __init__(self, capacity: float) -> None:
        self._capacity = capacity
        self._items: deque[tuple[T, float]] = deque()
        self._weight = 0.0
        self._ended = False
        self._aborted = False
        self._changed = threading.Condition()

    def put(self, item: T, weight: float = 1.0) -> None:
        """Append an item, waiting for room.

        Raises
        ------
        QueueAbortedError
            When the queue was aborted, before or while waiting.
        """
        with self._changed:
            while self._items and self._weight >= self._capacity and not self._aborted:
                self._changed.wait()
            if self._aborted:
                raise QueueAbortedError
            self._items.append((item, weight))
            self._weight += weight
            self._changed.notify_all()

    def offer(
        self,
        item: T,
        weight: float = 1.0,
        *,
        newest: bool = False,
        expired: Callable[[T], bool] = lambda _item: False,
        spared: Callable[[T], bool] = lambda _item: False,
    ) -> list[T]:
        """Append an item without waiting; return what had to be dropped for it.

        Parameters
        ----------
        item : T
        weight : float
        newest : bool
            Where there is no room, drop the item itself rather than the oldest ones held.
        expired : callable
            Of the items held, the oldest ones that this is true of give way to this one.
        spared : callable
            Items that are never dropped; they are let in where there is no room, too.

        Raises
        ------
        QueueAbortedError
            When the queue was aborted.
        """
        with self._changed:
            if self._aborted:
                raise QueueAbortedError
            if newest and self._weight >= self._capacity and not spared(item):
                return [item]
            dropped = [] if newest else self._make_way(expired, spared)
            self._items.append((item, weight))
            self._weight += weight
            self._changed.notify_all()
            return dropped

    def get(self) -> T:
        """Remove and return the oldest item, waiting for one.

        Raises
        ------
        QueueEndedError
            When the queue is empty and was ended.
        QueueAbortedError
            When the queue was aborted, even if items are left.
        """
        with self._changed:
            while not self._items and not self._ended and not self._aborted:
                self._changed.wait()
            return self._take()

    def get_now(self) -> T | None:
        """Do as `get`, but return ``None`` where that would wait."""
        with self._changed:
            if not self._items and not self._ended and not self._aborted:
                return None
            return self._take()

    def end(self) -> None:
        """Say that nothing more will be put; what is there can still be taken."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def abort(self) -> list[T]:
        """Wake everybody up with `QueueAbortedError`; return what was held."""
        with self._changed:
            self._aborted = True
            held = [item for item, _ in self._items]
            self._items.clear()
            self._weight = 0.0
            self._changed.notify_all()
            return held

    def _make_way(self, expired: Callable[[T], bool], spared: Callable[[T], bool]) -> list[T]:
        dropped: list[T] = []
        kept: deque[tuple[T, float]] = deque()
        while self._items:
            oldest, weight = self._items[0]
            if not spared(oldest):
                if self._weight < self._capacity and not expired(oldest):
                    break
                self._weight -= weight
                dropped.append(oldest)
            else:
                kept.append((oldest, weight))
            self._items.popleft()
        self._items.extendleft(reversed(kept))
        return dropped

    def _take(self) -> T:
        if self._aborted:
            raise QueueAbortedError
        if not self._items:
            raise QueueEndedError
        item, weight = self._items.popleft()
        self._weight -= weight
        self._changed.notify_all()
        return item
