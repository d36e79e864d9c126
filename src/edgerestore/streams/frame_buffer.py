"""Bounded frame buffer between two threads, with a policy for what comes when it is full."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from enum import StrEnum

from .media.frames import Frame, Item

__all__ = ["BufferAbortedError", "BufferEndedError", "FrameBuffer", "Overrun"]

_PACKET_WEIGHT = 1 / 256
_PACKET_WEIGHT_PER_BYTE = 1 / (1 << 20)


class BufferEndedError(Exception):
    """The buffer has ended: nothing is left to get, or nothing more is taken."""


class BufferAbortedError(Exception):
    """The buffer was aborted by either side; stop what you do."""


class Overrun(StrEnum):
    """Policy for a frame that comes before there is room for it.

    ``WAIT`` blocks whoever puts it. ``DROP_OLDEST`` drops the frames held the longest,
    ``DROP_NEWEST`` the one that comes, and ``LATEST`` all that are held, full or not.
    """

    WAIT = "wait"
    DROP_OLDEST = "drop-oldest"
    DROP_NEWEST = "drop-newest"
    LATEST = "latest"


class FrameBuffer:
    """Frames, and the packets between them, from one thread to another, first in, first out.

    Whoever waits here is woken when the other side ends or aborts, so a thread can never be
    joined while it sleeps on a full or empty buffer. Every frame that was put is got, held,
    or counted in `dropped`; every method may be called by any thread.

    A frame weighs 1, a packet 1/256 and 1 more for each MiB, so that sound between two frames
    cannot fill memory. Packets are never dropped for the sake of a frame (sound beside a
    file's frames is never out of date); `put` lets them in where there is no room, unless the
    policy is to wait.

    Parameters
    ----------
    capacity : float
        The buffer is full while what it holds weighs this much or more. Whatever its weight,
        an item goes into an empty buffer.
    policy : Overrun
        May be changed at any time, by setting the attribute.
    patience_s : float or None
        With ``DROP_OLDEST``, a frame that came in longer ago than this (`Frame.captured_s`)
        gives way to a newer one even where there is room.
    on_drop : callable or None
        Given the cause of each frame dropped, while the buffer is locked: it must neither
        block nor use the buffer.

    Attributes
    ----------
    dropped : Counter of str
        Frames dropped, by cause: ``overrun`` (the policy), ``ended`` (held at an abort, or put
        after the end), and what `clear` was given.
    error : BaseException or None
        Why nothing more comes, as `end` was given it.
    """

    def __init__(
        self,
        capacity: float = 1.0,
        policy: Overrun = Overrun.WAIT,
        *,
        patience_s: float | None = None,
        on_drop: Callable[[str], None] | None = None,
    ) -> None:
        self.policy = policy
        self.dropped: Counter[str] = Counter()
        self.error: BaseException | None = None
        self._capacity, self._patience_s, self._on_drop = capacity, patience_s, on_drop
        self._items: deque[tuple[Item, float]] = deque()  # with their weight
        self._weight = 0.0
        self._active_s = time.perf_counter()
        self._ended = self._aborted = False
        self._changed = threading.Condition()

    @property
    def aborted(self) -> bool:
        """Whether `abort` was called."""
        return self._aborted

    @property
    def silent_s(self) -> float:
        """Seconds since an item last came in (or, where `put` waits, made room), or `touch`."""
        return time.perf_counter() - self._active_s

    def touch(self) -> None:
        """Restart `silent_s`: something happened that is no frame yet."""
        self._active_s = time.perf_counter()

    def put(self, item: Item) -> None:
        """Append an item as the policy says; only ``WAIT`` ever blocks.

        Raises
        ------
        BufferAbortedError, BufferEndedError
            When the buffer was aborted or ended, before or while waiting; a frame is counted
            as dropped.
        """
        weight = 1.0
        if not isinstance(item, Frame):
            weight = _PACKET_WEIGHT + item.packet.size * _PACKET_WEIGHT_PER_BYTE
        with self._changed:
            self._changed.wait_for(self._takes)
            if self._aborted or self._ended:
                self._drop(item, "ended")
                raise BufferAbortedError if self._aborted else BufferEndedError
            full = self._weight >= self._capacity
            if full and self.policy is Overrun.DROP_NEWEST and isinstance(item, Frame):
                self._drop(item, "overrun")
                return
            if self.policy in (Overrun.DROP_OLDEST, Overrun.LATEST):
                self._make_room()
            self._items.append((item, weight))
            self._weight += weight
            self._active_s = time.perf_counter()
            self._changed.notify_all()

    def get(self, timeout_s: float | None = None) -> Item | None:
        """Remove and return the oldest item, waiting for one.

        Parameters
        ----------
        timeout_s : float or None
            Seconds to wait at most; 0 never waits, ``None`` waits for ever.

        Returns
        -------
        Frame, Passthrough or None
            ``None`` where none came in time.

        Raises
        ------
        BufferEndedError
            When the buffer was ended and is empty; `error` is why.
        BufferAbortedError
            When the buffer was aborted.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._ended or self._aborted, timeout_s)
            if self._aborted:
                raise BufferAbortedError
            if not self._items:
                if self._ended:
                    raise BufferEndedError
                return None
            item, weight = self._items.popleft()
            self._weight -= weight
            if self.policy is Overrun.WAIT:
                # Whoever waited for room was not silent.
                self._active_s = time.perf_counter()
            self._changed.notify_all()
            return item

    def clear(self, cause: str) -> None:
        """Drop what is held, for a cause of the caller's; the buffer stays in use."""
        with self._changed:
            for item, _ in self._items:
                self._drop(item, cause)
            self._items.clear()
            self._weight = 0.0
            self._changed.notify_all()

    def end(self, error: BaseException | None = None) -> None:
        """Take nothing more, for this reason; what is held can still be got."""
        with self._changed:
            self._ended = True
            self.error = self.error or error
            self._changed.notify_all()

    def abort(self) -> None:
        """Wake both sides with `BufferAbortedError`, and drop what is held."""
        with self._changed:
            self._aborted = True
            self.clear("ended")

    def _takes(self) -> bool:
        """Return whether `put` need not wait any longer."""
        room = not self._items or self._weight < self._capacity
        return room or self._ended or self._aborted or self.policy is not Overrun.WAIT

    def _make_room(self) -> None:
        packets: list[tuple[Item, float]] = []
        while self._items:
            oldest, weight = self._items[0]
            if not isinstance(oldest, Frame):
                packets.append((oldest, weight))
            elif self._gives_way(oldest):
                self._weight -= weight
                self._drop(oldest, "overrun")
            else:
                break
            self._items.popleft()
        self._items.extendleft(reversed(packets))

    def _gives_way(self, held: Frame) -> bool:
        if self.policy is Overrun.LATEST or self._weight >= self._capacity:
            return True
        return self._patience_s is not None and held.older_than(self._patience_s)

    def _drop(self, item: Item, cause: str) -> None:
        if isinstance(item, Frame):
            self.dropped[cause] += 1
            if self._on_drop is not None:
                self._on_drop(cause)
