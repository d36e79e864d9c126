"""Reports of a search: a table, a page, JSON, and the best settings as a recipe file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from ..errors import SinkError
from ..imaging.error_translation import translated
from ..reports.charts import Point, scatter_chart
from ..reports.pages import render
from ..reports.tables import Table
from .search_results import SearchResults, TrialResult, TrialStatus
from .space import Settings

__all__ = ["front_table", "recipe_text", "trial_line", "write_report"]

FORMAT = 1
_OPEN_ROWS = 12
_GAIN = "gain dB"
_LEAST_SHARE = 0.01  # of what decides, to be told
_TOOLS = ("optuna", "torch")


def write_report(found: SearchResults, folder: Path, reference: str) -> None:
    """Write ``front.json``, ``report.html`` and, once there is one, the best trial's ``best.py``.

    Parameters
    ----------
    found : SearchResults
    folder : Path
    reference : str
        Name or file of the recipe that is searched.

    Raises
    ------
    SinkError
        When a file cannot be written; the one before is kept.
    """
    texts = {"front.json": _json(found), "report.html": _page(found)}
    if found.best is not None:
        texts["best.py"] = recipe_text(found, found.best, folder, reference)
    for name, text in texts.items():
        path = folder / name
        with translated(SinkError, path):
            beside = path.with_name(f"{name}.part")
            beside.write_text(text, "utf-8", "backslashreplace")
            beside.replace(path)


def trial_line(one: TrialResult) -> str:
    """Return a trial in one line."""
    words = f"trial {one.number}: {one.gmac:.2f} GMAC"
    if one.status is TrialStatus.FAILED:
        return f"{words}, failed: {one.reason}"
    pruned = f", pruned after step {one.step}" if one.status is TrialStatus.PRUNED else ""
    return f"{words}, {_gain(one)} dB{pruned}"


def front_table(found: SearchResults) -> Table:
    """Return the trials that none beats in both gain and cost; the best is marked."""
    return _table(found, found.front)


def recipe_text(found: SearchResults, one: TrialResult, folder: Path, reference: str) -> str:
    """Return the module of a recipe with a trial's settings.

    Parameters
    ----------
    found : SearchResults
    one : TrialResult
    folder : Path
        That it is to be in: a recipe file of one's own is found from there.
    reference : str
        Name or file of the recipe.
    """
    own = reference.endswith(".py")
    start = os.path.relpath(reference, folder) if own else reference
    loaded = f"str(Path(__file__).parent / {start!r})" if own else repr(start)
    path = "from pathlib import Path\n\n" if own else ""
    datasets = " ".join(f"--data {dataset}" for dataset in found.datasets)
    fields = ""
    for field in Settings.__dataclass_fields__:
        values = getattr(one.settings, field)
        lines = "".join(f'        "{name}": {value!r},\n' for name, value in values.items())
        fields += f"    {field}={{\n{lines}    }},\n" if values else ""
    return f'''"""Recipe {found.plan["recipe"]} with the best settings of a search.

