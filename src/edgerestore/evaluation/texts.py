"""An evaluation as text: a table for a terminal, CSV and JSON for programs."""

from __future__ import annotations

import csv
import io
import json
import math
from typing import Any

from ..reports.text_grid import grid, plain
from .grids import means_grid, notes
from .results import Evaluation, ImageScore, Row

__all__ = ["csv_text", "json_text", "table_text"]

FORMAT = 1


def table_text(found: Evaluation) -> str:
    """Return the means as an aligned table, and below it how they were measured."""
    head, rows = means_grid(found)
    lines = grid(head, [[plain(cell) for cell in row] for row in rows])
    return "\n".join([*lines, "", *(plain(note) for note in notes(found))])


def csv_text(found: Evaluation) -> str:
    """Return a line for each picture, model and precision, under a header.

    PSNR of equal pictures is ``inf``; the input has no milliseconds. Nothing is rounded.
    """
    keys = [metric.key for metric in found.metrics]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["model", "precision", "image", "width", "height", *keys, "milliseconds"])
    for row in found.rows:
        for score in row.images:
            values = [score.values[key] for key in keys]
            # An empty field for the input, which took no time.
            taken = "" if score.milliseconds is None else score.milliseconds
            size = (score.width, score.height)
            writer.writerow([row.model, row.precision, score.name, *size, *values, taken])
    return file.getvalue()


def json_text(found: Evaluation) -> str:
    """Return everything but the pictures as JSON.

    PSNR of equal pictures is null, and so is a mean where all are equal.
    """
    content = {
        "format": FORMAT,
        "kind": str(found.kind),
        "upscale": found.upscale,
        "border_px": found.border_px,
        "recipe": found.recipe,
        "metrics": {metric.key: metric.definition for metric in found.metrics},
        "machine": found.machine,
        "tools": found.tools,
        "rows": [_row(found, row) for row in found.rows],
    }
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def _row(found: Evaluation, row: Row) -> dict[str, Any]:
    return {
        "model": row.model,
        "precision": row.precision or None,
        "device": row.device or None,
        "precision_reason": row.reason or None,
        "plan": row.plan or None,
        # Over the finite values: so many pictures were equal to their targets.
        "equal": row.equal,
        "means": {m.key: _finite(row.mean(m.key)) for m in found.metrics},
        "milliseconds": row.milliseconds,
        "megapixels_per_second": row.megapixels_per_second,
        "images": [_image(score) for score in row.images],
    }


def _image(score: ImageScore) -> dict[str, Any]:
    return {
        "image": score.name,
        "width": score.width,
        "height": score.height,
        **{key: _finite(value) for key, value in score.values.items()},
        "milliseconds": score.milliseconds,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
