"""How much was left out."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["ReuseCounter", "ReuseCounts"]


@dataclass(frozen=True)
class ReuseCounts:
    """What was inferred and what was not, since the restorer was opened.

    Parameters
    ----------
    frames : int
        Images submitted, those at strength 0 aside.
    frames_reused : int
        Of them those of which nothing was inferred at all.
    tiles_inferred : int
        Inferences, a whole frame in one tile among them.
    pixels_reused : float
        Share of all restored pixels that were taken from the frame before, 0 to 1.
    """

    frames: int = 0
    frames_reused: int = 0
    tiles_inferred: int = 0
    pixels_reused: float = 0.0

    def __add__(self, other: ReuseCounts) -> ReuseCounts:
        """Return both together; shares count by their frames."""
        frames = self.frames + other.frames
        reused = self.pixels_reused * self.frames + other.pixels_reused * other.frames
        return ReuseCounts(
            frames,
            self.frames_reused + other.frames_reused,
            self.tiles_inferred + other.tiles_inferred,
            round(reused / frames, 6) if frames else 0.0,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


class ReuseCounter:
    """Adds up; every method may be called from any thread."""

    def __init__(self) -> None:
        self._frames = self._reused = self._tiles = self._pixels = self._fresh = 0
        self._lock = threading.Lock()

    def add(self, tiles: int, fresh_px: int, total_px: int) -> None:
        """Count one frame.

        Parameters
        ----------
        tiles : int
            Inferred.
        fresh_px : int
            Pixels that were inferred.
        total_px : int
            Pixels of all its planes.
        """
        with self._lock:
            self._frames += 1
            self._reused += tiles == 0
            self._tiles += tiles
            self._pixels += total_px
            self._fresh += min(fresh_px, total_px)

    def counts(self) -> ReuseCounts:
        """Return the counts as they are now."""
        with self._lock:
            share = 1 - self._fresh / self._pixels if self._pixels else 0.0
            return ReuseCounts(self._frames, self._reused, self._tiles, round(share, 6))
