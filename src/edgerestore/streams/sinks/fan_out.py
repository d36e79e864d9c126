"""One stream into several outputs, none of which slows another that must not wait."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import replace

import av

from ...errors import EdgerestoreError, SinkClosedError, SinkError
from ..events import EventKind, EventLog
from ..media.frames import Frame, Item, Passthrough
from ..protocols import Sink

__all__ = ["FanOutSink"]

# Enough to ride over a slow frame; a frame of 4K in 16 bit takes 50 MB.
_QUEUED_FRAMES = 3
# Sound comes in many small packets between two frames.
_QUEUED_PACKETS = 512


class FanOutSink:
    """A `Sink` that hands everything to several, each on a thread of its own.

    Branches whose ``skips`` is set lose their own oldest frame when they are slow; the others
    make `write` wait. A branch that skips, or whose reader has gone, may fail: it is closed,
    an event tells, and the others go on. The first failure of any other branch is raised by
    `write` or `close`, and so is the end of the last branch.

    `close` and `abort` wait for every branch; each branch is closed or aborted once, on its
    own thread.

    Parameters
    ----------
    sinks : sequence of Sink
    notice : callable
        Told of a branch that ended, where there is no ``log``.
    log : EventLog or None
    names : sequence of str or None
        What each is called in messages.

    Attributes
    ----------
    dropped : dict of str to int
        Frames that each branch which may skip went without, by its name: those it was too
        slow for, and those it dropped itself.
    """

    def __init__(
        self,
        sinks: Sequence[Sink],
        *,
        notice: Callable[[str], None],
        log: EventLog | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        names = names or [f"output {index}" for index in range(1, len(sinks) + 1)]
        self.skips = all(sink.skips for sink in sinks)
        self.wants_original = any(sink.wants_original for sink in sinks)
        self._notice = notice
        self._log = log
        self._failure: BaseException | None = None
        self._last: BaseException | None = None  # of those that end nothing but themselves
        self._branches = [
            _Branch(sink, name, index, self._ended)
            for index, (sink, name) in enumerate(zip(sinks, names, strict=True), 1)
        ]
        # Whoever watches must not get an old picture because a disk is slow.
        self._watchers_first = sorted(self._branches, key=lambda one: not one.sink.skips)

    @property
    def dropped(self) -> dict[str, int]:
        """Return the frames that branches went without, by name."""
        return {branch.name: branch.missed for branch in self._branches if branch.sink.skips}

    def write(self, item: Item) -> None:
        """Hand one item to every branch, waiting for those that need every frame."""
        self._check()
        if isinstance(item, Frame):
            for branch in self._watchers_first:
                plain = item.original is None or branch.sink.wants_original
                branch.put(item if plain else replace(item, original=None))
            return
        takers = [branch for branch in self._branches if not branch.sink.skips]
        # Whoever writes a packet changes it, so all copies are made before anybody has one.
        copies = [item, *(_copy(item) for _ in takers[1:])]
        for branch, own in zip(takers, copies, strict=False):
            branch.put(own)

    def close(self) -> None:
        """Let every branch finish, then raise the first failure."""
        self._finish(abort=False)
        if self._failure is not None:
            raise self._failure

    def abort(self) -> None:
        """Abort every branch that is not closed. Never raises."""
        self._finish(abort=True)

    def _finish(self, *, abort: bool) -> None:
        for branch in self._branches:
            branch.end(abort=abort)
        for branch in self._branches:
            branch.join()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
        last = self._last
        if last is not None and all(branch.failure is not None for branch in self._branches):
            raise last

    def _ended(self, branch: _Branch, error: BaseException) -> None:
        """Keep the first failure that counts, tell of the others; called on their threads."""
        self._last = error
        if branch.fatal:
            self._failure = self._failure or error
            for one in self._branches:
                one.release()
            return
        message = f"{error}; the other outputs go on"
        if self._log is not None:
            cause = "closed" if isinstance(error, SinkClosedError) else "failed"
            self._log.tell(EventKind.OUTPUT, message, cause, output=branch.name)
        else:
            self._notice(message)


class _Branch:
    """A sink, its queue and its thread."""

    def __init__(
        self,
        sink: Sink,
        name: str,
        index: int,
        ended: Callable[[_Branch, BaseException], None],
    ) -> None:
        self.sink = sink
        self.name = name
        self.dropped = 0
        self.failure: BaseException | None = None
        self._ended = ended
        self._items: deque[Item] = deque()
        self._frames = 0
        self._finishing = False
        self._aborting = False
        self._released = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"edgerestore-out-{index}")
        self._started = False

    @property
    def missed(self) -> int:
        """Frames that it did not show, whoever dropped them."""
        own = getattr(self.sink, "dropped", None)
        return self.dropped + (sum(own.values()) if isinstance(own, Counter) else 0)

    @property
    def fatal(self) -> bool:
        """Whether its failure is the stream's."""
        failure = self.failure
        if failure is None or isinstance(failure, SinkClosedError):
            return False
        # A defect of ours is never an output's bad luck.
        return not self.sink.skips or not isinstance(failure, EdgerestoreError)

    def put(self, item: Item) -> None:
        """Queue an item: wait for room, or make room where frames may be skipped."""
        with self._changed:
            if not self._started:
                self._started = True
                self._thread.start()
            if self.sink.skips:
                while self._full():
                    self._items.popleft()
                    self._frames -= 1
                    self.dropped += 1
            else:
                while self._full() and self.failure is None and not self._released:
                    self._changed.wait()
            if self.failure is not None or self._released:
                return
            self._items.append(item)
            self._frames += isinstance(item, Frame)
            self._changed.notify_all()

    def release(self) -> None:
        """Let nobody wait here any more: another branch has ended the stream."""
        with self._changed:
            self._released = True
            self._changed.notify_all()

    def end(self, *, abort: bool) -> None:
        """Say that nothing follows."""
        with self._changed:
            self._finishing = True
            self._aborting = self._aborting or abort
            if not self._started:
                self._started = True
                self._thread.start()
            self._changed.notify_all()

    def join(self) -> None:
        self._thread.join()

    def _full(self) -> bool:
        return (
            self._frames >= _QUEUED_FRAMES or len(self._items) >= _QUEUED_FRAMES + _QUEUED_PACKETS
        )

    def _run(self) -> None:
        try:
            while (item := self._take()) is not None:
                self.sink.write(item)
            if not self._aborting:
                self.sink.close()
                return
        except BaseException as error:
            self._fail(error)
        # What a sink does wrong here has no place left to go; the protocol says it never does.
        with contextlib.suppress(SinkError):
            self.sink.abort()

    def _take(self) -> Item | None:
        """Return the next item, ``None`` at the end."""
        with self._changed:
            while not self._items and not self._finishing:
                self._changed.wait()
            if self._aborting or not self._items:
                return None
            item = self._items.popleft()
            self._frames -= isinstance(item, Frame)
            self._changed.notify_all()
            return item

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self.failure = error
            self._items.clear()
            self._frames = 0
            self._changed.notify_all()
        self._ended(self, error)


def _copy(item: Passthrough) -> Passthrough:
    packet = item.packet
    copy = av.Packet(bytes(packet))
    copy.pts, copy.dts, copy.duration = packet.pts, packet.dts, packet.duration
    copy.time_base, copy.is_keyframe = packet.time_base, packet.is_keyframe
    return Passthrough(copy, item.stream)
