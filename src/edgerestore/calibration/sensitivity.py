"""Sensitivity: the noise at the output when one operation alone is quantized, per crop."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import openvino
from msgspec import Meta
from numpy.typing import NDArray
from openvino import opset13 as ops

from ..imaging.arrays import Planes
from ..runtimes.openvino.graph import OpenvinoGraph
from .dataset import Crop
from .operations import (
    CONVOLUTIONS,
    Operation,
    channel_shares,
    input_ranges,
    nodes_by_name,
    rounded_weights,
    weights_of,
)
from .results import Sensitivity
from .weights import quantize_weights, round_channels

__all__ = ["SUPPOSED_MSE", "NoiseTable", "loss_of_noise", "mean_square", "measure_noise"]


SUPPOSED_MSE = 1e-3
"""Mean square error of a picture of 30 dB: what the float model is taken to leave where ground
truth is unknown."""


_Noise = Annotated[float, Meta(ge=0, le=1e12)]
_LEVELS = 256
_LEAST_MSE = 1e-12


def loss_of_noise(noise: float, mse: float) -> float:
    """Return the PSNR in dB that independent noise costs a picture that is off by ``mse``."""
    return 10 * math.log10(1 + noise / max(mse, _LEAST_MSE))


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
    kinds : tuple of str
        Kind of input of each crop.
    """

    noise: dict[str, tuple[_Noise, ...]]
    errors: tuple[_Noise, ...]
    kinds: tuple[str, ...]

    def fits(self, crops: Sequence[Crop]) -> bool:
        """Return whether the table is one of these crops, with a number for each of them."""
        rows = [self.errors, *self.noise.values()]
        return self.kinds == tuple(crop.kind for crop in crops) and all(
            len(row) == len(crops) for row in rows
        )

    def losses_db(self, names: Sequence[str]) -> dict[str, float]:
        """Predict the loss of PSNR on each kind of input when these operations are quantized.

        The noises are taken to be independent of each other and of the float model's error.
        """
        sums = np.sum([self.noise[name] for name in names], axis=0) if names else self._none
        return dict(zip(self._groups, self.mean_losses(sums[None])[0].tolist(), strict=True))

    def mean_losses(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the mean loss of each kind for sums of noise, (n, crops) to (n, kinds)."""
        losses = 10 * np.log10(1 + sums / np.maximum(self.errors, _LEAST_MSE))
        return np.stack([losses[:, at].mean(axis=1) for at in self._groups.values()], axis=1)

    def loss_db(self, names: Sequence[str]) -> float:
        """Predict the loss on the kind that loses most."""
        return max(self.losses_db(names).values())

    def fitted(self, names: Sequence[str], measured_db: Mapping[str, float]) -> NoiseTable:
        """Return the table with each kind's noise scaled to what these operations lost in fact.

        By a hundred times at most, up or down: rounded sums are no straight line.
        """
        factors = np.ones(len(self.kinds))
        for kind, predicted in self.losses_db(names).items():
            powers = [10 ** (max(loss, 0) / 10) - 1 for loss in (measured_db[kind], predicted)]
            factor = powers[0] / powers[1] if powers[1] > 0 else 1.0
            factors[self._groups[kind]] = np.clip(factor, 0.01, 100)
        scaled = {name: tuple((factors * row).tolist()) for name, row in self.noise.items()}
        return NoiseTable(scaled, self.errors, self.kinds)

    def ranking(self, operations: Sequence[Operation]) -> tuple[Sensitivity, ...]:
        """Return the operations, the most sensitive first."""
        total = max(1, sum(operation.macs for operation in operations))
        rows = [
            Sensitivity(o.name, o.kind, o.macs / total, self.loss_db([o.name]))
            for o in operations
            if o.name in self.noise
        ]
        return tuple(sorted(rows, key=lambda row: -row.loss_db))

    @property
    def _none(self) -> NDArray[np.float64]:
        return np.zeros(len(self.errors))

    @property
    def _groups(self) -> dict[str, list[int]]:
        """Crops of each kind, in order of the kinds."""
        groups: dict[str, list[int]] = {}
        for at, kind in enumerate(self.kinds):
            groups.setdefault(kind, []).append(at)
        return groups


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
        part = _quantized_alone(model, quantized[operation.name], ranges)
        alone = OpenvinoGraph(part, size=size)
        noise[operation.name] = tuple(
            mean_square(alone(crop.image), target)
            for crop, target in zip(crops, wanted, strict=True)
        )
    return NoiseTable(noise, errors, tuple(crop.kind for crop in crops))


def _quantized_alone(
    model: openvino.Model, quantized: openvino.Node, ranges: Mapping[int, tuple[float, float]]
) -> openvino.Model:
    copy, shares = model.clone(), channel_shares(quantized)
    node = nodes_by_name(copy)[quantized.get_friendly_name()]
    part = np.float32(1) if shares is None else shares.reshape(1, -1, 1, 1)
    for at, (low, high) in ranges.items():
        whole = [np.float32(low), np.float32(high)]
        rounded = ops.fake_quantize(
            node.input_value(at), *(part * b for b in whole), *whole, _LEVELS
        )
        node.input(at).replace_source_output(rounded.output(0))
    weights = weights_of(node)
    if weights is not None:
        if node.get_type_name() in CONVOLUTIONS:
            weights = rounded_weights(quantized)
        else:
            integers, steps = round_channels(quantize_weights, weights)
            weights = integers * steps
        node.input(1).replace_source_output(ops.constant(weights).output(0))
    return copy
