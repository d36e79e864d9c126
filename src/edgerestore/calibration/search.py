"""Search for the INT8 graph that does most of the work in INT8 within a quality budget.

The budget is held by the kind of input that loses most.

Noise of quantization is small and comes from many places, so at the output it adds up. What
each operation costs is therefore measured once, alone; how much must stay in float is then a
matter of order, and only a handful of graphs are built and measured in full.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import openvino

from .candidates import Built, CandidateBuilder
from .operations import Operation
from .quantizer import Ranges
from .sensitivity import NoiseTable

__all__ = ["SearchResult", "Tuner", "search"]

_AIM = 0.75  # of the budget: held-out crops are a sample, and other pictures may lose more
_MOST_TRIES = 6
_TUNABLE = 4.0  # candidates up to this many budgets are fine-tuned
_WORTH_A_TRY = 0.04  # of all the work: a smaller gain is not worth another candidate
_REPORT_S = 5.0

Tuner = Callable[[openvino.Model, openvino.Model, Path], openvino.Model]
"""Takes the quantized graph, the float graph and a checkpoint file; returns a better one."""


@dataclass(frozen=True)
class SearchResult:
    """Outcome of a search.

    Parameters
    ----------
    candidates : tuple of Built
        In the order they were measured.
    chosen : Built or None
        Keeps the budget and does most of the work in INT8; None where nothing keeps it.
    noise : NoiseTable
    complete : bool
        False where time ran out first.
    """

    candidates: tuple[Built, ...]
    chosen: Built | None
    noise: NoiseTable
    complete: bool


class _Search:
    """State of a search: candidates so far, deadline, progress."""

    def __init__(
        self,
        builder: CandidateBuilder,
        budget_db: float,
        minutes: float,
        report: Callable[[str], None],
    ) -> None:
        self.builder = builder
        self.budget_db = budget_db
        self.report = report
        self.built: list[Built] = []
        self.complete = True
        self._begun = time.monotonic()
        self._until = self._begun + minutes * 60

    def add(self, make: Callable[[], Built]) -> Built:
        """Build a candidate and report its loss."""
        made = make()
        candidate = made.candidate
        if made not in self.built:
            self.built.append(made)
        within = "within" if self.keeps(made) else "over"
        on = f" on {candidate.quality.deciding}" if len(self.builder.judged) > 1 else ""
        self.report(
            f"{candidate.label} ({candidate.macs_share:.0%} of the arithmetic):"
            f" loses {candidate.quality.loss_db:.3f} dB{on}, {within} {self.budget_db:g} dB"
            f" ({time.monotonic() - self._begun:.0f} s)"
        )
        return made

    def keeps(self, built: Built) -> bool:
        return built.candidate.quality.loss_db <= self.budget_db

    def in_time(self) -> bool:
        if time.monotonic() < self._until:
            return True
        if self.complete:
            self.report("time is up: the best so far is taken")
        self.complete = False
        return False

    def rank_progress(self, done: int, of: int) -> bool:
        """Report the ranking's progress at intervals; return whether there is time for more."""
        now = time.monotonic()
        if done == 0:
            self._noise_begun = self._reported = now
        elif now - self._reported > _REPORT_S:
            self._reported = now
            left = (now - self._noise_begun) / done * (of - done)
            self.report(f"ranked {done} of {of} operations, about {left:.0f} s left")
        if now < self._until:
            return True
        self.report(f"time is up: {done} of {of} operations were ranked")
        self.complete = False
        return False


def search(
    builder: CandidateBuilder,
    budget_db: float,
    *,
    minutes: float,
    tuner: Tuner | None = None,
    report: Callable[[str], None],
) -> SearchResult:
    """Search for the operations to quantize.

    Parameters
    ----------
    builder : CandidateBuilder
    budget_db : float
        Largest mean loss of PSNR on the held-out crops of the kind of input that loses most.
    minutes : float
        Time limit: no further candidate is built and no further operation ranked after it; the
        candidate with everything quantized is always measured.
    tuner : callable or None
        Fine-tunes the candidate that saves most within reach of the budget; None for none.
    report : callable
        Takes one line of progress.
    """
    state = _Search(builder, budget_db, minutes, report)
    # The widest ranges clip nothing that was seen. Narrower ones round more finely, and look
    # better on crops like those; on a picture unlike them they can clip it visibly.
    ranges = Ranges.EXTREME
    full = state.add(partial(builder.quantize, f"full INT8, {ranges.word}", {}, ranges))
    noise = builder.noise(full, state.rank_progress)
    if state.keeps(full):
        _contrast(state, ranges)
    else:
        _descend(state, full, noise, ranges)
        if _choose(state) is None and state.in_time():
            narrow = Ranges.MEAN
            state.add(partial(builder.quantize, f"full INT8, {narrow.word}", {}, narrow))
    if tuner is not None and state.in_time():
        _tune(state, tuner)
    return SearchResult(tuple(state.built), _choose(state), noise, state.complete)


