"""Report of a quantization: a table for a terminal, and sections for a bundle's page."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BundleError
from ..imaging.arrays import Planes
from ..imaging.metrics import psnr
from ..reports.charts import Bar, Point, bar_chart, frontier, scatter_chart
from ..reports.pages import render, restyled
from ..reports.pictures import Picture, amplified, densest_window, picture
from ..reports.tables import Table, plain, shorten
from .results import Candidate, Quality, QuantizationResults, Sensitivity, counted_reasons

__all__ = ["page_sections", "text_table", "write_report"]

_BEGIN, _END = "<!-- int8 -->", "<!-- /int8 -->"
_ESTIMATED = (
    "No ground truth is known: the loss is estimated, as what the distance from the float"
    " model would cost a picture of 30 dB."
)
_BY_FLOAT = (
    "Where no float dB stands, the float model judges: the loss is what the distance from it would"
    " cost a picture of 30 dB."
)
_INCOMPLETE = "Time ran out before the search was finished: there may be a better candidate."
_UNKNOWN = "unknown"
_WIDTH, _KEY = 100, 11  # of the text for terminals, and of the names before its lines
_KEPT_SHOWN = 5
_NAME, _REASON, _PICTURE = 48, 46, 24
_DIGITS = 12
_BARS = 20
_CROP_PX = 160


def write_report(folder: Path, found: QuantizationResults) -> None:
    """Put a quantization's report into a bundle's, in place of an earlier one.

    Parameters
    ----------
    folder : Path
        The bundle's; its ``report.json`` and ``report.html`` are changed. The page gets the
        current stylesheet.
    found : QuantizationResults

    Raises
    ------
    BundleError
        When the report that is there cannot be read.
    MissingExtraError
        When the libraries of pages are not installed.
    """
    facts, page = folder / "report.json", folder / "report.html"
    try:
        content = json.loads(facts.read_text(encoding="utf-8")) if facts.is_file() else {}
        html = page.read_text(encoding="utf-8") if page.is_file() else None
    except (OSError, ValueError) as error:
        raise BundleError(f"{folder}: report.json cannot be read: {error}") from error
    content["int8"] = found.as_dict()
    facts.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    page.write_text(_with_sections(html, page_sections(found)), encoding="utf-8")


def _with_sections(page: str | None, sections: str) -> str:
    """Return a page with its INT8 part replaced or added; a new page for None."""
    marked = f"{_BEGIN}{sections}{_END}"
    if page is None:
        return render("base.html", title="INT8 report", body=marked)
    page = restyled(page)
    if _BEGIN in page and _END in page:
        before, _, rest = page.partition(_BEGIN)
        return before + marked + rest.partition(_END)[2]
    return page.replace("</main>", f"{marked}</main>", 1)


def text_table(found: QuantizationResults) -> str:
    """Return a quantization's results as aligned plain text of at most 100 columns."""
    parts = [
        textwrap.wrap(plain(found.verdict), _WIDTH),
        _facts(found),
        _precisions(found).lines(_WIDTH),
        _kind_lines(found),
        _candidate_lines(found),
        _kept_lines(_chosen(found)),
    ]
    return "\n\n".join("\n".join(part) for part in parts if part)


def _facts(found: QuantizationResults) -> list[str]:
    data = found.data
    degraded = data.recipe.get("degradation")
    pictures = [
        f"{data.calibration} crops to calibrate on, {data.held_out} held out{_each_kind(found)}",
        *([] if degraded is None else [f"degradation: {_worded(degraded)}"]),
        f"sha256 {plain(data.digest)[:_DIGITS]}",
        f"{len(data.skipped)} skipped: {plain(counted_reasons(data.skipped))}"
        if data.skipped
        else "none skipped",
    ]
    lines = [
        (
            "budget",
            f"{found.budget_db:g} dB of PSNR, mean over the held-out crops{_each_kind(found)}",
        ),
        ("machine", f"{_machine(found)}; timed at {plain(found.timing_shape)}"),
        ("pictures", "; ".join(pictures)),
    ]
    if not _is_complete(found):
        lines.append(("search", _INCOMPLETE))
    if not data.truth:
        lines.append(("loss", _ESTIMATED))
    return [
        line
        for name, text in lines
        for line in textwrap.wrap(
            text, _WIDTH, initial_indent=name.ljust(_KEY), subsequent_indent=" " * _KEY
        )
    ]


def _each_kind(found: QuantizationResults) -> str:
    count = len(found.kinds)
    return f" of each of {count} kinds of input" if count > 1 else ""


