"""Connections to something that delivers frames, and why they fail."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

import av

from ...errors import EdgerestoreError, SourceError
from ...imaging.library_errors import translate
from ..media.frames import Frame, VideoInfo
from .address import redacted

__all__ = [
    "Connection",
    "ConnectionFailedError",
    "ConnectionSource",
    "SharedHandle",
    "connection_errors",
]


class ConnectionFailedError(SourceError):
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


class Connection(Protocol):
    """One connection: frames until it ends or fails, and never again afterwards.

    Order: frames come in the order they are shown; ``pts`` may jump, `LiveSource` mends it.

    Blocking: `__next__` of the iterator waits for the next frame. It is called on one thread.

    Ownership: as for a `Source`.

    Attributes
    ----------
    info : VideoInfo
        Of the frame that came last; a new object when something about the video changed.
        Not to be asked for before the first frame.
    lost : Counter of str
        What was there and could not be read, by cause.
    finite : bool
        A thing with a known end, which may wait for whoever takes the frames: when it ends,
        it is done. The end of any other connection is a loss.
    """

    lost: Counter[str]
    finite: bool

    @property
    def info(self) -> VideoInfo:
        """What the video says of itself."""

    def __iter__(self) -> Iterator[Frame]:
        """Return the one iterator over what comes.

        Raises
        ------
        ConnectionFailedError
            From `__next__`, when the connection is lost.
        """

    def close(self) -> None:
        """Let go of the connection.

        From any thread, any number of times, also while another one is inside `__next__`:
        that one ends when what it waits for comes or times out, and the connection with it.
        Never waits.
        """


class SharedHandle:
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


class ConnectionSource:
    """A `Source` over one connection that waits for whoever takes its frames, and then ends.

    The connection is opened by the thread that iterates: its beginning may be long in coming, and
    `close` ends that wait too, as far as the connection's opening can be ended.

    Parameters
    ----------
    open_connection : callable
    where : str
        For messages; without credentials.

    Raises
    ------
    SourceError
        From the iterator: the connection cannot be opened, fails, or ends without a frame.
    """

    live = False
    interruptible = True

    def __init__(self, open_connection: Callable[[], Connection], where: str) -> None:
        self.expected_frames: int | None = None
        self.lost: Counter[str] = Counter()
        self._open_connection = open_connection
        self._connection: Connection | None = None
        self._where = where
        self._closed = False
        self._lock = threading.Lock()
        self._frames = self._read()

    @property
    def info(self) -> VideoInfo:
        """What the video says of itself; known once the first frame has come."""
        if self._connection is None:
            raise RuntimeError("info are asked for before the first frame")
        return self._connection.info

    def __iter__(self) -> Iterator[Frame]:
        """Return the one iterator over what remains."""
        return self._frames

    def close(self) -> None:
        """Let go of the input; also while another thread is inside `__next__`."""
        with self._lock:
            self._closed = True
            connection = self._connection
        if connection is not None:
            connection.close()

    def _read(self) -> Iterator[Frame]:
        connection = self._opened()
        if connection is None:
            return
        last: int | None = None
        for frame in connection:
            pts = frame.pts if last is None else max(last + 1, frame.pts)
            last = pts
            yield frame if pts == frame.pts else replace(frame, pts=pts)
        if last is None and not self._closed:
            line = f"{self._where}: no frame of its video can be decoded; check it"
            raise SourceError(line)

    def _opened(self) -> Connection | None:
        """Open the connection; None where nobody wants it any more."""
        if self._unwanted():
            return None
        try:
            connection = self._open_connection()
        except SourceError:
            if self._unwanted():
                return None  # it failed because its wait was ended
            raise
        with self._lock:
            self._connection, self.lost = connection, connection.lost
        if self._unwanted():
            connection.close()
            return None
        return connection

    def _unwanted(self) -> bool:
        return self._closed


# Engine error -> the word, and whether trying again is of no use. The most specific first.
_CAUSES: tuple[tuple[type[BaseException], str, bool], ...] = (
    (av.error.HTTPUnauthorizedError, "login", True),
    (av.error.HTTPForbiddenError, "login", True),
    (av.error.HTTPNotFoundError, "not found", False),
    (av.error.HTTPError, "server error", False),
    (av.error.HTTPClientError, "server error", False),
    (av.error.HTTPServerError, "server error", False),
    (av.error.ProtocolNotFoundError, "unknown protocol", True),
    (av.error.LookupError, "no decoder", True),
    (av.error.ExitError, "timed out", False),
    (av.error.TimeoutError, "timed out", False),
    (ConnectionRefusedError, "refused", False),
    (av.error.InvalidDataError, "no video", False),
    (av.error.EOFError, "end of stream", False),
    (OSError, "network", False),
)

# What the door for files says in a way that fits no connection.
_LINES = {
    "refused": "refuses the connection; check that it is on, and the port",
    "end of stream": "ended before its first picture; check the source",
    "no video": "sends nothing that can be read as video; check the address",
    "network": "the connection failed; check the address and the network",
}


@contextmanager
def connection_errors(where: str) -> Iterator[None]:
    """Translate library errors in the block into `ConnectionFailedError`, without logins.

    Parameters
    ----------
    where : str
        The address, redacted.
    """
    try:
        yield
    except EdgerestoreError:
        raise
    except Exception as error:
        failure = _failure(error, where)
        if failure is None:
            raise
        raise failure from _stripped(error)


def _failure(error: Exception, where: str) -> ConnectionFailedError | None:
    ours = translate(error, SourceError, where)
    if ours is None:
        return None
    for kind, cause, permanent in _CAUSES:
        if isinstance(error, kind):
            line = f"{where}: {_LINES[cause]}" if cause in _LINES else str(ours)
            return ConnectionFailedError(line, cause, permanent=permanent)
    return ConnectionFailedError(str(ours), "failed")


def _stripped(error: Exception) -> Exception:
    # FFmpeg's texts hold the whole address. The error stays the cause of ours, and a cause
    # is shown by tracebacks and by whoever logs one.
    error.args = tuple(redacted(one) if isinstance(one, str) else one for one in error.args[:3])
    return error
