"""Conversion of shift estimators: a pair of tiles in, (dx, dy) out.

Such a graph takes one size and no strength, and is never tiled. What is proved is that the
numbers are the source's.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, compose
from torch import nn

from ...bundle.bundle import stored_graphs
from ...bundle.kinds import InputKind, OutputKind
from ...bundle.manifest import InputPort, Manifest, OutputPort, StrengthKind, Tiling, TilingMode
from ...errors import ArgumentError, ConversionError, first_line
from ...runtimes.machine import tool_versions
from ..checkpoint.files import SourceKind
from ..checkpoint.network import Network
from ..graph.export import export_fixed
from ..graph.signature import CORE_PREFIX
from ..records import ConversionPlan, Report, Request, source_facts
from ..reference import NetworkFunction, torch_network
from ..report import Measurements
from ..samples import Samples, load_samples
from .shift_checks import (
    Pair,
    cut_pairs,
    measure_shift_parity,
    measure_shift_precision,
    measure_shift_speed,
)
from .shift_report import shift_measurements

__all__ = ["pair_graph", "plan_shift"]


def plan_shift(
    request: Request, kind: SourceKind, network: Network | None, report: Report
) -> ConversionPlan:
    """Plan the conversion of a shift estimator.

    Parameters
    ----------
    request : Request
    kind : SourceKind
    network : Network
        With ``pair_px``.
    report : callable

    Raises
    ------
    ArgumentError
        On options that only networks of images take, or when there are no samples to read.
    ConversionError
        When the network does not export, or returns no pair of numbers.
    """
    assert network is not None  # noqa: S101 - only a network declares this kind
    _check_options(request)
    report(f"read {request.source.name}: {kind}, {network.architecture}")
    side = network.pair_px or 1
    pictures = load_samples(request.samples, 1)
    pairs = cut_pairs(pictures, side)
    reference = torch_network(network.module)
    wanted = [_estimate(reference, pair) for pair in pairs]
    manifest = _manifest(request, kind, network, side)
    graph = pair_graph(network.module, side)
    told = network.row or network.module
    return ConversionPlan(
        manifest,
        graph,
        bool(getattr(told, "halves", True)),
        f"a pair of {side}x{side} tiles in, (dx, dy) out",
        partial(_measure, manifest, graph, reference, pictures, pairs, wanted),
    )


def _check_options(request: Request) -> None:
    if request.residual:
        raise ArgumentError("--residual: a shift estimator returns no image")
    if request.levels not in (None, 1.0, (0.0, 1.0)):
        raise ArgumentError("--range: a shift estimator takes its tiles in [0, 1]")
    if request.color not in (None, "gray"):
        raise ArgumentError(f"--color {request.color}: a shift estimator takes two grey tiles")


def _manifest(request: Request, kind: SourceKind, network: Network, side: int) -> Manifest:
    labels, told = request.labels, network.row or network.module
    pair = InputPort("image", InputKind.IMAGE, 2, "gray", minimum_px=side, size_px=side)
    return Manifest(
        name=labels.name,
        task=labels.task or str(getattr(told, "task", "register")),
        summary=labels.summary,
        licence=labels.licence,
        inputs=(pair,),
        outputs=(OutputPort.of(pair, OutputKind.SHIFT, 2),),
        tiling=Tiling(TilingMode.WHOLE, reason=f"takes pairs of {side}x{side} tiles"),
        strength=StrengthKind.NONE,
        variants={},
        source=source_facts(request.source, kind, network.architecture, network.arguments),
        tools=tool_versions(),
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
    speed = measure_shift_speed(reference, variants, pairs[0])
    report("speed measured")
    return shift_measurements(manifest, pictures, speed, parity, precision, pairs)


def pair_graph(module: nn.Module, side: int) -> ModelProto:
    """Export a shift estimator as the graph that hosts run.

    Parameters
    ----------
    module : torch.nn.Module
    side : int
        Of the tiles, in pixels.

    Returns
    -------
    onnx.ModelProto
        Input ``image`` f32 ``[1, 2, side, side]`` in [0, 1], output ``shift`` f32 ``[1, 2]``;
        the network's own names begin with ``core/``.

    Raises
    ------
    ConversionError
    """
    core = export_fixed(module, (1, 2, side, side), "image", "shift")
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
