"""Report of a converted shift estimator: what was measured, and its pairs as pictures."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from ...bundle.manifest import Manifest
from ...imaging.arrays import Planes
from ...reports.pictures import Picture, picture
from ...reports.tables import Table, number
from ..report import Measurements
from ..samples import Samples
from ..verify import Timing
from .shift_checks import SHIFT_LIMIT_PX, Pair, ShiftPrecision, ShiftRow

__all__ = ["shift_measurements"]

_SHOWN = 2


def shift_measurements(
    manifest: Manifest,
    samples: Samples,
    speed: list[Timing],
    parity: list[ShiftRow],
    precision: list[ShiftPrecision],
    pairs: list[Pair],
) -> Measurements:
    """Return the results for a shift estimator.

    Parameters
    ----------
    manifest : Manifest
    samples : Samples
        What the pairs were cut from.
    speed : list of Timing
    parity : list of ShiftRow
    precision : list of ShiftPrecision
    pairs : list of Pair
        In the order of `parity`.
    """
    worst = max(max(row.onnxruntime, row.openvino) for row in parity)
    # The quality of the source itself, which is not a check of the conversion.
    error_px = float(np.mean([np.hypot(r.dx - r.known_dx, r.dy - r.known_dy) for r in parity]))
    quality: dict[str, dict[str, Any]] = {}
    for row in precision:
        quality.setdefault(row.variant, {})[row.precision] = {
            "max_difference_px": row.max_difference_px,
            "mean_difference_px": row.mean_difference_px,
        }
    quality["fp32"]["parity_max_difference_px"] = worst
    quality["fp32"]["known_shift_error_px"] = round(error_px, 4)
    drawn = ", drawn" if samples.synthetic else ""
    return Measurements(
        manifest=manifest,
        samples=samples,
        speed=speed,
        compared_with="PyTorch",
        quality=quality,
        checks={
            "parity": {"limit_px": SHIFT_LIMIT_PX, "rows": [asdict(row) for row in parity]},
            "known_shift_error_px": round(error_px, 4),
            "precision": [asdict(row) for row in precision],
        },
        parity=Table(
            ("parity at f32", "known", "estimated", "ONNX Runtime", "OpenVINO"),
            [
                (
                    row.sample,
                    f"({row.known_dx}, {row.known_dy})",
                    f"({row.dx:.2f}, {row.dy:.2f})",
                    number(row.onnxruntime),
                    number(row.openvino),
                )
                for row in parity
            ],
        ),
        precision=Table(
            ("precision", "max difference px", "mean difference px"),
            [
                (
                    f"{row.variant} at {row.precision}",
                    number(row.max_difference_px),
                    number(row.mean_difference_px),
                )
                for row in precision
            ],
        ),
        tiling=f"never cut: {manifest.tiling.reason}",
        note=(
            f"compared with PyTorch on {len(pairs)} pairs{drawn}; the estimates lie"
            f" {error_px:.2f} px from the known shifts on average"
        ),
        template="shift.html",
        page={
            "about": f"{manifest.task} (pairs of grey tiles)",
            "highlights": [
                (f"{number(worst)} px", "largest difference from the source at f32"),
                (f"{error_px:.2f} px", "mean distance of the estimates from known shifts"),
            ],
            "pictures": [_pictures(*one) for one in zip(pairs[:_SHOWN], parity, strict=False)],
            "origin": "scenes drawn by the converter" if samples.synthetic else "the samples",
            "limit": f"{SHIFT_LIMIT_PX:g}",
            "pairs_count": len(pairs),
        },
    )


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
