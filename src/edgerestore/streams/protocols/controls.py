"""The seam between a running stream and whoever turns it: keys, a slider, a socket, Python."""

from __future__ import annotations

from typing import Any, Protocol

__all__ = ["Controls"]


class Controls(Protocol):
    """What can be asked of a stream while it runs.

    Every method may be called by any thread, and none waits for a frame.
    """

    @property
    def strength(self) -> float:
        """From 0 to 2; settable, and the next frame submitted has it.

        Raises
        ------
        ArgumentError
            On a value that is no number in [0, 2]; the strength stays as it was.
        """

    @strength.setter
    def strength(self, strength: float) -> None: ...

    @property
    def paused(self) -> bool:
        """Whether frames are let go instead of being restored."""

    def pause(self) -> None:
        """Stop restoring. A live source is still read, so that it does not go stale."""

    def resume(self) -> None:
        """Go on with the newest frame."""

    def stop(self) -> None:
        """End the stream: what was read is finished, and outputs are closed."""

    def switch(self, *, model: str | None = None, precision: str | None = None) -> None:
        """Compile another model or precision in the background, and change between two frames.

        Returns at once. An event tells when it has happened, or why it could not; until then
        the old one runs.

        Raises
        ------
        ArgumentError
            When neither is named, or another switch is under way.
        """

    def status(self) -> dict[str, Any]:
        """Return state, strength, model, device, precision and statistics, for JSON."""
