"""The part of a report's page that says what quantization found."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..calibration.results import Candidate, QuantizationFindings, WorstCrop
from ..imaging.arrays import Planes
from ..imaging.metrics import psnr
from ..reports.charts import CHART_STYLE
from ..reports.page import figure, highlights, pairs, safe, section, table
from ..reports.text_grid import plain
from .quantization_plots import sensitivity_section, trade_off_section
from .quantization_rows import (
    INCOMPLETE,
    SUPPOSED_TRUTH,
    chosen_candidate,
    chosen_word,
    counted_reasons,
    is_complete,
    loss_text,
    machine_text,
    outcome_text,
    precision_rows,
    said,
    size_text,
    spaced,
)

__all__ = ["render_quantization"]

# A page that was written by an earlier conversion gets this part too, so its style comes along.
_STYLE = f"""
:root{{--warm:#b4540a;--bad:#b3261e}}
@media(prefers-color-scheme:dark){{:root{{--warm:#f2a65a;--bad:#ff8f85}}}}
.beside{{display:block;font-weight:400;font-size:.82rem;color:var(--soft)}}
.marked td{{font-weight:650}}.bad{{color:var(--bad)}}.verdict{{font-size:1.05rem}}
h3{{font-size:.92rem;margin:1.1rem 0 .4rem}}details{{margin-top:.75rem}}
summary{{cursor:pointer;color:var(--soft)}}section .facts{{margin:.9rem 0 1.1rem}}
.key span{{margin-right:1.1rem;white-space:nowrap}}.key b{{font-weight:400}}
.key .plain{{color:var(--accent)}}.key .other{{color:var(--warm)}}.key .ring{{color:var(--good)}}
.crops{{display:flex;flex-wrap:wrap;gap:.75rem;margin-bottom:.5rem}}
.crops figure img{{width:auto;max-width:100%;image-rendering:pixelated;border-radius:0}}
.wrapped td{{white-space:normal;overflow-wrap:anywhere}}.wrapped td:last-child,
.wrapped th:last-child{{text-align:left}}
{CHART_STYLE}"""

_OPEN_ROWS = 6
_MOST_PX = 160
_DIGITS = 12
_GAINS = (1, 2, 5, 10, 20, 50, 100, 200, 500)


def render_quantization(findings: QuantizationFindings) -> str:
    """Return sections for a report's page.

    Parameters
    ----------
    findings : QuantizationFindings

    Returns
    -------
    str
        HTML that belongs into the page's ``main``: a style and sections. It needs no
        network and no scripts.
    """
    return f"<style>{_STYLE}</style>" + "".join(
        [
            _verdict(findings),
            _precisions(findings),
            sensitivity_section(findings),
            trade_off_section(findings),
            _worst(findings),
            _data(findings),
        ]
    )


def _verdict(findings: QuantizationFindings) -> str:
    taken = chosen_candidate(findings)
    forced = findings.options.get("forced")
    kind = "good" if findings.written and not forced else "bad"
    cells = [
        (outcome_text(findings), "INT8 for this bundle"),
        (f"{findings.budget_db:g} dB", "budget, mean loss"),
    ]
    if taken is not None:
        cells.append((f"{loss_text(taken.quality.loss_db)} dB", "lost at INT8"))
        cells.append((size_text(taken.bytes), "weights at INT8"))
    runs = precision_rows(findings).only("precision", "speed").rows
    cells += [
        (speed, "the speed of f32, at INT8") for name, speed in runs if name.startswith("int8")
    ]
    rows = [
        (chosen_word(findings), "none" if taken is None else taken.label),
        ("processor", findings.cpu),
        ("instructions", findings.isa),
        ("cores", str(findings.cores)),
        ("timed at", findings.timing_shape),
        ("seed", str(findings.seed)),
        *((spaced(name), said(value)) for name, value in findings.options.items()),
    ]
    sentence = f'<p class="verdict {kind}">{safe(findings.verdict)}</p>'
    late = "" if is_complete(findings) else f"<p>{safe(INCOMPLETE)}</p>"
    content = sentence + late + highlights(cells) + pairs(rows)
    return section("INT8", content, beside=machine_text(findings))


def _precisions(findings: QuantizationFindings) -> str:
    found = precision_rows(findings)
    loss = "Loss is PSNR lost to f32." if findings.data.truth else SUPPOSED_TRUTH
    note = (
        f"Median time of one frame of {findings.timing_shape}; speed is against f32. Quality is"
        f" the mean over {findings.data.held_out} held-out crops, worst the one that lost most."
        f" {loss}"
    )
    content = table(found.head, found.rows) + _left_in_float(chosen_candidate(findings))
    return section("INT8 against float", content, note, beside=machine_text(findings))


def _left_in_float(taken: Candidate | None) -> str:
    if taken is None:
        return ""
    count = len(taken.kept)
    head = f"{count or 'None'} of {count + taken.quantized} operations left in float"
    rows = list(taken.kept.items())
    return f"<h3>{safe(head)}</h3>" + _folded(("operation", "why"), rows)


def _folded(head: tuple[str, str], rows: Sequence[tuple[str, str]]) -> str:
    """Return a table of names and reasons that does not fill the page when it is long."""
    if not rows:
        return ""
    shown = f'<div class="wrapped">{table(head, rows)}</div>'
    if len(rows) <= _OPEN_ROWS:
        return shown
    return f"<details><summary>which, and why</summary>{shown}</details>"


def _worst(findings: QuantizationFindings) -> str:
    worst = findings.worst
    if worst is None:
        return ""
    made, wanted, truth = _window(worst)
    difference = made - wanted
    gain = _gain(difference)
    words = [_told("float, f32", wanted, truth), _told("INT8", made, truth)]
    shown = [(wanted, words[0]), (made, words[1])]
    if gain is None:
        shown.append((np.full_like(made, 0.5), "the difference: there is none"))
    else:
        change = np.clip(0.5 + gain * difference, 0, 1)
        shown.append((change, f"INT8 less float, {gain} times; grey is none"))
    if truth is not None:
        shown.append((truth, "ground truth"))
    figures = "".join(figure(picture, words, lossless=True) for picture, words in shown)
    taken = chosen_candidate(findings)
    lost = "" if taken is None else f" It lost {loss_text(taken.quality.worst_loss_db)} dB."
    whole = "" if made.shape == worst.int8_output.shape else " The part with most difference."
    note = f"{worst.origin}, of the held-out crops, pixel by pixel.{lost}{whole}"
    content = f'<div class="crops">{figures}</div>'
    return section("The crop that lost most", content, note, beside=machine_text(findings))


def _window(worst: WorstCrop) -> tuple[Planes, Planes, Planes | None]:
    """Cut INT8, float and truth to where they differ most, at most so many pixels a side."""
    made, wanted = np.nan_to_num(worst.int8_output), np.nan_to_num(worst.float_output)
    change = np.abs(made - wanted)[0].mean(axis=0)
    rows, columns = (_densest(change.sum(axis=1)), _densest(change.sum(axis=0)))
    truth = None if worst.truth is None else worst.truth[:, :, rows, columns]
    return made[:, :, rows, columns], wanted[:, :, rows, columns], truth


def _densest(along: NDArray[np.float32]) -> slice:
    length = min(_MOST_PX, along.size)
    sums = np.convolve(along, np.ones(length), mode="valid")
    start = int(np.argmax(sums))
    return slice(start, start + length)


def _gain(difference: Planes) -> int | None:
    """Return how often a difference is to be shown, so that most of it fits; None without one."""
    large = float(np.quantile(np.abs(difference), 0.995)) or float(np.abs(difference).max())
    if large == 0:
        return None
    return max((gain for gain in _GAINS if gain * large <= 0.5), default=1)


def _told(words: str, picture: Planes, truth: Planes | None) -> str:
    if truth is None:
        return words
    reached = psnr(np.clip(picture, 0, 1), truth)
    return f"{words}, {reached:.2f} dB" if math.isfinite(reached) else f"{words}, as ground truth"


def _data(findings: QuantizationFindings) -> str:
    data = findings.data
    truth = "known" if data.truth else "not known"
    rows = [
        ("crops", f"{data.calibration} to calibrate on, {data.held_out} held out"),
        ("ground truth", truth),
        *((spaced(name), said(value)) for name, value in data.recipe.items()),
    ]
    digest = plain(data.digest)
    short = f'<span title="{safe(digest)}">{safe(digest[:_DIGITS])}</span>'
    content = pairs(rows) + f"<p>sha256 of all crops' pixels, in order: <code>{short}</code></p>"
    if not data.skipped:
        return section("Calibration data", content, "No file was skipped.")
    reasons = list(data.skipped.values())
    head = f"{len(reasons)} files skipped: {counted_reasons(reasons)}"
    skipped = _folded(("file", "why"), list(data.skipped.items()))
    return section("Calibration data", f"{content}<h3>{safe(head)}</h3>{skipped}")
