"""Frames to a function of the caller's."""

from __future__ import annotations

from collections.abc import Callable

from ...errors import EdgerestoreError, SinkError
from ...imaging.arrays import Image
from ..media.frames import Frame, Item

__all__ = ["CallbackSink"]


class CallbackSink:
    """A `Sink` that calls a function with each restored image and its frame.

    Parameters
    ----------
    function : callable
        Called as ``function(image, frame)``, one frame after the other, on a thread of the
        stream's. ``image`` is ``frame.image``: it may be kept and must not be written to.
        What it returns is ignored; what it raises ends the stream.
    skips : bool
        Whether it may miss frames where it is slower than the stream.
    wants_original : bool
        Whether ``frame.original`` shall be there.
    """

    def __init__(
        self,
        function: Callable[[Image, Frame], object],
        *,
        skips: bool = False,
        wants_original: bool = False,
    ) -> None:
        self.skips = skips
        self.wants_original = wants_original
        self._function = function

    def write(self, item: Item) -> None:
        """Call the function.

        Raises
        ------
        SinkError
            From whatever the function raised; an error of ours comes as it is.
        """
        if not isinstance(item, Frame):
            return
        try:
            self._function(item.image, item)
        except EdgerestoreError:
            raise
        except Exception as error:
            name = getattr(self._function, "__name__", type(self._function).__name__)
            what = " ".join(f"{type(error).__name__}: {error}".split())
            raise SinkError(f"the callback {name} failed ({what})") from error

    def close(self) -> None:
        """Do nothing: every frame was taken."""

    def abort(self) -> None:
        """Do nothing: every frame was taken."""
