"""Conversion of networks that take an image and return an image or a mask."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec.structs

from ...bundle.bundle import Bundle, stored_graphs, write_manifest
from ...bundle.kinds import InputKind
from ...bundle.manifest import (
    STRENGTH,
    InputPort,
    Manifest,
    OutputPort,
    StrengthKind,
    Tiling,
    TilingMode,
)
from ...engine.tiling.proof import TilingProof, prove_tiling
from ...runtimes.machine import tool_versions
from ..checkpoint.files import SourceKind
from ..checkpoint.loaded_model import Origin, open_source
from ..checkpoint.network import Network
from ..graph.ir import read_proto
from ..graph.receptive.field import find_receptive_field
from ..graph.signature import Face, attach_face
from ..plan import describe_plan, plan_face, plan_tiling, with_declared_sides
from ..records import ConversionPlan, Report, Request, source_facts, stored_variants
from ..reference import Reference
from ..report import Measurements, image_measurements
from ..samples import Samples, load_samples
from ..verify import measure_parity, measure_precision, measure_speed, require_parity

__all__ = ["plan_images"]


def plan_images(
    request: Request, kind: SourceKind, network: Network | None, report: Report
) -> ConversionPlan:
    """Plan the conversion of a network of images.

    Parameters
    ----------
    request : Request
    kind : SourceKind
    network : Network or None
        None where the source brings its own.
    report : callable

    Raises
    ------
    ArgumentError, CheckpointError, ConversionError, VerificationError
    """
    origin = open_source(
        request.source,
        request.architecture,
        request.arguments,
        request.residual,
        request.color,
        network,
    )
    report(f"read {request.source.name}: {kind}, {origin.architecture}")
    pictures = load_samples(request.samples, origin.channels)
    field = with_declared_sides(find_receptive_field(read_proto(origin.core)), origin.declared)
    face = plan_face(origin, field, request.levels, request.color)
    tiling = plan_tiling(origin, field, face.upscale)
    manifest = _manifest(request, origin, face, tiling)
    return ConversionPlan(
        manifest,
        attach_face(origin.core, face),
        bool(origin.declared.get("halves", True)),
        describe_plan(tiling, face),
        partial(_measure, origin, manifest, face, pictures),
    )


def _manifest(request: Request, origin: Origin, face: Face, tiling: Tiling) -> Manifest:
    labels = request.labels
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
        source=source_facts(request.source, origin.kind, origin.architecture, origin.arguments),
        tools=tool_versions(),
    )


def _measure(
    origin: Origin,
    manifest: Manifest,
    face: Face,
    pictures: Samples,
    folder: Path,
    report: Report,
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
