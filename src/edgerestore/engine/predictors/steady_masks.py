"""Masks that do not flicker: smoothed over time where the picture stands still."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ...errors import InferenceError
from ...imaging.arrays import Depth, Image

__all__ = ["SteadyMasks"]

_LEAST_NEW = 0.2  # share of the new mask where nothing moved at all
_STILL, _MOVED = 4.0, 20.0  # grey levels of 8 bits: below, the place stands still; above, it moved
_BLUR_PX = 5  # sensor noise is no motion


@dataclass(frozen=True)
class _State:
    mask: NDArray[np.float32]
    calm: NDArray[np.uint8]


class _Link:
    """One frame's smoothed mask, computed once, from the frame's before it."""

    def __init__(self, previous: _Link | None, make: Callable[[_State | None], _State]) -> None:
        self._previous: _Link | None = previous
        self._make: Callable[[_State | None], _State] | None = make
        self._state: _State | None = None
        self._error: InferenceError | None = None
        self._lock = threading.Lock()

    def state(self) -> _State:
        with self._lock:
            if self._state is None and self._make is not None:
                try:
                    self._state = self._make(self._before())
                except InferenceError as error:
                    self._error = error
                # The chain must not keep every frame of a stream alive.
                self._previous = self._make = None
            if self._error is not None:
                raise self._error
            assert self._state is not None  # noqa: S101 - for the type checker
            return self._state

    def _before(self) -> _State | None:
        try:
            return self._previous.state() if self._previous is not None else None
        except InferenceError:
            return None  # one lost frame is one lost frame


class SteadyMasks:
    """A temporal filter over the masks of a stream, in the order of submission.

    Where a pixel's colour is as in the frame before, the mask moves a fifth of the way
    from the frame before's to the new one; where the picture moved, the new one counts. A
    frame of another size starts anew.
    """

    def __init__(self) -> None:
        self._latest: _Link | None = None

    def follow(
        self, image: Image, mask: Callable[[], NDArray[np.float32]]
    ) -> Callable[[], NDArray[np.float32]]:
        """Take the next frame, and return what gives its smoothed mask.

        Parameters
        ----------
        image : ndarray, shape (H, W) or (H, W, C)
            Read when the mask is asked for.
        mask : callable
            Gives the frame's own mask, f32 ``[H, W]`` in [0, 1].
        """

        def make(before: _State | None) -> _State:
            return _smoothed(before, _State(mask(), _calmed(image)))

        self._latest = link = _Link(self._latest, make)
        return lambda: link.state().mask


def _smoothed(before: _State | None, now: _State) -> _State:
    if before is None or before.calm.shape != now.calm.shape:
        return now
    moved = cv2.absdiff(now.calm, before.calm)
    # Of the colours the one that changed most: a red coat may be as bright as the wall.
    most = moved.max(axis=2) if moved.ndim == 3 else moved
    share = np.clip((most.astype(np.float32) - _STILL) / (_MOVED - _STILL), _LEAST_NEW, 1)
    return _State(before.mask + share * (now.mask - before.mask), now.calm)


def _calmed(image: Image) -> NDArray[np.uint8]:
    """Return an image in 8 bits with its noise averaged away."""
    if image.dtype != np.uint8:
        peak = Depth(image.dtype.name).peak
        image = np.rint(np.clip(image, 0, peak) * (255 / peak)).astype(np.uint8)
    return np.asarray(cv2.blur(image, (_BLUR_PX, _BLUR_PX)), np.uint8)
