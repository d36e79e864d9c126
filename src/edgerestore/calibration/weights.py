"""INT8 weights that overflow on no CPU, rounded so that their errors cancel each other.

x86 CPUs without VNNI multiply INT8 with ``vpmaddubsw``: products of unsigned activations and
signed weights are added in pairs of neighbouring input channels into 16 bits, which *saturate*.
With weights over the full range [-127, 127] a pair can reach 255 * 254, twice what fits. The
usual remedy halves the range of all weights, which quadruples the power of their rounding noise.
Here each output channel's step is as small as its own pairs allow: most weights have small
neighbours or ones of the other sign.

Neighbouring pixels, and channels, are much alike. So what rounding one weight adds to the output
can be taken back by the weights that are rounded after it: `compensated`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..imaging.arrays import Planes

__all__ = [
    "Rounding",
    "compensated",
    "quantize_weights",
    "round_channels",
    "round_weights",
    "safe_scales",
]

Rounding = Callable[[Planes], tuple[NDArray[np.int8], NDArray[np.float32]]]
"""Takes f32 (O, I, ...); returns i8 of that shape and a step per output channel, f32 (O,)."""

_LARGEST = 127
_PAIR = 128  # 255 * 128 = 32640 fits 16 bits with a sign; 255 * 129 does not
_DAMPING = 0.03  # of the mean power of an input: inputs of other pictures are alike less


def safe_scales(weights: Planes) -> NDArray[np.float32]:
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


def quantize_weights(weights: Planes) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
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


def round_weights(weights: Planes) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
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


def round_channels(
    rounding: Rounding, weights: Planes, *, grouped: bool = False, by_columns: bool = False
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round the weights of an operation, with a step per output channel.

    Parameters
    ----------
    rounding : callable
        `quantize_weights` or `round_weights`.
    weights : ndarray, f32
        (O, I, ...); (G, O, I, ...) where `grouped`.
    by_columns : bool
        Output channels come second: transposed convolutions, products.

    Returns
    -------
    integers : ndarray, i8, shape of the weights
    steps : ndarray, f32, broadcastable to the weights
    """
    rows = weights.reshape(-1, *weights.shape[2:]) if grouped else weights
    rows = np.ascontiguousarray(rows.swapaxes(0, 1)) if by_columns else rows
    integers, steps = rounding(rows)
    steps = steps.reshape(-1, *[1] * (rows.ndim - 1))
    if by_columns:
        integers, steps = integers.swapaxes(0, 1), steps.swapaxes(0, 1)
    if grouped:
        steps = steps.reshape(*weights.shape[:2], *[1] * (weights.ndim - 2))
    return np.ascontiguousarray(integers.reshape(weights.shape)), np.ascontiguousarray(steps)


def _pair_sums(weights: Planes) -> NDArray[np.float32]:
    """Return the sums of positive and of negative parts over neighbouring input channels."""
    outputs, inputs = weights.shape[:2]
    flat = weights.reshape(outputs, inputs, -1)
    if inputs % 2:
        flat = np.concatenate([flat, np.zeros_like(flat[:, :1])], axis=1)
    signs = np.stack([np.maximum(flat, 0), np.maximum(-flat, 0)])
    sums = signs.reshape(2, outputs, -1, 2, flat.shape[2]).sum(axis=3)
    both: NDArray[np.float32] = np.moveaxis(sums, 0, 1).reshape(outputs, -1)
    return both


def compensated(
    weights: Planes, products: NDArray[np.float64], *, grouped: bool, safe: bool
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round the weights of a convolution so that its output on known inputs changes least.

    Weights are rounded one after the other, and each error is compensated by the weights that
    are left (Hassibi, Stork, "Second Order Derivatives for Network Pruning: Optimal Brain
    Surgeon", NIPS 1992; Frantar, Ashkboos, Hoefler, Alistarh, "GPTQ", ICLR 2023). The products
    are not taken about a mean, so that a picture's mean is kept as well as its details, whether it
    is bright or dark; a correction of the biases for the mean would be right for one brightness.

    Parameters
    ----------
    weights : ndarray, f32
        (O, I, ...); (G, O, I, ...) where `grouped`.
    products : ndarray, f64, shape (groups, blocks, K, K)
        Of the inputs under the kernel, as in `ConvolutionInputs`.
    grouped : bool
    safe : bool
        No pair of neighbours may saturate 16 bits, as in `quantize_weights`; else the full range,
        as in `round_weights`.

    Returns
    -------
    integers : ndarray, i8, shape of the weights
    steps : ndarray, f32, broadcastable to the weights
    """
    rounding = quantize_weights if safe else round_weights
    _, steps = round_channels(rounding, weights, grouped=grouped)
    groups = weights if grouped else weights[None]
    steps = np.array(steps if grouped else steps[None])
    integers = np.zeros(groups.shape, np.int8)
    for at, group in enumerate(groups):
        left = np.arange(len(group))
        for _ in range(_LARGEST):
            scaled = group[left] / steps[at, left]
            integers[at, left] = _compensated(scaled, products[at])
            if not safe:
                break
            sums = _pair_sums(integers[at, left].astype(np.float32))
            left = left[sums.max(axis=1, initial=0.0) > _PAIR]
            if not len(left):
                break
            steps[at, left] *= np.float32(1 + 1 / _PAIR)
    return integers.reshape(weights.shape), steps if grouped else steps[0]


def _compensated(scaled: NDArray[np.float32], products: NDArray[np.float64]) -> NDArray[np.int8]:
    """Round (O, I, ...), in units of the steps, block by block of neighbouring input channels."""
    rows = scaled.reshape(len(scaled), len(products), -1).astype(np.float64)
    integers = np.empty_like(rows)
    for block, seen in enumerate(products):
        damping = _DAMPING * seen.trace() / len(seen)
        # What varies most is rounded first, while all the others can still make up for it.
        order = np.argsort(-seen.diagonal(), kind="stable")
        damped = seen[np.ix_(order, order)] + (damping + np.finfo(np.float32).tiny) * np.eye(
            len(seen)
        )
        factors = np.linalg.cholesky(np.linalg.inv(damped)).T
        left = rows[:, block, order]
        for at in range(len(seen)):
            whole = np.clip(np.rint(left[:, at]), -_LARGEST, _LARGEST)
            integers[:, block, order[at]] = whole
            error = (left[:, at] - whole) / factors[at, at]
            left[:, at + 1 :] -= error[:, None] * factors[at, at + 1 :]
    return integers.reshape(scaled.shape).astype(np.int8)
