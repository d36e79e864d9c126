"""Is the converted model the model? Parity, precision and speed, measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle.precision import Precision
from ..errors import VerificationError
from ..imaging.metrics import psnr, ssim
from ..runtimes.machine import cpu_info, milliseconds
from ..runtimes.openvino.graph import OpenvinoGraph, cpu_floats, read_graph
from .reference import OrtGraph, Reference
from .samples import Samples

__all__ = [
    "PARITY_LIMIT",
    "ParityRow",
    "PrecisionRow",
    "Timing",
    "measure_parity",
    "measure_precision",
    "measure_speed",
    "require_parity",
]

PARITY_LIMIT = 1e-4
"""Largest difference, in [0, 1] units, at which two f32 runs are the same model."""

PARITY_SIZES = ((64, 64), (131, 97), (203, 157), (1, 1))
"""Heights and widths that parity is checked at; odd ones on purpose."""

_WHOLE_LAST = (5, 3)
# A thumbnail made of one pixel is flat: instance norms divide by no variance at all there,
# and make of rounding whatever they like.

PRECISION_SIZE = (256, 256)
_PRECISION_SAMPLES = 3
TIMING_SIZE = (256, 256)
_STRENGTHS = (1.0, 0.35)  # the blend is part of what is compared

Restore = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True)
class ParityRow:
    """Largest differences from the reference at one size, in [0, 1] units."""

    size: str
    sample: str
    onnxruntime: float
    openvino: float


@dataclass(frozen=True)
class PrecisionRow:
    """How far one stored variant at one precision is from the reference, over all samples."""

    variant: str
    precision: str
    max_difference: float
    psnr_db: float
    ssim: float


@dataclass(frozen=True)
class Timing:
    """Median milliseconds for one frame."""

    runtime: str
    variant: str
    precision: str
    shape: str
    ms: float
    cpu: str
    isa: str
    cores: int

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, rounded for reading."""
        return {**asdict(self), "ms": round(self.ms, 3)}


def measure_parity(
    reference: Reference, onnx_path: Path, samples: Samples, *, whole: bool = False
) -> list[ParityRow]:
    """Compare the float graph on both runtimes with the reference, in f32.

    Parameters
    ----------
    reference : Reference
    onnx_path : Path
        The faced graph.
    samples : Samples
    whole : bool
        The network judges a thumbnail.
    """
    sizes = [*PARITY_SIZES[:-1], _WHOLE_LAST if whole else PARITY_SIZES[-1]]
    graphs: list[Callable[[NDArray[np.float32], float], NDArray[np.float32]]] = [
        OrtGraph(str(onnx_path)),
        OpenvinoGraph(read_graph(onnx_path)),
    ]
    rows = []
    for index, (height, width) in enumerate(sizes):
        image = samples.crop(index, height, width)
        worst = [0.0, 0.0]
        for strength in _STRENGTHS:
            wanted = reference(image, strength)
            for at, graph in enumerate(graphs):
                worst[at] = max(worst[at], _difference(graph(image, strength), wanted))
        name = samples.names[index % len(samples.names)]
        rows.append(ParityRow(f"{width}x{height}", name, *worst))
    return rows


def require_parity(rows: list[ParityRow]) -> None:
    """Stop where a converted model is another model.

    Raises
    ------
    VerificationError
        Names the runtime, the size and the difference.
    """
    for row in rows:
        for runtime, found in (("ONNX Runtime", row.onnxruntime), ("OpenVINO", row.openvino)):
            if not found <= PARITY_LIMIT:
                raise VerificationError(
                    f"{runtime} differs from the source model by {found:.2g} at {row.size},"
                    f" more than {PARITY_LIMIT:g}: no bundle was written"
                )


def _difference(made: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    if made.shape != wanted.shape:
        raise VerificationError(f"the converted model returns {made.shape}, not {wanted.shape}")
    return float(np.abs(made - wanted).max())


def measure_precision(
    reference: Reference, variants: dict[str, Path], samples: Samples
) -> list[PrecisionRow]:
    """Compare stored variants at f32 and, where the CPU has it, bf16 with the reference."""
    images = [
        samples.crop(index, *PRECISION_SIZE)
        for index in range(min(_PRECISION_SAMPLES, len(samples.images)))
    ]
    wanted = [reference(image) for image in images]
    rows = []
    for variant, path in variants.items():
        model = read_graph(path)
        for precision in cpu_floats():
            graph = OpenvinoGraph(model, precision, PRECISION_SIZE)
            made = [graph(image) for image in images]
            pairs = list(zip(made, wanted, strict=True))
            rows.append(
                PrecisionRow(
                    variant,
                    precision.hint,
                    max(_difference(a, b) for a, b in pairs),
                    min(psnr(a, b) for a, b in pairs),
                    min(ssim(_pixels(a), _pixels(b)) for a, b in pairs),
                )
            )
    return rows


def _pixels(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.ascontiguousarray(planes[0].transpose(1, 2, 0))


def measure_speed(
    source: Restore | None, variants: dict[str, Path], samples: Samples
) -> list[Timing]:
    """Time one frame in PyTorch, where there is a PyTorch model, and on OpenVINO's CPU."""
    height, width = TIMING_SIZE
    image = samples.crop(0, height, width)
    timings = []

    def add(runtime: str, variant: str, precision: Precision, call: Callable[[], object]) -> None:
        cpu = cpu_info()
        ms = milliseconds(call)
        shape = f"{width}x{height}"
        where = (shape, ms, cpu.name, cpu.isa, cpu.cores)
        timings.append(Timing(runtime, variant, precision.hint, *where))

    if source is not None:
        add("PyTorch", "source", Precision.FP32, lambda: source(image))
    for variant, path in variants.items():
        model = read_graph(path)
        for precision in cpu_floats():
            graph = OpenvinoGraph(model, precision, TIMING_SIZE)
            add("OpenVINO", variant, precision, partial(graph, image))
    return timings
