"""Quantization of a float graph to INT8: NNCF places and ranges the quantizers, weights are ours.

NNCF decides where numbers are rounded and over which range, from calibration crops. Its weights
are then replaced by ones that overflow on no CPU, and the mean error of rounding the weights is
subtracted in the biases.

x86 CPUs without VNNI multiply INT8 with ``vpmaddubsw``: products of unsigned activations and
signed weights are added in pairs of neighbouring input channels into 16 bits, which *saturate*.
With weights over the full range [-127, 127] a pair can reach 255 * 254, twice what fits. The
usual remedy halves the range of all weights, which quadruples the power of their rounding noise.
Here each output channel's step is as small as its own pairs allow: most weights have small
neighbours or ones of the other sign.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from enum import StrEnum

import nncf
import numpy as np
import openvino
from nncf.quantization.range_estimator import RangeEstimatorParametersSet
from numpy.typing import NDArray
from openvino import opset13 as ops

from ..errors import QuantizationError, first_line
from ..imaging.arrays import Planes
from .operations import SIGNATURE_PREFIX, input_ranges, nodes_by_name, stored_weights, weights_of

__all__ = [
    "Ranges",
    "Rounding",
    "quantize_graph",
    "quantize_weights",
    "round_channels",
    "round_weights",
    "safe_scales",
]

Rounding = Callable[[Planes], tuple[NDArray[np.int8], NDArray[np.float32]]]
"""Takes f32 (O, I, ...); returns i8 of that shape and a step per output channel, f32 (O,)."""


_LARGEST = 127
_PAIR = 128  # 255 * 128 = 32640 fits 16 bits with a sign; 255 * 129 does not
_BIASED = ("Convolution", "GroupConvolution")
_ROW_WORTH_PACKING = 64  # weights per output channel; below, the scales eat up what is saved


class Ranges(StrEnum):
    """Estimator of an activation's range from its extremes on the crops."""

    MEAN = "mean"
    """Mean over the crops of each crop's extremes."""
    EXTREME = "extreme"
    """The extremes over all crops."""

    @property
    def word(self) -> str:
        """The estimator as candidates' labels name it."""
        return {"mean": "mean ranges", "extreme": "widest ranges"}[self.value]


def quantize_graph(
    model: openvino.Model, images: Sequence[Planes], kept: Collection[str], ranges: Ranges
) -> openvino.Model:
    """Quantize a graph to INT8.

    Parameters
    ----------
    model : openvino.Model
        From `float_graph`; not changed.
    images : sequence of ndarray, f32 [1, C, h, w] in [0, 1]
        Calibration crops.
    kept : collection of str
        Operations that stay in float.
    ranges : Ranges

    Returns
    -------
    openvino.Model
        Weights as i8 constants with a scale per output channel, activations through
        ``FakeQuantize``; everything else in float.

    Raises
    ------
    QuantizationError
        When NNCF cannot quantize the graph; names the operation where NNCF does.
    """
    everything = [node.get_friendly_name() for node in model.get_ordered_ops()]
    ignored = [n for n in everything if n.startswith(SIGNATURE_PREFIX) or n in kept]
    strength = np.ones((1, 1, 1, 1), np.float32)
    dataset = nncf.Dataset(images, lambda image: {"image": image, "strength": strength})
    advanced = nncf.AdvancedQuantizationParameters(
        # The weights' range and the biases are set below.
        overflow_fix=nncf.OverflowFix.DISABLE,
        disable_bias_correction=True,
        activations_range_estimator_params=RangeEstimatorParametersSet.MEAN_MINMAX
        if ranges is Ranges.MEAN
        else RangeEstimatorParametersSet.MINMAX,
    )
    try:
        with _quiet():
            quantized = nncf.quantize(
                model.clone(),
                dataset,
                subset_size=len(images),
                preset=nncf.QuantizationPreset.MIXED,
                ignored_scope=nncf.IgnoredScope(names=ignored, validate=False),
                advanced_parameters=advanced,
            )
    except Exception as error:  # NNCF raises whatever its parts raise
        raise QuantizationError(f"NNCF cannot quantize the model: {first_line(error)}") from error
    _match_bytes(quantized)
    _take_own_weights(model, quantized, images)
    return quantized


def _match_bytes(quantized: openvino.Model) -> None:
    """Set the image's quantizer to exactly [0, 1]: 8-bit frames pass it unchanged.

    A range estimated on crops would shift and clip their levels.
    """
    for node in quantized.get_ordered_ops():
        if node.get_type_name() != "FakeQuantize":
            continue
        white = _white_of(node.input_value(0))
        if white is not None:
            for port, bound in ((1, 0.0), (2, white), (3, 0.0), (4, white)):
                node.input(port).replace_source_output(ops.constant(np.float32(bound)).output(0))


