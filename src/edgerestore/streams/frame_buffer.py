"""What waits between two stages of a stream, every frame of it accounted for."""

from __future__ import annotations

import time
from dataclasses import dataclass

from .bounded_queue import BoundedQueue, QueueAbortedError
from .media.frames import Frame, Item
from .telemetry import Telemetry

__all__ = ["Row", "Stamped"]

_PACKET_WEIGHT = 1 / 256
_PACKET_WEIGHT_PER_BYTE = 1 / (1 << 20)


@dataclass(frozen=True, eq=False, slots=True)
class Stamped:
    """An item, and when it came in (seconds of `time.perf_counter`)."""

    item: Item
    since_s: float

    def older_than(self, limit_s: float | None) -> bool:
        """Whether it is a frame that came in longer ago than this."""
        return (
            limit_s is not None
            and isinstance(self.item, Frame)
            and time.perf_counter() - self.since_s > limit_s
        )

    @property
    def weight(self) -> float:
        """What it counts where rows are bounded: a frame 1, packets by their size."""
        if isinstance(self.item, Frame):
            return 1.0
        return _PACKET_WEIGHT + self.item.packet.size * _PACKET_WEIGHT_PER_BYTE

    def drop(self, telemetry: Telemetry, cause: str) -> None:
        """Count it as dropped, if it is a frame."""
        if isinstance(self.item, Frame):
            telemetry.frame_dropped(cause)


class Row:
    """A `BoundedQueue` of stamped items; what does not come out of it is counted.

    Parameters
    ----------
    capacity : float
        In frames.
    telemetry : Telemetry
    """

    def __init__(self, capacity: float, telemetry: Telemetry) -> None:
        self._queue: BoundedQueue[Stamped] = BoundedQueue(capacity)
        self._telemetry = telemetry
        self.get = self._queue.get
        self.get_now = self._queue.get_now
        self.end = self._queue.end

    def put(self, stamped: Stamped) -> None:
        """Append an item, waiting for room; see `BoundedQueue.put`."""
        try:
            self._queue.put(stamped, stamped.weight)
        except QueueAbortedError:
            stamped.drop(self._telemetry, "ended")
            raise

    def offer(self, stamped: Stamped, *, newest: bool, patience_s: float) -> None:
        """Append an item without waiting; see `BoundedQueue.offer`.

        Parameters
        ----------
        stamped : Stamped
        newest : bool
            What comes last gives way to what is there.
        patience_s : float
            Otherwise, a frame that came in longer ago gives way to this one.
        """
        limit_s = None if newest else patience_s
        try:
            over = self._queue.offer(
                stamped,
                stamped.weight,
                newest=newest,
                expired=lambda held: held.older_than(limit_s),
                # Sound beside a file's frames is no news that could be old.
                spared=lambda held: not isinstance(held.item, Frame),
            )
        except QueueAbortedError:
            stamped.drop(self._telemetry, "ended")
            raise
        for one in over:
            one.drop(self._telemetry, "overrun")

    def abort(self) -> None:
        """Wake both sides up, and count what was held."""
        for one in self._queue.abort():
            one.drop(self._telemetry, "ended")
