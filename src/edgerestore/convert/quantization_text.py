"""What quantization found, as plain text for a terminal."""

from __future__ import annotations

import textwrap

from ..calibration.results import QuantizationFindings
from ..reports.text_grid import grid, plain, shorten
from .quantization_rows import (
    INCOMPLETE,
    SUPPOSED_TRUTH,
    Rows,
    candidate_rows,
    chosen_candidate,
    chosen_word,
    counted_reasons,
    is_complete,
    machine_text,
    precision_rows,
    said,
)

__all__ = ["quantization_table"]

_WIDTH = 100
_KEY = 11
_LEFT_SHOWN = 5
_DIGITS = 12
_NAME, _REASON = 52, 42


def quantization_table(findings: QuantizationFindings) -> str:
    """Return what was found as aligned plain text of at most 100 columns."""
    parts = [
        textwrap.wrap(plain(findings.verdict), _WIDTH),
        _facts(findings),
        _fitted(precision_rows(findings)),
        _candidates(findings),
        _left_in_float(findings),
    ]
    return "\n\n".join("\n".join(part) for part in parts if part)


def _facts(findings: QuantizationFindings) -> list[str]:
    data = findings.data
    crops = f"{data.calibration} crops to calibrate on, {data.held_out} held out"
    degraded = data.recipe.get("degradation")
    degradation = f"; degradation: {said(degraded)}" if degraded is not None else ""
    skipped = f"; {len(data.skipped)} skipped: {counted_reasons(list(data.skipped.values()))}"
    pairs = [
        ("budget", f"{findings.budget_db:g} dB of PSNR, mean over the held-out crops"),
        ("machine", f"{machine_text(findings)}; timed at {plain(findings.timing_shape)}"),
        (
            "pictures",
            f"{crops}{degradation}; sha256 {plain(data.digest)[:_DIGITS]}"
            f"{skipped if data.skipped else '; none skipped'}",
        ),
    ]
    if not is_complete(findings):
        pairs.append(("search", INCOMPLETE))
    if not data.truth:
        pairs.append(("loss", SUPPOSED_TRUTH))
    return [line for name, value in pairs for line in _pair(name, value)]


def _pair(name: str, value: str) -> list[str]:
    return textwrap.wrap(
        value, _WIDTH, initial_indent=name.ljust(_KEY), subsequent_indent=" " * _KEY
    )


def _candidates(findings: QuantizationFindings) -> list[str]:
    found = candidate_rows(findings)
    if not found.rows:
        return []
    shown = found.only("candidate", "at INT8", "share", "size", "ms", "loss dB", "worst dB")
    rows = [
        (f"{'*' if at == found.marked else ' '} {row[0]}", *row[1:])
        for at, row in enumerate(shown.rows)
    ]
    lines = _fitted(Rows((f"  {shown.head[0]}", *shown.head[1:]), tuple(rows)))
    if found.marked is not None:
        lines.append(
            f"* {chosen_word(findings)}; share: of all multiplications; at INT8: operations"
        )
    return lines


def _fitted(table: Rows) -> list[str]:
    """Return a table's lines, its first column shortened to what the others leave."""
    lines = (table.head, *table.rows)
    others = [max(len(line[at]) for line in lines) for at in range(1, len(table.head))]
    room = _WIDTH - sum(others) - 2 * len(others)
    return grid(table.head, [(_cut(row[0], room), *row[1:]) for row in table.rows])


def _cut(text: str, most: int) -> str:
    indent = text[: len(text) - len(text.lstrip(" *"))]
    return indent + shorten(text[len(indent) :], most - len(indent))


def _left_in_float(findings: QuantizationFindings) -> list[str]:
    taken = chosen_candidate(findings)
    if taken is None:
        return []
    count = len(taken.kept)
    head = f"left in float: {count or 'none'} of {count + taken.quantized} operations"
    shown = list(taken.kept.items())[:_LEFT_SHOWN]
    width = max((len(shorten(name, _NAME)) for name, _ in shown), default=0)
    lines = [f"  {shorten(n, _NAME).ljust(width)}  {shorten(why, _REASON)}" for n, why in shown]
    more = [f"  and {count - len(shown)} more"] if count > len(shown) else []
    return [head, *lines, *more]
