"""Connections that deliver frames: protocol, errors, reader thread, and a source over one."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import replace
from typing import Protocol

import av

from ...errors import EdgerestoreError, SourceError
from ...imaging.error_translation import translate
from ..frame_buffer import BufferAbortedError, FrameBuffer, Overrun
from ..media.frames import Frame
from .address import HIDDEN_LOGIN, redacted

__all__ = [
    "Connection",
    "ConnectionFailedError",
    "ConnectionSource",
    "ReaderThread",
    "SharedHandle",
    "connection_errors",
]

# Few, so that none of them is old; more than one, so that a hiccup costs nothing.
_BUFFERED_FRAMES = 4


class ConnectionFailedError(SourceError):
    """Error of a connection that could not be made, or that failed.

    Parameters
    ----------
    message : str
        One line, without credentials.
    cause : str
        For programs: ``refused``, ``login``, ``timed out``, ``stalled``, ...
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
    Each has its `VideoInfo`: the same object until something about the video changes.

    Blocking: `__next__` of the iterator waits for the next frame. It is called on one thread.

    Ownership: as for a `Source`.

    Attributes
    ----------
    lost : Counter of str
        Frames that were there and could not be read, by cause.
    finite : bool
        It has a known end, and may wait until frames are taken: when it ends, it is done. The
        end of any other connection is a loss.
    """

    lost: Counter[str]
    finite: bool

    def __iter__(self) -> Iterator[Frame]:
        """Return the one iterator over what comes.

        Raises
        ------
        ConnectionFailedError
            From `__next__`, when the connection is lost.
        """

    def close(self) -> None:
        """Close the connection. Never waits.

        From any thread, any number of times, also while another one is inside `__next__`:
        that one ends when what it waits for comes or times out, and the connection with it.
        """


class SharedHandle:
    """Handle of a library that one thread uses and any thread may close.

    Closing a handle inside which another thread still waits crashes most libraries; so
    the last one closes it: the caller of `close`, or the thread inside.

    Parameters
    ----------
    release : callable
        Closes the handle; called once.
    """

    def __init__(self, release: Callable[[], None]) -> None:
        self._release: Callable[[], None] | None = release
        self._busy = threading.Lock()
        self._closed = False

    @contextmanager
    def inside(self) -> Iterator[bool]:
        """Keep the handle open for the block; gives whether it is open at all."""
        try:
            with self._busy:
                yield not self._closed
        finally:
            self._release_unused()

    def close(self) -> None:
        """Close the handle now, or as soon as no thread is inside."""
        self._closed = True
        self._release_unused()

    def _release_unused(self) -> None:
        # Of two threads that come here, whoever finds it busy leaves it to the other.
        if self._closed and self._busy.acquire(blocking=False):
            release, self._release = self._release, None
            self._busy.release()
            if release is not None:
                release()


class ReaderThread(threading.Thread):
    """Daemon thread that fills a bounded frame buffer; left to itself where it hangs.

    The buffer ends when ``fill`` returns, and with the error when it raises.

    Parameters
    ----------
    name : str
    fill : callable
        Given the buffer; ends when putting raises `BufferAbortedError`.
    policy : Overrun
    """

    def __init__(
        self, name: str, fill: Callable[[FrameBuffer], None], policy: Overrun = Overrun.DROP_OLDEST
    ) -> None:
        super().__init__(target=copy_context().run, args=(self._run,), name=name, daemon=True)
        self.buffer = FrameBuffer(_BUFFERED_FRAMES, policy)
        self._fill = fill

    def join(self, timeout: float | None = None) -> None:
        """Give it a moment to end; not from itself, nor before it was started."""
        if self.ident is not None and self is not threading.current_thread():
            super().join(timeout)

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            self._fill(self.buffer)
        except BufferAbortedError:
            pass
        except BaseException as failure:
            error = failure
        self.buffer.end(error)


class ConnectionSource:
    """`Source` over one connection that waits until its frames are taken, and then ends.

    It is opened by the thread that iterates: its beginning may be long in coming, and `close`
    ends that wait too, as far as opening it can be ended.

    Parameters
    ----------
    open_connection : callable
    where : str
        For messages; without credentials.
    interrupt : callable or None
        Ends a wait inside ``open_connection`` or the connection; called by `close`.

    Raises
    ------
    SourceError
        From the iterator: it cannot be opened, fails, or ends without a frame.
    """

    live = False
    interruptible = True

    def __init__(
        self,
        open_connection: Callable[[], Connection],
        where: str,
        interrupt: Callable[[], None] | None = None,
    ) -> None:
        self.expected_frames: int | None = None
        self.lost: Counter[str] = Counter()
        self._open_connection = open_connection
        self._connection: Connection | None = None
        self._where = where
        self._interrupt = interrupt
        self._closed = threading.Event()
        self._frames = self._read()

    def __iter__(self) -> Iterator[Frame]:
        """Return the one iterator over what remains."""
        return self._frames

    def close(self) -> None:
        """Close the input; also while another thread is inside `__next__`."""
        self._closed.set()
        if self._connection is not None:
            self._connection.close()
        if self._interrupt is not None:
            self._interrupt()

    def _read(self) -> Iterator[Frame]:
        if self._closed.is_set():
            return
        try:
            connection = self._connection = self._open_connection()
        except SourceError:
            if self._closed.is_set():
                return  # it failed because its wait was ended
            raise
        self.lost = connection.lost
        if self._closed.is_set():  # before it could see the connection
            connection.close()
            return
        last: int | None = None
        for frame in connection:
            pts = frame.pts if last is None else max(last + 1, frame.pts)
            last = pts
            yield frame if pts == frame.pts else replace(frame, pts=pts)
        if last is None and not self._closed.is_set():
            line = f"{self._where}: no frame of its video can be decoded; check it"
            raise SourceError(line)


# Errors -> the cause, and whether trying again is of no use. The most specific first.
_CAUSES: tuple[tuple[tuple[type[BaseException], ...], str, bool], ...] = (
    ((av.error.HTTPUnauthorizedError, av.error.HTTPForbiddenError), "login", True),
    ((av.error.HTTPNotFoundError,), "not found", False),
    (
        (av.error.HTTPError, av.error.HTTPClientError, av.error.HTTPServerError),
        "server error",
        False,
    ),
    ((av.error.ProtocolNotFoundError,), "unknown protocol", True),
    ((av.error.LookupError,), "no decoder", True),
    ((av.error.ExitError, TimeoutError), "timed out", False),
    ((ConnectionRefusedError,), "refused", False),
    ((av.error.InvalidDataError,), "no video", False),
    ((av.error.EOFError,), "end of stream", False),
    ((OSError,), "network", False),
)

# In place of messages that fit files only.
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
        ours = translate(error, SourceError, where)
        if ours is None:
            raise
        found = (row[1:] for row in _CAUSES if isinstance(error, row[0]))
        cause, permanent = next(found, ("failed", False))
        line = f"{where}: {_LINES[cause]}" if cause in _LINES else str(ours)
        if cause == "login" and HIDDEN_LOGIN in where:
            line = f"{where}: the server refuses the login of the address; check name and password"
        # FFmpeg's texts hold the whole address. The error stays the cause of ours, and a cause
        # is shown by tracebacks and by whoever logs one.
        error.args = tuple(redacted(one) if isinstance(one, str) else one for one in error.args[:3])
        raise ConnectionFailedError(line, cause, permanent=permanent) from error
