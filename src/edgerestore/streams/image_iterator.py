"""Iterator over the restored images of a source: what `Restorer.stream` is."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator
from typing import Any

from ..engine.restorer import Restorer
from ..engine.strength import Strength
from ..errors import SinkError
from ..imaging.arrays import Image
from .frame_buffer import BufferAbortedError, BufferEndedError, FrameBuffer
from .media.frames import Frame, Item
from .media.rotation import upright
from .options import LiveOptions
from .pipeline import PendingImage
from .session import Session

__all__ = ["stream_images"]


class _AtStrength:
    """A restorer at a strength of its own, as the pipeline takes one."""

    def __init__(self, restorer: Restorer, strength: Strength | None) -> None:
        self._restorer, self._strength = restorer, strength

    @property
    def depth(self) -> int:
        return self._restorer.depth

    def submit(self, image: Image) -> PendingImage:
        return self._restorer.submit(image, self._strength)


class _IteratorSink:
    """A `Sink` whose frames are taken by an iterator on another thread."""

    skips = wants_original = False

    def __init__(self, max_age_s: float | None) -> None:
        self._frames = FrameBuffer()
        self._max_age_s = max_age_s
        self.live = False
        self.close = self._frames.end
        self.abort = self._frames.end
        self.leave = self._frames.abort

    def write(self, item: Item) -> None:
        if not isinstance(item, Frame):
            return
        try:
            self._frames.put(item)
        except BufferAbortedError as error:
            raise SinkError("nobody takes the images any more") from error

    def images(self) -> Iterator[Image]:
        """Yield the images until the stream ends."""
        while True:
            try:
                frame = self._frames.get()
            except BufferEndedError:
                return
            stale_s = self._max_age_s if self.live else None
            if isinstance(frame, Frame) and not frame.older_than(stale_s):
                yield upright(frame).image


def stream_images(
    restorer: Restorer,
    source: str | os.PathLike[str] | Iterable[Any],
    strength: Strength | None = None,
    options: LiveOptions | None = None,
) -> Generator[Image, None, None]:
    """Yield the restored images of a source, in order.

    A slow taker makes a live source drop frames, and any other one wait. Images of a turned
    film are upright.

    Parameters
    ----------
    restorer : Restorer
    source : str, path or iterable
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
    sink = _IteratorSink(options.max_staleness_s)
    with Session(_AtStrength(restorer, strength), source, [sink], options) as session:
        sink.live = session.live
        session.start()
        try:
            yield from sink.images()
            session.join()
        finally:
            sink.leave()
