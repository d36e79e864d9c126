"""INT8 weights that no CPU can overflow, so that a quantized model is the same on all of them.

x86 CPUs without VNNI multiply INT8 with ``vpmaddubsw``: products of unsigned activations and
signed weights are added in pairs of neighbouring input channels into 16 bits, which *saturate*.
With weights over the full range [-127, 127] a pair can reach 255 * 254, twice what fits, and
the picture breaks without a word. The usual remedy halves the range of all weights, which
quadruples the power of their rounding noise. Here each output channel's step is as small as its
own pairs allow: two neighbours may share the 16 bits in any way, and most weights have small
neighbours or ones of the other sign.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["quantize_weights", "round_weights", "safe_scales"]

Weights = NDArray[np.float32]

_LARGEST = 127
_PAIR = 128  # 255 * 128 = 32640 fits 16 bits with a sign; 255 * 129 does not


def safe_scales(weights: Weights) -> NDArray[np.float32]:
    """Return the smallest symmetric step of each output channel that cannot saturate.

    Parameters
    ----------
    weights : ndarray, f32, shape (O, I, ...)
        Of a convolution; I counts the input channels of one group.

    Returns
    -------
    ndarray, f32, shape (O,)
        Above 0, also where all weights are 0. Rounding may still pass the bound by one;
        `quantize_weights` sees to that.
    """
    rows = np.abs(weights).reshape(len(weights), -1).max(axis=1, initial=0.0) / _LARGEST
    pairs = _pair_sums(weights).max(axis=1, initial=0.0) / _PAIR
    steps = np.maximum(rows, pairs)
    return np.where(steps > 0, steps, 1.0).astype(np.float32)


def quantize_weights(weights: Weights) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round weights to INT8 so that no pair of them can saturate 16 bits.

    Parameters
    ----------
    weights : ndarray, f32, shape (O, I, ...)

    Returns
    -------
    integers : ndarray, i8, same shape
        Two neighbours (2k, 2k + 1) along I at the same tap never sum up, each sign by
        itself, to more than 128.
    scales : ndarray, f32, shape (O,)
        ``integers * scales`` approximates ``weights``.
    """
    scales = safe_scales(weights)
    shape = (-1,) + (1,) * (weights.ndim - 1)
    for _ in range(_LARGEST):
        integers = np.rint(weights / scales.reshape(shape))
        over = _pair_sums(integers.astype(np.float32)).max(axis=1, initial=0.0) > _PAIR
        if not over.any():
            break
        scales[over] *= np.float32(1 + 1 / _PAIR)
    return integers.astype(np.int8), scales


def round_weights(weights: Weights) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round weights to INT8 over the full range, for storage alone: they compute in float.

    Parameters
    ----------
    weights : ndarray, f32, shape (O, I, ...)

    Returns
    -------
    integers : ndarray, i8, same shape
    scales : ndarray, f32, shape (O,)
    """
    largest = np.abs(weights).reshape(len(weights), -1).max(axis=1, initial=0.0)
    # A step may vanish where the weight does not: denormals, which some libraries turn off.
    steps = (largest / np.float32(_LARGEST)).astype(np.float32)
    scales = np.where(steps > 0, steps, np.float32(1))
    integers = np.rint(weights / scales.reshape((-1,) + (1,) * (weights.ndim - 1)))
    return integers.astype(np.int8), scales


def _pair_sums(weights: Weights) -> NDArray[np.float32]:
    """Return the sums of positive and of negative parts over neighbouring input channels."""
    outputs, inputs = weights.shape[:2]
    flat = weights.reshape(outputs, inputs, -1)
    if inputs % 2:
        flat = np.concatenate([flat, np.zeros_like(flat[:, :1])], axis=1)
    signs = np.stack([np.maximum(flat, 0), np.maximum(-flat, 0)])
    sums = signs.reshape(2, outputs, -1, 2, flat.shape[2]).sum(axis=3)
    both: NDArray[np.float32] = np.moveaxis(sums, 0, 1).reshape(outputs, -1)
    return both
