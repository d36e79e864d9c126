"""What quantization found, as words and rows that the page and the terminal both show."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..calibration.results import Candidate, Quality, QuantizationFindings
from ..reports.text_grid import plain

__all__ = [
    "INCOMPLETE",
    "SUPPOSED_TRUTH",
    "Rows",
    "candidate_rows",
    "chosen_candidate",
    "chosen_word",
    "counted_reasons",
    "is_complete",
    "loss_text",
    "machine_text",
    "ms_text",
    "outcome_text",
    "precision_rows",
    "said",
    "size_text",
    "spaced",
]

SUPPOSED_TRUTH = (
    "No ground truth is known: the loss is estimated, as what the distance from the float"
    " model would cost a picture of 30 dB."
)
INCOMPLETE = "Time ran out before the search was finished: there may be a better candidate."
_UNKNOWN = "unknown"
_NOTHING = "-"


@dataclass(frozen=True)
class Rows:
    """A table's cells.

    Parameters
    ----------
    head : tuple of str
    rows : tuple of tuple of str
    marked : int or None
        Index of the row that was chosen.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    marked: int | None = None

    def only(self, *columns: str) -> Rows:
        """Return these columns alone; names that are not there are passed over."""
        places = [self.head.index(name) for name in columns if name in self.head]
        kept = tuple(tuple(row[at] for at in places) for row in self.rows)
        return Rows(tuple(self.head[at] for at in places), kept, self.marked)


def chosen_candidate(findings: QuantizationFindings) -> Candidate | None:
    """Return the candidate that was taken, or would have been."""
    return next((one for one in findings.candidates if one.label == findings.chosen), None)


def outcome_text(findings: QuantizationFindings) -> str:
    """Return in a word or two whether INT8 is in the bundle."""
    if not findings.written:
        return "refused"
    return "written, forced" if findings.options.get("forced") else "written"


def chosen_word(findings: QuantizationFindings) -> str:
    """Return what became of the candidate that was chosen."""
    return "taken" if findings.written else "best, not taken"


def is_complete(findings: QuantizationFindings) -> bool:
    """Return whether the search came to its own end."""
    return bool(findings.options.get("complete", True))


def machine_text(findings: QuantizationFindings) -> str:
    """Return the processor with its instructions: without them a time at INT8 says little."""
    return f"{plain(findings.cpu)}, {plain(findings.isa)}, {findings.cores} cores"


def precision_rows(findings: QuantizationFindings) -> Rows:
    """Return a row for each stored precision."""
    truth = findings.data.truth
    base = next((run.ms for run in findings.runs if run.precision == "f32"), math.nan)
    head = ("precision", "size", "ms", "speed", *_quality_head(truth))
    rows = tuple(
        (
            run.precision if run.precision != "int8" or findings.written else "int8, not written",
            size_text(run.bytes),
            ms_text(run.ms),
            _ratio(base, run.ms),
            *_quality_cells(run.quality, truth),
        )
        for run in findings.runs
    )
    return Rows(head, rows)


def candidate_rows(findings: QuantizationFindings) -> Rows:
    """Return a row for each candidate."""
    truth = findings.data.truth
    head = (
        *("candidate", "method", "at INT8", "share", "size", "ms", "loss dB", "worst dB"),
        "PSNR dB" if truth else "to f32 dB",
    )
    rows = tuple(
        (
            one.label,
            one.method,
            str(one.quantized),
            f"{one.macs_share:.0%}",
            size_text(one.bytes),
            ms_text(one.ms),
            loss_text(one.quality.loss_db),
            loss_text(one.quality.worst_loss_db),
            _psnr(one.quality.psnr_db if truth else one.quality.psnr_to_float_db),
        )
        for one in findings.candidates
    )
    labels = [one.label for one in findings.candidates]
    return Rows(head, rows, labels.index(findings.chosen) if findings.chosen in labels else None)


def _quality_head(truth: bool) -> tuple[str, ...]:
    to_truth = ("PSNR dB", "SSIM") if truth else ("SSIM to f32",)
    return (*to_truth, "to f32 dB", "loss dB", "worst dB")


def _quality_cells(quality: Quality | None, truth: bool) -> tuple[str, ...]:
    if quality is None:
        return (_NOTHING,) * len(_quality_head(truth))
    alike = _ssim(quality.ssim if truth else quality.ssim_to_float)
    return (
        *((_psnr(quality.psnr_db), alike) if truth else (alike,)),
        _psnr(quality.psnr_to_float_db),
        loss_text(quality.loss_db),
        loss_text(quality.worst_loss_db),
    )


def _psnr(value: float | None) -> str:
    if value is None:
        return _NOTHING
    if value == math.inf:
        return "identical"
    return f"{value:.2f}" if math.isfinite(value) else _UNKNOWN


def _ssim(value: float | None) -> str:
    if value is None:
        return _NOTHING
    return f"{value:.5f}" if math.isfinite(value) else _UNKNOWN


def loss_text(value: float) -> str:
    """Return a loss in dB to three places; one too small to show has no sign."""
    if not math.isfinite(value):
        return _UNKNOWN
    shown = f"{value:.3f}"
    return "0.000" if shown == "-0.000" else shown


def ms_text(value: float | None) -> str:
    """Return a time in milliseconds; a dash where there is none."""
    if value is None:
        return _NOTHING
    return f"{value:.2f}" if math.isfinite(value) else _UNKNOWN


def size_text(size: int) -> str:
    """Return a size with its unit."""
    if size < 1_000_000:
        return f"{size / 1e3:.1f} kB"
    return f"{size / 1e6:.2f} MB"


def _ratio(base: float, ms: float) -> str:
    ratio = base / ms if ms else math.nan
    return f"{ratio:.2f}x" if math.isfinite(ratio) else _NOTHING


def counted_reasons(reasons: Sequence[str]) -> str:
    """Return ``3 smaller than 128x128, 1 unreadable``: what is in parentheses differs."""
    counts = Counter(plain(reason).partition(" (")[0] for reason in reasons)
    return ", ".join(f"{number} {reason}" for reason, number in counts.most_common())


def said(value: Any) -> str:
    """Return a value of a recipe or an option in words."""
    if isinstance(value, Mapping):
        parts = [f"{spaced(str(name))} {said(part)}" for name, part in value.items()]
        nested = any(isinstance(part, (Mapping, list, tuple)) for part in value.values())
        return ("; " if nested else ", ").join(parts)
    if isinstance(value, (list, tuple)):
        return ", ".join(said(part) for part in value) or "none"
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    if isinstance(value, float):
        return f"{value:g}" if math.isfinite(value) else _UNKNOWN
    return plain(str(value))


def spaced(name: str) -> str:
    """Return a key in words."""
    return plain(name).replace("_", " ")
