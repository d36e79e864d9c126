"""What conversion measured, for programs (JSON), for a terminal and for people (HTML)."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec.structs

from ..bundle.manifest import Manifest, TilingMode
from ..reports.text_grid import grid, number
from ..runtimes.machine import cpu_facts
from .reference import Reference
from .report_html import render
from .samples import Samples
from .verify import PARITY_LIMIT, ParityRow, PrecisionRow, Timing

__all__ = ["Findings", "TilingProof", "text_table", "write_report"]


@dataclass(frozen=True)
class TilingProof:
    """Tiles against the whole frame, on a real picture at f32.

    Parameters
    ----------
    difference : float
        The largest, in [0, 1] units.
    setup : str
        Sizes of frame and tiles.
    """

    difference: float
    setup: str


@dataclass(frozen=True)
class Findings:
    """Everything that was measured, and what is needed to show it."""

    manifest: Manifest
    parity: list[ParityRow]
    precision: list[PrecisionRow]
    speed: list[Timing]
    tiling: TilingProof
    samples: Samples
    reference: Reference
    eager: bool

    @property
    def yardstick(self) -> str:
        """What the converted model was compared with."""
        return "PyTorch" if self.eager else "the source graph in ONNX Runtime"

    def quality_of(self, variant: str) -> dict[str, Any]:
        """Return a variant's quality against the float model, for the manifest."""
        facts: dict[str, Any] = {
            row.precision: {
                "max_difference": row.max_difference,
                "psnr_db": _finite(row.psnr_db),
                "ssim": round(row.ssim, 6),
            }
            for row in self.precision
            if row.variant == variant
        }
        if variant == "fp32":
            facts["parity_max_difference"] = max(
                max(row.onnxruntime, row.openvino) for row in self.parity
            )
            facts["tiled_max_difference"] = self.tiling.difference
        return facts

    def timings_of(self, variant: str) -> list[dict[str, Any]]:
        """Return a variant's timings for the manifest."""
        return [row.as_dict() for row in self.speed if row.variant == variant]

    def as_dict(self) -> dict[str, Any]:
        """Return the content of ``report.json``."""
        manifest = self.manifest
        cpu = cpu_facts()
        return {
            "name": manifest.name,
            "source": manifest.source,
            "compared_with": self.yardstick,
            "samples": {"names": self.samples.names, "synthetic": self.samples.synthetic},
            "parity": {"limit": PARITY_LIMIT, "rows": [asdict(row) for row in self.parity]},
            "precision": [
                {**asdict(row), "psnr_db": _finite(row.psnr_db)} for row in self.precision
            ],
            "tiling": {**msgspec.structs.asdict(manifest.tiling), **asdict(self.tiling)},
            "speed": [row.as_dict() for row in self.speed],
            "machine": {"cpu": cpu.name, "isa": cpu.isa, "cores": cpu.cores},
            "tools": manifest.tools,
        }


def write_report(folder: Path, findings: Findings) -> None:
    """Write ``report.json`` and ``report.html`` into a bundle's folder.

    Parameters
    ----------
    folder : Path
        Holds the variants already; the pictures are made with them.
    findings : Findings
    """
    facts = findings.as_dict()
    text = json.dumps(facts, indent=2, allow_nan=False) + "\n"
    (folder / "report.json").write_text(text, encoding="utf-8")
    page = render(facts, findings.manifest, findings.reference, findings.samples)
    (folder / "report.html").write_text(page, encoding="utf-8")


def text_table(findings: Findings) -> str:
    """Return what was measured as aligned plain text."""
    manifest, tiling = findings.manifest, findings.manifest.tiling
    cpu = cpu_facts()
    drawn = ", drawn" if findings.samples.synthetic else ""
    if tiling.mode is TilingMode.EXACT:
        cut = f"exact: halo {tiling.halo_px} px, measured {tiling.halo_measured_px} px"
    elif tiling.mode is TilingMode.WHOLE:
        cut = "frames are never cut: a thumbnail of the whole is judged"
    else:
        cut = f"windowed: {tiling.reason}; window {tiling.window_px} px, ramp {tiling.ramp_px} px"
    measured = f"; whole against tiles differ by {number(findings.tiling.difference)}"
    if tiling.mode is TilingMode.WHOLE:
        measured = ""
    source = manifest.source
    head = [
        f"{manifest.name}: {manifest.task}, {source['architecture']} from {source['file']}",
        f"tiles     {cut}{measured}",
        f"machine   {cpu.name}, {cpu.cores} cores, {cpu.isa}",
    ]
    parity = grid(
        ("parity at f32", "ONNX Runtime", "OpenVINO", "sample"),
        [
            (row.size, number(row.onnxruntime), number(row.openvino), row.sample)
            for row in findings.parity
        ],
    )
    precision = grid(
        ("precision", "max diff", "PSNR dB", "SSIM"),
        [
            (
                f"{row.variant} at {row.precision}",
                number(row.max_difference),
                f"{row.psnr_db:.2f}",
                f"{row.ssim:.5f}",
            )
            for row in findings.precision
        ],
    )
    speed = grid(
        ("speed", "shape", "ms"),
        [
            (f"{row.runtime} {row.variant} {row.precision}", row.shape, f"{row.ms:.2f}")
            for row in findings.speed
        ],
    )
    note = f"compared with {findings.yardstick} on {len(findings.samples.names)} pictures{drawn}"
    return "\n".join([*head, "", *parity, "", *precision, "", *speed, "", note])


def _finite(value: float) -> float | None:
    return round(value, 3) if math.isfinite(value) else None
