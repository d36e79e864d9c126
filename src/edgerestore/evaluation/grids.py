"""The tables of an evaluation in words, for the terminal and the page alike."""

from __future__ import annotations

from ..bundle.kinds import OutputKind
from .results import Evaluation, Row

__all__ = ["image_grid", "means_grid", "notes", "origin"]

Grid = tuple[list[str], list[list[str]]]


def means_grid(found: Evaluation) -> Grid:
    """Return a head and a line for each row: means, milliseconds, megapixels a second."""
    head = ["model", "precision", *(m.head for m in found.metrics), "ms", "MP/s"]
    lines = [
        [
            row.model,
            row.precision or "-",
            *(metric.shown(row.mean(metric.key)) for metric in found.metrics),
            _decimal(row.milliseconds),
            _decimal(row.megapixels_per_second),
        ]
        for row in found.rows
    ]
    return head, lines


def image_grid(found: Evaluation, row: Row) -> Grid:
    """Return a head and a line for each picture of a row."""
    head = ["picture", "size", *(metric.head for metric in found.metrics), "ms"]
    lines = [
        [
            score.name,
            f"{score.width}x{score.height}",
            *(metric.shown(score.values[metric.key]) for metric in found.metrics),
            _decimal(score.milliseconds),
        ]
        for score in row.images
    ]
    return head, lines


def origin(found: Evaluation) -> str:
    """Say where the pictures come from."""
    recipe = found.recipe
    if recipe["inputs"] is not None:
        return f"inputs {recipe['inputs']}, targets {recipe['targets']}"
    seed = "" if recipe["degrade"] in ("none", "downscale") else f", seed {recipe['seed']}"
    return f"inputs made from {recipe['targets']}: {recipe['degradation']}{seed}"


def notes(found: Evaluation) -> list[str]:
    """Return what has to be known to read the tables, a sentence each."""
    count = len(found.rows[0].images)
    pictures = f"{count} pictures" if count > 1 else "1 picture"
    said = [
        f"Means over {pictures} with a border of {found.border_px} px cut off; {origin(found)}."
    ]
    if found.kind is OutputKind.IMAGE:
        said.append("PSNR and SSIM are of RGB, -Y of BT.601 luma (black 16, white 235).")
    if found.upscale > 1:
        said.append(f"The input is enlarged {found.upscale} times, bicubically (a = -0.5).")
    said += [line for row in found.rows for line in _equal_note(row)]
    how = []
    if found.recipe["strength"] != 1:
        how.append(f"strength {found.recipe['strength']:g}")
    if found.recipe["tta"]:
        how.append("each picture from eight sides")
    if how:
        said.append(f"Models ran with {' and '.join(how)}.")
    cpu = f"{found.machine['cpu']}, {found.machine['isa']}, {found.machine['cores']} cores"
    said.append(
        f"ms and input megapixels a second: median, one picture at a time, files not counted,"
        f" on {found.machine['device']} ({cpu})."
    )
    return said


def _equal_note(row: Row) -> list[str]:
    if not row.equal:
        return []
    of_all = "all" if row.equal == len(row.images) else f"{row.equal} of {len(row.images)}"
    rest = "" if row.equal == len(row.images) else "; PSNR is the mean of the others"
    return [f"{row.label}: {of_all} equal their targets{rest}."]


def _decimal(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
