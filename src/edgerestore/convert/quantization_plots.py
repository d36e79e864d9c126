"""The plots of quantization: what each operation costs, and what each candidate reached."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..calibration.results import QuantizationFindings, Sensitivity
from ..reports.charts import Bar, Mark, bar_chart, scatter_chart
from ..reports.page import safe, section, table
from ..reports.text_grid import plain, shorten
from .quantization_rows import (
    SUPPOSED_TRUTH,
    candidate_rows,
    chosen_candidate,
    chosen_word,
    loss_text,
    machine_text,
    ms_text,
)

__all__ = ["sensitivity_section", "trade_off_section"]

_BARS = 20
_BAR_LABEL, _MARK_LABEL = 28, 40


def sensitivity_section(findings: QuantizationFindings) -> str:
    """Return what each operation costs at INT8; nothing where that was not measured."""
    ranked = findings.sensitivities
    if not ranked:
        return ""
    taken = chosen_candidate(findings)
    kept = taken.kept if taken is not None else {}
    bars = [_bar(row, row.operation in kept) for row in ranked[:_BARS]]
    key = [("plain", "■", "at INT8")] + [("other", "■", "left in float")] * any(
        row.operation in kept for row in ranked
    )
    heads = ("loss when it alone is at INT8", "of all multiplications", "dB")
    title = f"Sensitivity: loss of PSNR per operation, on {machine_text(findings)}"
    rest = [
        (
            row.operation,
            row.kind,
            loss_text(row.loss_db),
            f"{row.macs_share:.1%}",
            "float" if row.operation in kept else "INT8",
        )
        for row in ranked
    ]
    every = table(("operation", "kind", "loss dB", "multiplications", "runs at"), rest)
    content = (
        _key(key)
        + bar_chart(title, bars, heads)
        + f"<details><summary>all {len(ranked)} operations</summary>{every}</details>"
    )
    note = "Predicted from the noise that reaches the output on some of the calibration crops."
    heading = "What each operation costs at INT8"
    return section(heading, content, note, beside=machine_text(findings))


def _bar(row: Sensitivity, kept: bool) -> Bar:
    loss = loss_text(row.loss_db)
    if 0 < row.loss_db < 0.001:
        loss = f"{row.loss_db:.1g}"
    text = f"{loss} dB, float" if kept else f"{loss} dB"
    whole = f"{row.operation} ({row.kind}): {text}, {row.macs_share:.1%} of all multiplications"
    return Bar(_short_name(row.operation), whole, row.loss_db, text, row.macs_share, kept)


def _short_name(name: str) -> str:
    """Leave out what conversion added to a name."""
    own = plain(name).removeprefix("core/").removesuffix("/WithoutBiases")
    return shorten(own, _BAR_LABEL)


def trade_off_section(findings: QuantizationFindings) -> str:
    """Return all candidates, as points of time and loss and as a table."""
    found = candidate_rows(findings)
    if not found.rows:
        return ""
    marks = _marks(findings)
    machine = machine_text(findings)
    chart = f"<p>No candidate was timed on {safe(machine)}, so there is no curve.</p>"
    if any(mark.shape != "square" for mark in marks):
        limit = (findings.budget_db, f"budget {findings.budget_db:g} dB")
        heads = (f"ms for a frame of {findings.timing_shape}", "dB lost")
        title = f"Loss of PSNR against time of float and INT8, on {machine}"
        chart = _key(_shapes(marks, chosen_word(findings))) + scatter_chart(
            title, marks, _frontier(marks), limit, heads
        )
    marked = "" if found.marked is None else f" In strong print: {chosen_word(findings)}."
    late = sum(one.ms is None for one in findings.candidates)
    untimed = f" {late} not timed." if late else ""
    note = (
        "At INT8: how many operations; share: of all multiplications; worst: the crop that lost"
        f" most.{marked}{untimed}"
    )
    if not findings.data.truth:
        note = f"{note} {SUPPOSED_TRUTH}"
    content = chart + table(found.head, found.rows, found.marked)
    return section("Quality against time", content, note, beside=machine)


def _marks(findings: QuantizationFindings) -> list[Mark]:
    """Return what has a time and a loss; float is what INT8 has to beat."""
    told = [
        (run.precision, run.ms, run.quality.loss_db, "square")
        for run in findings.runs
        if run.precision != "int8" and run.quality is not None
    ]
    shapes = {"fine-tuned": "diamond"}
    told += [
        (one.label, one.ms, one.quality.loss_db, shapes.get(one.method, "circle"))
        for one in findings.candidates
        if one.ms is not None
    ]
    return [
        Mark(
            label=shorten(label, _MARK_LABEL),
            name=f"{label}: {ms_text(ms)} ms, {loss_text(loss)} dB lost",
            x=ms,
            y=loss,
            shape=shape,
            chosen=label == findings.chosen,
            needed=shape == "square",
        )
        for label, ms, loss, shape in told
        if math.isfinite(ms) and math.isfinite(loss)
    ]


def _frontier(marks: Sequence[Mark]) -> list[Mark]:
    """Return those that no other beats in both time and loss, the fastest first."""
    kept: list[Mark] = []
    for mark in sorted(marks, key=lambda mark: (mark.x, mark.y)):
        if not kept or mark.y < kept[-1].y:
            kept.append(mark)
    return kept


def _shapes(marks: Sequence[Mark], chosen: str) -> list[tuple[str, str, str]]:
    present = {mark.shape for mark in marks}
    key = [
        ("plain", "●", "INT8, post-training", "circle" in present),
        ("other", "◆", "INT8, fine-tuned", "diamond" in present),
        ("", "□", "float", "square" in present),
        ("ring", "◯", chosen, any(mark.chosen for mark in marks)),
        ("", "—", "no other is both faster and better", len(_frontier(marks)) > 1),
    ]
    return [(kind, sign, words) for kind, sign, words, here in key if here]


def _key(entries: Sequence[tuple[str, str, str]]) -> str:
    spans = (
        f'<span><b class="{kind}" aria-hidden="true">{sign}</b> {safe(words)}</span>'
        for kind, sign, words in entries
    )
    return f'<p class="soft key">{"".join(spans)}</p>'