def _choose(state: _Search) -> Built | None:
    """Return the candidate within the budget that does most in INT8; with a margin, if any has."""
    # A graph with all its arithmetic in float loses nothing, but is no INT8.
    keeping = [b for b in state.built if state.keeps(b) and b.candidate.macs_share > 0]
    safe = [b for b in keeping if b.candidate.quality.loss_db <= _AIM * state.budget_db]
    return max(
        safe or keeping, key=lambda b: (b.benefit, -b.candidate.quality.loss_db), default=None
    )


def _contrast(state: _Search, ranges: Ranges) -> None:
    """Where everything fits the budget: measure INT8 in convolutions alone, for comparison."""
    kept = {o.name: "no convolution" for o in state.builder.operations if not o.macs}
    if kept and state.in_time():
        label = "INT8 in convolutions alone"
        state.add(partial(state.builder.quantize, label, kept, ranges))


def _descend(state: _Search, full: Built, noise: NoiseTable, ranges: Ranges) -> None:
    """Keep the operations of worst loss for their benefit in float, as few as the budget needs."""
    known = [o for o in state.builder.operations if o.name in noise.noise]
    fitted = _fitted(noise, known, full)
    order = _worst_first(known, fitted)
    total = sum(operation.benefit for operation in order)
    low, high = 0, len(order)  # `low` is over the aim, `high` within it
    for _ in range(_MOST_TRIES):
        at = _first_below(order, fitted, _AIM * state.budget_db, low + 1, high)
        if at is None or not state.in_time():
            return
        kept = {o.name: _cost(noise, o.name) for o in order[:at]}
        stay = len(order) - at
        label = f"{stay} of {len(order)} operations"
        built = state.add(partial(state.builder.quantize, label, kept, ranges))
        fitted = _fitted(noise, order[at:], built)
        if built.candidate.quality.loss_db <= _AIM * state.budget_db:
            high = at
        else:
            low = at
        if sum(o.benefit for o in order[low:high]) < _WORTH_A_TRY * total:
            return


def _fitted(noise: NoiseTable, quantized: Sequence[Operation], built: Built) -> NoiseTable:
    measured = {one.kind: one.loss_db for one in built.candidate.quality.kinds}
    return noise.fitted([operation.name for operation in quantized], measured)


def _cost(noise: NoiseTable, name: str) -> str:
    losses = noise.losses_db([name])
    worst = max(losses, key=losses.__getitem__)
    return f"alone it costs {losses[worst]:.3f} dB" + (f" on {worst}" if len(losses) > 1 else "")


def _worst_first(operations: Sequence[Operation], noise: NoiseTable) -> list[Operation]:
    """Order operations by what float gains on the kind that is then the worst, for its cost."""
    left = list(operations)
    order = []
    while left:
        each = np.array([noise.noise[operation.name] for operation in left])
        sums = each.sum(axis=0)
        before = noise.mean_losses(sums[None])[0]
        worst = int(before.argmax())
        gains = before[worst] - noise.mean_losses(sums - each)[:, worst]
        best = int(np.argmax(gains / [operation.benefit for operation in left]))
        order.append(left.pop(best))
    return order


def _first_below(
    order: Sequence[Operation], noise: NoiseTable, loss_db: float, least: int, end: int
) -> int | None:
    """Return how many operations, ``least`` or more, must stay in float for a predicted loss."""
    for at in range(least, min(end, len(order))):
        if noise.loss_db([operation.name for operation in order[at:]]) <= loss_db:
            return at
    # The prediction asks for more than is known to suffice: halve what is left between.
    middle = (least + end) // 2
    return middle if least <= middle < min(end, len(order)) else None


def _tune(state: _Search, tuner: Tuner) -> None:
    within_reach = [
        built
        for built in state.built
        if built.candidate.quality.loss_db <= _TUNABLE * state.budget_db
    ] or sorted(state.built, key=lambda built: built.candidate.quality.loss_db)[:1]
    start = max(within_reach, key=lambda built: built.benefit)
    state.report(f"fine-tuning {start.candidate.label}")
    state.add(partial(state.builder.tune, start, tuner))