def _kind_lines(found: QuantizationResults) -> list[str]:
    head = ("input", "float dB", "INT8 dB", "loss dB", "worst dB", "worst picture", "budget")
    shown = _kinds(found).only(*head)
    return [*shown.lines(_WIDTH), *textwrap.wrap(_kind_words(found), _WIDTH)]


def _candidate_lines(found: QuantizationResults) -> list[str]:
    shown = _candidates(found).only(
        "candidate", "at INT8", "share", "size", "ms", "loss dB", "worst dB"
    )
    words = f"* {_choice_words(found)}; share: of all multiplications; at INT8: operations"
    return [*shown.lines(_WIDTH), words]


def _kept_lines(chosen: Candidate) -> list[str]:
    count = len(chosen.kept)
    head = f"left in float: {count or 'none'} of {count + chosen.quantized} operations"
    shown = list(chosen.kept.items())[:_KEPT_SHOWN]
    rows = [(f"  {shorten(name, _NAME)}", shorten(why, _REASON)) for name, why in shown]
    more = [f"  and {count - len(shown)} more"] if count > len(shown) else []
    return [head, *(Table(("", ""), rows).lines()[2:] if rows else []), *more]


def page_sections(found: QuantizationResults) -> str:
    """Return a quantization's results as sections for a page's ``main``, as HTML."""
    chosen = _chosen(found)
    forced = bool(found.options.get("forced"))
    return render(
        "quantization.html",
        found=found,
        machine=_machine(found),
        good=found.written and not forced,
        incomplete="" if _is_complete(found) else _INCOMPLETE,
        estimated="" if found.data.truth else _ESTIMATED,
        highlights=_highlights(found, chosen, forced=forced),
        setup=[
            (_choice_words(found), chosen.label),
            ("processor", found.cpu),
            ("instructions", found.isa),
            ("cores", found.cores),
            ("timed at", found.timing_shape),
            ("seed", found.seed),
            *((_spaced(name), _worded(value)) for name, value in found.options.items()),
        ],
        precisions=_precisions(found),
        kinds=_kinds(found),
        kind_words=_kind_words(found),
        chosen=chosen,
        kept=Table(("operation", "why"), list(chosen.kept.items())),
        choice=_choice_words(found),
        candidates=_candidates(found),
        worst=_worst_pictures(found),
        worst_cut=max(found.worst.int8_output.shape) > _CROP_PX,
        worst_loss=_loss(chosen.quality.worst_loss_db),
        recipe=[(_spaced(name), _worded(value)) for name, value in found.data.recipe.items()],
        skipped=Table(("file", "why"), list(found.data.skipped.items())),
        reasons=counted_reasons(found.data.skipped),
        **_sensitivity(found, chosen),
        **_trade_off(found),
    )


def _highlights(
    found: QuantizationResults, chosen: Candidate, *, forced: bool
) -> list[tuple[str, str]]:
    outcome = "refused" if not found.written else "written, forced" if forced else "written"
    return [
        (outcome, "INT8 for this bundle"),
        (f"{found.budget_db:g} dB", "budget, mean loss"),
        (f"{_loss(chosen.quality.loss_db)} dB", f"lost at INT8{_deciding(found, chosen)}"),
        (_size(chosen.bytes), "weights at INT8"),
        *(
            (str(speed), "the speed of f32, at INT8")
            for name, speed in _precisions(found).only("precision", "speed").rows
            if str(name).startswith("int8")
        ),
    ]


def _deciding(found: QuantizationResults, chosen: Candidate) -> str:
    several = sum(one.judged for one in found.kinds) > 1
    return f", on {chosen.quality.deciding}" if several else ""


def _sensitivity(found: QuantizationResults, chosen: Candidate) -> dict[str, Any]:
    """Return the loss of each operation as a chart and a table; no chart where none is known."""
    kept = chosen.kept
    ranked = found.sensitivities
    rows = [
        (
            row.operation,
            row.kind,
            _loss(row.loss_db),
            f"{row.macs_share:.1%}",
            "float" if row.operation in kept else "INT8",
        )
        for row in ranked
    ]
    chart, head = "", ("operation", "kind", "loss dB", "multiplications", "runs at")
    if ranked:
        bars = [_bar(row, row.operation in kept) for row in ranked[:_BARS]]
        title = f"Sensitivity: loss of PSNR per operation, on {_machine(found)}"
        heads = ("loss when it alone is at INT8", "of all multiplications", "dB")
        chart = bar_chart(title, bars, heads)
    signs = [("accent", "■", "at INT8"), ("warm", "■", "left in float")]
    return {
        "sensitivity_chart": chart,
        "sensitivity_key": signs if any(row.operation in kept for row in ranked) else signs[:1],
        "sensitivities": Table(head, rows),
    }


