"""Report of a converted shift estimator: what was measured, and its pairs as pictures."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from ...imaging.arrays import Planes
from ...reports.pictures import Picture, picture
from ...reports.tables import Table, number
from ..report import Measurements
from .shift_checks import SHIFT_LIMIT_PX, ShiftPrecision, ShiftRow
from .shift_pairs import Pair

__all__ = ["ShiftMeasurements"]

_SHOWN = 2


@dataclass(frozen=True)
class ShiftMeasurements(Measurements):
    """What converting a shift estimator measured.

    Parameters
    ----------
    parity : list of ShiftRow
    precision : list of ShiftPrecision
    pairs : list of Pair
        In the order of `parity`.
    """

    parity: list[ShiftRow]
    precision: list[ShiftPrecision]
    pairs: list[Pair]

    template: ClassVar[str] = "shift.html"

    @property
    def compared_with(self) -> str:
        """The source of the reference values."""
        return "PyTorch"

    @property
    def error_px(self) -> float:
        """Mean distance of the source's estimates from the known shifts; not a check."""
        return float(np.mean([np.hypot(r.dx - r.known_dx, r.dy - r.known_dy) for r in self.parity]))

    @property
    def worst(self) -> float:
        """Largest difference from the source at f32, in pixels."""
        return max(max(row.onnxruntime, row.openvino) for row in self.parity)

    def quality_of(self, variant: str) -> dict[str, Any]:
        """Return a variant's distance from the float model, for the manifest."""
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

    def checks(self) -> dict[str, Any]:
        """Return the part of ``report.json`` that depends on the kind of output."""
        return {
            "parity": {"limit_px": SHIFT_LIMIT_PX, "rows": [asdict(row) for row in self.parity]},
            "known_shift_error_px": round(self.error_px, 4),
            "precision": [asdict(row) for row in self.precision],
        }

    def tables(self) -> tuple[Table, Table]:
        """Return parity and precision, for the terminal and the page alike."""
        parity = [
            (
                row.sample,
                f"({row.known_dx}, {row.known_dy})",
                f"({row.dx:.2f}, {row.dy:.2f})",
                number(row.onnxruntime),
                number(row.openvino),
            )
            for row in self.parity
        ]
        precision = [
            (
                f"{row.variant} at {row.precision}",
                number(row.max_difference_px),
                number(row.mean_difference_px),
            )
            for row in self.precision
        ]
        return (
            Table(("parity at f32", "known", "estimated", "ONNX Runtime", "OpenVINO"), parity),
            Table(("precision", "max diff px", "mean diff px"), precision),
        )

    def tiling_line(self) -> str:
        """Return how frames are cut, in one line."""
        return f"never cut: {self.manifest.tiling.reason}"

    def note(self) -> str:
        """Return what the model was compared on, in one line."""
        drawn = ", drawn" if self.samples.synthetic else ""
        return (
            f"compared with PyTorch on {len(self.pairs)} pairs{drawn}; the estimates lie"
            f" {self.error_px:.2f} px from the known shifts on average"
        )

    def context(self) -> dict[str, Any]:
        """Return the variables of the page that depend on the kind of output."""
        origin = "scenes drawn by the converter" if self.samples.synthetic else "the samples"
        shown = list(zip(self.pairs, self.parity, strict=True))[:_SHOWN]
        return {
            "about": f"{self.manifest.task} (pairs of grey tiles)",
            "highlights": [
                (f"{number(self.worst)} px", "largest difference from the source at f32"),
                (f"{self.error_px:.2f} px", "mean distance of the estimates from known shifts"),
            ],
            "pictures": [_pictures(pair, row) for pair, row in shown],
            "origin": origin,
            "limit": f"{SHIFT_LIMIT_PX:g}",
            "pairs_count": len(self.pairs),
        }


def _pictures(pair: Pair, row: ShiftRow) -> list[Picture]:
    dx, dy = pair.shift
    moved = f"moved by ({dx}, {dy}), estimated ({row.dx:.2f}, {row.dy:.2f})"
    return [
        picture(pair.tiles[:, :1], f"{pair.name}, reference"),
        picture(pair.tiles[:, 1:], moved),
        picture(_overlaid(pair), "both with the known shift undone, red and cyan"),
    ]


def _overlaid(pair: Pair) -> Planes:
    """Return the reference in red under the moved tile in cyan, moved back to its place."""
    dx, dy = pair.shift
    first, second = pair.tiles[0]
    height, width = first.shape
    moved = np.zeros_like(first)
    # Where the moved tile has nothing, it stays black and the reference shows in red.
    rows, columns = slice(max(0, -dy), height - max(0, dy)), slice(max(0, -dx), width - max(0, dx))
    moved[rows, columns] = second[max(0, dy) : height + min(0, dy), max(0, dx) : width + min(0, dx)]
    return np.stack([first, moved, moved])[None]
