"""Protocols of a stream: source, sink, controls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Protocol

from .media.frames import Item

__all__ = ["Controls", "Sink", "Source"]


class Source(Protocol):
    """Source of frames, and of the packets that travel beside them.

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
        Number of frames of the input; ``None`` where it is not known.
    lost : Counter of str
        Frames that were there and could not be read, by cause. Complete once the iterator
        has ended.
    live : bool
        Frames come whether or not they are taken (a camera, a network stream), so a slow
        consumer loses some. False where the input waits (a file, a pipe, a generator).
    interruptible : bool
        `close` may also be called while another thread is inside `__next__`, which then ends:
        true of whatever may keep that thread waiting for long.
    connected : bool
        Frames come now. Only of a source that connects again by itself, which also records
        that it runs, or reconnects.
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
        """Release the input.

        Called once iteration has ended or been given up, from any thread, any number of
        times; while another thread is inside `__next__` only if it is `interruptible`.
        """


class Sink(Protocol):
    """Sink of restored frames, and of the packets that travel beside them.

    What can be refused before any work is done (a name that exists, an encoder that does
    not) is refused by the constructor, with a `SinkError`.

    Order: items are written in the order they are given.

    Blocking: `write` waits for the output. The pipeline calls `write` and `close` on one
    thread of its own; a sink needs no lock of its own.

    Ownership: a sink may keep a frame's image until `close` or `abort`, and never writes
    to it.

    Skipping: where `skips` is set, frames may be left out when the sink is slow (a preview, a
    viewer on the network); where it is not, every frame counts (a recording).

    End: exactly one of `close` and `abort` is called, once. Until `close` has returned,
    nothing stands under the final name; after `abort`, nothing is left behind at all. A
    recording of a live stream is the exception: its finished segments stay, whatever follows.

    Attributes
    ----------
    skips : bool
    wants_original : bool
        Frames bring their image from before the restoration (`Frame.original`).
    """

    skips: bool
    wants_original: bool

    def write(self, item: Item) -> None:
        """Take one item.

        Raises
        ------
        SinkError
            When it cannot be written; `abort` follows.
        """

    def close(self) -> None:
        """Finish the output and give it its final name.

        Raises
        ------
        SinkError
            When it cannot be finished; `abort` follows.
        """

    def abort(self) -> None:
        """Discard what was written. Never raises."""


class Controls(Protocol):
    """Controls of a running stream.

    Every method may be called by any thread, and none waits for a frame.
    """

    @property
    def strength(self) -> float:
        """Strength, from 0 to 2; settable, and the next frame submitted has it.

        Raises
        ------
        ArgumentError
            On a value that is no number in [0, 2]; the strength stays as it was.
        """

    @strength.setter
    def strength(self, strength: float) -> None: ...

    @property
    def paused(self) -> bool:
        """Whether the stream is paused: no frame is restored."""

    def pause(self) -> None:
        """Stop restoring. A live source is still read, and its frames are dropped."""

    def resume(self) -> None:
        """Go on with the newest frame."""

    def stop(self) -> None:
        """End the stream: what was read is finished, and outputs are closed."""

    def switch(self, *, model: str | None = None, precision: str | None = None) -> None:
        """Compile another model or precision in the background, and change between two frames.

        Returns at once. An event follows when it has happened, or says why it could not; until
        then the old one runs.

        Raises
        ------
        ArgumentError
            When neither is named, or a model's name or weight is wrong.
        BusyError
            When another switch is under way.
        BundleError
            When there is no such model.
        """

    def cancel_switch(self) -> None:
        """Cancel a switch under way, after the step that runs (one compilation); an event follows.

        Does nothing where none is.
        """

    def status(self) -> dict[str, Any]:
        """Return state, strength, model, device, precision and statistics, for JSON."""
