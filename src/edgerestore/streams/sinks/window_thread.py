"""One thread that windows live on, for as long as the process needs it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue

__all__ = ["WindowThread"]

_Job = tuple[Callable[[], None], Future[None]]


class WindowThread:
    """Runs jobs one after another on one thread, which begins with the first.

    It is a daemon, unlike an executor's, so that a program that forgot to close its window
    can end.
    """

    def __init__(self) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def submit(self, job: Callable[[], None]) -> Future[None]:
        """Run a job after those before it; return what becomes of it."""
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, name="edgerestore-window", daemon=True
            )
            self._thread.start()
        done: Future[None] = Future()
        self._jobs.put((job, done))
        return done

    def end(self, timeout_s: float) -> None:
        """Take no more jobs, and wait for the thread to end."""
        self._jobs.put(None)
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while (one := self._jobs.get()) is not None:
            job, done = one
            try:
                job()
            except BaseException as error:
                done.set_exception(error)  # raised where the outcome is asked for
            else:
                done.set_result(None)
