"""What a restorer knows of the frame before."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...imaging.arrays import Image
from ..tiling.executor import Work
from .cadence import check_cadence
from .chain import Outcome
from .changes import Changes, check_threshold
from .counts import ReuseCounter, ReuseCounts
from .track import Means, PlaneTrack

__all__ = ["Reuser"]


class Reuser:
    """Takes over what did not change, and refreshes tiles in turn.

    Parameters
    ----------
    threshold : float or None
        As `Changes` takes it. With None nothing is compared; tiles may still take turns.

    Raises
    ------
    ArgumentError
        When the threshold is no number of levels from 0 to 255.
    """

    def __init__(self, threshold: float | None) -> None:
        self._changes = None if threshold is None else Changes(check_threshold(threshold))
        self._counter = ReuseCounter()
        self._cadence = 1
        self._tracks: list[PlaneTrack] = []
        self._settings: object = None
        self._strength: float | NDArray[np.float32] | None = None

    @property
    def compares(self) -> bool:
        """Whether frames are compared at all."""
        return self._changes is not None

    @property
    def active(self) -> bool:
        """Whether the next frame may take anything over."""
        return self._changes is not None or self._cadence > 1

    @property
    def cadence(self) -> int:
        """In how many frames each pixel is refreshed at least once."""
        return self._cadence

    @cadence.setter
    def cadence(self, cadence: int) -> None:
        self._cadence = check_cadence(cadence)

    @property
    def counts(self) -> ReuseCounts | None:
        """What was left out so far; None where nothing is compared and nothing takes turns."""
        counts = self._counter.counts()
        return counts if self.active or counts.frames else None

    def forget(self) -> None:
        """Infer all of the next frame."""
        self._settings, self._tracks = None, []

    def start(
        self, planes: Sequence[Image], works: Sequence[Work], means: Means, settings: object
    ) -> list[Outcome]:
        """Start restoring the planes of the next frame.

        Parameters
        ----------
        planes : sequence of ndarray, shape (H, W, C), C-contiguous and writable
        works : sequence of Work
            One for each, of one strength.
        means : Means
        settings : object
            Compared with the frame's before: where it is another, nothing is taken over.
        """
        strength = works[0].strength
        if settings != self._settings or not _equal(strength, self._strength):
            self._tracks = [PlaneTrack(self._changes) for _ in planes]
        self._settings, self._strength = settings, strength
        cadence = self._cadence
        try:
            started = [
                track.start(plane, means, work, cadence)
                for track, plane, work in zip(self._tracks, planes, works, strict=True)
            ]
        except BaseException:
            self.forget()  # some planes may have moved on without the others
            raise
        self._counter.add(
            sum(one.tiles for one in started),
            sum(one.fresh_px for one in started),
            means.frame_px * len(planes),
        )
        return [one.outcome for one in started]


def _equal(
    one: float | NDArray[np.float32] | None, other: float | NDArray[np.float32] | None
) -> bool:
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return type(one) is type(other) and np.array_equal(one, other)  # type: ignore[arg-type]
    return one == other
