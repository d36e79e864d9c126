"""The whole way from a trained model to a verified bundle."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ..bundle import Bundle, facts_of, new_bundle_folder
from ..errors import ArgumentError, ConversionError, VerificationError
from ..machine import tool_versions
from ..manifest import (
    InputFacts,
    Manifest,
    OutputFacts,
    OutputKind,
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
from .probe import find_sides, measure_halo, tiled_difference, windowed_difference
from .receptive.field import ReceptiveField, find_receptive_field
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

_WINDOW_PX = 384
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
    value_range: float | None = None,
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
    value_range : float or None
        What white is to the network, 1 or 255; None takes the network's, else 1.
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
    _check_choices(value_range, color)
    named = _bundle_name(name, target)
    with new_bundle_folder(target, overwrite=overwrite) as folder:
        origin = open_source(source, architecture, arguments or {}, residual, color)
        report(f"read {source.name}: {origin.kind}, {origin.architecture}")
        pictures = load_samples(samples, origin.channels)
        field = find_receptive_field(read_proto(origin.core))
        face = _face(origin, field, value_range, color)
        tiling = _tiling(origin, field)
        report(f"graph: {_describe(tiling, face)}")

        manifest = _manifest(named, summary, licence, task, origin, face, tiling, source)
        facts = facts_for_graphs(manifest)
        model = attach_face(origin.core, face)
        write_onnx_facts(model, facts)
        onnx.save(model, folder / _FP32)
        write_ir(folder / _FP32, folder / _FP16, facts)
        report(f"wrote {_FP32} and {_FP16}")

        findings = _measure(origin, manifest, face, folder, pictures, report)
        manifest = replace(manifest, variants=_variants(folder, findings))
        findings = replace(findings, manifest=manifest)
        write_report(folder, findings)
        (folder / "bundle.json").write_text(manifest.to_json(), encoding="utf-8")
    report(f"bundle {target}")
    return ConversionResult(Bundle.find(target), text_table(findings))


def _check_choices(value_range: float | None, color: str | None) -> None:
    if value_range is not None and not (math.isfinite(value_range) and value_range > 0):
        raise ArgumentError(f"value range {value_range}: expected a number above 0, like 1 or 255")
    if color not in (None, "rgb", "bgr", "gray"):
        raise ArgumentError(f"color {color!r}: use rgb, bgr or gray")


def _bundle_name(name: str | None, target: Path) -> str:
    if name is not None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise ArgumentError(f"name {name!r}: use letters, digits, dots, dashes and underscores")
        return name
    cleaned = re.sub(r"[^A-Za-z0-9._-]+", "-", target.resolve().name).lstrip("._-")
    return cleaned or "model"


def _face(
    origin: Origin, field: ReceptiveField, value_range: float | None, color: str | None
) -> Face:
    channels = origin.channels
    if channels not in (1, 3):
        raise ConversionError(f"the model takes {channels} channels, expected 1 or 3")
    if color is not None and (color == "gray") != (channels == 1):
        raise ArgumentError(f"color {color}: the model takes {channels} channels")
    wanted = color or str(origin.declared.get("color", "rgb"))
    if value_range is None:
        value_range = float(origin.declared.get("value_range", 1.0))
    out_channels, upscale = _output(origin, field)
    kind = OutputKind.IMAGE if out_channels == channels else OutputKind.MASK
    multiple, minimum = field.multiple_of, field.minimum_px
    if field.mode is TilingMode.WINDOWED:
        multiple, minimum = find_sides(
            read_proto(origin.core),
            origin.network,
            upscale,
            multiple,
            minimum,
            comparable=origin.core_residual == origin.network_residual,
        )
    return Face(
        channels=channels,
        out_channels=out_channels,
        color="gray" if channels == 1 else wanted,
        value_range=value_range,
        multiple_of=multiple,
        minimum_px=minimum,
        upscale=upscale,
        residual=origin.core_residual,
        kind=kind,
    )


def _output(origin: Origin, field: ReceptiveField) -> tuple[int, int]:
    """Run the model once for its output's channels and scale."""
    least = max(64, field.minimum_px)
    side = math.ceil(least / field.multiple_of) * field.multiple_of
    try:
        made = origin.network(np.zeros((1, origin.channels, side, side), np.float32))
    except Exception as error:
        said = (str(error).splitlines() or [""])[0][:240]
        raise ConversionError(f"the model fails at {side}x{side}: {said}") from error
    if made.ndim != 4 or made.shape[2] != made.shape[3] or made.shape[2] % side:
        raise ConversionError(
            f"the model turns {side}x{side} into {list(made.shape)}; expected an image of the"
            " same size or a whole multiple of it"
        )
    channels = int(made.shape[1])
    if channels not in (1, origin.channels):
        raise ConversionError(
            f"the model returns {channels} channels for {origin.channels}, expected an image"
            " or a mask of one channel"
        )
    return channels, made.shape[2] // side


def _tiling(origin: Origin, field: ReceptiveField) -> Tiling:
    if field.mode is TilingMode.EXACT:
        measured = measure_halo(
            read_proto(origin.core), field.halo_px, field.multiple_of, field.minimum_px
        )
        if measured > field.halo_px:
            raise VerificationError(
                f"a change {measured} px away reached the output, but the graph's halo is"
                f" {field.halo_px} px: no bundle was written"
            )
        return Tiling(TilingMode.EXACT, field.halo_px, measured, reason=field.reason)
    window = int(origin.declared.get("window_px", _WINDOW_PX))
    window = math.ceil(window / field.multiple_of) * field.multiple_of
    ramp = math.ceil(window / 4 / field.multiple_of) * field.multiple_of
    return Tiling(TilingMode.WINDOWED, window_px=window, ramp_px=ramp, reason=field.reason)


def _describe(tiling: Tiling, face: Face) -> str:
    grid = f"multiple of {face.multiple_of}"
    if tiling.mode is TilingMode.EXACT:
        return f"halo {tiling.halo_px} px (measured {tiling.halo_measured_px}), {grid}, tiles exact"
    return f"windowed, since {tiling.reason}; window {tiling.window_px} px, {grid}"


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
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
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
            face.channels, face.color, face.value_range, face.multiple_of, face.minimum_px
        ),
        output=OutputFacts(face.kind, face.out_channels, face.upscale),
        tiling=tiling,
        strength=StrengthKind.BLEND,
        variants={},
        source={
            "file": source.name,
            "sha256": digest,
            "kind": str(origin.kind),
            "architecture": architecture,
            "arguments": {key: _plain(value) for key, value in origin.arguments.items()},
        },
        tools=tool_versions(),
    )


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
    variants = {"fp32": folder / _FP32, "fp16": folder / _FP16}
    parity = measure_parity(reference, variants["fp32"], pictures)
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
    }