def _white_of(output: openvino.Output) -> float | None:
    """Return the value of white at an output that the signature computes from the image alone."""
    node, white = output.get_node(), 1.0
    while node.get_type_name() != "Parameter":
        if not node.get_friendly_name().startswith(SIGNATURE_PREFIX):
            return None
        if node.get_type_name() == "Multiply":
            sides = [node.input_value(at).get_node() for at in (0, 1)]
            (factor,) = [side for side in sides if side.get_type_name() == "Constant"] or [None]
            if factor is None:
                return None
            white *= float(np.ravel(factor.get_data())[0])
        node = node.input_value(0).get_node()
    return white if node.get_friendly_name() == "image" else None


def _take_own_weights(
    model: openvino.Model, quantized: openvino.Model, images: Sequence[Planes]
) -> None:
    """Store all large weights as INT8, and correct the biases by the mean rounding error.

    Operations at INT8 get weights that cannot saturate, in place of NNCF's. Those in float get
    weights over the full range, which the runtime turns into floats when it loads: a quarter
    of the bytes for hardly any noise.
    """
    originals = nodes_by_name(model)
    chosen = {}
    for node in quantized.get_ordered_ops():
        original = originals.get(node.get_friendly_name())
        if original is None or original.get_type_name() not in _BIASED:
            continue  # transposed convolutions and products keep NNCF's own
        weights = weights_of(original)
        if weights is not None:
            in_float = not input_ranges(node)
            if not in_float or weights.size // len(weights) >= _ROW_WORTH_PACKING:
                chosen[node.get_friendly_name()] = (node, weights, in_float)
    means = _channel_means(model, list(chosen), images)
    for name, (node, weights, in_float) in chosen.items():
        grouped = node.get_type_name() == "GroupConvolution"
        rounding = round_weights if in_float else quantize_weights
        integers, steps = round_channels(rounding, weights, grouped=grouped)
        made = stored_weights(name, integers, steps, in_float=in_float)
        node.input(1).replace_source_output(made.output(0))
        lost = weights - integers * steps
        lost = lost.reshape(-1, *weights.shape[2:]) if grouped else lost
        _shift_bias(node, _mean_error(lost, means[name], len(weights) if grouped else 1))


def _channel_means(
    model: openvino.Model, names: Sequence[str], images: Sequence[Planes]
) -> dict[str, NDArray[np.float64]]:
    """Return the mean of every input channel of some operations, over crops and pixels."""
    probed = model.clone()
    nodes = nodes_by_name(probed)
    axes = np.array([2, 3])
    probed.add_outputs(
        [ops.reduce_mean(nodes[name].input_value(0), axes).output(0) for name in names]
    )
    compiled = openvino.Core().compile_model(probed, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    strength = np.ones((1, 1, 1, 1), np.float32)
    totals = [np.zeros(1) for _ in names]
    for image in images:
        results = compiled({"image": image, "strength": strength})
        for at in range(len(names)):
            totals[at] = totals[at] + results[1 + at][0].astype(np.float64)
    return {name: total / len(images) for name, total in zip(names, totals, strict=True)}


def _mean_error(lost: Planes, means: NDArray[np.float64], groups: int) -> NDArray[np.float32]:
    """Return the mean error of rounding at each output channel.

    Nagel, van Baalen, Blankevoort, Welling, "Data-Free Quantization Through Weight
    Equalization and Bias Correction", ICCV 2019, with means that were measured.
    """
    taps = lost.reshape(len(lost), lost.shape[1], -1).sum(axis=2, dtype=np.float64)
    taps = taps.reshape(groups, -1, lost.shape[1])
    shift = np.einsum("goi,gi->go", taps, means.reshape(groups, -1))
    return np.asarray(shift.reshape(-1), np.float32)


def _shift_bias(node: openvino.Node, shift: NDArray[np.float32]) -> None:
    """Add to an operation's bias, or add a bias."""
    shaped = shift.reshape(1, -1, 1, 1)
    targets = list(node.output(0).get_target_inputs())
    if len(targets) == 1 and targets[0].get_node().get_type_name() == "Add":
        add = targets[0].get_node()
        other = add.input(1 - targets[0].get_index())
        constant = other.get_source_output().get_node()
        if constant.get_type_name() == "Constant" and constant.get_data().size == shift.size:
            bias = np.asarray(constant.get_data(), np.float32).reshape(shaped.shape) + shaped
            other.replace_source_output(ops.constant(bias).output(0))
            return
    added = ops.add(node, ops.constant(shaped))
    added.set_friendly_name(f"{node.get_friendly_name()}/bias")
    for target in targets:
        target.replace_source_output(added.output(0))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep NNCF's progress bars and messages off the terminal; the search reports progress."""
    logger = logging.getLogger("nncf")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


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
