"""Conversion of shift estimators: a pair of tiles in, (dx, dy) out.

Such a graph takes one size and no strength, and is never tiled. What is proved is that the
numbers are the source's.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, compose

from ...bundle.bundle import stored_graphs
from ...bundle.kinds import InputKind, OutputKind
from ...bundle.manifest import InputPort, Manifest, OutputPort, StrengthKind, Tiling, TilingMode
from ...bundle.precision import Precision
from ...errors import ArgumentError, ConversionError, VerificationError, first_line
from ...imaging.arrays import Planes
from ...reports.pictures import Picture, picture
from ...reports.tables import Table, number
from ...runtimes.openvino.graph import cpu_floats, last_line, read_graph, shared_core
from ..checkpoint.loaded_model import LoadedModel
from ..graph.signature import CORE_PREFIX
from ..records import ConversionPlan, Report, Request, new_manifest
from ..report import Measurements
from ..samples import Samples, load_samples
from ..verify import NetworkFunction, Timing, ort_network, time_runtimes

__all__ = [
    "SHIFT_LIMIT_PX",
    "Pair",
    "ShiftPrecision",
    "ShiftRow",
    "cut_pairs",
    "measure_shift_parity",
    "measure_shift_precision",
    "plan_shift",
    "shift_measurements",
]


SHIFT_LIMIT_PX = 1e-3
"""Largest difference, in pixels, at which two f32 runs are the same estimator."""
_USUAL_PX = 150
# (dx, dy) for tiles of the usual side, in every direction and not at all; smaller tiles
# take less, so that they still overlap.
_SHIFTS = ((3, -2), (-7, 5), (12, 9), (0, 0), (-15, -11), (8, -14))


@dataclass(frozen=True)
class Pair:
    """Pair of tiles of one picture at a known shift.

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
        compiled = shared_core().compile_model(read_graph(path), "CPU", hint)
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
            rows.append(
                ShiftPrecision(variant, precision.hint, float(np.max(far)), float(np.mean(far)))
            )
    return rows


_SHOWN = 2


def shift_measurements(
    manifest: Manifest,
    samples: Samples,
    speed: list[Timing],
    parity: list[ShiftRow],
    precision: list[ShiftPrecision],
    pairs: list[Pair],
) -> Measurements:
    """Return the results for a shift estimator.

    Parameters
    ----------
    manifest : Manifest
    samples : Samples
        What the pairs were cut from.
    speed : list of Timing
    parity : list of ShiftRow
    precision : list of ShiftPrecision
    pairs : list of Pair
        In the order of `parity`.
    """
    worst = max(max(row.onnxruntime, row.openvino) for row in parity)
    # The quality of the source itself, which is not a check of the conversion.
    error_px = float(np.mean([np.hypot(r.dx - r.known_dx, r.dy - r.known_dy) for r in parity]))
    quality: dict[str, dict[str, Any]] = {}
    for row in precision:
        quality.setdefault(row.variant, {})[row.precision] = {
            "max_difference_px": row.max_difference_px,
            "mean_difference_px": row.mean_difference_px,
        }
    quality["fp32"]["parity_max_difference_px"] = worst
    quality["fp32"]["known_shift_error_px"] = round(error_px, 4)
    drawn = ", drawn" if samples.synthetic else ""
    return Measurements(
        manifest=manifest,
        samples=samples,
        speed=speed,
        compared_with="PyTorch",
        quality=quality,
        checks={
            "parity": {"limit_px": SHIFT_LIMIT_PX, "rows": [asdict(row) for row in parity]},
            "known_shift_error_px": round(error_px, 4),
            "precision": [asdict(row) for row in precision],
        },
        parity=Table(
            ("parity at f32", "known", "estimated", "ONNX Runtime", "OpenVINO"),
            [
                (
                    row.sample,
                    f"({row.known_dx}, {row.known_dy})",
                    f"({row.dx:.2f}, {row.dy:.2f})",
                    number(row.onnxruntime),
                    number(row.openvino),
                )
                for row in parity
            ],
        ),
        precision=Table(
            ("precision", "max difference px", "mean difference px"),
            [
                (
                    f"{row.variant} at {row.precision}",
                    number(row.max_difference_px),
                    number(row.mean_difference_px),
                )
                for row in precision
            ],
        ),
        tiling=f"never cut: {manifest.tiling.reason}",
        note=(
            f"compared with PyTorch on {len(pairs)} pairs{drawn}; the estimates lie"
            f" {error_px:.2f} px from the known shifts on average"
        ),
        template="shift.html",
        page={
            "about": f"{manifest.task} (pairs of grey tiles)",
            "highlights": [
                (f"{number(worst)} px", "largest difference from the source at f32"),
                (f"{error_px:.2f} px", "mean distance of the estimates from known shifts"),
            ],
            "pictures": [_pictures(*one) for one in zip(pairs[:_SHOWN], parity, strict=False)],
            "origin": "scenes drawn by the converter" if samples.synthetic else "the samples",
            "limit": f"{SHIFT_LIMIT_PX:g}",
            "pairs_count": len(pairs),
        },
    )


