"""Strength: 0 is the input, 1 the model, up to 2 exaggerates; one number or a map."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError
from ..imaging.arrays import ImageKind

__all__ = ["MAXIMUM", "Strength", "check_scalar", "check_strength"]

MAXIMUM = 2.0

Strength = float | NDArray[np.floating]
"""A number in [0, 2], or a map of shape (H, W) of such numbers, one per input pixel."""


def check_scalar(strength: object) -> float:
    """Return ``strength`` as a float in [0, 2].

    Raises
    ------
    ArgumentError
        When it is not a number, NaN, or out of range.
    """
    try:
        value = float(strength)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ArgumentError(f"strength is a number from 0 to 2, got {strength!r}") from None
    if not 0.0 <= value <= MAXIMUM:  # NaN fails this too
        raise ArgumentError(f"strength is a number from 0 to 2, got {value:g}")
    return value


def check_strength(
    strength: Strength, kind: ImageKind, upscale: int
) -> float | NDArray[np.float32]:
    """Check a strength of an image, and bring a map to the output's size.

    Parameters
    ----------
    strength : float, or ndarray of any real dtype, shape (H, W)
    kind : ImageKind
        Of the image.
    upscale : int
        Output pixels per input pixel; above 1 the map is interpolated linearly.

    Returns
    -------
    float, or ndarray, f32, shape (H * upscale, W * upscale), C-contiguous
        Never the array that was handed in.

    Raises
    ------
    ArgumentError
        On another shape, or a value that is NaN or out of [0, 2].
    """
    if not (isinstance(strength, np.ndarray) and strength.ndim):
        return check_scalar(strength)
    height, width = kind.height, kind.width
    if strength.shape != (height, width):
        raise ArgumentError(
            f"a strength map has the image's shape ({height}, {width}), got {strength.shape}"
        )
    values = np.array(strength, np.float32, order="C")
    if not bool(((values >= 0) & (values <= MAXIMUM)).all()):
        raise ArgumentError("a strength map holds numbers from 0 to 2, and no NaN")
    if upscale == 1:
        return values
    size = (width * upscale, height * upscale)
    return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_LINEAR), np.float32)
