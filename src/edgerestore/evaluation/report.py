"""Reports of an evaluation: a table for a terminal, CSV, JSON and a page, and their files."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ..errors import ArgumentError, SinkError
from ..imaging.error_translation import translated
from ..reports.pages import render
from ..reports.pictures import Picture, amplified, picture
from ..reports.tables import Table, plain
from ..streams.sinks.partial_file import PartialFile, clear_partials
from .results import Evaluation, Row, WorstCrop
from .scores import SCORING

__all__ = ["csv_text", "html_text", "json_text", "reserved", "table_text"]

FORMAT = 1
_OPEN_ROWS = 12


def table_text(found: Evaluation) -> str:
    """Return the means as an aligned table, and below it how they were measured."""
    return "\n".join([*_means(found).lines(), "", *(plain(note) for note in _notes(found))])


def csv_text(found: Evaluation) -> str:
    """Return a line for each picture, model and precision, under a header.

    PSNR of equal pictures is ``inf``; the input has no milliseconds. Nothing is rounded.
    """
    keys = [metric.key for metric in found.metrics]
    rows = [
        (
            row.model,
            row.precision,
            score.name,
            score.width,
            score.height,
            *(score.values[key] for key in keys),
            "" if score.milliseconds is None else score.milliseconds,
        )
        for row in found.rows
        for score in row.images
    ]
    head = ("model", "precision", "image", "width", "height", *keys, "milliseconds")
    return Table(head, rows).csv()


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
        "rows": [_row_facts(found, row) for row in found.rows],
    }
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def _row_facts(found: Evaluation, row: Row) -> dict[str, Any]:
    return {
        "model": row.model,
        "precision": row.precision or None,
        "device": row.device or None,
        "precision_reason": row.reason or None,
        "plan": row.plan or None,
        # Pictures that equal their targets; means are over the finite values.
        "equal": row.equal,
        "means": {m.key: _finite(row.mean(m.key)) for m in found.metrics},
        "milliseconds": row.milliseconds,
        "megapixels_per_second": row.megapixels_per_second,
        "images": [
            {
                "image": score.name,
                "width": score.width,
                "height": score.height,
                **{key: _finite(value) for key, value in score.values.items()},
                "milliseconds": score.milliseconds,
            }
            for score in row.images
        ],
    }


def html_text(found: Evaluation) -> str:
    """Return a page: means, every picture's metrics, and where each model is farthest off.

    Raises
    ------
    MissingExtraError
        When the libraries of pages are not installed.
    """
    models = [row for row in found.rows if row.precision]
    metric = found.metrics[0]
    best = (max if metric.more_is_better else min)(models, key=lambda row: row.mean(metric.key))
    fastest = min(models, key=lambda row: row.milliseconds or 0.0)
    highlights = [
        (metric.shown(best.mean(metric.key)), f"{metric.head}, {best.label}, the best"),
        (f"{fastest.milliseconds or 0.0:.1f} ms", f"a picture, {fastest.label}, the fastest"),
        (len(models[0].images), "pictures"),
        (f"{found.border_px} px", "border cut off before measuring"),
    ]
    if found.kind.traits.blended:
        before = metric.shown(found.rows[0].mean(metric.key))
        highlights.insert(1, (before, f"{metric.head} of the input"))
    recipe = found.recipe
    return render(
        "evaluation.html",
        title=f"Evaluation of {', '.join(dict.fromkeys(row.model for row in models))}",
        subtitle=_origin(found),
        highlights=highlights,
        machine=_machine(found),
        means=_means(found),
        notes=" ".join(_notes(found)),
        chart=_chart(found, models),
        better="Up" if metric.more_is_better else "Down",
        worst=[
            (row.label, [(_crop_words(found, one), _crop(found, one)) for one in row.worst])
            for row in models
            if row.worst
        ],
        images=[(row.label, _images(found, row)) for row in found.rows],
        open_rows=_OPEN_ROWS,
        setup=[
            ("targets", recipe["targets"]),
            ("inputs", recipe["inputs"] or f"the targets, degraded: {recipe['degradation']}"),
            *([] if recipe["seed"] is None else [("seed", recipe["seed"])]),
            (
                "strength",
                f"{recipe['strength']:g}{', eight turns averaged' if recipe['tta'] else ''}",
            ),
            *((metric.title, metric.definition) for metric in found.metrics),
            *((row.label, f"{row.reason}; {row.plan}") for row in models),
            ("tools", ", ".join(f"{name} {version}" for name, version in found.tools.items())),
        ],
    )


def _chart(found: Evaluation, models: Sequence[Row]) -> str:
    """Return quality against time; nothing where there is too little to compare."""
    from ..reports.charts import Point, frontier, scatter_chart

    metric = found.metrics[0]
    points = [
        Point(row.label, f"{row.label}: {metric.named(mean)}, {ms:.2f} ms", ms, mean)
        for row in models
        if (ms := row.milliseconds) is not None and math.isfinite(mean := row.mean(metric.key))
    ]
    if len(points) < 2:
        return ""
    base = found.rows[0].mean(metric.key)
    shown = found.kind.traits.blended and math.isfinite(base)
    return scatter_chart(
        f"{metric.head} against time, on {_machine(found)}",
        points,
        ("ms a picture, median", metric.head),
        path=frontier(points, more_is_better=metric.more_is_better),
        limit=(base, f"input {metric.shown(base)}") if shown else None,
    )


def _crop_words(found: Evaluation, crop: WorstCrop) -> str:
    values = [metric.named(crop.score.values[metric.key]) for metric in found.metrics]
    height, width = crop.target.shape[2:]
    return f"{crop.score.name}: {', '.join(values)}; {width}x{height} px from {crop.x}, {crop.y}"


def _crop(found: Evaluation, crop: WorstCrop) -> list[Picture]:
    change, gain = amplified(crop.made - crop.target)
    words = f"difference, {gain} times" if gain > 1 else "difference" if gain else "no difference"
    given = "input" if found.upscale == 1 else f"input, enlarged {found.upscale} times"
    shown = ((crop.given, given), (crop.made, "output"), (crop.target, "target"), (change, words))
    return [picture(planes, caption, lossless=True) for planes, caption in shown]


def _means(found: Evaluation) -> Table:
    """Return a line for each row: means, milliseconds, megapixels a second."""
    rows = [
        (
            row.model,
            row.precision or "-",
            *(metric.shown(row.mean(metric.key)) for metric in found.metrics),
            _decimal(row.milliseconds),
            _decimal(row.megapixels_per_second),
        )
        for row in found.rows
    ]
    return Table(("model", "precision", *(m.head for m in found.metrics), "ms", "MP/s"), rows)


def _images(found: Evaluation, row: Row) -> Table:
    rows = [
        (
            score.name,
            f"{score.width}x{score.height}",
            *(metric.shown(score.values[metric.key]) for metric in found.metrics),
            _decimal(score.milliseconds),
        )
        for score in row.images
    ]
    return Table(("picture", "size", *(metric.head for metric in found.metrics), "ms"), rows)


def _origin(found: Evaluation) -> str:
    recipe = found.recipe
    if recipe["inputs"] is not None:
        return f"inputs {recipe['inputs']}, targets {recipe['targets']}"
    seed = "" if recipe["degrade"] in ("none", "downscale") else f", seed {recipe['seed']}"
    return f"inputs made from {recipe['targets']}: {recipe['degradation']}{seed}"


def _notes(found: Evaluation) -> list[str]:
    """Return how the tables were measured, a sentence each."""
    count = len(found.rows[0].images)
    pictures = f"{count} pictures" if count > 1 else "1 picture"
    notes = [
        f"Means over {pictures} with a border of {found.border_px} px cut off; {_origin(found)}."
    ]
    if note := SCORING[found.kind].note:
        notes.append(note)
    if found.upscale > 1:
        notes.append(f"The input is enlarged {found.upscale} times, bicubically (a = -0.5).")
    for row in found.rows:
        if row.equal == len(row.images):
            notes.append(f"{row.label}: all equal their targets.")
        elif row.equal:
            part = f"{row.equal} of {len(row.images)}"
            notes.append(
                f"{row.label}: {part} equal their targets; PSNR is the mean of the others."
            )
    how = []
    if found.recipe["strength"] != 1:
        how.append(f"strength {found.recipe['strength']:g}")
    if found.recipe["tta"]:
        how.append("each picture from eight sides")
    if how:
        notes.append(f"Models ran with {' and '.join(how)}.")
    notes.append(
        f"ms and input megapixels a second: median, one picture at a time, files not counted,"
        f" on {found.machine['device']} ({_machine(found)})."
    )
    return notes


def _machine(found: Evaluation) -> str:
    machine = found.machine
    return f"{machine['cpu']}, {machine['isa']}, {machine['cores']} cores"


def _decimal(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


@contextmanager
def reserved(
    paths: Sequence[Path], *, overwrite: bool, inputs: Sequence[Path]
) -> Iterator[Callable[[Mapping[Path, str | bytes]], None]]:
    """Reserve report files before the work; whatever is not written is removed.

    Yields a function that writes texts or bytes by these paths: all of them, before the first
    gets its name. It raises `SinkError` when the disk refuses.

    Parameters
    ----------
    paths : sequence of Path
    overwrite : bool
        Replace existing files.
    inputs : sequence of Path
        Never replaced.

    Raises
    ------
    ArgumentError
        When one path is named twice.
    SinkError
        When a file exists already, or cannot be made.
    """
    if len({path.resolve() for path in paths}) < len(paths):
        raise ArgumentError("two reports have the same file; name another")
    parts: dict[Path, PartialFile] = {}

    def write(texts: Mapping[Path, str | bytes]) -> None:
        for path, text in texts.items():
            # Names of files may hold bytes that are not text.
            content = text if isinstance(text, bytes) else text.encode("utf-8", "backslashreplace")
            with translated(SinkError, path):
                parts[path].path.write_bytes(content)
        for path in texts:
            parts[path].commit()

    with ExitStack() as stack:
        for path in paths:
            with translated(SinkError, path):
                special = path.exists() and not (path.is_file() or path.is_dir())
            if special:  # renaming would replace a device such as /dev/stdout
                raise SinkError(f"{path}: is no regular file; name another")
            clear_partials([path])
            parts[path] = PartialFile(path, overwrite=overwrite, inputs=inputs)
            stack.callback(parts[path].discard)
        yield write
