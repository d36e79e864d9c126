"""``quantize``: the INT8 variant of a bundle, its entry in the manifest, its report."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from dataclasses import replace as replace_dataclass
from pathlib import Path
from typing import Any

import openvino
from msgspec.structs import replace

from ..bundle.bundle import GRAPHS, Bundle, new_bundle_folder, stored_files, write_manifest
from ..bundle.manifest import Manifest, Variant
from ..bundle.precision import Precision
from ..calibration.candidates import Built
from ..calibration.pipeline import Quantization, QuantizationOptions, find_int8
from ..calibration.report import text_table, write_report
from ..calibration.results import KindResult, QuantizationResults
from ..engine.tiling.proof import prove_tiling
from ..imaging.arrays import Planes, pixels_of
from ..reports.pages import require_page_libraries
from ..runtimes.openvino.graph import read_graph
from .disk import require_replaceable, told_when_full
from .graph.ir import save_ir
from .graph.metadata import facts_for_graphs

__all__ = ["QuantizationOptions", "QuantizationResult", "quantize", "replace_int8"]

_TIMED = {"int8": "int8"} | {p.stored: p.hint for p in (Precision.FP32, Precision.BF16)}
"""The precision that a stored variant was timed at."""


@dataclass(frozen=True)
class QuantizationResult:
    """A bundle after quantization.

    Parameters
    ----------
    bundle : Bundle
        With INT8, or unchanged.
    results : QuantizationResults
    table : str
        The results as plain text for a terminal.
    """

    bundle: Bundle
    results: QuantizationResults
    table: str


def quantize(
    folder: Path, options: QuantizationOptions, report: Callable[[str], None]
) -> QuantizationResult:
    """Add INT8 to a bundle where it keeps the quality budget and is faster on this machine.

    Parameters
    ----------
    folder : Path
        A bundle; replaced as a whole when everything succeeded. A refusal changes its
        report alone, and nothing where the bundle has INT8 already.
    options : QuantizationOptions
    report : callable
        Takes one line of progress.

    Raises
    ------
    ArgumentError
        On options out of range, or pictures that cannot be used.
    QuantizationError
        When nothing in the model can be quantized, or it is quantized already.
    VerificationError
        When the INT8 graph as written has another quality than was measured, or its tiles are
        not the whole frame; the bundle stays as it was.
    BundleError
        When the bundle cannot be read or written, or its disk is full.
    MissingExtraError
        When the libraries of the report's page are not installed.
    """
    require_page_libraries()
    bundle = Bundle.find(folder)
    require_replaceable(bundle.folder)
    with told_when_full(bundle.folder):
        found = find_int8(bundle, options, report)
        found = replace_dataclass(found, results=_told_what_goes_on(found.results, bundle, options))
        if found.results.written or "int8" not in bundle.manifest.variants:
            _replace_bundle(bundle, found, report)
    found.forget()
    report(found.results.verdict)
    return QuantizationResult(Bundle.find(bundle.folder), found.results, text_table(found.results))


def _told_what_goes_on(
    results: QuantizationResults, bundle: Bundle, options: QuantizationOptions
) -> QuantizationResults:
    """Return the results with a verdict that tells what is kept and what can go on."""
    verdict = results.verdict
    if not results.written and "int8" in bundle.manifest.variants:
        verdict += "; the INT8 that the bundle has stays, with its report"
    if not results.options["complete"]:
        more = " with --overwrite" if results.written and not options.overwrite else ""
        verdict += (
            f"; time ran out after {options.minutes:g} min: the same command{more} goes on from"
            " here, --minutes gives it more"
        )
    return replace_dataclass(results, verdict=verdict)


def _replace_bundle(bundle: Bundle, found: Quantization, report: Callable[[str], None]) -> None:
    results, manifest = found.results, bundle.manifest
    with new_bundle_folder(bundle.folder, overwrite=True) as fresh:
        shutil.copytree(bundle.folder, fresh, dirs_exist_ok=True)
        if results.written:
            manifest = _write_variant(fresh, manifest, found.taken, results)
            found.require_quality(fresh / GRAPHS["int8"])
        write_report(fresh, results)
        if results.written:
            write_manifest(fresh, manifest)
            pictures = [pixels_of(crop.image) for crop in found.data.calibration]
            proof = prove_tiling(Bundle(fresh, manifest), pictures, report)
            report(f"tiles: {proof}")


def replace_int8(
    source: Bundle,
    model: openvino.Model,
    quality: dict[str, Any],
    pictures: Sequence[Planes],
    folder: Path,
) -> Bundle:
    """Write a copy of a bundle with other numbers in its INT8 graph, once its tiles are proven.

    Parameters
    ----------
    source : Bundle
        Has INT8, whose timings stay.
    model : openvino.Model
        Of the structure of its INT8 graph.
    quality : dict
        Of the new variant.
    pictures : sequence of ndarray, f32 (H, W, C) in [0, 1]
    folder : Path
        A bundle there is replaced.

    Raises
    ------
    VerificationError
        When tiles are not the whole frame; nothing is written.
    BundleError
        When the folder cannot be written.
    """
    with new_bundle_folder(folder, overwrite=True) as fresh:
        shutil.copytree(source.folder, fresh, dirs_exist_ok=True)
        save_ir(model, fresh / GRAPHS["int8"], facts_for_graphs(source.manifest))
        variants = source.manifest.variants
        files = stored_files(fresh, "int8")
        variant = replace(variants["int8"], files=files, quality=quality)
        manifest = replace(source.manifest, variants={**variants, "int8": variant})
        write_manifest(fresh, manifest)
        prove_tiling(Bundle(fresh, manifest), pictures)
    return Bundle.find(folder)


def _write_variant(
    folder: Path, manifest: Manifest, taken: Built, results: QuantizationResults
) -> Manifest:
    """Store an INT8 graph in a bundle's folder; return the manifest with the variant.

    The manifest also gets what was measured, and the calibration data's digest and recipe.
    """
    save_ir(read_graph(taken.path), folder / GRAPHS["int8"], facts_for_graphs(manifest))
    quality = taken.candidate.quality
    variant = Variant(
        stored_files(folder, "int8"),
        {
            "loss_db": round(quality.loss_db, 4),
            "budget_db": results.budget_db,
            "within_budget": quality.loss_db <= results.budget_db,
            "forced": bool(results.options["forced"]),
            "psnr_db": _decibels(quality.psnr_db),
            "ssim": quality.ssim and round(quality.ssim, 5),
            "worst_loss_db": round(quality.worst_loss_db, 4),
            "worst_kind": quality.deciding,
            "kinds": {kind.kind: _kind_facts(kind) for kind in results.kinds},
            "method": taken.candidate.method,
        },
        _timings(results, "int8"),
    )
    variants = {
        name: _with_timing(kept, name, results)
        for name, kept in manifest.variants.items()
        if name != "int8"
    }
    data = results.data
    calibration = {"digest": data.digest, "recipe": data.recipe, "skipped": len(data.skipped)}
    return replace(manifest, variants={**variants, "int8": variant}, calibration=calibration)


def _kind_facts(kind: KindResult) -> dict[str, Any]:
    return {
        "judged": kind.judged,
        "within_budget": kind.within_budget,
        "loss_db": round(kind.loss_db, 4),
        "worst_loss_db": round(kind.worst_loss_db, 4),
        "float_db": _decibels(kind.float_db),
        "int8_db": _decibels(kind.int8_db),
        "to_float_db": _decibels(kind.to_float_db),
    }


def _decibels(value: float | None) -> float | None:
    """Return what JSON can hold: the PSNR of equal pictures, infinite, is null."""
    return None if value is None or not math.isfinite(value) else round(value, 3)


def _with_timing(variant: Variant, name: str, results: QuantizationResults) -> Variant:
    """Add the float timing that INT8 was compared with."""
    rows = _timings(results, name)
    shapes = {row["shape"] for row in rows}
    kept = [row for row in variant.timings if row.get("shape") not in shapes]
    return replace(variant, timings=[*kept, *rows])


def _timings(results: QuantizationResults, variant: str) -> list[dict[str, Any]]:
    return [
        {
            "runtime": "OpenVINO",
            "variant": variant,
            "precision": run.precision,
            "shape": results.timing_shape,
            "ms": round(run.ms, 3),
            "cpu": results.cpu,
            "isa": results.isa,
            "cores": results.cores,
        }
        for run in results.runs
        if run.precision == _TIMED.get(variant)
    ]
