"""The INT8 variant of a bundle: its files, and its entry in the manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec.structs import replace

from ..bundle.bundle import GRAPHS, stored_files
from ..bundle.manifest import Manifest, Variant
from ..bundle.precision import Precision
from ..calibration.candidates import Built
from ..calibration.results import QuantizationFindings, RunFacts
from ..runtimes.openvino.graph import read_graph
from .graph.ir import save_ir
from .graph.metadata import facts_for_graphs

__all__ = ["write_variant"]

_TIMED = {p.stored: p.hint for p in (Precision.FP32, Precision.BF16)}
"""What a stored float variant was timed at."""


def write_variant(
    folder: Path, manifest: Manifest, taken: Built, findings: QuantizationFindings
) -> Manifest:
    """Store an INT8 graph in a bundle's folder.

    Parameters
    ----------
    folder : Path
    manifest : Manifest
        As it is.
    taken : Built
        The candidate to store.
    findings : QuantizationFindings

    Returns
    -------
    Manifest
        With the variant, what was measured, and the calibration data's digest and recipe.
    """
    save_ir(read_graph(taken.path), folder / GRAPHS["int8"], facts_for_graphs(manifest))
    quality = taken.candidate.quality
    variant = Variant(
        stored_files(folder, "int8"),
        {
            "loss_db": round(quality.loss_db, 4),
            "budget_db": findings.budget_db,
            "within_budget": quality.loss_db <= findings.budget_db,
            "forced": bool(findings.options["forced"]),
            "psnr_db": quality.psnr_db and round(quality.psnr_db, 3),
            "ssim": quality.ssim and round(quality.ssim, 5),
            "worst_loss_db": round(quality.worst_loss_db, 4),
            "method": taken.candidate.method,
        },
        [_timing(findings, "int8", run) for run in findings.runs if run.precision == "int8"],
    )
    variants = {
        name: _with_timing(kept, name, findings)
        for name, kept in manifest.variants.items()
        if name != "int8"
    }
    facts = findings.data
    calibration = {"digest": facts.digest, "recipe": facts.recipe, "skipped": len(facts.skipped)}
    return replace(manifest, variants={**variants, "int8": variant}, calibration=calibration)


def _with_timing(variant: Variant, name: str, findings: QuantizationFindings) -> Variant:
    """Add the float timing that INT8 was compared with."""
    rows = [
        _timing(findings, name, run) for run in findings.runs if run.precision == _TIMED.get(name)
    ]
    shapes = {row["shape"] for row in rows}
    kept = [row for row in variant.timings if row.get("shape") not in shapes]
    return replace(variant, timings=[*kept, *rows])


def _timing(findings: QuantizationFindings, variant: str, run: RunFacts) -> dict[str, Any]:
    return {
        "runtime": "OpenVINO",
        "variant": variant,
        "precision": run.precision,
        "shape": findings.timing_shape,
        "ms": round(run.ms, 3),
        "cpu": findings.cpu,
        "isa": findings.isa,
        "cores": findings.cores,
    }
