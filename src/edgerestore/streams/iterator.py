"""A live source as an iterator of restored images: `Restorer.stream` on an address."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from ..engine.strength import Strength
from ..errors import SinkError
from ..imaging.arrays import Image
from .events import EventLog
from .frame_buffer import BufferAbortedError, BufferEndedError, FrameBuffer
from .media.frames import Frame, Item
from .options import LiveOptions
from .pipeline import PendingImage, run_pipeline
from .sources.registry import open_source
from .telemetry import Telemetry

__all__ = ["RestoresAt", "stream_images"]


class RestoresAt(Protocol):
    """What is needed of a restorer here."""

    @property
    def depth(self) -> int:
        """As `Restores.depth`."""

    def submit(self, image: Image, strength: Strength | None = None) -> PendingImage:
        """As `Restorer.submit`."""


class _AtStrength:
    """A restorer at a strength of its own, as the pipeline takes one."""

    def __init__(self, restorer: RestoresAt, strength: Strength | None) -> None:
        self._restorer, self._strength = restorer, strength

    @property
    def depth(self) -> int:
        return self._restorer.depth

    def submit(self, image: Image) -> PendingImage:
        return self._restorer.submit(image, self._strength)


class _HandOut:
    """A sink whose frames are taken by an iterator on another thread."""

    skips = wants_original = False

    def __init__(self) -> None:
        self.queue = FrameBuffer()

    def write(self, item: Item) -> None:
        if not isinstance(item, Frame):
            return
        try:
            self.queue.put(item)
        except BufferAbortedError as error:
            raise SinkError("nobody takes the images any more") from error

    def close(self) -> None:
        self.queue.end()

    def abort(self) -> None:
        self.queue.end()


def stream_images(
    restorer: RestoresAt,
    source: str | Iterable[Any],
    strength: Strength | None = None,
    options: LiveOptions | None = None,
) -> Iterator[Image]:
    """Yield the restored images of a source, in order.

    Whoever takes them slowly makes a live source drop frames, and any other one wait.

    Parameters
    ----------
    restorer : RestoresAt
    source : str or iterable
        As ``edgerestore run`` takes it.
    strength : float or ndarray, optional
        Of every image; the restorer's own, which may be turned meanwhile, when not given.
    options : LiveOptions, optional

    Yields
    ------
    ndarray
        As `Restorer.submit` gives it. Never one older than ``options.max_staleness_s``
        where the source is live.

    Raises
    ------
    SourceError, InferenceError
        The first failure.
    """
    options = options or LiveOptions()
    opened = open_source(source, options.source, log=EventLog(), notice=lambda _line: None)
    stop, out = threading.Event(), _HandOut()
    failures: list[BaseException] = []
    rules = options.rules(live=opened.live, originals=False)

    def work() -> None:
        try:
            run_pipeline(
                opened, _AtStrength(restorer, strength), out, Telemetry(), stop, rules=rules
            )
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work, name="edgerestore-stream")
    thread.start()
    try:
        while True:
            try:
                frame = out.queue.get()
            except BufferEndedError:
                break
            if isinstance(frame, Frame) and not frame.older_than(rules.max_staleness_s):
                yield frame.image
        thread.join()
        if failures:
            raise failures[0]
    finally:
        stop.set()
        if opened.interruptible:
            opened.close()
        out.queue.abort()
        thread.join()
        opened.close()
