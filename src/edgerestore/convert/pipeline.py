"""The whole way from a trained model to a verified bundle."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec.structs
import onnx

from ..bundle.bundle import GRAPHS, Bundle, new_bundle_folder, stored_graphs, write_manifest
from ..bundle.kinds import InputKind
from ..bundle.manifest import (
    STRENGTH,
    InputPort,
    Manifest,
    OutputPort,
    StrengthKind,
    Tiling,
    TilingMode,
)
from ..engine.tiling.proof import TilingProof, prove_tiling
from ..errors import ArgumentError
from ..reports.pages import require_page_libraries
from ..runtimes.machine import tool_versions
from .checkpoint.loaded_model import Origin, open_source, read_network
from .graph.ir import read_proto, write_ir
from .graph.metadata import facts_for_graphs, write_onnx_facts
from .graph.receptive.field import find_receptive_field
from .graph.signature import Face, attach_face
from .kinds.shift import check_pair_options, convert_shift, shift_manifest
from .plan import (
    Levels,
    check_levels,
    describe_plan,
    plan_face,
    plan_tiling,
    with_declared_sides,
)
from .records import FP16, FP32, Labels, source_facts, stored_variants
from .reference import Reference
from .report import Measurements, image_measurements, text_table, write_report
from .samples import Samples, load_samples
from .verify import (
    measure_parity,
    measure_precision,
    measure_speed,
    require_parity,
)

__all__ = ["ConversionResult", "convert"]


@dataclass(frozen=True)
class ConversionResult:
    """What conversion made.

    Parameters
    ----------
    bundle : Bundle
    table : str
        What was measured, as plain text for a terminal.
    """

    bundle: Bundle
    table: str


def _silent(line: str) -> None:
    """Take a line of progress and do nothing with it."""


def convert(
    source: Path,
    target: Path,
    *,
    architecture: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    task: str | None = None,
    value_range: Levels | None = None,
    color: str | None = None,
    residual: bool | None = None,
    name: str | None = None,
    summary: str = "",
    licence: str = "unspecified",
    samples: Path | None = None,
    overwrite: bool = False,
    report: Callable[[str], None] = _silent,
) -> ConversionResult:
    """Convert a trained model and prove that the result is the same model.

    Parameters
    ----------
    source : Path
        State dict (``.pth .pt .ckpt .safetensors``), TorchScript, ``.pt2`` or ``.onnx``; told
        by content. Pickles that need code are refused.
    target : Path
        The bundle's folder; written only if everything succeeds.
    architecture : str or None
        A known network's name, ``FILE.py:FACTORY`` or ``pkg.mod:FACTORY``; None detects it.
    arguments : mapping or None
        Constructor arguments; they replace what is read off the weights.
    task : str or None
        What the model is for; None takes the network's.
    value_range : float, (float, float) or None
        What white is to the network, 1 or 255, or what black and white are, (-1, 1); None
        takes the network's, else 1.
    color : str or None
        ``rgb``, ``bgr`` or ``gray``; None takes the network's, else RGB.
    residual : bool or None
        The model returns what is to be added to the image. None asks the network.
    name, summary, licence : str
        For the manifest; the name is taken from ``target`` where none is given.
    samples : Path or None
        Photographs to check on, a folder or a file; None draws some.
    overwrite : bool
        Replace a bundle at ``target``.
    report : callable
        Takes one line of progress per stage.

    Returns
    -------
    ConversionResult

    Raises
    ------
    CheckpointError
        The source cannot be read, or fits no network.
    ArgumentError
        An argument is out of range or contradicts the network.
    ConversionError
        The network does not carry over to ONNX or OpenVINO.
    VerificationError
        The converted model is not the source model. No bundle is left.
    BundleError
        ``target`` exists or cannot be written.
    """
    require_page_libraries()
    source, target = Path(source), Path(target)
    check_levels(value_range, color)
    labels = Labels(_bundle_name(name, target), summary, licence, task)
    with new_bundle_folder(target, overwrite=overwrite) as folder:
        kind, network = read_network(source, architecture, arguments or {})
        if network is not None and network.pair_px is not None:
            check_pair_options(value_range, color, residual=residual)
            report(f"read {source.name}: {kind}, {network.architecture}")
            manifest = shift_manifest(labels, source, kind, network)
            table = convert_shift(folder, manifest, network, samples, report)
        else:
            origin = open_source(source, architecture, arguments or {}, residual, color, network)
            report(f"read {source.name}: {kind}, {origin.architecture}")
            table = _convert_images(
                folder, labels, source, origin, value_range, color, samples, report
            )
    report(f"bundle {target}")
    return ConversionResult(Bundle.find(target), table)


def _convert_images(
    folder: Path,
    labels: Labels,
    source: Path,
    origin: Origin,
    value_range: Levels | None,
    color: str | None,
    samples: Path | None,
    report: Callable[[str], None],
) -> str:
    """Fill a bundle's folder with a network that takes an image and returns one."""
    pictures = load_samples(samples, origin.channels)
    field = with_declared_sides(find_receptive_field(read_proto(origin.core)), origin.declared)
    face = plan_face(origin, field, value_range, color)
    tiling = plan_tiling(origin, field, face.upscale)
    report(f"graph: {describe_plan(tiling, face)}")

    manifest = _manifest(labels, origin, face, tiling, source)
    facts = facts_for_graphs(manifest)
    model = attach_face(origin.core, face)
    write_onnx_facts(model, facts)
    onnx.save(model, folder / FP32)
    if origin.declared.get("halves", True):
        write_ir(folder / FP32, folder / FP16, facts)
    report(f"wrote {' and '.join(GRAPHS[name] for name in stored_graphs(folder))}")

    found = _measure(origin, manifest, face, folder, pictures, report)
    manifest = msgspec.structs.replace(manifest, variants=stored_variants(folder, found))
    found = replace(found, manifest=manifest)
    write_report(folder, found)
    write_manifest(folder, manifest)
    return text_table(found)