def _bar(row: Sensitivity, kept: bool) -> Bar:
    loss = f"{row.loss_db:.1g}" if 0 < row.loss_db < 0.001 else _loss(row.loss_db)
    text = f"{loss} dB, float" if kept else f"{loss} dB"
    # Without what conversion adds to a name.
    label = plain(row.operation).removeprefix("core/").removesuffix("/WithoutBiases")
    name = f"{row.operation} ({row.kind}): {text}, {row.macs_share:.1%} of all multiplications"
    return Bar(label, name, row.loss_db, text, row.macs_share, kept)


def _trade_off(found: QuantizationResults) -> dict[str, Any]:
    """Return time and loss of candidates and float precisions as a chart, and its signs."""
    shapes = {"fine-tuned": "diamond"}
    timed = [
        (run.precision, run.ms, run.quality.loss_db, "square")
        for run in found.runs
        if run.precision != "int8"
    ]
    timed += [
        (one.label, one.ms, one.quality.loss_db, shapes.get(one.method, "circle"))
        for one in found.candidates
        if one.ms is not None
    ]
    points = [
        Point(
            label, f"{label}: {_decimal(ms, 2)} ms, {_loss(loss)} dB lost", ms, loss, shape,
            chosen=label == found.chosen, labelled=shape == "square",
        )
        for label, ms, loss, shape in timed
        if math.isfinite(ms) and math.isfinite(loss)
    ]  # fmt: skip
    best, drawn = frontier(points), {point.shape for point in points}
    signs = [
        ("accent", "●", "INT8, post-training", "circle" in drawn),
        ("warm", "◆", "INT8, fine-tuned", "diamond" in drawn),
        ("", "□", "float", "square" in drawn),
        ("ring", "◯", _choice_words(found), any(point.chosen for point in points)),
        ("", "—", "no other is both faster and better", len(best) > 1),
    ]
    chart = ""
    if drawn - {"square"}:
        chart = scatter_chart(
            f"Loss of PSNR against time of float and INT8, on {_machine(found)}",
            points,
            (f"ms for a frame of {found.timing_shape}", "dB lost"),
            path=best,
            limit=(found.budget_db, f"budget {found.budget_db:g} dB"),
        )
    return {"trade_off_chart": chart, "trade_off_key": [sign[:3] for sign in signs if sign[3]]}


def _worst_pictures(found: QuantizationResults) -> list[Picture]:
    """Return float, INT8, their difference and the truth, where the worst crop differs most."""
    worst = found.worst
    made, wanted = np.nan_to_num(worst.int8_output), np.nan_to_num(worst.float_output)
    rows, columns = densest_window(np.abs(made - wanted)[0].mean(axis=0), _CROP_PX)
    made, wanted = made[:, :, rows, columns], wanted[:, :, rows, columns]
    truth = None if worst.truth is None else worst.truth[:, :, rows, columns]
    change, gain = amplified(made - wanted)
    words = f"INT8 less float, {gain} times; grey is none" if gain else "no difference"
    shown = [
        (wanted, _with_psnr("float, f32", wanted, truth)),
        (made, _with_psnr("INT8", made, truth)),
        (change, words),
        *([] if truth is None else [(truth, "ground truth")]),
    ]
    return [picture(planes, caption, lossless=True) for planes, caption in shown]


def _with_psnr(words: str, planes: Planes, truth: Planes | None) -> str:
    if truth is None:
        return words
    reached = psnr(np.clip(planes, 0, 1), truth)
    return f"{words}, {reached:.2f} dB" if math.isfinite(reached) else f"{words}, as ground truth"


def _precisions(found: QuantizationResults) -> Table:
    """Return a row for each stored precision."""
    truth = found.data.truth
    base = next((run.ms for run in found.runs if run.precision == "f32"), math.nan)
    to_truth = ("PSNR dB", "SSIM") if truth else ("SSIM to f32",)
    head = ("precision", "size", "ms", "speed", *to_truth, "to f32 dB", "loss dB", "worst dB")
    rows = [
        (
            run.precision if run.precision != "int8" or found.written else "int8, not written",
            _size(run.bytes),
            _decimal(run.ms, 2),
            _ratio(base, run.ms),
            *_quality_cells(run.quality, truth=truth),
        )
        for run in found.runs
    ]
    return Table(head, rows)


