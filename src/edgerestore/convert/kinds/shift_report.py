"""What converting a shift estimator measured: JSON, a page, and a table for the terminal."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...bundle.manifest import Manifest
from ...imaging.arrays import Planes
from ...reports.page import figure, highlights, page, safe, section, table
from ...reports.text_grid import grid, number
from ...runtimes.machine import cpu_facts
from ..report_html import source_section, speed_section
from ..samples import Samples
from ..verify import Timing
from .shift_pairs import Pair

__all__ = [
    "SHIFT_LIMIT_PX",
    "ShiftFindings",
    "ShiftPrecision",
    "ShiftRow",
    "shift_table",
    "write_shift_report",
]

SHIFT_LIMIT_PX = 1e-3
"""Largest difference, in pixels, at which two f32 runs are the same estimator."""

_SHOWN = 2


@dataclass(frozen=True)
class ShiftRow:
    """One pair: its shift, the source's estimate, and how far the converted graphs are from it.

    All in pixels; ``onnxruntime`` and ``openvino`` are the larger of the two axes.
    """

    sample: str
    known_dx: int
    known_dy: int
    dx: float
    dy: float
    onnxruntime: float
    openvino: float


@dataclass(frozen=True)
class ShiftPrecision:
    """How far a stored variant at one precision is from the source, over all pairs, in pixels."""

    variant: str
    precision: str
    max_difference_px: float
    mean_difference_px: float


@dataclass(frozen=True)
class ShiftFindings:
    """Everything that was measured, and what is needed to show it."""

    manifest: Manifest
    parity: list[ShiftRow]
    precision: list[ShiftPrecision]
    speed: list[Timing]
    pairs: list[Pair]
    samples: Samples

    @property
    def error_px(self) -> float:
        """The source's own mean distance from the known shifts: its quality, which is no check."""
        return float(np.mean([np.hypot(r.dx - r.known_dx, r.dy - r.known_dy) for r in self.parity]))

    @property
    def worst(self) -> float:
        """The largest difference from the source at f32."""
        return max(max(row.onnxruntime, row.openvino) for row in self.parity)

    def quality_of(self, variant: str) -> dict[str, Any]:
        """Return a variant's distance to the float model, for the manifest."""
        facts: dict[str, Any] = {
            row.precision: {
                "max_difference_px": row.max_difference_px,
                "mean_difference_px": row.mean_difference_px,
            }
            for row in self.precision
            if row.variant == variant
        }
        if variant == "fp32":
            facts["parity_max_difference_px"] = self.worst
            facts["known_shift_error_px"] = round(self.error_px, 4)
        return facts

    def timings_of(self, variant: str) -> list[dict[str, Any]]:
        """Return a variant's timings for the manifest."""
        return [row.as_dict() for row in self.speed if row.variant == variant]

    def as_dict(self) -> dict[str, Any]:
        """Return the content of ``report.json``."""
        cpu = cpu_facts()
        return {
            "name": self.manifest.name,
            "source": self.manifest.source,
            "compared_with": "PyTorch",
            "samples": {"names": self.samples.names, "synthetic": self.samples.synthetic},
            "parity": {"limit_px": SHIFT_LIMIT_PX, "rows": [asdict(row) for row in self.parity]},
            "known_shift_error_px": round(self.error_px, 4),
            "precision": [asdict(row) for row in self.precision],
            "speed": [row.as_dict() for row in self.speed],
            "machine": {"cpu": cpu.name, "isa": cpu.isa, "cores": cpu.cores},
            "tools": self.manifest.tools,
        }


def write_shift_report(folder: Path, findings: ShiftFindings) -> None:
    """Write ``report.json`` and ``report.html`` into a bundle's folder."""
    facts = findings.as_dict()
    text = json.dumps(facts, indent=2, allow_nan=False) + "\n"
    (folder / "report.json").write_text(text, encoding="utf-8")
    (folder / "report.html").write_text(_render(facts, findings), encoding="utf-8")


_PARITY = ("parity at f32", "known", "estimated", "ONNX Runtime", "OpenVINO")
_PRECISION = ("precision", "max diff px", "mean diff px")


