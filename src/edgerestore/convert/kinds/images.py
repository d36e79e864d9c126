"""Conversion of networks that take an image and return an image or a mask."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec.structs
from onnx import ModelProto

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
from ...errors import VerificationError
from ..checkpoint.loaded_model import LoadedModel
from ..graph.activations import HALF_LIMIT, largest_activation
from ..graph.ir import read_proto
from ..graph.receptive_field import ReceptiveField, at_two_sizes, find_receptive_field
from ..graph.resizes import with_exact_resizes
from ..graph.signature import Signature, attach_signature
from ..judgement import require_restoration, variants_of
from ..levels import RANGES, fitting_levels, levels_text
from ..plan import describe_plan, plan_signature, plan_tiling, with_declared_sides
from ..records import ConversionPlan, Report, Request, new_manifest, stored_variants
from ..report import Measurements, image_measurements
from ..samples import Samples, load_samples
from ..trial import Trial
from ..verify import (
    PRECISION_SIZE,
    Reference,
    check_unpadded,
    measure_parity,
    measure_precision,
    measure_speed,
    require_parity,
)

__all__ = ["plan_images"]

_MEASURED = 2  # pictures whose activations are looked at


def plan_images(request: Request, loaded: LoadedModel, report: Report) -> ConversionPlan:
    """Plan the conversion of a network of images.

    Parameters
    ----------
    request : Request
    loaded : LoadedModel
    report : callable

    Raises
    ------
    ArgumentError, CheckpointError, ConversionError, VerificationError
    """
    declared = loaded.declared.copy()
    if request.multiple_of is not None:
        declared["multiple_of"] = request.multiple_of
    if request.window_px is not None:
        declared["window_px"] = request.window_px
    loaded = replace(loaded, declared=declared)
    pictures = load_samples(request.samples, loaded.channels)
    loaded, field = _receptive_field(loaded)
    signature = plan_signature(loaded, field, request.levels, request.color)
    if signature.kind.traits.blended and not loaded.declared.get("whole"):
        trial = Trial(pictures, request.task or _task(loaded), signature.upscale)
        signature = fitting_levels(
            signature,
            partial(_reference, loaded),
            trial,
            stated=request.levels is not None or loaded.range_stated,
            usual=loaded.row is not None,
            report=report,
        )
        ranges = ", ".join(f"--range {levels_text(levels)}" for levels in RANGES)
        require_restoration(
            _reference(loaded, signature),
            trial,
            request,
            ", ".join([ranges, *variants_of(loaded.row, request)]),
            report,
            certain=request.task is not None or (loaded.row is not None and not loaded.row.general),
        )
    tiling = plan_tiling(loaded, field, signature.upscale)
    if request.window_px is not None and tiling.mode is not TilingMode.WINDOWED:
        report("--window-px is not used: this network is not windowed")
    manifest = _manifest(request, loaded, signature, tiling)
    graph = attach_signature(loaded.core, signature)
    return ConversionPlan(
        manifest,
        graph,
        bool(loaded.declared.get("half_precision", True))
        and _fits_half_precision(graph, tiling, pictures, report),
        describe_plan(tiling, signature),
        partial(_measure, loaded, manifest, signature, pictures, request.quick),
    )


def _receptive_field(loaded: LoadedModel) -> tuple[LoadedModel, ReceptiveField]:
    """Return halo and grid, and the model with resizes that are the same in every tile."""
    model = read_proto(loaded.core)
    field = find_receptive_field(model)
    if field.mode is TilingMode.EXACT:
        rewritten = with_exact_resizes(loaded.core, at_two_sizes(model))
        if rewritten is not None:
            loaded = replace(loaded, core=rewritten)
            field = find_receptive_field(read_proto(rewritten))
    return loaded, with_declared_sides(field, loaded.declared)


def _fits_half_precision(
    graph: ModelProto, tiling: Tiling, pictures: Samples, report: Report
) -> bool:
    """Measure whether 16-bit floats hold what the network computes; say so where they do not."""
    images = [pictures.crop(index, *PRECISION_SIZE) for index in range(_MEASURED)]
    peak, place = largest_activation(graph, images, whole=tiling.mode is TilingMode.WHOLE)
    if peak <= HALF_LIMIT:
        return True
    report(
        f"no fp16 variant: activations reach {peak:.2g} ({place}), beyond {HALF_LIMIT:.0f}, half of"
        " where 16-bit floats end"
    )
    return False


def _reference(loaded: LoadedModel, signature: Signature) -> Reference:
    return Reference(loaded.network, replace(signature, residual=loaded.network_residual))


def _task(loaded: LoadedModel) -> str:
    return str(loaded.declared.get("task", "restore"))


def _manifest(
    request: Request, loaded: LoadedModel, signature: Signature, tiling: Tiling
) -> Manifest:
    image = InputPort(
        "image",
        InputKind.IMAGE,
        channels=signature.channels,
        color=signature.color,
        value_range=signature.value_range,
        black=signature.black,
        multiple_of=signature.multiple_of,
        minimum_px=signature.minimum_px,
    )
    return new_manifest(
        request,
        loaded.kind,
        loaded.architecture,
        loaded.arguments,
        task=_task(loaded),
        inputs=(image, STRENGTH),
        outputs=(OutputPort.of(image, signature.kind, signature.out_channels, signature.upscale),),
        tiling=tiling,
        strength=StrengthKind.BLEND,
    )


def _measure(
    loaded: LoadedModel,
    manifest: Manifest,
    signature: Signature,
    pictures: Samples,
    quick: bool,
    folder: Path,
    report: Report,
) -> Measurements:
    reference = _reference(loaded, signature)
    variants = stored_graphs(folder)
    whole = manifest.tiling.mode is TilingMode.WHOLE
    report(f"measuring parity; then tiles{'' if quick else ', precision and speed'}")
    parity = measure_parity(reference, variants["fp32"], pictures, whole=whole)
    try:
        require_parity(parity)
    except VerificationError as error:
        if signature.span == 1:
            raise
        white = f"its white is taken to be {signature.value_range:g}: name its own with --range"
        raise VerificationError(f"{error}; {white}") from error
    worst = max(max(row.onnxruntime, row.openvino) for row in parity)
    report(f"parity: within {worst:.1e} of the source at f32")
    if continued := check_unpadded(parity, signature, loaded.declared):
        report(continued)
    last = "the last" if quick else "which takes longest; then precision and speed"
    report(f"proving tiles, {last}")
    proof = _prove_tiling(manifest, folder, pictures, report)
    report(f"tiles: {proof}")
    _require_close_windows(proof, manifest.tiling)
    if quick:
        return image_measurements(
            manifest, pictures, [], parity, [], proof, None, eager=loaded.eager
        )
    report("measuring precision; then speed")
    precision = measure_precision(reference, variants, pictures)
    report("measuring speed, the last")
    source = reference if loaded.eager else None
    speed = measure_speed(source, variants, pictures)
    return image_measurements(
        manifest, pictures, speed, parity, precision, proof, reference, eager=loaded.eager
    )


_CLOSE_DB = 45.0
"""Least PSNR of windows against the whole: an error of 1.4 levels of 255 on the average.

What trained networks of local attention come within (57 dB for RFDN) is beyond it; with what
sees global means, masks or position tables of another size (27 to 36 dB) windows are visible.
"""


def _require_close_windows(proof: TilingProof, tiling: Tiling) -> None:
    """Refuse windows that show.

    Raises
    ------
    VerificationError
    """
    if proof.psnr_db is not None and not proof.psnr_db >= _CLOSE_DB:
        raise VerificationError(
            f"windows of {tiling.window_px} px come within {proof.psnr_db:.1f} dB of the whole,"
            f" less than {_CLOSE_DB:g}, since {tiling.reason}: no bundle was written; state a"
            " window that holds your frames, which are then not cut: --window-px 2048"
        )


def _prove_tiling(
    manifest: Manifest, folder: Path, pictures: Samples, report: Report
) -> TilingProof:
    """Prove tiles with the bundle as hosts will open it, all but what is measured of it."""
    stored = msgspec.structs.replace(manifest, variants=stored_variants(folder))
    write_manifest(folder, stored)
    return prove_tiling(Bundle(folder, stored), pictures.interleaved(), report)
