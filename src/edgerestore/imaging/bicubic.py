"""Bicubic resizing as the super-resolution field does it, with nothing but NumPy.

Keys' kernel with a = -0.5, widened when a picture is made smaller: what MATLAB's ``imresize``
and PIL do, and what the field's test sets and their bicubic baselines are made with.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["resized"]

_SUPPORT = 2.0
_A = -0.5


def resized(image: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Resize a picture.

    Parameters
    ----------
    image : ndarray, f32, shape (H, W, C)
    height, width : int
        Of the outcome.

    Returns
    -------
    ndarray, f32, shape (height, width, C)
        May overshoot [0, 1] beside edges; not rounded. Past the border there are no
        pixels: the weights of the others are raised to a sum of 1.
    """
    return _along_columns(_along_columns(image, height).swapaxes(0, 1), width).swapaxes(0, 1)


def _along_columns(image: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    """Resize the first axis."""
    places, weights = _taps(image.shape[0], length)
    made = np.zeros((length, *image.shape[1:]), np.float32)
    # A tap at a time: a dense matrix would be quadratic in the picture's side.
    for place, weight in zip(places.T, weights.T, strict=True):
        made += image[place] * weight[:, None, None]
    return made


def _taps(old: int, new: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return which pixels each new pixel is made of, and their weights, both [new, taps]."""
    scale = old / new
    widened = max(1.0, scale)
    centre = (np.arange(new) + 0.5) * scale
    count = int(np.ceil(2 * _SUPPORT * widened)) + 1
    first = np.floor(centre - _SUPPORT * widened).astype(np.intp)
    places = first[:, None] + np.arange(count)
    weights = _kernel((places + 0.5 - centre[:, None]) / widened)
    weights[(places < 0) | (places >= old)] = 0
    weights /= weights.sum(axis=1, keepdims=True)
    return np.clip(places, 0, old - 1), weights.astype(np.float32)


def _kernel(x: NDArray[np.float64]) -> NDArray[np.float64]:
    x = np.abs(x)
    near = ((_A + 2) * x - (_A + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * _A
    return np.where(x < 1, near, np.where(x < _SUPPORT, far, 0.0))
