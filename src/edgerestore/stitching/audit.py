"""Audit of a mosaic: every pair with its shift, certainty, residual and drift."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from .._version import __version__
from ..errors import VerificationError, counted
from ..reports.tables import Table
from .grid import Cell
from .job import Stitched
from .placement import Edge

__all__ = ["check_residual", "correlations", "csv_text", "json_text", "pair_rows", "state_of"]

_HEAD = (
    *("first", "second", "state", "reason", "dx_px", "dy_px", "sigma_px", "bound_px"),
    *("confidence", "correlation", "gain", "residual_dx_px", "residual_dy_px", "residual_px"),
    *("drift_px", "planned_dx_px", "planned_dy_px", "estimators"),
)


def state_of(edge: Edge) -> str:
    """Return what became of a pair: measured, resolved, outlier or stage."""
    if edge.outlier:
        return "outlier"
    if edge.chosen is None:
        return "stage"
    return "measured" if edge.shift.best is not None else "resolved"


def _shift(found: Stitched, edge: Edge) -> dict[str, Any]:
    """Return all that is known of a pair, as JSON values."""
    positions, planned = found.placement.positions, found.placement.planned
    seam = np.subtract(positions[edge.second], positions[edge.first])
    plan = np.subtract(planned[edge.second], planned[edge.first])
    candidates = [
        {
            "dx_px": one.dx,
            "dy_px": one.dy,
            "covariance_px2": _values(one.covariance),
            "bound_px2": _values(one.bound),
            "evidence_nats": one.evidence,
            "correlation": one.correlated,
            "gain": one.gain,
            "residual_levels": one.residual,
        }
        for one in edge.shift.candidates
    ]
    return {
        "first": list(edge.first),
        "second": list(edge.second),
        "files": [found.tiles.names.get(cell, "") for cell in (edge.first, edge.second)],
        "state": state_of(edge),
        "reason": edge.shift.reason.value if edge.shift.reason else None,
        "candidates": candidates,
        "chosen": edge.chosen,
        "confidence": edge.shift.confidence,
        "placed_px": [float(value) for value in seam],
        "planned_px": [float(value) for value in plan],
        "residual_px": [edge.dx, edge.dy],
        "drift_px": edge.shift.drift_px,
        "drift": [
            {"at_px": one.at, "dx_px": one.dx, "dy_px": one.dy, "sigma_px": one.sigma}
            for one in edge.shift.drifts
        ],
        "estimators": list(edge.shift.estimators),
    }


def _values(matrix: Any) -> list[list[float]] | None:
    return (
        [[float(value) for value in row] for row in matrix] if np.isfinite(matrix).all() else None
    )


def json_text(found: Stitched) -> str:
    """Return all facts and figures as JSON."""
    placement, options = found.placement, found.options
    names = found.tiles.names
    facts = {
        "version": __version__,
        "grid": [found.tiles.grid.rows, found.tiles.grid.columns],
        "holes": [list(cell) for cell in found.tiles.holes()],
        "mosaic_px": [found.canvas.width, found.canvas.height],
        "tile_px": [found.canvas.tile_width, found.canvas.tile_height],
        "origin_px": [found.canvas.left, found.canvas.top],
        "dtype": str(found.dtype),
        "overlap_px": list(found.overlap),
        "stage": found.stage_source,
        "pixel_um": list(found.pixel_um) if found.pixel_um else None,
        "pixels": {
            "positions": found.measured_on,
            "mosaic": found.shown,
            "restored_by": found.restored_by or None,
            "resampled": options.subpixel,
            "seam": options.seam.value,
        },
        "search_px": [options.pairs.limit_x, options.pairs.limit_y],
        "min_overlap_px": options.pairs.min_overlap,
        "largest_shift_px": list(placement.largest_shift_px),
        "max_residual_px": found.max_residual_px,
        "seconds": found.seconds,
        "tiles": [
            {
                "row": cell[0],
                "column": cell[1],
                "file": names.get(cell, ""),
                "x_px": x,
                "y_px": y,
                "planned_px": list(placement.planned[cell]),
                "placed_by": "stage" if cell in placement.unmeasured else "pairs",
                "unread": found.unread.get(cell),
            }
            for cell, (x, y) in sorted(placement.positions.items())
        ],
        "pairs": [_shift(found, edge) for edge in placement.edges],
        "loops": [
            {"row": one.cell[0], "column": one.cell[1], "dx_px": one.dx, "dy_px": one.dy}
            for one in placement.loops
        ],
    }
    return json.dumps(facts, indent=1, allow_nan=False) + "\n"


def correlations(found: Stitched) -> dict[Cell, float]:
    """Return the best correlation of each tile with a neighbour."""
    best: dict[Cell, float] = {}
    for edge in found.placement.edges:
        if edge.is_measured and edge.chosen is not None:
            value = edge.shift.candidates[edge.chosen].correlated
            for cell in (edge.first, edge.second):
                best[cell] = max(best.get(cell, -1.0), value)
    return best


def pair_rows(found: Stitched) -> list[tuple[object, ...]]:
    """Return a row for every pair, under the heads of the CSV."""
    rows: list[tuple[object, ...]] = []
    planned = found.placement.planned
    for edge in found.placement.edges:
        pick = edge.chosen if edge.chosen is not None else 0
        one = edge.shift.candidates[pick] if edge.shift.candidates else None
        known = one is not None and np.isfinite(one.covariance).all()
        plan = np.subtract(planned[edge.second], planned[edge.first])
        rows.append(
            (
                f"{edge.first[0]},{edge.first[1]}",
                f"{edge.second[0]},{edge.second[1]}",
                state_of(edge),
                edge.shift.reason.value if edge.shift.reason else "",
                round(one.dx, 4) if one else "",
                round(one.dy, 4) if one else "",
                round(one.sigma, 5) if one is not None and known else "",
                round(math.sqrt(max(0.0, float(np.linalg.eigvalsh(one.bound)[-1]))), 5)
                if one is not None and known
                else "",
                round(edge.shift.confidence, 9),
                round(one.correlated, 5) if one else "",
                round(one.gain, 4) if one else "",
                round(edge.dx, 4),
                round(edge.dy, 4),
                round(edge.residual_px, 4),
                round(edge.shift.drift_px, 3),
                round(float(plan[0]), 3),
                round(float(plan[1]), 3),
                " ".join(edge.shift.estimators),
            )
        )
    return rows


def csv_text(found: Stitched) -> str:
    """Return a line for every pair as CSV."""
    return Table(_HEAD, pair_rows(found)).csv()


def check_residual(found: Stitched, most_px: float | None) -> None:
    """Refuse a mosaic whose pairs disagree with it too much.

    Raises
    ------
    VerificationError
        Names the worst pair, and how many are above.
    """
    if most_px is None:
        return
    above = [
        one
        for one in found.placement.edges
        if (one.is_measured or one.outlier) and one.residual_px > most_px
    ]
    if above:
        worst = max(above, key=lambda one: one.residual_px)
        raise VerificationError(
            f"{counted(len(above), 'pair')} lie more than {most_px:g} px beside their measured"
            f" shift, the worst {worst.first}-{worst.second} by {worst.residual_px:.2f} px; see"
            " --html or --csv"
        )
