"""Sensitivity: the noise at the output when one operation alone is quantized, per crop."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import openvino
from openvino import opset13 as ops

from ..imaging.arrays import Planes
from ..runtimes.openvino.graph import OpenvinoGraph
from .dataset import Crop
from .operations import Operation, input_ranges, nodes_by_name, weights_of
from .quantizer import quantize_weights, round_channels
from .results import Sensitivity

__all__ = ["SUPPOSED_MSE", "NoiseTable", "loss_of_noise", "mean_square", "measure_noise"]


SUPPOSED_MSE = 1e-3
"""Mean square error of a picture of 30 dB: what the float model is taken to leave where ground
truth is unknown."""


_LEVELS = 256


def loss_of_noise(noise: float, mse: float) -> float:
    """Return the PSNR in dB that independent noise costs a picture that is off by ``mse``."""
    return 10 * math.log10(1 + noise / max(mse, 1e-12))


def mean_square(made: Planes, wanted: Planes) -> float:
    """Return the mean square difference, in f64."""
    return float(np.mean(np.square(made.astype(np.float64) - wanted)))


@dataclass(frozen=True)
class NoiseTable:
    """Mean square noise at the output per operation and crop, and the float model's error.

    Parameters
    ----------
    noise : dict of str to tuple of float
        By operation; one number per crop. Operations that NNCF leaves in float are not in it.
    errors : tuple of float
        Mean square error of the float model on each crop.
    """

    noise: dict[str, tuple[float, ...]]
    errors: tuple[float, ...]

    def loss_db(self, names: Sequence[str]) -> float:
        """Predict the loss of PSNR when these operations are quantized.

        The noises are taken to be independent of each other and of the float model's error.
        """
        if not names:
            return 0.0
        sums = np.sum([self.noise[name] for name in names], axis=0)
        losses = [loss_of_noise(n, e) for n, e in zip(sums, self.errors, strict=True)]
        return float(np.mean(losses))

    def ranking(self, operations: Sequence[Operation]) -> tuple[Sensitivity, ...]:
        """Return the operations, the most sensitive first."""
        total = max(1, sum(operation.macs for operation in operations))
        rows = [
            Sensitivity(o.name, o.kind, o.macs / total, self.loss_db([o.name]))
            for o in operations
            if o.name in self.noise
        ]
        return tuple(sorted(rows, key=lambda row: -row.loss_db))


def measure_noise(
    model: openvino.Model,
    full: openvino.Model,
    operations: Sequence[Operation],
    crops: Sequence[Crop],
    report: Callable[[int, int], bool],
    known: Mapping[str, tuple[float, ...]] | None = None,
) -> NoiseTable:
    """Quantize one operation at a time and measure the noise at the output.

    Parameters
    ----------
    model : openvino.Model
        The float graph.
    full : openvino.Model
        The same graph with everything quantized: gives the ranges.
    operations : sequence of Operation
    crops : sequence of Crop
        Calibration crops; held-out ones stay unseen.
    report : callable
        Takes how many operations are done and of how many; returns False to stop.
    known : mapping or None
        Earlier measurements, by operation.

    Returns
    -------
    NoiseTable
        Of the operations measured before it was stopped.
    """
    size = (crops[0].image.shape[2], crops[0].image.shape[3])
    float_graph = OpenvinoGraph(model, size=size)
    wanted = [float_graph(crop.image) for crop in crops]
    errors = tuple(
        SUPPOSED_MSE if crop.truth is None else mean_square(made, crop.truth)
        for made, crop in zip(wanted, crops, strict=True)
    )
    quantized = nodes_by_name(full)
    noise = dict(known or {})
    left = [operation for operation in operations if operation.name not in noise]
    for done, operation in enumerate(left):
        if not report(done, len(left)):
            break
        ranges = input_ranges(quantized[operation.name])
        if not ranges:
            continue
        alone = OpenvinoGraph(_quantized_alone(model, operation.name, ranges), size=size)
        noise[operation.name] = tuple(
            mean_square(alone(crop.image), target)
            for crop, target in zip(crops, wanted, strict=True)
        )
    return NoiseTable(noise, errors)


def _quantized_alone(
    model: openvino.Model, name: str, ranges: Mapping[int, tuple[float, float]]
) -> openvino.Model:
    copy = model.clone()
    node = nodes_by_name(copy)[name]
    for at, (low, high) in ranges.items():
        bounds = [np.float32(low), np.float32(high)] * 2
        rounded = ops.fake_quantize(node.input_value(at), *bounds, _LEVELS)
        node.input(at).replace_source_output(rounded.output(0))
    weights = weights_of(node)
    if weights is not None:
        grouped = node.get_type_name() == "GroupConvolution"
        integers, steps = round_channels(quantize_weights, weights, grouped=grouped)
        stored = ops.constant(integers * steps)
        node.input(1).replace_source_output(stored.output(0))
    return copy
