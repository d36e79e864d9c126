"""Scenes that are drawn where there are no photographs, or too few."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["drawn_scene"]


def drawn_scene(seed: int, side: int = 640) -> NDArray[np.float32]:
    """Draw discs and polygons over a gradient, with texture, soft edges and sensor noise.

    Parameters
    ----------
    seed : int
    side : int
        In pixels.

    Returns
    -------
    ndarray, f32, shape (side, side, 3)
        RGB in [0, 1].
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
    canvas = np.stack([0.35 + 0.4 * y, 0.45 + 0.2 * x, 0.7 - 0.4 * y], -1).astype(np.float32)
    for _ in range(40):
        color = rng.uniform(0.05, 0.95, 3)
        middle, size = rng.integers(0, side, 2), int(rng.integers(12, 120))
        if rng.random() < 0.5:
            cv2.circle(canvas, middle.tolist(), size, color.tolist(), -1, cv2.LINE_AA)
        else:
            corners = (middle + rng.integers(-size, size, (5, 2))).astype(np.int32)
            cv2.fillPoly(canvas, [corners], color.tolist(), cv2.LINE_AA)
    for _ in range(12):
        start, end = rng.integers(0, side, (2, 2)).tolist()
        shade = rng.uniform(0, 1, 3).tolist()
        cv2.line(canvas, start, end, shade, int(rng.integers(1, 4)), cv2.LINE_AA)
    texture = cv2.GaussianBlur(rng.normal(0, 0.5, (side, side, 1)).astype(np.float32), (0, 0), 1.5)
    canvas += texture.reshape(side, side, 1) * (x[..., None] > 0.5)
    canvas = np.asarray(cv2.GaussianBlur(canvas, (0, 0), 0.6), np.float32)
    noisy = canvas + rng.normal(0, 2 / 255, canvas.shape).astype(np.float32)
    return np.clip(noisy, 0, 1).astype(np.float32)
