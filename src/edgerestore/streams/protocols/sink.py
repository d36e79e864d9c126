"""The seam between the pipeline and whatever takes frames."""

from __future__ import annotations

from typing import Protocol

from ..media.frames import Item

__all__ = ["Sink"]


class Sink(Protocol):
    """Takes restored frames, and the packets that travel beside them.

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
        Frames shall bring what they were before they were restored (`Frame.original`).
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
        """Throw away what was written. Never raises."""
