"""Quantization of a float graph to INT8: NNCF places and ranges the quantizers, weights are ours.

NNCF decides where numbers are rounded and over which range, from calibration crops. Channels then
get their own part of a range where that costs nothing (`equalize`), and the weights are replaced
by ones that overflow on no CPU (`compensated`).
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from enum import StrEnum

import nncf
import numpy as np
import openvino
from nncf.quantization.range_estimator import RangeEstimatorParametersSet
from numpy.typing import NDArray
from openvino import opset13 as ops

from ..errors import QuantizationError, first_line
from ..imaging.arrays import Planes
from .equalization import equalize
from .inputs import ConvolutionInputs
from .operations import (
    SIGNATURE_PREFIX,
    input_ranges,
    nodes_by_name,
    shared_weights,
    stored_weights,
    weights_of,
)
from .weights import compensated

__all__ = ["Ranges", "quantize_graph"]

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
    model: openvino.Model,
    images: Sequence[Planes],
    kept: Collection[str],
    ranges: Ranges,
    inputs: Mapping[str, ConvolutionInputs],
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
    inputs : mapping of str to ConvolutionInputs
        From `measure_inputs`, on the same crops.

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
        # Our own weights, set below, need neither.
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
    own = _match_bytes(quantized)
    _take_own_weights(model, quantized, inputs, _equalized(quantized, inputs, ranges, own))
    return quantized


def _equalized(
    quantized: openvino.Model,
    inputs: Mapping[str, ConvolutionInputs],
    ranges: Ranges,
    image: Collection[str],
) -> dict[str, NDArray[np.float32]]:
    limits = {
        name: (found.low.mean(axis=0), found.high.mean(axis=0))
        if ranges is Ranges.MEAN
        else (found.low.min(axis=0), found.high.max(axis=0))
        for name, found in inputs.items()
    }
    return equalize(quantized, limits, image)


def _match_bytes(quantized: openvino.Model) -> list[str]:
    """Set the image's quantizers to exactly [0, 1], and return them: 8-bit frames pass unchanged.

    A range estimated on crops would shift and clip their levels.
    """
    found = []
    for node in quantized.get_ordered_ops():
        if node.get_type_name() != "FakeQuantize":
            continue
        white = _white_of(node.input_value(0))
        if white is not None:
            for port, bound in ((1, 0.0), (2, white), (3, 0.0), (4, white)):
                node.input(port).replace_source_output(ops.constant(np.float32(bound)).output(0))
            found.append(node.get_friendly_name())
    return found


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
    model: openvino.Model,
    quantized: openvino.Model,
    inputs: Mapping[str, ConvolutionInputs],
    shares: Mapping[str, NDArray[np.float32]],
) -> None:
    """Store all large weights as INT8.

    Operations at INT8 get weights that cannot saturate, in place of NNCF's, for inputs whose
    channels are divided by their shares. Those in float get weights over the full range, which
    the runtime turns into floats when it loads: a quarter of the bytes for hardly any noise.
    """
    originals, nodes = nodes_by_name(model), nodes_by_name(quantized)
    for name, found in inputs.items():  # transposed convolutions and products keep NNCF's own
        node, weights = nodes[name], weights_of(originals[name])
        assert weights is not None  # noqa: S101 - inputs are measured of weighted operations alone
        in_float = not input_ranges(node)
        if in_float and weights.size // len(weights) < _ROW_WORTH_PACKING:
            continue
        grouped = node.get_type_name() == "GroupConvolution"
        products, share = found.products, shares.get(name)
        if share is not None:
            taps = products.shape[-1] * products.shape[0] * products.shape[1] // len(share)
            parts = np.repeat(share.astype(np.float64), taps).reshape(products.shape[:3])
            products = products / (parts[..., :, None] * parts[..., None, :])
            weights = shared_weights(weights, share, grouped=grouped)
        integers, steps = compensated(weights, products, grouped=grouped, safe=not in_float)
        made = stored_weights(name, integers, steps, in_float=in_float)
        node.input(1).replace_source_output(made.output(0))


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
