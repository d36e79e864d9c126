"""Interruption of a run by Ctrl-C and by signals."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = ["Stop", "stop_on_interrupt"]

# What a terminal sends, and what a service manager does.
# SIGHUP is a terminal that was closed; Windows has none.
_ENDING = [signal.SIGINT, signal.SIGTERM, *filter(None, [getattr(signal, "SIGHUP", None)])]


class Stop(threading.Event):
    """Set by Ctrl-C, SIGTERM and SIGHUP."""

    is_ended = False  # a live stream was ended as services are: there is no other end


@contextmanager
def stop_on_interrupt(*, live: bool, images: bool, planes: bool = False) -> Iterator[Stop]:
    """Give an event that Ctrl-C sets, so that the file in the making is finished.

    A second Ctrl-C stops at once.
    """
    stop = Stop()
    what = b"a large image in the making is left out" if images else b"the output is finished first"
    what = b"with this tile" if planes else what

    def handle(number: int, _frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.is_ended = live and number != signal.SIGINT
        stop.set()
        # Not by print, which waits for locks that this thread may hold, such as a bar's.
        with suppress(OSError):
            os.write(2, b"\nedgerestore: stopping, " + what + b"\n")

    # What nohup has the process ignore stays ignored.
    ending = [number for number in _ENDING if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in ending}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
