"""Ends of files, worked off beside the frames of the next one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Finisher"]

T = TypeVar("T")


class Finisher(Generic[T]):
    """Does one thing after the other on a thread of its own, and keeps the first failure.

    Parameters
    ----------
    finish : callable
        What to do with each thing.
    """

    def __init__(self, finish: Callable[[T], None]) -> None:
        self._finish = finish
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    def start(self, thing: T) -> None:
        """Begin with a thing, once the last one is done."""
        self.join()
        self._thread = threading.Thread(target=self._run, args=(thing,), name="edgerestore-finish")
        self._thread.start()

    def join(self) -> None:
        """Wait until nothing is left to do."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()

    def check(self) -> None:
        """Raise what has failed since the last check."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _run(self, thing: T) -> None:
        try:
            self._finish(thing)
        except BaseException as error:
            self._failure = self._failure or error