def _bundle_name(name: str | None, target: Path) -> str:
    if name is not None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise ArgumentError(f"name {name!r}: use letters, digits, dots, dashes and underscores")
        return name
    cleaned = re.sub(r"[^A-Za-z0-9._-]+", "-", target.resolve().name).lstrip("._-")
    return cleaned or "model"


def _manifest(labels: Labels, origin: Origin, face: Face, tiling: Tiling, source: Path) -> Manifest:
    image = InputPort(
        "image",
        InputKind.IMAGE,
        channels=face.channels,
        color=face.color,
        value_range=face.value_range,
        black=face.black,
        multiple_of=face.multiple_of,
        minimum_px=face.minimum_px,
    )
    return Manifest(
        name=labels.name,
        task=labels.task or str(origin.declared.get("task", "restore")),
        summary=labels.summary,
        licence=labels.licence,
        inputs=(image, STRENGTH),
        outputs=(OutputPort.of(image, face.kind, face.out_channels, face.upscale),),
        tiling=tiling,
        strength=StrengthKind.BLEND,
        variants={},
        source=source_facts(source, origin.kind, origin.architecture, origin.arguments),
        tools=tool_versions(),
    )


def _measure(
    origin: Origin,
    manifest: Manifest,
    face: Face,
    folder: Path,
    pictures: Samples,
    report: Callable[[str], None],
) -> Measurements:
    reference = Reference(origin.network, replace(face, residual=origin.network_residual))
    variants = stored_graphs(folder)
    whole = manifest.tiling.mode is TilingMode.WHOLE
    parity = measure_parity(reference, variants["fp32"], pictures, whole=whole)
    require_parity(parity)
    worst = max(max(row.onnxruntime, row.openvino) for row in parity)
    report(f"parity: within {worst:.1e} of the source at f32")
    proof = _prove_tiling(manifest, folder, pictures)
    report(f"tiles: largest difference {proof.difference:.1e} ({proof.setup})")
    precision = measure_precision(reference, variants, pictures)
    report("precision measured")
    source = reference if origin.eager else None
    speed = measure_speed(source, variants, pictures)
    report("speed measured")
    return image_measurements(
        manifest, pictures, speed, parity, precision, proof, reference, eager=origin.eager
    )


def _prove_tiling(manifest: Manifest, folder: Path, pictures: Samples) -> TilingProof:
    """Prove tiles with the bundle as hosts will open it, all but what is measured of it."""
    stored = msgspec.structs.replace(manifest, variants=stored_variants(folder))
    write_manifest(folder, stored)
    return prove_tiling(Bundle(folder, stored), pictures.interleaved())
