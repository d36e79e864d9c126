"""An image on its way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from ..imaging.arrays import Image

__all__ = ["Awaited", "Pending"]


class Awaited(Protocol):
    """Something under way: a completion, or another image."""

    def done(self) -> bool:
        """Return whether `result` would not block."""

    def result(self, timeout: float | None = None) -> object:
        """Wait; raise what it failed with."""


class Pending:
    """An image on its way; its result may be asked for by any thread, any number of times.

    Parameters
    ----------
    completions : sequence of Awaited
        What has to be there first.
    merge : callable
        Makes the image of it; called once, by the first thread that asks.
    """

    def __init__(self, completions: Sequence[Awaited], merge: Callable[[], Image]) -> None:
        self._completions = list(completions)
        self._merge: Callable[[], Image] | None = merge
        self._image: Image | None = None
        self._lock = threading.Lock()

    def done(self) -> bool:
        """Return whether `result` would not block."""
        return all(completion.done() for completion in self._completions)

    def result(self, timeout: float | None = None) -> Image:
        """Wait for the restored image.

        Parameters
        ----------
        timeout : float, optional
            Seconds; for ever when not given.

        Returns
        -------
        ndarray
            Of the dtype and rank of the image that was submitted.

        Raises
        ------
        InferenceError
            When this image's inference failed.
        TimeoutError
            When it is not there in time; ask again later.
        """
        for completion in self._completions:
            completion.result(timeout)
        with self._lock:
            if self._image is None and self._merge is not None:
                self._image = self._merge()
                self._completions, self._merge = [], None
            assert self._image is not None  # noqa: S101 - for the type checker
            return self._image
