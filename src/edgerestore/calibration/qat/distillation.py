"""Distillation: the pictures, the teacher's answers, and the student's steps towards them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import openvino
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...runtimes.openvino.graph import OpenvinoGraph
from .student import Student
from .torch_graph import TorchGraph

__all__ = ["Distillation"]

Planes = NDArray[np.float32]

_SIDE_PX = {False: 96, True: 64}  # of what is trained on, by whether the model enlarges
_JUDGED = 4  # crops
_JUDGED_PX = 128  # of their middle, so that judging costs no more than a few steps
_WARM_UP = 10  # steps: Adam knows nothing of the gradients' sizes in the beginning
_LARGEST_GRADIENT = 1.0


class Distillation:
    """A student, its teacher, and everything that changes from step to step.

    Parameters
    ----------
    quantized, teacher : openvino.Model
    crops : sequence of ndarray, f32, shape (1, C, h, w)
        Where there are enough, four are left out of training to judge by.
    rate : float
        How far a step moves a number at the most, in units of its own size.
    batch : int
        Pictures per step.
    seed : int

    Attributes
    ----------
    step : int
        Steps that were taken.
    start_error, best_error : float
        Mean square distance to the teacher of the graph as it came, and of the nearest so far.
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
        judged = range(0, len(crops), -(-len(crops) // _JUDGED))
        left_out = set(judged) if len(crops) >= 2 * _JUDGED else set()
        self._crops = [crop for at, crop in enumerate(crops) if at not in left_out]
        self._judge = _Judge(quantized, teacher, [_middle(crops[at]) for at in judged])
        shortest = min(min(crop.shape[2:]) for crop in crops)
        self._side = min(shortest, _SIDE_PX[self._judge.enlarges])
        self._teacher = OpenvinoGraph(teacher, size=(self._side, self._side))
        self._graph = TorchGraph(quantized, (self._side, self._side), clamped=False)
        self._student = Student(quantized, teacher, crops[0])
        self._adam = torch.optim.Adam([self._student.shift], lr=rate)
        self._random = torch.Generator().manual_seed(seed)
        self._digest = _digest([rate, batch, seed], crops, self._student)
        self.step = self._checked = 0
        self._best: Tensor | None = None
        self.start_error = self.best_error = self._judge.error(None)

    def learn(self, done: float) -> None:
        """Take a step.

        Parameters
        ----------
        done : float
            The part of all steps that lies behind, in [0, 1): steps get shorter with it.
        """
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
        """Keep the student as it is now, if it is the nearest to the teacher so far."""
        if self._checked == self.step:
            return
        self._checked = self.step
        error = self._judge.error(self._student)
        if error < self.best_error:
            self.best_error = error
            self._best = self._student.shift.detach().clone()

    def best_model(self) -> openvino.Model:
        """Return the nearest to the teacher as a graph of its own."""
        if self._best is None:
            return self._quantized.clone()
        with torch.no_grad():
            self._student.shift.copy_(self._best)
        return self._student.export()

    def state(self) -> dict[str, Any]:
        """Return what `restore` goes on from: tensors and plain values."""
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
        """Go on from a state; return False where it is another run's, and change nothing."""
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
        """Cut a random square out of a random crop, turned and mirrored at random."""
        crop = self._crops[self._below(len(self._crops))]
        top, left = (self._below(side - self._side + 1) for side in crop.shape[2:])
        cut = crop[:, :, top : top + self._side, left : left + self._side]
        turned = np.rot90(cut, self._below(4), axes=(2, 3))
        return np.ascontiguousarray(turned[..., ::-1] if self._below(2) else turned)

    def _below(self, end: int) -> int:
        return int(torch.randint(end, (1,), generator=self._random))


class _Judge:
    """Measures the distance to the teacher on crops that stay the same."""

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
        """Return the mean square distance of a student, or of the graph as it came."""
        values = () if student is None else student.values()
        errors = [
            self._graphs[_size(crop)](torch.from_numpy(crop), *values) - torch.from_numpy(wanted)
            for crop, wanted in self._pairs
        ]
        return float(np.mean([float(error.square().mean()) for error in errors]))


def _middle(crop: Planes) -> Planes:
    top, left = (max(0, side - _JUDGED_PX) // 2 for side in crop.shape[2:])
    cut = crop[:, :, top : top + _JUDGED_PX, left : left + _JUDGED_PX]
    return np.ascontiguousarray(cut)


def _size(planes: Planes) -> tuple[int, int]:
    return planes.shape[2], planes.shape[3]


def _apart(made: Tensor, wanted: Tensor) -> Tensor:
    """Return how far an output before its clamp is from the teacher's after it.

    What lies beyond black or white where the teacher's does too is not off at all. What lies
    there where the teacher's does not has a gradient, which a clamped output would lack.
    """
    beyond = ((wanted <= 0) & (made < 0)) | ((wanted >= 1) & (made > 1))
    return (made - wanted).masked_fill(beyond, 0.0)


def _digest(settings: Sequence[float], crops: Sequence[Planes], student: Student) -> str:
    found = hashlib.sha256(repr([*settings, torch.__version__]).encode())
    for crop in crops:
        found.update(np.ascontiguousarray(crop).tobytes())
    found.update(student.digest().encode())
    return found.hexdigest()