def _kinds(found: QuantizationResults) -> Table:
    """Return a row for each kind of input, the one that decides marked."""
    head = (
        "input", "float dB", "INT8 dB", "to float dB", "loss dB", "worst dB", "worst picture",
        "budget",
    )  # fmt: skip
    rows = [
        (
            one.kind,
            _psnr(one.float_db),
            _psnr(one.int8_db),
            _psnr(one.to_float_db),
            _loss(one.loss_db),
            _loss(one.worst_loss_db),
            shorten(one.worst_picture, _PICTURE),
            ("within" if one.within_budget else "over") + ("" if one.judged else ", not judged"),
        )
        for one in found.kinds
    ]
    deciding = _chosen(found).quality.deciding
    marked = next((at for at, one in enumerate(found.kinds) if one.kind == deciding), None)
    return Table(head, rows, marked)


def _kind_words(found: QuantizationResults) -> str:
    words = ["; ".join(f"{one.kind}: {plain(one.summary)}" for one in found.kinds)]
    if found.data.truth and any(one.float_db is None for one in found.kinds):
        words.append(_BY_FLOAT)
    return ". ".join(words)


def _candidates(found: QuantizationResults) -> Table:
    """Return a row for each candidate, the chosen one marked."""
    truth = found.data.truth
    head = ("candidate", "method", "at INT8", "share", "size", "ms", "loss dB", "worst dB")
    rows = [
        (
            one.label,
            one.method,
            one.quantized,
            f"{one.macs_share:.0%}",
            _size(one.bytes),
            _decimal(one.ms, 2),
            _loss(one.quality.loss_db),
            _loss(one.quality.worst_loss_db),
            _psnr(one.quality.psnr_db if truth else one.quality.psnr_to_float_db),
        )
        for one in found.candidates
    ]
    marked = found.candidates.index(_chosen(found))
    return Table((*head, "PSNR dB" if truth else "to f32 dB"), rows, marked)


def _quality_cells(quality: Quality, *, truth: bool) -> tuple[str, ...]:
    alike = quality.ssim if truth else quality.ssim_to_float
    return (
        *((_psnr(quality.psnr_db),) if truth else ()),
        _decimal(alike, 5),
        _psnr(quality.psnr_to_float_db),
        _loss(quality.loss_db),
        _loss(quality.worst_loss_db),
    )


def _chosen(found: QuantizationResults) -> Candidate:
    return next(one for one in found.candidates if one.label == found.chosen)


def _choice_words(found: QuantizationResults) -> str:
    return "taken" if found.written else "best, not taken"


def _is_complete(found: QuantizationResults) -> bool:
    return bool(found.options.get("complete", True))


def _machine(found: QuantizationResults) -> str:
    """Return the processor with its instructions: a time at INT8 depends on them."""
    return f"{plain(found.cpu)}, {plain(found.isa)}, {found.cores} cores"


def _decimal(value: float | None, digits: int) -> str:
    if value is None:
        return "-"
    return f"{value:.{digits}f}" if math.isfinite(value) else _UNKNOWN


def _psnr(value: float | None) -> str:
    return "identical" if value == math.inf else _decimal(value, 2)


def _loss(value: float) -> str:
    """Return a loss in dB; one too small to show has no sign."""
    return _decimal(value, 3).replace("-0.000", "0.000")


def _size(size: int) -> str:
    return f"{size / 1e3:.1f} kB" if size < 1_000_000 else f"{size / 1e6:.2f} MB"


def _ratio(base: float, ms: float) -> str:
    ratio = base / ms if ms else math.nan
    return f"{ratio:.2f}x" if math.isfinite(ratio) else "-"


def _worded(value: object) -> str:
    """Return a value of a recipe or an option as text."""
    if isinstance(value, Mapping):
        parts = [f"{_spaced(str(name))} {_worded(part)}" for name, part in value.items()]
        nested = any(isinstance(part, (Mapping, list, tuple)) for part in value.values())
        return ("; " if nested else ", ").join(parts)
    if isinstance(value, (list, tuple)):
        return ", ".join(_worded(part) for part in value) or "none"
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    if isinstance(value, float):
        return f"{value:g}" if math.isfinite(value) else _UNKNOWN
    return plain(str(value))


def _spaced(name: str) -> str:
    return plain(name).replace("_", " ")
