"""Fine-tuning with quantizers in place: the quantized graph learns to answer like the float one.

No ground truth is asked for: the float model is the teacher, and what is trained is the very
graph that runs afterwards.
"""

from __future__ import annotations

import math
import os
import pickle
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import torch
from numpy.typing import NDArray

from .distillation import Distillation

__all__ = ["fine_tune"]

_CHECKS = 20  # how often the student is compared with the best so far
_TALK_S = 5.0
_SAVE_S = 30.0


def fine_tune(
    quantized: openvino.Model,
    teacher: openvino.Model,
    crops: Sequence[NDArray[np.float32]],
    *,
    minutes: float,
    steps: int | None = None,
    rate: float = 1e-3,
    batch: int = 4,
    seed: int = 0,
    checkpoint: Path | None = None,
    report: Callable[[str], None],
) -> openvino.Model:
    """Train a quantized graph until it answers more like the float one.

    Parameters
    ----------
    quantized : openvino.Model
        With the face, its weights and activations quantized as NNCF leaves them; not changed.
    teacher : openvino.Model
        The float graph.
    crops : sequence of ndarray, f32, shape (1, C, h, w)
        Calibration crops, in [0, 1].
    minutes : float
        No further step is begun after this long, an interrupted run's time included.
    steps : int or None
        Stop after this many; with the seed they determine the result, if there is time.
    rate : float
        How far a step moves a number at the most, in units of its own size.
    batch : int
        Crops per step.
    seed : int
    checkpoint : Path or None
        Holds the state while this runs; a run that finds its own there goes on from it. The
        caller removes it.
    report : callable
        Takes one line of progress.

    Returns
    -------
    openvino.Model
        Of the same structure with other weights, biases and ranges; a plain copy of
        `quantized` where nothing nearer to the float model was found.

    Raises
    ------
    ConversionError
        When an operation has no gradient here; names it.
    """
    with _repeatable():
        training = Distillation(quantized, teacher, crops, rate, batch, seed)
        clock = _Clock(minutes, steps)
        state = _read(checkpoint)
        if state is not None and state["steps"] == steps and training.restore(state["training"]):
            clock.earlier_s = state["elapsed_s"]
            report(f"fine-tuning goes on after step {training.step}")
        else:
            report(f"fine-tuning begins at {_decibels(training.start_error)} to the float model")
        _train(training, clock, checkpoint, report)
        report(
            f"fine-tuned in {training.step} steps and {clock.elapsed_s:.0f} s:"
            f" {_decibels(training.start_error)} to the float model before,"
            f" {_decibels(training.best_error)} now"
        )
        return training.best_model()


class _Clock:
    """How much of the work is done, by steps or by time."""

    def __init__(self, minutes: float, steps: int | None) -> None:
        self.earlier_s = 0.0
        self.steps = steps
        self._seconds = minutes * 60
        self._begun = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        return self.earlier_s + time.monotonic() - self._begun

    def done(self, step: int) -> float:
        """Return the part that is done, 1 where nothing more is to be begun."""
        by_time = min(1.0, self.elapsed_s / self._seconds)
        if self.steps is None or by_time == 1:
            return by_time
        return min(1.0, step / self.steps)


def _train(
    training: Distillation, clock: _Clock, checkpoint: Path | None, report: Callable[[str], None]
) -> None:
    """Take steps until all is done, and tell and save now and then."""
    told = saved = time.monotonic()
    while (done := clock.done(training.step)) < 1:
        training.learn(done)
        after = clock.done(training.step)
        if int(after * _CHECKS) > int(done * _CHECKS):
            training.check()
        now = time.monotonic()
        if now - told >= _TALK_S and 0 < after < 1:
            told = now
            left = clock.elapsed_s * (1 - after) / after
            report(
                f"fine-tuning, step {training.step}: {_decibels(training.best_error)} to the"
                f" float model, about {left:.0f} s left"
            )
        if checkpoint is not None and now - saved >= _SAVE_S:
            saved = now
            elapsed = {"steps": clock.steps, "elapsed_s": clock.elapsed_s}
            _write(checkpoint, {"training": training.state(), **elapsed})
    training.check()


def _decibels(error: float) -> str:
    return f"{-10 * math.log10(max(error, 1e-20)):.2f} dB"


def _read(path: Path | None) -> dict[str, Any] | None:
    if path is None or not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
        return None  # damaged: begun anew
    return state


def _write(path: Path, state: dict[str, Any]) -> None:
    """Replace the file as a whole, so that an interruption leaves the old one or the new one."""
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    torch.save(state, beside)
    beside.replace(path)


@contextmanager
def _repeatable() -> Iterator[None]:
    """Have PyTorch compute the same bits each time."""
    # Filling memory that is about to be written costs time and changes nothing.
    memory: Any = torch.utils.deterministic
    before = torch.are_deterministic_algorithms_enabled(), memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        memory.fill_uninitialized_memory = before[1]
