"""Sink that feeds several outputs, each on a thread of its own."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextvars import copy_context
from dataclasses import replace

import av

from ...errors import EdgerestoreError, SinkClosedError, SinkError
from ..events import EventKind, EventLog
from ..frame_buffer import BufferAbortedError, BufferEndedError, FrameBuffer, Overrun
from ..media.frames import Frame, Item, Passthrough
from ..protocols import Sink

__all__ = ["FanOutSink"]

_logger = logging.getLogger(__name__)

# Enough to ride over a slow frame; a frame of 4K in 16 bit takes 50 MB.
_QUEUED_FRAMES = 3


class FanOutSink:
    """`Sink` that hands everything to several, each on a thread of its own.

    Branches whose ``skips`` is set lose their own oldest frame when they are slow; the others
    make `write` wait. A branch that skips, or whose reader has gone, may fail: it is closed,
    which is an event, and the others go on. The first failure of any other branch is raised by
    `write` or `close`, and so is the end of the last branch.

    `close` and `abort` wait for every branch; each branch is closed or aborted once, on its
    own thread.

    Parameters
    ----------
    sinks : sequence of Sink
    log : EventLog or None
        Receives the end of a branch as an event; without it, that is logged.
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
        log: EventLog | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        names = names or [f"output {index}" for index in range(1, len(sinks) + 1)]
        self.skips = all(sink.skips for sink in sinks)
        self.wants_original = any(sink.wants_original for sink in sinks)
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
        """Keep the first failure that ends the stream, report others; called on their threads."""
        self._last = error
        if branch.fatal:
            self._failure = self._failure or error
            for one in self._branches:
                one.buffer.end()  # nobody waits there any more
            return
        message = f"{error}; the other outputs go on"
        if self._log is not None:
            cause = "closed" if isinstance(error, SinkClosedError) else "failed"
            self._log.record(EventKind.OUTPUT, message, cause, output=branch.name)
        else:
            _logger.warning("%s", message)


class _Branch:
    """Sink with a frame buffer and a thread of its own."""

    def __init__(
        self, sink: Sink, name: str, index: int, ended: Callable[[_Branch, BaseException], None]
    ) -> None:
        self.sink = sink
        self.name = name
        self.failure: BaseException | None = None
        policy = Overrun.DROP_OLDEST if sink.skips else Overrun.WAIT
        self.buffer = FrameBuffer(_QUEUED_FRAMES, policy)
        self._ended = ended
        self._end = threading.Event()
        self._thread = threading.Thread(
            target=copy_context().run, args=(self._run,), name=f"edgerestore-out-{index}"
        )

    @property
    def missed(self) -> int:
        """Frames that it did not show, wherever they were dropped."""
        own = getattr(self.sink, "dropped", None)
        return self.buffer.dropped["overrun"] + (
            sum(own.values()) if isinstance(own, Counter) else 0
        )

    @property
    def fatal(self) -> bool:
        """Whether its failure ends the stream."""
        failure = self.failure
        if failure is None or isinstance(failure, SinkClosedError):
            return False
        # A defect of ours is never an output's bad luck.
        return not self.sink.skips or not isinstance(failure, EdgerestoreError)

    def put(self, item: Item) -> None:
        """Queue an item; it is dropped once the branch or the stream has failed."""
        self._start()
        with contextlib.suppress(BufferEndedError, BufferAbortedError):
            self.buffer.put(item)

    def end(self, *, abort: bool) -> None:
        """Let the thread finish or abort the sink."""
        (self.buffer.abort if abort else self.buffer.end)()
        self._end.set()
        self._start()

    def join(self) -> None:
        self._thread.join()

    def _start(self) -> None:
        if self._thread.ident is None:
            self._thread.start()

    def _run(self) -> None:
        try:
            with contextlib.suppress(BufferEndedError, BufferAbortedError):
                while (item := self.buffer.get()) is not None:
                    self.sink.write(item)
            # The stream may have failed elsewhere: whether to finish is not known yet.
            self._end.wait()
            if not self.buffer.aborted:
                self.sink.close()
                return
        except BaseException as error:
            self.failure = error
            self.buffer.abort()
            self._ended(self, error)
        # What a sink does wrong here has no place left to go; the protocol says it never does.
        with contextlib.suppress(SinkError):
            self.sink.abort()


def _copy(item: Passthrough) -> Passthrough:
    packet = item.packet
    copy = av.Packet(bytes(packet))
    copy.pts, copy.dts, copy.duration = packet.pts, packet.dts, packet.duration
    copy.time_base, copy.is_keyframe = packet.time_base, packet.is_keyframe
    return Passthrough(copy, item.stream)
