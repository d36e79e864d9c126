"""Quantization-aware fine-tuning by distillation: the float graph is the teacher.

No ground truth is needed, and what is trained is the graph that runs afterwards.
"""

from __future__ import annotations

import hashlib
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
from torch import Tensor

from ...imaging.arrays import Planes
from ...runtimes.openvino.graph import OpenvinoGraph
from .student import Student
from .torch_graph import TorchGraph

__all__ = ["fine_tune"]

_CHECKS = 20  # comparisons of the student with the best so far
_REPORT_S = 5.0
_SAVE_S = 30.0
_SIDE_PX = {False: 96, True: 64}  # of what is trained on, by whether the model enlarges
_VALIDATION = 4  # crops
_VALIDATION_PX = 128  # of their middle, so that validation costs no more than a few steps
_WARM_UP = 10  # steps: Adam's estimate of the gradients' scale starts empty
_LARGEST_GRADIENT = 1.0


def fine_tune(
    quantized: openvino.Model,
    teacher: openvino.Model,
    crops: Sequence[Planes],
    *,
    minutes: float,
    steps: int | None = None,
    rate: float = 1e-3,
    batch: int = 4,
    seed: int = 0,
    checkpoint: Path | None = None,
    report: Callable[[str], None],
) -> openvino.Model:
    """Fine-tune a quantized graph towards the output of the float one.

    Parameters
    ----------
    quantized : openvino.Model
        Weights and activations quantized as NNCF leaves them; not changed.
    teacher : openvino.Model
        The float graph.
    crops : sequence of ndarray, f32, shape (1, C, h, w)
        Calibration crops, in [0, 1].
    minutes : float
        No further step starts after this long, an interrupted run's time included.
    steps : int or None
        Stop after this many; with the seed they determine the result, if there is time.
    rate : float
        Largest change of a number per step, in units of its own size.
    batch : int
        Crops per step.
    seed : int
    checkpoint : Path or None
        Holds the state of the run; a run that finds its own state there resumes it. The caller
        removes it.
    report : callable
        Takes one line of progress.

    Returns
    -------
    openvino.Model
        Of the same structure with other weights, biases and ranges; a plain copy of
        `quantized` where nothing closer to the float model was found.

    Raises
    ------
    ConversionError
        When an operation has no PyTorch equivalent here; names it.
    """
    with _repeatable():
        training = _Distillation(quantized, teacher, crops, rate, batch, seed)
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
    """Progress by steps or by time, whichever ends first."""

    def __init__(self, minutes: float, steps: int | None) -> None:
        self.earlier_s = 0.0
        self.steps = steps
        self._seconds = minutes * 60
        self._begun = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        return self.earlier_s + time.monotonic() - self._begun

    def done(self, step: int) -> float:
        """Return the part that is done, 1 where no further step starts."""
        by_time = min(1.0, self.elapsed_s / self._seconds)
        if self.steps is None or by_time == 1:
            return by_time
        return min(1.0, step / self.steps)


def _train(
    training: _Distillation, clock: _Clock, checkpoint: Path | None, report: Callable[[str], None]
) -> None:
    """Take steps until done; report and save at intervals."""
    reported = saved = time.monotonic()
    while (done := clock.done(training.step)) < 1:
        training.learn(done)
        after = clock.done(training.step)
        if int(after * _CHECKS) > int(done * _CHECKS):
            training.check()
        now = time.monotonic()
        if now - reported >= _REPORT_S and 0 < after < 1:
            reported = now
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
        return None  # damaged: the run starts over
    return state


def _write(path: Path, state: dict[str, Any]) -> None:
    """Replace the file as a whole, so that an interruption leaves the old one or the new one."""
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    torch.save(state, beside)
    beside.replace(path)


@contextmanager
def _repeatable() -> Iterator[None]:
    """Run PyTorch with deterministic algorithms."""
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


