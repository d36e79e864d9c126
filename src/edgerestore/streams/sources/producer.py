"""Source over any Python iterable of arrays: a camera's SDK, a microscope, a generator."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sized
from fractions import Fraction
from typing import Any

import numpy as np

from ...errors import ArgumentError, SourceError, SourceLostError
from ...imaging.arrays import Image, check_image, native
from ..frame_buffer import BufferAbortedError, BufferEndedError, FrameBuffer, Overrun
from ..media.frames import LIVE_TIME_BASE, Frame, VideoInfo, image_info
from .connection import ReaderThread

__all__ = ["ProducerSource"]

_JOIN_S = 0.3
_PIX_FMTS = {1: "gray", 3: "rgb", 4: "rgba"}


class ProducerSource:
    """`Source` over an iterable of images.

    The iterable is iterated on a thread of its own, which is left to itself when it hangs.
    `close` may be called from any thread, also while another is inside `__next__`.

    Parameters
    ----------
    frames : iterable
        Yields images as `check_image` takes them, in RGB order; or pairs of an image
        and its time in seconds, ascending. Their size may change.
    live : bool
        Frames that nobody takes in time make room for newer ones, and are counted in `lost`.
        Otherwise the producer waits until they are taken.
    rate : Fraction, int or float
        Frames per second: nominal where they are live or bring their time, else their time.
    stall_s : float or None
        A producer that takes longer for a frame is lost; ``None`` waits for ever.
    owned : bool
        Whether each array is the frame's own from then on. Otherwise it is copied, since
        cameras fill one buffer again and again.
    name : str
        For messages.

    Raises
    ------
    SourceError
        From the iterator: the producer raised, or what it gave is no image.
    SourceLostError
        From the iterator: the producer is silent.
    """

    interruptible = True

    def __init__(
        self,
        frames: Iterable[Any],
        *,
        live: bool = False,
        rate: Fraction | float = 25,
        stall_s: float | None = None,
        owned: bool = False,
        name: str = "producer",
    ) -> None:
        if not (math.isfinite(rate) and rate > 0):
            raise ArgumentError(f"rate is a number of frames per second above 0, got {rate}")
        self.live = live
        self.expected_frames: int | None = len(frames) if isinstance(frames, Sized) else None
        self.lost: Counter[str] = Counter()
        self._producer = frames
        self._rate = Fraction(rate).limit_denominator(100_000)
        self._stall_s = stall_s
        self._owned = owned
        self._name = name
        self._info: VideoInfo | None = None
        self._last_pts = -1
        self._began_s: float | None = None
        policy = Overrun.DROP_OLDEST if live else Overrun.WAIT
        self._reader = ReaderThread("edgerestore-producer", self._produce, policy)

    def __iter__(self) -> Iterator[Frame]:
        """Return the one iterator over what comes."""
        return self

    def __next__(self) -> Frame:
        """Wait for the next frame."""
        reader, buffer = self._reader, self._reader.buffer
        if reader.ident is None and not buffer.aborted:
            buffer.touch()
            reader.start()
        try:
            frame = buffer.get(self._stall_s)
        except (BufferEndedError, BufferAbortedError):
            reader.join(_JOIN_S)
            error, buffer.error = buffer.error, None
            if error is None or buffer.aborted:
                raise StopIteration from None
            raise error from error.__cause__
        finally:
            if overrun := buffer.dropped["overrun"]:
                self.lost["not taken in time"] = overrun
        if isinstance(frame, Frame):
            return frame
        buffer.abort()
        raise SourceLostError(
            f"{self._name}: gave no frame for {self._stall_s:g} s; check what produces them"
        )

    def close(self) -> None:
        """Take no more frames; a producer that hangs is left to itself."""
        self._reader.buffer.abort()
        self._reader.join(_JOIN_S)

    def _produce(self, buffer: FrameBuffer) -> None:
        try:
            frames = iter(self._producer)
            try:
                for number, given in enumerate(frames):
                    buffer.put(self._frame(number, given))
            finally:
                # A generator has its own files and cameras to close, here, on its thread.
                if isinstance(frames, Generator):
                    frames.close()
        except (SourceError, BufferAbortedError):
            raise
        except BaseException as error:
            text = " ".join(str(error).split())
            line = f"{self._name}: {type(error).__name__}: {text}".rstrip(": ")
            raise SourceError(line) from error

    def _frame(self, number: int, given: Any) -> Frame:
        captured_s = time.perf_counter()
        image, moment = self._taken_apart(number, given)
        form = "gray" if image.ndim == 2 else _PIX_FMTS[image.shape[2]]
        self._info = image_info(image, self._rate, form, self._info)
        if moment is None and self.live:
            self._began_s = self._began_s or captured_s
            moment = Fraction(captured_s - self._began_s)
        elif moment is None:
            moment = number / self._rate
        pts = max(self._last_pts + 1, round(moment / LIVE_TIME_BASE))
        self._last_pts = pts
        duration = 0 if self.live else round(1 / self._rate / LIVE_TIME_BASE)
        if not self._owned or not image.flags.c_contiguous:
            image = np.array(image, order="C")
        return Frame(image, pts, LIVE_TIME_BASE, duration, captured_s=captured_s, info=self._info)

    def _taken_apart(self, number: int, given: Any) -> tuple[Image, Fraction | None]:
        """Return the image, checked, and its time where it brings one."""
        image, moment = given, None
        try:
            if isinstance(given, tuple) and len(given) == 2:
                image, seconds = given[0], float(given[1])
                if not math.isfinite(seconds):
                    raise ArgumentError(f"its time is {seconds}")
                moment = Fraction(seconds)
            check_image(image)
        except (TypeError, ValueError) as error:  # ArgumentError is one
            raise SourceError(f"{self._name}: frame {number}: {error}") from error
        return native(image), moment
