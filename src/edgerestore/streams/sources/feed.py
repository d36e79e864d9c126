"""One connection to something that delivers frames."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

from ...errors import SourceError
from ..media.facts import VideoFacts
from ..media.frames import Frame

__all__ = ["Feed", "FeedError", "FeedSource", "Held"]


class FeedError(SourceError):
    """A connection that could not be made, or that failed.

    Parameters
    ----------
    message : str
        One line, without credentials.
    cause : str
        A short word for programs: ``refused``, ``login``, ``timed out``, ``stalled``, ...
    permanent : bool
        Trying again does not mend it.
    """

    def __init__(self, message: str, cause: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.cause = cause
        self.permanent = permanent


class Feed(Protocol):
    """One connection: frames until it ends or fails, and never again afterwards.

    Order: frames come in the order they are shown; ``pts`` may jump, `LiveSource` mends it.

    Blocking: `__next__` of the iterator waits for the next frame. It is called on one thread.

    Ownership: as for a `Source`.

    Attributes
    ----------
    facts : VideoFacts
        Of the frame that came last; a new object when something about the video changed.
        Not to be asked for before the first frame.
    lost : Counter of str
        What was there and could not be read, by cause.
    finite : bool
        A thing with a known end, which may wait for whoever takes the frames: when it ends,
        it is done. The end of any other feed is a loss.
    """

    lost: Counter[str]
    finite: bool

    @property
    def facts(self) -> VideoFacts:
        """What the video says of itself."""

    def __iter__(self) -> Iterator[Frame]:
        """Return the one iterator over what comes.

        Raises
        ------
        FeedError
            From `__next__`, when the connection is lost.
        """

    def close(self) -> None:
        """Let go of the connection.

        From any thread, any number of times, also while another one is inside `__next__`:
        that one ends when what it waits for comes or times out, and the connection with it.
        Never waits.
        """


class Held:
    """A handle that one thread uses and any thread may want to be let go of.

    Closing a handle inside which another thread still waits crashes most libraries; so
    whoever comes last lets go: the one who closes, or the one who is inside.

    Parameters
    ----------
    release : callable
        Lets go of the handle; called once.
    """

    def __init__(self, release: Callable[[], None]) -> None:
        self._release: Callable[[], None] | None = release
        self._lock = threading.Lock()
        self._inside = False
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether it was let go, or is about to be."""
        return self._closed

    @contextmanager
    def inside(self) -> Iterator[bool]:
        """Keep the handle for the block; gives whether it is there at all."""
        with self._lock:
            self._inside = not self._closed
            entered = self._inside
        try:
            yield entered
        finally:
            with self._lock:
                self._inside = False
                release = self._taken() if self._closed else None
            if release is not None:
                release()

    def let_go(self) -> None:
        """Release the handle now, or as soon as nobody is inside."""
        with self._lock:
            self._closed = True
            release = None if self._inside else self._taken()
        if release is not None:
            release()

    def _taken(self) -> Callable[[], None] | None:
        release, self._release = self._release, None
        return release


class FeedSource:
    """A `Source` over one feed that waits for whoever takes its frames, and then ends.

    The feed is opened by the thread that iterates: its beginning may be long in coming, and
    `close` ends that wait too, as far as the feed's opening can be ended.

    Parameters
    ----------
    open_feed : callable
    where : str
        For messages; without credentials.

    Raises
    ------
    SourceError
        From the iterator: the feed cannot be opened, fails, or ends without a frame.
    """

    live = False
    interruptible = True

    def __init__(self, open_feed: Callable[[], Feed], where: str) -> None:
        self.expected_frames: int | None = None
        self.lost: Counter[str] = Counter()
        self._open_feed = open_feed
        self._feed: Feed | None = None
        self._where = where
        self._closed = False
        self._lock = threading.Lock()
        self._frames = self._read()

    @property
    def facts(self) -> VideoFacts:
        """What the video says of itself; known once the first frame has come."""
        if self._feed is None:
            raise RuntimeError("facts are asked for before the first frame")
        return self._feed.facts

    def __iter__(self) -> Iterator[Frame]:
        """Return the one iterator over what remains."""
        return self._frames

    def close(self) -> None:
        """Let go of the input; also while another thread is inside `__next__`."""
        with self._lock:
            self._closed = True
            feed = self._feed
        if feed is not None:
            feed.close()

    def _read(self) -> Iterator[Frame]:
        feed = self._opened()
        if feed is None:
            return
        last: int | None = None
        for frame in feed:
            pts = frame.pts if last is None else max(last + 1, frame.pts)
            last = pts
            yield frame if pts == frame.pts else replace(frame, pts=pts)
        if last is None and not self._closed:
            line = f"{self._where}: no frame of its video can be decoded; check it"
            raise SourceError(line)

    def _opened(self) -> Feed | None:
        """Open the feed; None where nobody wants it any more."""
        if self._unwanted():
            return None
        try:
            feed = self._open_feed()
        except SourceError:
            if self._unwanted():
                return None  # it failed because its wait was ended
            raise
        with self._lock:
            self._feed, self.lost = feed, feed.lost
        if self._unwanted():
            feed.close()
            return None
        return feed

    def _unwanted(self) -> bool:
        return self._closed
