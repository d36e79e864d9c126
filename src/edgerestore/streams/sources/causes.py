"""Why a connection failed, in a word for programs and a line for people, without its login."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import av

from ...errors import EdgerestoreError, SourceError
from ...imaging.library_errors import translate
from .address import redacted
from .feed import FeedError

__all__ = ["feed_errors"]

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
def feed_errors(where: str) -> Iterator[None]:
    """Let engines' errors leave the block as `FeedError`, stripped of what they say of logins.

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


def _failure(error: Exception, where: str) -> FeedError | None:
    ours = translate(error, SourceError, where)
    if ours is None:
        return None
    for kind, cause, permanent in _CAUSES:
        if isinstance(error, kind):
            line = f"{where}: {_LINES[cause]}" if cause in _LINES else str(ours)
            return FeedError(line, cause, permanent=permanent)
    return FeedError(str(ours), "failed")


def _stripped(error: Exception) -> Exception:
    # FFmpeg's texts hold the whole address. The error stays the cause of ours, and a cause
    # is shown by tracebacks and by whoever logs one.
    error.args = tuple(redacted(one) if isinstance(one, str) else one for one in error.args[:3])
    return error
