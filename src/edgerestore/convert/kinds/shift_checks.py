"""Checks of a converted shift estimator: pairs at known shifts, parity, precision, speed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import openvino
from numpy.typing import NDArray
from onnx import ModelProto

from ...bundle.precision import Precision
from ...errors import ConversionError, VerificationError
from ...imaging.arrays import Planes
from ...runtimes.machine import cpu_info, milliseconds
from ...runtimes.openvino.graph import cpu_floats, last_line, read_graph
from ..reference import NetworkFunction, ort_network
from ..samples import Samples
from ..verify import Timing

__all__ = [
    "SHIFT_LIMIT_PX",
    "Pair",
    "ShiftPrecision",
    "ShiftRow",
    "cut_pairs",
    "measure_shift_parity",
    "measure_shift_precision",
    "measure_shift_speed",
]

SHIFT_LIMIT_PX = 1e-3
"""Largest difference, in pixels, at which two f32 runs are the same estimator."""
_USUAL_PX = 150
# (dx, dy) for tiles of the usual side, in every direction and not at all; smaller tiles
# take less, so that they still overlap.
_SHIFTS = ((3, -2), (-7, 5), (12, 9), (0, 0), (-15, -11), (8, -14))


@dataclass(frozen=True)
class Pair:
    """Two tiles of one picture.

    Parameters
    ----------
    tiles : ndarray, f32 [1, 2, side, side] in [0, 1]
        The reference, and the one whose content is moved.
    name : str
        Of the picture.
    shift : (int, int)
        (dx, dy): what lies at (x, y) in the reference lies at (x + dx, y + dy) in the other.
    """

    tiles: Planes
    name: str
    shift: tuple[int, int]


def cut_pairs(samples: Samples, side: int) -> list[Pair]:
    """Cut six pairs from the middles of the pictures, taking these in turn.

    Parameters
    ----------
    samples : Samples
        Of one channel.
    side : int
        Of the tiles, in pixels.
    """
    shifts = [(_scaled(dx, side), _scaled(dy, side)) for dx, dy in _SHIFTS]
    reach = max(abs(step) for shift in shifts for step in shift)
    pairs = []
    for index, (dx, dy) in enumerate(shifts):
        around = samples.crop(index, side + 2 * reach, side + 2 * reach)
        tiles = [
            around[:, :, reach - y : reach - y + side, reach - x : reach - x + side]
            for x, y in ((0, 0), (dx, dy))
        ]
        name = samples.names[index % len(samples.names)]
        pairs.append(Pair(np.concatenate(tiles, axis=1), name, (dx, dy)))
    return pairs


def _scaled(step: int, side: int) -> int:
    return round(step * min(1.0, side / _USUAL_PX))


@dataclass(frozen=True)
class ShiftRow:
    """One pair: its shift, the source's estimate, and the distance of the converted graphs.

    All in pixels; ``onnxruntime`` and ``openvino`` are the larger of the two axes.
    """

    sample: str
    known_dx: int
    known_dy: int
    dx: float
    dy: float
    onnxruntime: float
    openvino: float


@dataclass(frozen=True)
class ShiftPrecision:
    """Distance of a variant at one precision from the source, over all pairs, in pixels."""

    variant: str
    precision: str
    max_difference_px: float
    mean_difference_px: float


def _openvino(path: Path, precision: Precision) -> NetworkFunction:
    """Compile a stored variant for the CPU at a float precision."""
    hint = {"INFERENCE_PRECISION_HINT": precision.hint}
    try:
        compiled = openvino.Core().compile_model(read_graph(path), "CPU", hint)
    except RuntimeError as error:
        raise ConversionError(f"OpenVINO: {last_line(error)}") from error

    def run(tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        shift: NDArray[np.float32] = np.array(compiled({"image": tiles})["shift"])
        return shift

    return run


def measure_shift_parity(
    model: ModelProto, path: Path, pairs: list[Pair], wanted: list[NDArray[np.float32]]
) -> list[ShiftRow]:
    """Compare the stored graph on both runtimes with the source, in f32.

    Parameters
    ----------
    model : onnx.ModelProto
    path : Path
        The same graph as it was stored.
    pairs : list of Pair
    wanted : list of ndarray, f32 [1, 2]
        The source's estimates.

    Raises
    ------
    VerificationError
        Where a runtime differs by more than a thousandth of a pixel.
    """
    graphs = {"ONNX Runtime": ort_network(model), "OpenVINO": _openvino(path, Precision.FP32)}
    rows = []
    for pair, right in zip(pairs, wanted, strict=True):
        far = {name: _apart(graph(pair.tiles), right) for name, graph in graphs.items()}
        for name, found in far.items():
            if not found <= SHIFT_LIMIT_PX:
                raise VerificationError(
                    f"{name} differs from the source model by {found:.2g} px on {pair.name},"
                    f" more than {SHIFT_LIMIT_PX:g}: no bundle was written"
                )
        dx, dy = (float(value) for value in right[0])
        rows.append(ShiftRow(pair.name, *pair.shift, dx, dy, *far.values()))
    return rows


def _apart(made: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    if made.shape != wanted.shape:
        raise VerificationError(f"the converted model returns {made.shape}, not {wanted.shape}")
    return float(np.abs(made - wanted).max())


def measure_shift_precision(
    variants: dict[str, Path], pairs: list[Pair], wanted: list[NDArray[np.float32]]
) -> list[ShiftPrecision]:
    """Compare stored variants at f32 and, where the CPU has it, bf16 with the source."""
    rows = []
    for variant, path in variants.items():
        for precision in cpu_floats():
            graph = _openvino(path, precision)
            far = [_apart(graph(p.tiles), right) for p, right in zip(pairs, wanted, strict=True)]
            rows.append(ShiftPrecision(variant, precision.hint, max(far), float(np.mean(far))))
    return rows


def measure_shift_speed(
    source: NetworkFunction, variants: dict[str, Path], pair: Pair
) -> list[Timing]:
    """Time one pair in PyTorch and on OpenVINO's CPU."""
    cpu = cpu_info()
    shape = "x".join(map(str, pair.tiles.shape[1:]))
    calls = {("PyTorch", "source", Precision.FP32.hint): partial(source, pair.tiles)}
    for variant, path in variants.items():
        for precision in cpu_floats():
            graph = _openvino(path, precision)
            calls["OpenVINO", variant, precision.hint] = partial(graph, pair.tiles)
    return [
        Timing(*names, shape, milliseconds(call), cpu.name, cpu.isa, cpu.cores)
        for names, call in calls.items()
    ]
