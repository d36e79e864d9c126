"""An evaluation as one page that needs nothing but itself: no network, no scripts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..bundle.kinds import OutputKind
from ..reports.page import figure, highlights, page, pairs, safe, section, table
from .grids import image_grid, means_grid, notes, origin
from .results import Evaluation, Row, WorstCrop

__all__ = ["html_text"]

_STYLE = """
.beside{display:block;font-weight:400;font-size:.82rem;color:var(--soft)}
details{margin-top:.75rem}summary{cursor:pointer}h3{font-size:.92rem;margin:1.1rem 0 .4rem}
td:nth-child(2),th:nth-child(2){text-align:left}
.crops{display:grid;grid-template-columns:repeat(4,minmax(0,1fr));gap:.75rem;margin-bottom:.5rem}
.crops figure img{width:100%;image-rendering:pixelated;border-radius:0}
@media(max-width:40rem){.crops{grid-template-columns:repeat(2,minmax(0,1fr))}}
"""
_OPEN_ROWS = 12
_GAINS = (1, 2, 5, 10, 20, 50, 100, 200, 500)


def html_text(found: Evaluation) -> str:
    """Return the page: means, every picture's measures, and where each model is farthest off."""
    models = [row for row in found.rows if row.precision]
    title = ", ".join(dict.fromkeys(row.model for row in models))
    body = "".join(
        [
            f"<style>{_STYLE}</style>",
            f"<h1>Evaluation of {safe(title)}</h1>",
            f'<p class="soft">{safe(origin(found))}</p>',
            _highlights(found, models),
            _means(found),
            *(_worst(found, row) for row in models),
            _images(found),
            _setup(found),
        ]
    )
    return page(f"Evaluation of {title}", body)


def _machine(found: Evaluation) -> str:
    machine = found.machine
    return f"{machine['cpu']}, {machine['isa']}, {machine['cores']} cores"


def _highlights(found: Evaluation, models: list[Row]) -> str:
    metric = found.metrics[0]
    choose = max if metric.more_is_better else min
    best = choose(models, key=lambda row: row.mean(metric.key))
    fastest = min(models, key=lambda row: row.milliseconds or 0.0)
    cells = [
        (metric.shown(best.mean(metric.key)), f"{metric.head}, {best.label}, the best"),
        (f"{fastest.milliseconds or 0.0:.1f} ms", f"a picture, {fastest.label}, the fastest"),
        (str(len(models[0].images)), "pictures"),
        (f"{found.border_px} px", "border cut off before measuring"),
    ]
    if found.kind is OutputKind.IMAGE:
        before = found.rows[0].mean(metric.key)
        cells.insert(1, (metric.shown(before), f"{metric.head} of the input"))
    return highlights(cells)


def _means(found: Evaluation) -> str:
    head, rows = means_grid(found)
    return section("Means", table(head, rows), " ".join(notes(found)), beside=_machine(found))


def _worst(found: Evaluation, row: Row) -> str:
    if not row.worst:
        return ""
    content = "".join(_crop(found, crop) for crop in row.worst)
    note = (
        "Pixel by pixel, where a picture's squared error is largest. The difference is output less"
        " target, with grey for none."
    )
    count = "picture" if len(row.worst) == 1 else f"{len(row.worst)} pictures"
    return section(f"{row.label}: the worst {count}", content, note)


def _crop(found: Evaluation, crop: WorstCrop) -> str:
    difference = crop.made - crop.target
    gain = _gain(difference)
    change = np.clip(0.5 + gain * difference, 0, 1)
    words = "difference" if gain == 1 else f"difference, {gain} times"
    if not difference.any():
        words = "no difference"
    given = "input" if found.upscale == 1 else f"input, enlarged {found.upscale} times"
    pictures = (
        (crop.given, given),
        (crop.made, "output"),
        (crop.target, "target"),
        (change.astype(np.float32), words),
    )
    values = [metric.told(crop.score.values[metric.key]) for metric in found.metrics]
    height, width = crop.target.shape[2:]
    head = f"{crop.score.name}: {', '.join(values)}; {width}x{height} px from {crop.x}, {crop.y}"
    shown_pictures = "".join(figure(one, caption, lossless=True) for one, caption in pictures)
    return f'<h3>{safe(head)}</h3><div class="crops">{shown_pictures}</div>'


def _gain(difference: NDArray[np.float32]) -> int:
    """Return how often a difference is shown, so that nearly all of it fits."""
    large = float(np.quantile(np.abs(difference), 0.995)) or float(np.abs(difference).max())
    return max((gain for gain in _GAINS if gain * large <= 0.5), default=1)


def _images(found: Evaluation) -> str:
    parts = []
    for row in found.rows:
        head, lines = image_grid(found, row)
        opened = " open" if len(lines) <= _OPEN_ROWS else ""
        summary = f"<summary>{safe(row.label)}</summary>"
        parts.append(f"<details{opened}>{summary}{table(head, lines)}</details>")
    return section("Every picture", "".join(parts), beside=_machine(found))


def _setup(found: Evaluation) -> str:
    recipe = found.recipe
    rows = [
        ("targets", recipe["targets"]),
        ("inputs", recipe["inputs"] or f"the targets, degraded: {recipe['degradation']}"),
        *([] if recipe["seed"] is None else [("seed", str(recipe["seed"]))]),
        ("strength", f"{recipe['strength']:g}{', eight turns averaged' if recipe['tta'] else ''}"),
        *((metric.title, metric.definition) for metric in found.metrics),
        *((row.label, f"{row.reason}; {row.plan}") for row in found.rows if row.precision),
        ("tools", ", ".join(f"{name} {version}" for name, version in found.tools.items())),
    ]
    return section("How it was measured", pairs(rows))