Trial {one.number} of {len(found.finished)}: {_gain(one)} dB after {one.step} steps, with \
{one.gmac:.4g} GMAC per 1280x720 frame.
The order of datasets is that of the shares: {datasets}
"""

{path}from edgerestore.training.recipes import load_recipe
from edgerestore.training.space import Settings

SETTINGS = Settings(
{fields})
RECIPE = SETTINGS.applied_to(load_recipe({loaded}))
'''


def _json(found: SearchResults) -> str:
    best = found.best
    content = {
        "format": FORMAT,
        **{name: getattr(found, name) for name in found.__struct_fields__},
        "front": [one.number for one in found.front],
        "best": None if best is None else best.number,
        "tools": {name: version(name) for name in _TOOLS},
    }
    return msgspec.json.format(msgspec.json.encode(content), indent=2).decode() + "\n"


def _page(found: SearchResults) -> str:
    plan, space, best = found.plan, found.plan["space"], found.best
    budget = plan["budget_gmac"]
    counts = [
        f"{sum(one.status is status for one in found.trials)} {status}"
        for status in TrialStatus
        if any(one.status is status for one in found.trials)
    ]
    own = next((one for one in found.complete if one.own), None)
    highlights = [
        *([] if best is None else [(f"{_gain(best)} dB", f"trial {best.number}, the best")]),
        *([] if best is None else [(f"{best.gmac:.2f} GMAC", "of the best, per 1280x720 frame")]),
        *([] if own is None else [(f"{_gain(own)} dB", f"trial {own.number}, the recipe's own")]),
        (len(found.finished), f"trials: {', '.join(counts)}"),
        (f"{found.seconds / 3600:.1f} h", "of training"),
    ]
    return render(
        "search.html",
        title=f"Search of {plan['recipe']}",
        subtitle=f"{_SAMPLERS[plan['sampler']]}, trials of {plan['steps']} steps, "
        + ("no budget" if budget is None else f"at most {budget:g} GMAC per 1280x720 frame"),
        highlights=highlights,
        chart=_chart(found),
        front=front_table(found),
        importances=Table(
            ("setting", "share"),
            [
                (name.replace("_", " "), f"{share:.0%}")
                for name, share in found.importances.items()
                if share >= _LEAST_SHARE
            ],
        ),
        trials=_table(found, found.trials, every=True),
        failures=Table(
            ("trial", "reason"),
            [(one.number, one.reason) for one in found.trials if one.reason],
        ),
        open_rows=_OPEN_ROWS,
        setup=[
            *((f"dataset {at}", folder) for at, folder in enumerate(found.datasets)),
            *((f"space: {name}", _worded(value, " to ")) for name, value in space.items() if value),
            ("seed", plan["seed"]),
            (
                "validation",
                "the first pairs of each dataset's validation split, whatever its share",
            ),
            ("pruning", "the median of the trials before, from a quarter of the steps on"),
            ("tools", ", ".join(f"{name} {version(name)}" for name in _TOOLS)),
        ],
    )


_SAMPLERS = {"tpe": "TPE", "cma": "CMA-ES"}


def _chart(found: SearchResults) -> str:
    """Return gain against cost; nothing where there is too little to compare."""
    if len(found.complete) < 2:
        return ""
    best = found.best
    points = {
        one.number: Point(
            str(one.number),
            f"trial {one.number}: {_gain(one)} dB, {one.gmac:.4g} GMAC",
            one.gmac,
            one.gain_db or 0.0,
            shape="square" if one.own else "circle",
            chosen=one is best,
        )
        for one in found.complete
    }
    return scatter_chart(
        "Gain against multiply-adds",
        list(points.values()),
        ("GMAC per 1280x720 frame", "validation gain, dB"),
        path=[points[one.number] for one in found.front],
    )


def _table(found: SearchResults, trials: Sequence[TrialResult], *, every: bool = False) -> Table:
    """Return a row for each trial; ``every`` tells how each ended."""
    parts = {
        "trial": [str(one.number) + (" (recipe)" if one.own else "") for one in trials],
        _GAIN: [_gain(one) for one in trials],
        "GMAC": [f"{one.gmac:.2f}" for one in trials],
        **({"end": [_end(one) for one in trials]} if every else {}),
        "rate": [_worded(one.settings.schedule.get("learning_rate", "")) for one in trials],
        "losses": [_worded(one.settings.losses) for one in trials],
        "shares": [_worded(one.settings.schedule.get("shares", "")) for one in trials],
        "widths": [_worded(one.settings.network.get("widths", "")) for one in trials],
        "down": [_worded(one.settings.network.get("encode_depths", "")) for one in trials],
        "up": [_worded(one.settings.network.get("decode_depths", "")) for one in trials],
    }
    shown = {name: cells for name, cells in parts.items() if any(cells)}
    best = found.best
    marked = None if best is None else [one.number for one in trials].index(best.number)
    return Table(list(shown), list(zip(*shown.values(), strict=True)), marked)


def _end(one: TrialResult) -> str:
    return f"pruned at {one.step}" if one.status is TrialStatus.PRUNED else str(one.status)


def _gain(one: TrialResult) -> str:
    return "-" if one.gain_db is None else f"{one.gain_db:+.3f}"


def _worded(value: Any, joint: str = " ") -> str:
    """Return a value of settings, or with another joint the bounds of a space, in a few words."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_worded(part, joint)}" for name, part in value.items())
    if isinstance(value, (list, tuple)):
        nested = any(isinstance(part, (list, tuple)) for part in value)
        return (", " if nested else joint).join(_worded(part, joint) for part in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
