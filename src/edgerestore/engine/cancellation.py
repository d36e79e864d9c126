"""Cancellation of the opening and compiling of models, between two steps of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Event

from ..errors import InferenceError

__all__ = ["cancelled_by", "check_cancelled"]

_cancelled: ContextVar[Event | None] = ContextVar("edgerestore_cancelled", default=None)


@contextmanager
def cancelled_by(event: Event) -> Iterator[None]:
    """Let an event cancel what this thread opens and compiles.

    A step that runs in a library (one compilation, one measurement) is finished first.
    """
    before = _cancelled.set(event)
    try:
        yield
    finally:
        _cancelled.reset(before)


def check_cancelled() -> None:
    """Raise `InferenceError` where this thread's work was cancelled."""
    event = _cancelled.get()
    if event is not None and event.is_set():
        raise InferenceError("it was cancelled")
