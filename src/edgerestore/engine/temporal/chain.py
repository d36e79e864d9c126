"""Outcomes that build on the outcome before them, made when somebody asks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ...errors import InferenceError
from ...imaging.arrays import Image
from ..pending import Awaited
from ..tiling.executor import Patch

__all__ = ["Outcome"]


class Outcome:
    """One plane's restored pixels; read-only, since the next frame may take them over.

    Parameters
    ----------
    completions : sequence of Awaited
        Inferences that have to be there first.
    make : callable
        Makes the plane of them where nothing is built upon; takes a time-out in seconds.
    before : Outcome or None
        What this one builds upon.
    patches : callable
        Gives what is new about it.

    Where the outcome before failed, ``make`` is called all the same: it infers the whole
    plane, so that one lost frame is one lost frame.
    """

    def __init__(
        self,
        completions: Sequence[Awaited],
        make: Callable[[float | None], Image],
        before: Outcome | None = None,
        patches: Callable[[], list[Patch]] = list,
    ) -> None:
        self._completions = list(completions)
        self._make: Callable[[float | None], Image] | None = make
        self._anew = False
        self._patches: Callable[[], list[Patch]] | None = patches
        self._before = before
        self._image: Image | None = None
        self._error: InferenceError | None = None
        self._lock = threading.Lock()

    @property
    def settled(self) -> bool:
        """Whether the plane, or what went wrong, is there."""
        return self._image is not None or self._error is not None

    @property
    def failed(self) -> bool:
        """Whether it is known to have gone wrong."""
        return self._error is not None

    @property
    def anew(self) -> bool:
        """Whether all of it had to be inferred because the outcome before was not to be had."""
        return self._anew

    def done(self) -> bool:
        """Return whether `result` would not block.

        Behind an outcome that failed, `result` still takes one inference.
        """
        if self.settled:
            return True
        before = self._before
        if before is not None and not before.done():
            return False
        return all(completion.done() for completion in self._completions)

    def result(self, timeout: float | None = None) -> Image:
        """Wait for the plane, shape (H, W, C); raise what its own inference failed with."""
        self.settle(timeout)
        if self._error is not None:
            raise self._error
        assert self._image is not None  # noqa: S101 - for the type checker
        return self._image

    def settle(self, timeout: float | None = None) -> None:
        """Wait until the plane, or what went wrong, is there.

        Raises
        ------
        TimeoutError
            When neither is there in time.
        """
        # The oldest first, and not each from within the next: a chain may be long.
        for outcome in reversed(list(self._unsettled())):
            outcome._settle_own(timeout)

    def _unsettled(self) -> Iterator[Outcome]:
        outcome: Outcome | None = self
        while outcome is not None and not outcome.settled:
            yield outcome
            outcome = outcome._before

    def _settle_own(self, timeout: float | None) -> None:
        with self._lock:
            if self.settled:
                return
            try:
                for completion in self._completions:
                    completion.result(timeout)
                image = self._made(timeout)
                image.flags.writeable = False
                self._image = image
            except InferenceError as error:
                self._error = error
            # The chain must not keep every frame of a stream alive.
            self._before = self._make = self._patches = None
            self._completions = []

    def _made(self, timeout: float | None) -> Image:
        assert self._make is not None  # noqa: S101 - for the type checker
        assert self._patches is not None  # noqa: S101
        base = None if self._before is None else self._before._image
        if base is None:
            self._anew = self._before is not None
            return self._make(timeout)
        patches = self._patches()
        if not patches:
            return base
        image: Image = np.array(base)
        for (top, left, height, width), part in patches:
            image[top : top + height, left : left + width] = part
        return image
