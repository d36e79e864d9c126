"""Content that calibration pictures lack: what INT8 never saw, it clips or rounds coarsely."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..imaging.arrays import luma

__all__ = ["Coverage"]

Image = NDArray[np.float32]

_BRIGHT, _VIVID, _VIVID_SHARE, _TEXTURED = 0.65, 0.35, 0.002, 0.006
_MOST_GAIN = 10.0


@dataclass(frozen=True)
class Coverage:
    """Largest values of some measures over pictures.

    Parameters
    ----------
    peak : float
        Luma that one pixel in a hundred exceeds, in [0, 1].
    vivid : float
        Share of pixels of strong colour.
    step : float
        Mean of the luma's steps, across and down.
    """

    peak: float = 0.0
    vivid: float = 0.0
    step: float = 0.0

    def with_picture(self, image: Image) -> Coverage:
        """Return the coverage with one more picture, f32 (H, W, C) in [0, 1]."""
        grey = image[..., 0] if image.shape[2] == 1 else luma(image)
        steps = [float(np.abs(np.diff(grey, axis=axis)).mean()) for axis in (0, 1)]
        chroma = image.max(axis=2) - image.min(axis=2)
        return Coverage(
            max(self.peak, float(np.percentile(grey, 99))),
            max(self.vivid, float((chroma > _VIVID).mean())),
            max(self.step, sum(steps)),
        )

    def lacking(self, channels: int) -> tuple[str, ...]:
        """Return the names of content that is missing."""
        found = {
            "bright": self.peak >= _BRIGHT,
            "saturated": channels == 1 or self.vivid >= _VIVID_SHARE,
            "textured": self.step >= _TEXTURED,
        }
        return tuple(name for name, there in found.items() if not there)

    @property
    def gain(self) -> float:
        """By how much the pictures may be brightened; 1 where nothing is left to brighten."""
        return min(_MOST_GAIN, 0.97 / self.peak) if self.peak > 0.97 / 255 else 1.0