def _pictures(pair: Pair, row: ShiftRow) -> list[Picture]:
    dx, dy = pair.shift
    moved = f"moved by ({dx}, {dy}), estimated ({row.dx:.2f}, {row.dy:.2f})"
    return [
        picture(pair.tiles[:, :1], f"{pair.name}, reference"),
        picture(pair.tiles[:, 1:], moved),
        picture(_overlaid(pair), "both with the known shift undone, red and cyan"),
    ]


def _overlaid(pair: Pair) -> Planes:
    """Return the reference in red under the moved tile in cyan, moved back to its place."""
    dx, dy = pair.shift
    first, second = pair.tiles[0]
    height, width = first.shape
    moved = np.zeros_like(first)
    # Where the moved tile has nothing, it stays black and the reference shows in red.
    rows, columns = slice(max(0, -dy), height - max(0, dy)), slice(max(0, -dx), width - max(0, dx))
    moved[rows, columns] = second[max(0, dy) : height + min(0, dy), max(0, dx) : width + min(0, dx)]
    return np.stack([first, moved, moved])[None]


def plan_shift(request: Request, loaded: LoadedModel, report: Report) -> ConversionPlan:
    """Plan the conversion of a shift estimator.

    Parameters
    ----------
    request : Request
    loaded : LoadedModel
        With ``pair_px``.
    report : callable

    Raises
    ------
    ArgumentError
        On options that only networks of images take, or when there are no samples to read.
    ConversionError
        When the network says no side of its tiles, or returns no pair of numbers.
    """
    side = loaded.pair_px
    if side is None:
        raise ConversionError(f"{request.source.name}: a shift estimator declares pair_px")
    _check_options(request)
    if request.quick:
        report("--quick leaves nothing out: a shift estimator is measured in a moment")
    pictures = load_samples(request.samples, 1)
    pairs = cut_pairs(pictures, side)
    report(f"cut {len(pairs)} pairs of tiles")
    reference = loaded.network
    wanted = [_estimate(reference, pair) for pair in pairs]
    manifest = _manifest(request, loaded, side)
    graph = _pair_graph(loaded.core)
    return ConversionPlan(
        manifest,
        graph,
        loaded.declared.get("half_precision", True),
        f"a pair of {side}x{side} tiles in, (dx, dy) out",
        partial(_measure, manifest, graph, reference, pictures, pairs, wanted),
    )


def _check_options(request: Request) -> None:
    if request.multiple_of is not None or request.window_px is not None:
        raise ArgumentError("--multiple-of and --window-px: a shift estimator takes one size")
    if request.residual:
        raise ArgumentError("--residual: a shift estimator returns no image")
    if request.levels not in (None, 1.0, (0.0, 1.0)):
        raise ArgumentError("--range: a shift estimator takes its tiles in [0, 1]")
    if request.color not in (None, "gray"):
        raise ArgumentError(f"--color {request.color}: a shift estimator takes two grey tiles")


def _manifest(request: Request, loaded: LoadedModel, side: int) -> Manifest:
    pair = InputPort("image", InputKind.IMAGE, 2, "gray", minimum_px=side, size_px=side)
    return new_manifest(
        request,
        loaded.kind,
        loaded.architecture,
        loaded.arguments,
        task=loaded.declared.get("task", "register"),
        inputs=(pair,),
        outputs=(OutputPort.of(pair, OutputKind.SHIFT, 2),),
        tiling=Tiling(TilingMode.WHOLE, reason=f"takes pairs of {side}x{side} tiles"),
        strength=StrengthKind.NONE,
    )


def _measure(
    manifest: Manifest,
    graph: ModelProto,
    reference: NetworkFunction,
    pictures: Samples,
    pairs: list[Pair],
    wanted: list[NDArray[np.float32]],
    folder: Path,
    report: Report,
) -> Measurements:
    variants = stored_graphs(folder)
    parity = measure_shift_parity(graph, variants["fp32"], pairs, wanted)
    worst = max(max(row.onnxruntime, row.openvino) for row in parity)
    report(f"parity: within {worst:.1e} px of the source at f32, {len(pairs)} pairs")
    precision = measure_shift_precision(variants, pairs, wanted)
    report("precision measured")
    shape = "x".join(map(str, pairs[0].tiles.shape[1:]))
    speed = time_runtimes(reference, _openvino, variants, pairs[0].tiles, shape)
    report("speed measured")
    return shift_measurements(manifest, pictures, speed, parity, precision, pairs)


def _pair_graph(core: ModelProto) -> ModelProto:
    """Return a shift estimator as the graph that hosts run.

    Input ``image`` f32 ``[1, 2, side, side]`` in [0, 1], output ``shift`` f32 ``[1, 2]``; the
    network's own names begin with ``core/``.
    """
    model = compose.add_prefix(core, CORE_PREFIX, rename_inputs=False, rename_outputs=False)
    model.producer_name, model.producer_version = "edgerestore", ""
    model.graph.name = "edgerestore"
    return model


def _estimate(network: NetworkFunction, pair: Pair) -> NDArray[np.float32]:
    try:
        made = network(pair.tiles)
    except RuntimeError as error:
        shape = list(pair.tiles.shape)
        raise ConversionError(f"the network fails on {shape}: {first_line(error)}") from error
    if made.shape != (1, 2):
        raise ConversionError(f"the network returns {list(made.shape)}, expected a shift [1, 2]")
    return made
