"""The compiled shapes of a model that are kept for the next frame."""

from __future__ import annotations

from collections import OrderedDict

from ...runtimes.protocol import InferQueue, Model, QueueSpec

__all__ = ["Queues"]


class Queues:
    """Infer queues by shape; the one that was not asked for longest is closed first.

    Parameters
    ----------
    model : Model
    kept : int
        How many are open at a time.
    """

    def __init__(self, model: Model, kept: int) -> None:
        self._model, self._kept = model, kept
        self._open: OrderedDict[QueueSpec, InferQueue] = OrderedDict()

    def get(self, spec: QueueSpec) -> InferQueue:
        """Return the queue of a shape, compiled where it is not open."""
        if spec in self._open:
            self._open.move_to_end(spec)
        else:
            if len(self._open) >= self._kept:
                self._open.popitem(last=False)[1].close()
            self._open[spec] = self._model.open_queue(spec)
        return self._open[spec]

    @property
    def latest(self) -> InferQueue | None:
        """The one asked for last."""
        return next(reversed(self._open.values()), None)

    def close(self) -> None:
        """Finish what was submitted to them, and free them."""
        while self._open:
            self._open.popitem()[1].close()
