"""Text of a card: its facts brought into the template."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..bundle.bundle import Bundle
from ..bundle.manifest import Manifest, TilingMode
from ..bundle.precision import Precision
from ..bundle.scores import stored_scores
from ..engine.speed import recorded_frame_times
from ..reports.pages import render
from ..reports.tables import Table, escaped, number
from ..runtimes.machine import tool_versions
from ..training.dataset import Dataset, PictureEntry, SplitName
from .figures import Measured, quality_table
from .origin import Origin, TrainingRun, described
from .showcase import Shown

__all__ = ["Findings", "page_text"]

_NO_EVIDENCE = {
    True: "Evidence, identification, diagnosis and measurement: a restored picture is a likely one,"
    " and its detail was not seen by the camera.",
    False: "Evidence, identification and measurement: a mask is a guess, and no decision about a"
    " person may rest on it.",
}
_LITTLE_DB = 0.1
_FEW = 8  # pictures that are named in the text
_SCHEDULE = ("steps", "batch", "crop_px", "learning_rate", "warmup_steps", "decay", "seed")
_INT8 = {
    "loss_db": "loss against float, dB",
    "worst_loss_db": "loss of the worst crop, dB",
    "budget_db": "budget, dB",
    "method": "method",
}
_INT8_KIND = {
    "loss_db": "loss dB",
    "worst_loss_db": "worst crop dB",
    "float_db": "float dB",
    "int8_db": "int8 dB",
    "within_budget": "within budget",
}

Part = tuple[str, Table]
"""A table and the line above it."""


@dataclass(frozen=True)
class Findings:
    """What was measured for a card, and the names of its pictures.

    Parameters
    ----------
    measured : sequence of sequence of Measured
        A sequence for each set of held-out pictures.
    skipped : sequence of Precision
        Precisions of the bundle that this machine does not compute.
    shown : mapping of str to Shown
        By file name: success, then failure.
    trained_on : collection of str
        Names of shown pictures that the model was trained on.
    curves : str or None
        File name.
    """

    measured: Sequence[Sequence[Measured]]
    skipped: Sequence[Precision]
    shown: Mapping[str, Shown]
    trained_on: Collection[str]
    curves: str | None


def page_text(bundle: Bundle, origin: Origin, findings: Findings) -> str:
    """Return a card as Markdown."""
    manifest = bundle.manifest
    return render(
        "card.md",
        name=escaped(manifest.name),
        summary=escaped(manifest.summary),
        facts=_facts(manifest),
        uses=_uses(manifest, origin),
        limits=_limits(manifest, origin, findings),
        pictures=_pictures(findings),
        pictures_note=_pictures_note(origin, findings),
        quality=[(_heading(part, origin), quality_table(part)) for part in findings.measured],
        quality_note=_quality_note(findings),
        stored=list(_stored(manifest)),
        speed=_speed(bundle),
        data=list(_data(manifest, origin)),
        folds=list(_folds(origin)),
        recipe=_recipe(manifest, origin),
        runs=_runs(origin.runs),
        runs_note=_runs_note(origin),
        curves=findings.curves,
        weights=_weights(bundle),
        tools=_versions(manifest.tools),
        card_tools=_versions(tool_versions()),
    )


def _facts(manifest: Manifest) -> Table:
    port, tiling = manifest.output, manifest.tiling
    larger = f", {port.upscale} times as large" if port.upscale > 1 else ""
    tiles = {
        TilingMode.EXACT: f"exact, halo {tiling.halo_px} px",
        TilingMode.WINDOWED: f"windows of {tiling.window_px} px, not exact",
        TilingMode.WHOLE: "never cut",
    }
    gmac, parameters = manifest.gmac_720p, manifest.parameters
    rows = [
        ("task", manifest.task),
        ("family", manifest.family or "none"),
        ("trained for", manifest.suited_for or "not stated"),
        ("licence of the weights", manifest.licence),
        ("takes", f"{manifest.input.channels} channels"),
        ("returns", f"{port.kind}, {port.channels} channels{larger}"),
        ("tiles", tiles[tiling.mode]),
        ("parameters", "not recorded" if parameters is None else f"{parameters:,}"),
        ("GMAC of a 1280x720 frame", "not recorded" if gmac is None else f"{gmac:g}"),
    ]
    return Table(("", ""), rows)


def _uses(manifest: Manifest, origin: Origin) -> list[str]:
    told = origin.recipe.uses if origin.recipe else ()
    suited = manifest.suited_for
    return [escaped(line) for line in told or (f"Trained for: {suited or 'not stated'}.",)]


def _limits(manifest: Manifest, origin: Origin, findings: Findings) -> list[str]:
    told = origin.recipe.limits if origin.recipe else ()
    lines = [*told, _NO_EVIDENCE[manifest.output.kind.traits.blended]]
    lines += [line for part in findings.measured for one in part for line in _measured_limit(one)]
    if not told:
        lines.append("Other limits are not known: no recipe states them.")
    return [escaped(line) for line in lines]


def _measured_limit(one: Measured) -> Iterator[str]:
    """Yield a line for inputs on which the mean gain is too small to be seen."""
    found, key = one.found, one.found.metrics[0].key
    if key != "psnr_db" or found.recipe["degrade"] == "none":
        return
    gain = found.rows[1].mean(key) - found.rows[0].mean(key)
    if gain < _LITTLE_DB:
        verb = "gains only" if gain > 0 else "loses"
        yield f"{one.held_out.name}, {one.degradation}: PSNR {verb} {abs(gain):.2f} dB."


def _pictures(findings: Findings) -> list[dict[str, str]]:
    ends = {
        "success": "here the gain is largest",
        "failure": "here the gain is smallest, or the loss largest",
    }
    made = []
    for (title, end), (file, shown) in zip(ends.items(), findings.shown.items(), strict=False):
        change, found = shown.change, shown.measured.found
        metric, name = found.metrics[0], change.image.name
        before = "" if change.before is None else f"{metric.shown(change.before)} → "
        trained = " The model was trained on it." * (name in findings.trained_on)
        made.append(
            {
                "title": f"{title}: input, restored, truth",
                "file": file,
                "caption": f"**{title.capitalize()}** (input, restored, truth): {end}."
                f" {escaped(name)}, {escaped(shown.measured.degradation)}; {metric.title} {before}"
                f"{metric.shown(change.after)} {metric.unit} over the whole picture at"
                f" {found.rows[-1].precision}.{trained}",
            }
        )
    return made


def _pictures_note(origin: Origin, findings: Findings) -> str:
    if not findings.shown:
        return "No pictures were given."
    part = next(iter(findings.shown.values())).measured
    count, name = len(part.found.rows[0].images), escaped(part.held_out.name)
    note = f"Chosen from {count} pictures of {name}."
    if not origin.complete:
        note += " Whether the model was trained on them is not known."
    return note


def _heading(part: Sequence[Measured], origin: Origin) -> str:
    held_out, images = part[0].held_out, part[0].found.rows[0].images
    what = "picture" if held_out.inputs is None else "pair"
    names = f" ({', '.join(one.name for one in images)})" if len(images) <= _FEW else ""
    known = "" if origin.complete else ", not compared with the training data"
    count = f"{len(images)} {what}{'s' * (len(images) != 1)}"
    return escaped(f"{count} of {held_out.name}{names}{known}:")


def _quality_note(findings: Findings) -> str:
    if not findings.measured:
        return "Not measured for this card: no held-out pictures were given."
    found = findings.measured[0][0].found
    machine, cut = found.machine, found.border_px
    notes = [
        "Means over the pictures.",
        "Input → restored (gain)." if found.kind.traits.blended else "",
        *(
            f"{'' if one.definition.startswith(one.title) else f'{one.title}: '}{one.definition}."
            for one in found.metrics[:2]
        ),
        f"{cut} px are cut off each side before measuring." if cut else "",
        f"Seed {found.recipe['seed'] or 0}. On {machine['device']}: {machine['cpu']},"
        f" {machine['isa']}, {machine['cores']} cores; OpenVINO {found.tools.get('openvino')}.",
    ]
    if findings.skipped:
        names = ", ".join(findings.skipped)
        notes.append(f"Not measured, since this processor does not compute them: {names}.")
    return escaped(" ".join(note for note in notes if note))


def _stored(manifest: Manifest) -> Iterator[Part]:
    """Yield what the manifest says of the quality of each precision."""
    scores = [
        (
            score["data"],
            score["precision"],
            f"{score['metric']} {score['unit']}".strip(),
            "-" if score["before"] is None else f"{score['before']:.4g}",
            f"{score['value']:.4g}",
        )
        for score in stored_scores(manifest)
    ]
    if scores:
        head = ("pictures", "precision", "metric", "input", "restored")
        yield "Means against ground truth; the machine is not recorded:", Table(head, scores)
    rows = [
        (precision, number(float(facts["max_difference"])), facts["psnr_db"])
        for precision in Precision
        if precision.stored in manifest.variants
        and isinstance(
            facts := manifest.variants[precision.stored].quality.get(precision.hint), dict
        )
        and {"max_difference", "psnr_db"} <= facts.keys()
    ]
    if rows:
        columns = ("precision", "largest difference", "PSNR dB")
        yield "Distance to the float network, where white is 1:", Table(columns, rows)
    int8 = manifest.variants.get("int8")
    if int8 is None:
        return
    facts = [(name, int8.quality.get(key, "not recorded")) for key, name in _INT8.items()]
    yield "INT8:", Table(("", ""), facts)
    kinds = int8.quality.get("kinds")
    if isinstance(kinds, dict) and kinds:
        lines = [
            (kind, *(_fact(told.get(key)) for key in _INT8_KIND)) for kind, told in kinds.items()
        ]
        yield "INT8 by kind of input:", Table(("input", *_INT8_KIND.values()), lines)


def _fact(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)


def _speed(bundle: Bundle) -> Table:
    rows = [
        (
            f"{time.width}x{time.height}",
            time.precision,
            f"{time.ms:.1f}",
            f"{1e3 / time.ms:.3g}",
            f"{time.device}: {time.machine}",
        )
        for time in sorted(recorded_frame_times(bundle), key=lambda time: (-time.pixels, time.ms))
    ]
    return Table(("frame", "precision", "ms", "frames/s", "measured on"), rows)


def _data(manifest: Manifest, origin: Origin) -> Iterator[str]:
    for dataset in origin.datasets:
        yield _dataset(dataset)
    if not origin.datasets:
        yield "Training data is not known: no dataset folder was given."
    elif not origin.runs:
        yield "That the model was trained on it is not verified: no run was given."
    if origin.datasets and origin.unnamed:
        yield f"Trained on other datasets too, not described here: {', '.join(origin.unnamed)}."
    recipe = (manifest.calibration or {}).get("recipe")
    if isinstance(recipe, dict):
        parts = [recipe.get(name) for name in ("calibration", "held_out")]
        files = [name for part in parts if isinstance(part, dict) for name in part.get("files", ())]
        degraded = recipe.get("degradation") or recipe.get("flaw", "")  # older: flaw
        yield escaped(f"INT8 was calibrated and judged on {', '.join(files)}: {degraded}.")


def _kinds(dataset: Dataset) -> dict[str, Sequence[PictureEntry]]:
    manifest = dataset.manifest
    kinds = {"photographs": manifest.photographs, "objects": manifest.objects}
    return {what: entries for what, entries in kinds.items() if entries}


def _dataset(dataset: Dataset) -> str:
    manifest = dataset.manifest
    pairs = ", ".join(f"{count} {split}" for split, count in manifest.counts.items())
    made_of = []
    for what, entries in _kinds(dataset).items():
        counts = (f"{sum(one.split == split for one in entries)} {split}" for split in SplitName)
        made_of.append(f"{len(entries)} {what} ({', '.join(counts)})")
    return (
        f"Dataset {dataset.digest}: pairs ({pairs}) of {' and of '.join(made_of)}; no picture is in"
        f" two splits. Seed {manifest.seed}; made by {_versions(manifest.tools)}."
    )


def _folds(origin: Origin) -> Iterator[tuple[str, str]]:
    """Yield title and text of what is long: names of pictures, mixes of pairs, licences."""
    for dataset in origin.datasets:
        lines = [
            f"{what}, {split}: {', '.join(one.name for one in entries if one.split == split)}"
            for what, entries in _kinds(dataset).items()
            for split in SplitName
            if any(one.split == split for one in entries)
        ]
        yield f"Pictures of dataset {dataset.digest}", "\n".join(lines)
        mix = json.dumps(dataset.manifest.pairs, indent=2, sort_keys=True)
        yield f"Mix of dataset {dataset.digest}", mix
    for name, text in origin.sources:
        yield f"Sources and licences: {name}", text.strip()


def _recipe(manifest: Manifest, origin: Origin) -> Table:
    source, recipe = manifest.source, origin.recipe
    arguments = source.get("arguments")
    rows = [("network", str(source.get("architecture", "not recorded")))]
    if isinstance(arguments, dict):
        rows.append(("arguments", "; ".join(f"{k} {described(v)}" for k, v in arguments.items())))
    if recipe is not None:
        rows += [
            ("recipe", f"{recipe.name}: {recipe.summary}"),
            ("objective", described(recipe.objective)),
            ("crops turned and mirrored", _fact(recipe.orientations)),
            ("colours permuted", _fact(recipe.color_orders)),
        ]
    return Table(("", ""), rows)


def _runs(runs: Sequence[TrainingRun]) -> Table:
    rows = [
        (
            f"{at}, {run.recipe}",
            run.steps,
            *(described(run.schedule.get(name, "-")) for name in _SCHEDULE),
            run.teacher or "none",
        )
        for at, run in enumerate(runs, 1)
    ]
    return Table(("run", "done", *(name.replace("_", " ") for name in _SCHEDULE), "teacher"), rows)


def _runs_note(origin: Origin) -> str:
    if not origin.runs:
        return "How it was trained is not known: no folder of `edgerestore train` was given."
    told = "Objective, turns and colours are the recipe's of today."
    if origin.verified:
        return f"The bundle was converted from the last run's weights (same sha256). {told}"
    return f"The last run has no `model.pth`, so the bundle is not verified to be of it. {told}"


def _weights(bundle: Bundle) -> Table:
    rows = [
        (variant, bundle.digest(variant), sum(file.bytes for file in stored.files.values()))
        for variant, stored in bundle.manifest.variants.items()
    ]
    return Table(("variant", "digest", "bytes"), rows)


def _versions(tools: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in tools.items()) or "unknown tools"
