"""The seam between the pipeline and whatever delivers frames."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Protocol

from ..media.frames import Item

__all__ = ["Source"]


class Source(Protocol):
    """A stream of frames, with the packets that travel beside them.

    Order: frames come in the order they are shown, ``pts`` strictly increasing; a packet
    comes where the input had it, so that a sink can interleave without searching.

    Blocking: `__next__` of the iterator waits for the input. The pipeline iterates on a
    thread of its own and nowhere else; a source needs no lock of its own.

    Ownership: each frame's image belongs to the frame. A source never writes into an image
    that it has handed out.

    Loss: what cannot be decoded is skipped and counted in `lost`, by cause. Only a loss
    that ends the stream for good raises.

    Attributes
    ----------
    expected_frames : int or None
        How many frames the input says it holds; ``None`` where it does not say.
    lost : Counter of str
        Frames that were there and could not be read, by cause. Complete once the iterator
        has ended.
    live : bool
        Frames come whether or not they are taken (a camera, a network stream): whoever is
        slow drops some. False where the input waits (a file, a pipe, a generator).
    interruptible : bool
        `close` may also be called while another thread is inside `__next__`, which then ends:
        true of whatever may keep that thread waiting for long.
    """

    expected_frames: int | None
    lost: Counter[str]
    live: bool
    interruptible: bool

    def __iter__(self) -> Iterator[Item]:
        """Return the one iterator over what remains.

        Raises
        ------
        SourceError
            From `__next__`, when the input is unreadable from here on.
        """

    def close(self) -> None:
        """Let go of the input.

        Called once iteration has ended or been given up, from any thread, any number of
        times; while another thread is inside `__next__` only if it is `interruptible`.
        """
