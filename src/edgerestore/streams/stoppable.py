"""Restorer of large images whose tiles are counted, and that can be stopped between two of them."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event

from ..engine.cancellation import cancelled_by
from ..engine.restorer import Restorer
from ..errors import InferenceError
from ..imaging.arrays import Image
from .pipeline import PendingImage, StoppedError
from .telemetry import Telemetry

__all__ = ["StoppableRestorer"]


class StoppableRestorer:
    """`Restores` of a run over image files.

    Parameters
    ----------
    restorer : Restorer
    telemetry : Telemetry
        Told of each tile of an image that has several.
    cancelled : Event
        Cancels what is measured and compiled for an image.
    stopped : callable
        Once true, an image is left out after its next tile with `StoppedError`; one whose last
        tile that is, is finished.
    """

    def __init__(
        self,
        restorer: Restorer,
        telemetry: Telemetry,
        cancelled: Event,
        stopped: Callable[[], bool],
    ) -> None:
        self._restorer, self._telemetry = restorer, telemetry
        self._cancelled, self._stopped = cancelled, stopped

    @property
    def depth(self) -> int:
        """Images worth keeping in flight."""
        return self._restorer.depth

    def submit(self, image: Image) -> PendingImage:
        """Start on one image."""
        try:
            with cancelled_by(self._cancelled):
                return self._restorer.submit(image, on_progress=self._tick)
        except InferenceError as error:
            if self._cancelled.is_set():
                raise StoppedError("before the image was begun") from error
            raise

    def _tick(self, done: int, total: int) -> None:
        self._telemetry.tile_restored(done, total)
        if done < total and self._stopped():
            raise StoppedError(f"after {done} of {total} tiles")