class _Distillation:
    """State of a distillation run: student, teacher, optimizer, best so far.

    With eight crops or more, four are held out of training for validation. ``start_error`` and
    ``best_error`` are mean square distances to the teacher.
    """

    def __init__(
        self,
        quantized: openvino.Model,
        teacher: openvino.Model,
        crops: Sequence[Planes],
        rate: float,
        batch: int,
        seed: int,
    ) -> None:
        self._quantized = quantized
        self._rate, self._batch = rate, batch
        held_out = range(0, len(crops), -(-len(crops) // _VALIDATION))
        left_out = set(held_out) if len(crops) >= 2 * _VALIDATION else set()
        self._crops = [crop for at, crop in enumerate(crops) if at not in left_out]
        self._validation = _Validation(quantized, teacher, [_middle(crops[at]) for at in held_out])
        shortest = min(min(crop.shape[2:]) for crop in crops)
        self._side = min(shortest, _SIDE_PX[self._validation.enlarges])
        self._teacher = OpenvinoGraph(teacher, size=(self._side, self._side))
        self._graph = TorchGraph(quantized, (self._side, self._side), clamped=False)
        self._student = Student(quantized, teacher, crops[0])
        self._adam = torch.optim.Adam([self._student.shift], lr=rate)
        self._random = torch.Generator().manual_seed(seed)
        self._digest = _digest([rate, batch, seed], crops, self._student)
        self.step = self._checked = 0
        self._best: Tensor | None = None
        self.start_error = self.best_error = self._validation.error(None)

    def learn(self, done: float) -> None:
        """Take a step; the learning rate falls as ``done`` goes from 0 to 1."""
        pictures = np.concatenate([self._draw() for _ in range(self._batch)])
        wanted = np.concatenate([self._teacher(picture[None]) for picture in pictures])
        made = self._graph(torch.from_numpy(pictures), *self._student.values())
        loss = _apart(made, torch.from_numpy(wanted)).abs().mean()
        self._adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_([self._student.shift], _LARGEST_GRADIENT)
        warm = min(1.0, (self.step + 1) / _WARM_UP)
        self._adam.param_groups[0]["lr"] = self._rate * warm * (1 + math.cos(math.pi * done)) / 2
        self._adam.step()
        self.step += 1

    def check(self) -> None:
        """Keep the current student if it is the closest to the teacher so far."""
        if self._checked == self.step:
            return
        self._checked = self.step
        error = self._validation.error(self._student)
        if error < self.best_error:
            self.best_error = error
            self._best = self._student.shift.detach().clone()

    def best_model(self) -> openvino.Model:
        """Return the closest student as a graph of its own."""
        if self._best is None:
            return self._quantized.clone()
        with torch.no_grad():
            self._student.shift.copy_(self._best)
        return self._student.export()

    def state(self) -> dict[str, Any]:
        """Return the state that `restore` resumes: tensors and plain values."""
        return {
            "digest": self._digest,
            "step": self.step,
            "checked": self._checked,
            "shift": self._student.shift.detach(),
            "adam": self._adam.state_dict(),
            "random": self._random.get_state(),
            "best": self._best,
            "best_error": self.best_error,
        }

    def restore(self, state: dict[str, Any]) -> bool:
        """Resume a state; return False, unchanged, where it belongs to another run."""
        if state["digest"] != self._digest:
            return False
        self.step, self._checked = state["step"], state["checked"]
        with torch.no_grad():
            self._student.shift.copy_(state["shift"])
        self._adam.load_state_dict(state["adam"])
        self._random.set_state(state["random"])
        self._best, self.best_error = state["best"], state["best_error"]
        return True

    def _draw(self) -> Planes:
        """Return a random square of a random crop, rotated and mirrored at random."""
        crop = self._crops[self._below(len(self._crops))]
        top, left = (self._below(side - self._side + 1) for side in crop.shape[2:])
        cut = crop[:, :, top : top + self._side, left : left + self._side]
        turned = np.rot90(cut, self._below(4), axes=(2, 3))
        return np.ascontiguousarray(turned[..., ::-1] if self._below(2) else turned)

    def _below(self, end: int) -> int:
        return int(torch.randint(end, (1,), generator=self._random))


class _Validation:
    """Distance to the teacher on a fixed set of crops."""

    def __init__(
        self, quantized: openvino.Model, teacher: openvino.Model, crops: Sequence[Planes]
    ) -> None:
        sizes = {_size(crop) for crop in crops}
        self._graphs = {size: TorchGraph(quantized, size) for size in sizes}
        teachers = {size: OpenvinoGraph(teacher, size=size) for size in sizes}
        self._pairs = [(crop, teachers[_size(crop)](crop)) for crop in crops]
        self.enlarges = any(_size(crop) != _size(wanted) for crop, wanted in self._pairs)

    @torch.no_grad()
    def error(self, student: Student | None) -> float:
        """Return the mean square distance of a student, None for the graph at the start."""
        values = () if student is None else student.values()
        errors = [
            self._graphs[_size(crop)](torch.from_numpy(crop), *values) - torch.from_numpy(wanted)
            for crop, wanted in self._pairs
        ]
        return float(np.mean([float(error.square().mean()) for error in errors]))


def _middle(crop: Planes) -> Planes:
    top, left = (max(0, side - _VALIDATION_PX) // 2 for side in crop.shape[2:])
    cut = crop[:, :, top : top + _VALIDATION_PX, left : left + _VALIDATION_PX]
    return np.ascontiguousarray(cut)


def _size(planes: Planes) -> tuple[int, int]:
    return planes.shape[2], planes.shape[3]


def _apart(made: Tensor, wanted: Tensor) -> Tensor:
    """Return the difference of an unclamped output from the teacher's clamped one.

    Values beyond black or white count as equal where the teacher is clamped too; elsewhere they
    have a gradient, which a clamped output would lack.
    """
    beyond = ((wanted <= 0) & (made < 0)) | ((wanted >= 1) & (made > 1))
    return (made - wanted).masked_fill(beyond, 0.0)


def _digest(settings: Sequence[float], crops: Sequence[Planes], student: Student) -> str:
    found = hashlib.sha256(repr([*settings, torch.__version__]).encode())
    for crop in crops:
        found.update(np.ascontiguousarray(crop).tobytes())
    found.update(student.digest().encode())
    return found.hexdigest()