def shift_table(findings: ShiftFindings) -> str:
    """Return what was measured as aligned plain text."""
    manifest, source, cpu = findings.manifest, findings.manifest.source, cpu_facts()
    drawn = ", drawn" if findings.samples.synthetic else ""
    head = [
        f"{manifest.name}: {manifest.task}, {source['architecture']} from {source['file']}",
        f"tiles     never cut: {manifest.tiling.reason}",
        f"machine   {cpu.name}, {cpu.cores} cores, {cpu.isa}",
    ]
    parity = grid(_PARITY, _parity_rows(findings))
    precision = grid(_PRECISION, _precision_rows(findings))
    speed = grid(
        ("speed", "shape", "ms"),
        [
            (f"{row.runtime} {row.variant} {row.precision}", row.shape, f"{row.ms:.2f}")
            for row in findings.speed
        ],
    )
    note = (
        f"compared with PyTorch on {len(findings.pairs)} pairs{drawn}; the estimates lie"
        f" {findings.error_px:.2f} px from the known shifts on average"
    )
    return "\n".join([*head, "", *parity, "", *precision, "", *speed, "", note])


def _parity_rows(findings: ShiftFindings) -> list[tuple[str, ...]]:
    return [
        (
            row.sample,
            f"({row.known_dx}, {row.known_dy})",
            f"({row.dx:.2f}, {row.dy:.2f})",
            number(row.onnxruntime),
            number(row.openvino),
        )
        for row in findings.parity
    ]


def _precision_rows(findings: ShiftFindings) -> list[tuple[str, ...]]:
    return [
        (
            f"{row.variant} at {row.precision}",
            number(row.max_difference_px),
            number(row.mean_difference_px),
        )
        for row in findings.precision
    ]


def _render(facts: dict[str, Any], findings: ShiftFindings) -> str:
    manifest = findings.manifest
    about = f"{manifest.task} (pairs of grey tiles), licence {manifest.licence}"
    fastest = min(findings.speed, key=lambda row: row.ms)
    size = sum(f.bytes for v in manifest.variants.values() for f in v.files.values())
    cells = [
        (f"{number(findings.worst)} px", "largest difference from the source at f32"),
        (f"{findings.error_px:.2f} px", "mean distance of the estimates from the known shifts"),
        (f"{fastest.ms:.1f} ms", f"{fastest.shape}, {fastest.runtime} {fastest.precision}"),
        (f"{size / 1e6:.2f} MB", "graphs and weights, all variants"),
    ]
    parity = (
        "Pixels; the largest difference of dx and dy from PyTorch, all at f32."
        f" Limit {SHIFT_LIMIT_PX:g}."
    )
    precision = f"Over {len(findings.pairs)} pairs, against PyTorch at f32."
    body = [
        f"<h1>{safe(manifest.name)}</h1>",
        f'<p class="soft">{safe(" · ".join(filter(None, (manifest.summary, about))))}</p>',
        highlights(cells),
        _pictures(findings),
        section("Parity", table(_PARITY, _parity_rows(findings)), parity),
        section("Precision", table(_PRECISION, _precision_rows(findings)), precision),
        speed_section(facts),
        source_section(facts, manifest),
    ]
    return page(f"{manifest.name}: conversion report", "".join(body))


def _pictures(findings: ShiftFindings) -> str:
    rows = []
    for pair, row in list(zip(findings.pairs, findings.parity, strict=True))[:_SHOWN]:
        dx, dy = pair.shift
        shown = (
            (pair.tiles[:, :1], f"{pair.name}, reference"),
            (pair.tiles[:, 1:], f"moved by ({dx}, {dy}), estimated ({row.dx:.2f}, {row.dy:.2f})"),
            (_overlaid(pair), "both with the known shift undone, red and cyan"),
        )
        figures = "".join(figure(picture, caption) for picture, caption in shown)
        rows.append(f'<div class="pictures">{figures}</div>')
    origin = "scenes drawn by the converter" if findings.samples.synthetic else "the samples"
    note = f"Pairs cut from {origin}. A shift is how far the second tile's content is moved."
    return section("Pairs", "".join(rows), note)


def _overlaid(pair: Pair) -> Planes:
    """Return the reference in red under the moved tile in cyan, at its own place again."""
    dx, dy = pair.shift
    first, second = pair.tiles[0]
    height, width = first.shape
    moved = np.zeros_like(first)
    # Where the moved tile has nothing, it stays black and the reference shows in red.
    rows, columns = slice(max(0, -dy), height - max(0, dy)), slice(max(0, -dx), width - max(0, dx))
    moved[rows, columns] = second[max(0, dy) : height + min(0, dy), max(0, dx) : width + min(0, dx)]
    return np.stack([first, moved, moved])[None]
