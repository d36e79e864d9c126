"""Converting a shift estimator: a pair of tiles in, (dx, dy) out, and no picture to restore.

It shares the writers with networks of images and nothing of their face: no size but one, no
strength, no tiles. What is proved is that the numbers are the same ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec.structs
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, compose
from torch import nn

from ...bundle.bundle import stored_graphs, write_manifest
from ...bundle.kinds import InputKind, OutputKind
from ...bundle.manifest import InputPort, Manifest, OutputPort, StrengthKind, Tiling, TilingMode
from ...errors import ArgumentError, ConversionError, first_line
from ...runtimes.machine import tool_versions
from ..checkpoint.files import SourceKind
from ..checkpoint.network import Network
from ..graph.export import export_fixed
from ..graph.ir import write_ir
from ..graph.metadata import facts_for_graphs, write_onnx_facts
from ..graph.signature import CORE_PREFIX
from ..plan import Levels
from ..records import FP16, FP32, Labels, source_facts, stored_variants
from ..reference import NetworkFunction, torch_network
from ..report import text_table, write_report
from ..samples import load_samples
from .shift_checks import measure_shift_parity, measure_shift_precision, measure_shift_speed
from .shift_pairs import Pair, cut_pairs
from .shift_report import shift_measurements

__all__ = ["check_pair_options", "convert_shift", "pair_graph", "shift_manifest"]


def check_pair_options(levels: Levels | None, color: str | None, *, residual: bool | None) -> None:
    """Refuse what can be said of networks of images alone.

    Raises
    ------
    ArgumentError
    """
    if residual:
        raise ArgumentError("--residual: a shift estimator returns no image")
    if levels not in (None, 1.0, (0.0, 1.0)):
        raise ArgumentError("--range: a shift estimator takes its tiles in [0, 1]")
    if color not in (None, "gray"):
        raise ArgumentError(f"--color {color}: a shift estimator takes two grey tiles")


def shift_manifest(labels: Labels, source: Path, kind: SourceKind, network: Network) -> Manifest:
    """Return the manifest of a shift estimator, without variants yet.

    Parameters
    ----------
    labels : Labels
    source : Path
    kind : SourceKind
    network : Network
        With ``pair_px``.
    """
    side = network.pair_px or 1
    told = network.row or network.module
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
        source=source_facts(source, kind, network.architecture, network.arguments),
        tools=tool_versions(),
    )


def convert_shift(
    folder: Path,
    manifest: Manifest,
    network: Network,
    samples: Path | None,
    report: Callable[[str], None],
) -> str:
    """Fill a bundle's folder with a shift estimator, and prove that it is the same one.

    Parameters
    ----------
    folder : Path
    manifest : Manifest
        As `shift_manifest` makes it.
    network : Network
    samples : Path or None
        Photographs to cut pairs from; None draws some.
    report : callable
        Takes one line of progress.

    Returns
    -------
    str
        What was measured, as plain text for a terminal.

    Raises
    ------
    ArgumentError
        When there are no samples to read.
    ConversionError
        When the network does not export, or returns no pair of numbers.
    VerificationError
        When the converted model differs by more than a thousandth of a pixel.
    """
    side = manifest.input.size_px or 1
    pictures = load_samples(samples, 1)
    pairs = cut_pairs(pictures, side)
    reference = torch_network(network.module)
    wanted = [_estimate(reference, pair) for pair in pairs]
    report(f"graph: a pair of {side}x{side} tiles in, (dx, dy) out")

    facts = facts_for_graphs(manifest)
    model = pair_graph(network.module, side)
    write_onnx_facts(model, facts)
    onnx.save(model, folder / FP32)
    told = network.row or network.module
    if getattr(told, "halves", True):
        write_ir(folder / FP32, folder / FP16, facts)
    variants = stored_graphs(folder)
    report(f"wrote {' and '.join(str(path.relative_to(folder)) for path in variants.values())}")

    parity = measure_shift_parity(model, variants["fp32"], pairs, wanted)
    worst = max(max(row.onnxruntime, row.openvino) for row in parity)
    report(f"parity: within {worst:.1e} px of the source at f32, {len(pairs)} pairs")
    precision = measure_shift_precision(variants, pairs, wanted)
    report("precision measured")
    speed = measure_shift_speed(reference, variants, pairs[0])
    report("speed measured")
    found = shift_measurements(manifest, pictures, speed, parity, precision, pairs)
    manifest = msgspec.structs.replace(manifest, variants=stored_variants(folder, found))
    found = replace(found, manifest=manifest)
    write_report(folder, found)
    write_manifest(folder, manifest)
    return text_table(found)


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
