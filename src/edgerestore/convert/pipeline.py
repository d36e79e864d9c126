"""The whole way from a trained model to a verified bundle."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx

from ..bundle import Bundle, facts_of, new_bundle_folder
from ..errors import ArgumentError, VerificationError
from ..machine import tool_versions
from ..manifest import (
    InputFacts,
    Manifest,
    OutputFacts,
    StrengthKind,
    Tiling,
    TilingMode,
    Variant,
)
from ..runtimes.openvino.graph import read_graph
from .face import Face, attach_face
from .ir import read_proto, write_ir
from .metadata import facts_for_graphs, write_onnx_facts
from .origin import Origin, open_source
from .plan import Levels, check_levels, describe_plan, plan_face, plan_tiling
from .probe import tiled_difference, windowed_difference
from .receptive.field import find_receptive_field
from .reference import Reference
from .report import Findings, TilingProof, text_table, write_report
from .samples import Samples, load_samples
from .verify import (
    measure_parity,
    measure_precision,
    measure_speed,
    require_parity,
)

__all__ = ["ConversionResult", "convert"]

_TILING_LIMIT = 1e-5  # less than a level of 16 bits; a wrong halo shows as far more
_FP32, _FP16 = "model.onnx", "fp16/model.xml"


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
    source, target = Path(source), Path(target)
    check_levels(value_range, color)
    named = _bundle_name(name, target)
    with new_bundle_folder(target, overwrite=overwrite) as folder:
        origin = open_source(source, architecture, arguments or {}, residual, color)
        report(f"read {source.name}: {origin.kind}, {origin.architecture}")
        pictures = load_samples(samples, origin.channels)
        field = find_receptive_field(read_proto(origin.core))
        face = plan_face(origin, field, value_range, color)
        tiling = plan_tiling(origin, field, face.upscale)
        report(f"graph: {describe_plan(tiling, face)}")

        manifest = _manifest(named, summary, licence, task, origin, face, tiling, source)
        facts = facts_for_graphs(manifest)
        model = attach_face(origin.core, face)
        write_onnx_facts(model, facts)
        onnx.save(model, folder / _FP32)
        if origin.declared.get("halves", True):
            write_ir(folder / _FP32, folder / _FP16, facts)
        report(f"wrote {' and '.join(str(n) for n in (_FP32, _FP16) if (folder / n).is_file())}")

        findings = _measure(origin, manifest, face, folder, pictures, report)
        manifest = replace(manifest, variants=_variants(folder, findings))
        findings = replace(findings, manifest=manifest)
        write_report(folder, findings)
        (folder / "bundle.json").write_text(manifest.to_json(), encoding="utf-8")
    report(f"bundle {target}")
    return ConversionResult(Bundle.find(target), text_table(findings))


def _bundle_name(name: str | None, target: Path) -> str:
    if name is not None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise ArgumentError(f"name {name!r}: use letters, digits, dots, dashes and underscores")
        return name
    cleaned = re.sub(r"[^A-Za-z0-9._-]+", "-", target.resolve().name).lstrip("._-")
    return cleaned or "model"


def _manifest(
    name: str,
    summary: str,
    licence: str,
    task: str | None,
    origin: Origin,
    face: Face,
    tiling: Tiling,
    source: Path,
) -> Manifest:
    architecture = origin.architecture
    if ".py:" in architecture:
        # A bundle travels; the folder its author kept the file in does not.
        where, _, factory = architecture.rpartition(":")
        architecture = f"{Path(where).name}:{factory}"
    return Manifest(
        name=name,
        task=task or str(origin.declared.get("task", "restore")),
        summary=summary,
        licence=licence,
        input=InputFacts(
            face.channels,
            face.color,
            face.value_range,
            face.multiple_of,
            face.minimum_px,
            black=face.black,
        ),
        output=OutputFacts(face.kind, face.out_channels, face.upscale),
        tiling=tiling,
        strength=StrengthKind.BLEND,
        variants={},
        source={
            "file": source.name,
            "sha256": _digest(source),
            "kind": str(origin.kind),
            "architecture": architecture,
            "arguments": {key: _plain(value) for key, value in origin.arguments.items()},
        },
        tools=tool_versions(),
    )


def _digest(source: Path) -> str:
    """Return the sha256 of a file, or of a folder's files one after another, by name."""
    files = sorted(f for f in source.iterdir() if f.is_file()) if source.is_dir() else [source]
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            while block := opened.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    return value if isinstance(value, (str, int, float, bool, list, type(None))) else repr(value)


def _measure(
    origin: Origin,
    manifest: Manifest,
    face: Face,
    folder: Path,
    pictures: Samples,
    report: Callable[[str], None],
) -> Findings:
    reference = Reference(origin.network, replace(face, residual=origin.network_residual))
    variants = {
        name: folder / file
        for name, file in (("fp32", _FP32), ("fp16", _FP16))
        if (folder / file).is_file()
    }
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
    return Findings(manifest, parity, precision, speed, proof, pictures, reference, origin.eager)


def _prove_tiling(manifest: Manifest, folder: Path, pictures: Samples) -> TilingProof:
    tiling, up = manifest.tiling, manifest.output.upscale
    if tiling.mode is TilingMode.WHOLE:
        return TilingProof(0.0, "never cut")
    model = read_graph(folder / _FP32)
    if tiling.mode is TilingMode.WINDOWED:
        window, ramp = tiling.window_px or 1, tiling.ramp_px or 1
        return TilingProof(*windowed_difference(model, pictures, window, ramp, up))
    multiple = manifest.input.multiple_of
    difference, setup = tiled_difference(model, pictures, tiling.halo_px, multiple, up)
    if difference > _TILING_LIMIT:
        raise VerificationError(
            f"tiles differ from the whole by {difference:.2g} with a halo of {tiling.halo_px} px"
            f" ({setup}): no bundle was written"
        )
    return TilingProof(difference, setup)


def _variants(folder: Path, findings: Findings) -> dict[str, Variant]:
    files = {"fp32": [_FP32], "fp16": [_FP16, _FP16.replace(".xml", ".bin")]}
    return {
        variant: Variant(
            {name: facts_of(folder / name) for name in names},
            findings.quality_of(variant),
            findings.timings_of(variant),
        )
        for variant, names in files.items()
        if all((folder / name).is_file() for name in names)
    }
