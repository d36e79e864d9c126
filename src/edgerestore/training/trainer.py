"""A training run in its folder: resumable to the step, stopped at a checkpoint."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import (
    ArgumentError,
    CheckpointError,
    DeviceError,
    SourceError,
    TrainingError,
    first_line,
)
from .batches import Crops, PixelPair
from .checkpoints import load_checkpoint, save_beside
from .dataset import Dataset, Split, SplitName
from .learner import Learner, TrainingPrecision, to_tensor
from .log import TrainingLog, plot_curves
from .networks import Teacher
from .objectives import Batch
from .recipes import Recipe
from .validation import Scores, sample_sheet, score

__all__ = ["Outcome", "Row", "Trainer", "find_device"]

_SHEETS = 10  # sample sheets that are kept of a run
_VALIDATION_PAIRS = 64  # of each dataset, the first ones
_TO_CHANGE = {"steps", "every"}  # what a resumed run may have other values of
_GPU_CHECK = 50  # steps between looks at the loss, each of which waits for the GPU

Figures = NDArray[np.float64]


@dataclass(frozen=True)
class Row:
    """Row of the log: figures at a validation.

    Parameters
    ----------
    step : int
    loss, gradient_norm : float
        Means over the steps since the last validation.
    discriminator_loss : float or None
        The same, of an adversarial objective.
    rate : float
    step_s : float
        Seconds per step, validation left out.
    scores : Scores
        Of the averaged weights on the validation split.
    """

    step: int
    loss: float
    gradient_norm: float
    discriminator_loss: float | None
    rate: float
    step_s: float
    scores: Scores

    def figures(self) -> dict[str, float]:
        """Return the figures by column of the log."""
        row = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "scores"}
        if self.discriminator_loss is None:
            del row["discriminator_loss"]
        return {**row, **self.scores.figures}


@dataclass(frozen=True)
class Outcome:
    """Outcome of a training run: the weights' file, and the scores of the test split."""

    model: Path
    test: Scores | None


def find_device(name: str | None) -> torch.device:
    """Return the device of a name, or by default CUDA where there is one.

    Raises
    ------
    DeviceError
        When PyTorch does not have it.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise DeviceError(f"--device {name}: PyTorch has none here; use cpu or cuda") from error
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True  # crops have one size
        torch.set_float32_matmul_precision("high")
    return device


def _write_weights(network: nn.Module, folder: Path) -> Path:
    """Write a network's state dict, on the CPU."""
    model = folder / "model.pth"
    state = network.state_dict()
    save_beside({name: one.detach().cpu().contiguous() for name, one in state.items()}, model)
    return model


class Trainer:
    """Training run of a recipe in a folder.

    Parameters
    ----------
    recipe : Recipe
    network : nn.Module
        Fresh, or with weights to start from.
    datasets : sequence of Dataset
        Their pairs are drawn by the schedule's shares.
    folder : Path
        Gets ``checkpoint.pt`` (which is resumed), ``log.csv``, ``curves.png``, ``samples`` and
        ``model.pth``.
    device : torch.device
    notice : callable
        Called with lines about the run.
    teacher : Teacher or None
    teacher_name : str or None
    qat : str or None
        Digest of the INT8 graph that is fine-tuned, which must be that of a resumed run.
    write : callable
        Writes the network with the averaged weights to the folder, and returns what it wrote.
    precision : TrainingPrecision
        Of a run that begins; one that goes on keeps its own.

    Raises
    ------
    ArgumentError, CheckpointError
        When the folder's checkpoint is of another recipe or schedule.
    SourceError
        When the pairs do not fit the recipe.
    """

    def __init__(
        self,
        recipe: Recipe,
        network: nn.Module,
        datasets: Sequence[Dataset],
        folder: Path,
        *,
        device: torch.device,
        notice: Callable[[str], None],
        teacher: Teacher | None = None,
        teacher_name: str | None = None,
        qat: str | None = None,
        write: Callable[[nn.Module, Path], Path] = _write_weights,
        precision: TrainingPrecision = TrainingPrecision.AUTO,
    ) -> None:
        self.recipe, self.schedule, self.folder = recipe, recipe.schedule, folder
        self.device, self._datasets, self._notice = device, datasets, notice
        self._teacher, self._teacher_name = teacher, teacher_name
        self._qat, self._write = qat, write
        train = self._splits(SplitName.TRAIN)
        if not train:
            raise SourceError(f"{datasets[0].folder}: has no train split")
        self._crops = Crops(
            train,
            self.schedule.crop_px,
            self.schedule.batch,
            self.schedule.seed,
            orientations=recipe.orientations,
            color_orders=recipe.color_orders,
            shares=self.schedule.shares,
        )
        self._learner = Learner(recipe, network, device)
        self.step = 0
        self._sums, self._counted = np.zeros(3), 0
        self._waiting: list[Tensor] = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ArgumentError(f"-o {folder}: {first_line(error)}; name a folder") from error
        self._log = TrainingLog(folder / "log.csv")
        self._checkpoint = folder / "checkpoint.pt"
        state = load_checkpoint(self._checkpoint)
        if state is None:
            self._begin(precision)
        else:
            self._resume(state)

    def run(self, report: Callable[[Row], None], tick: Callable[[int, float], None]) -> Outcome:
        """Train to the last step.

        Parameters
        ----------
        report : callable
            Called at each validation.
        tick : callable
            Called after each step with the number of steps done, and the loss.

        Raises
        ------
        KeyboardInterrupt
            After SIGINT or SIGTERM, once the checkpoint of the latest step is written.
        TrainingError
            When the loss is not finite; the batch is kept in ``bad_batch.npz``.
        SinkError
            When a file cannot be written.
        """
        schedule, began, first = self.schedule, time.monotonic(), self.step
        look = 1 if self.device.type == "cpu" else _GPU_CHECK
        threads = 1 if self.device.type == "cpu" else 4
        with _stopping() as stopped:
            for pairs in self._crops.ahead(self.step, schedule.steps, threads):
                self._waiting.append(self._learner.step(self.step, self._batch(pairs)))
                self.step += 1
                due = self.step % schedule.every == 0 or self.step == schedule.steps
                if due or stopped() or self.step % look == 0:
                    self._look()
                tick(self.step, self._sums[0] / max(1, self._counted))
                if due:
                    step_s = (time.monotonic() - began) / (self.step - first)
                    report(self._validate(step_s))
                    began, first = time.monotonic(), self.step
                elif stopped():
                    self._save()
                if stopped():
                    self._notice(f"stopped after step {self.step}; the same command goes on")
                    raise KeyboardInterrupt
        return self._finish()

    def _batch(self, pairs: PixelPair) -> Batch:
        degraded, truth = (to_tensor(pictures, self.device) for pictures in pairs)
        taught = None if self._teacher is None else self._teacher(degraded)
        # Of a cut-out in RGBA networks make the mask.
        return Batch(degraded, truth[:, 3:] if truth.shape[1] == 4 else truth, taught)

    def _look(self) -> None:
        """Check the steps since the last look."""
        figures: Figures = torch.stack(self._waiting).double().cpu().numpy()
        first = self.step - len(figures)
        self._waiting.clear()
        bad = np.flatnonzero(~np.isfinite(figures).all(axis=1))
        if len(bad):
            self._refuse_step(first + int(bad[0]))
        self._sums += figures.sum(axis=0)
        self._counted += len(figures)

    def _refuse_step(self, step: int) -> None:
        path = self.folder / "bad_batch.npz"
        inputs, targets = self._crops.at(step)
        np.savez_compressed(path, inputs=inputs, targets=targets, step=step)
        kept = f"; {self._checkpoint} holds an earlier step" if self._checkpoint.exists() else ""
        raise TrainingError(
            f"step {step}: the loss or its gradient is not finite, the batch is in {path}{kept}:"
            " lower --rate"
        )

    def _validate(self, step_s: float) -> Row:
        """Score the averaged weights, and write everything that a later start goes on from."""
        splits = self._splits(SplitName.VALIDATION) or self._splits(SplitName.TRAIN)
        loss, norm, judged = self._sums / self._counted
        row = Row(
            step=self.step,
            loss=loss,
            gradient_norm=norm,
            discriminator_loss=None if self._learner.discriminator is None else judged,
            rate=self.schedule.rate(self.step - 1),
            step_s=step_s,
            scores=score(self._learner.restore, splits, _VALIDATION_PAIRS),
        )
        self._sums, self._counted = np.zeros(3), 0
        # In this order: rows after the last checkpoint are dropped on resuming.
        self._log.append(row.figures())
        self._save()
        plot_curves([self._log.path], self.folder / "curves.png")
        tenth = math.ceil(self.schedule.steps / _SHEETS)
        kept = self.step // tenth * tenth  # a sheet of a later step of the same tenth replaces it
        sample_sheet(self._learner.restore, splits[0], self.folder / "samples" / f"{kept:07}.jpg")
        return row

    def _finish(self) -> Outcome:
        model = self._write(self._learner.averaged, self.folder)
        splits = self._splits(SplitName.TEST)
        return Outcome(model, score(self._learner.restore, splits) if splits else None)

    def _splits(self, name: SplitName) -> list[Split]:
        return [one.split(name) for one in self._datasets if name in one.manifest.arrays]

    def _digests(self) -> list[str]:
        return [dataset.digest for dataset in self._datasets]

    def _save(self) -> None:
        state: dict[str, Any] = {
            "format": 1,
            "recipe": self.recipe.name,
            "schedule": msgspec.to_builtins(self.schedule),
            "teacher": self._teacher_name,
            "qat": self._qat,
            "datasets": self._digests(),
            "step": self.step,
            "sums": self._sums.tolist(),
            "counted": self._counted,
            **self._learner.state(),
        }
        save_beside(state, self._checkpoint)

    def _begin(self, precision: TrainingPrecision) -> None:
        """Make a step on a copy, to see that the pairs fit and which precision is faster."""
        self._log.trim(0)
        pairs = self._crops.at(0)
        try:
            batch = self._batch(pairs)
            self._learner.prepare(batch)
            told = self._learner.choose_precision(batch, precision)
        except (RuntimeError, ValueError) as error:
            shapes = " and ".join("x".join(map(str, one.shape[1:])) for one in pairs)
            raise SourceError(
                f"recipe {self.recipe.name}: does not take crops of {shapes}: {first_line(error)}"
            ) from error
        self._notice(f"{self.device}, {told}")

    def _resume(self, state: dict[str, Any]) -> None:
        path, name = self._checkpoint, self.recipe.name
        if state["recipe"] != name:
            raise CheckpointError(
                f"{path}: is of recipe {state['recipe']}, not {name}; use another folder for -o"
            )
        self._compare_schedule(state["schedule"])
        if state.get("teacher") != self._teacher_name:
            raise ArgumentError(
                f"{path}: was made with --teacher {state.get('teacher')}, now"
                f" {self._teacher_name}; use that one, or another folder for -o"
            )
        before = state.get("qat") or None  # earlier checkpoints say False
        if before != self._qat:
            made = "without --qat"
            if before:
                made = "of another INT8 graph" if self._qat else "with --qat"
            raise ArgumentError(f"{path}: was made {made}; use another folder for -o")
        if state["datasets"] != self._digests():
            self._notice(f"goes on from step {state['step']} with other datasets than before")
        self._learner.prepare(self._batch(self._crops.at(0)))
        try:
            self._learner.load_state(state)
        except (RuntimeError, ValueError, KeyError) as error:
            raise CheckpointError(
                f"{path}: is of another network than recipe {name} has now; use another folder"
                " for -o"
            ) from error
        self.step, self._counted = state["step"], state.get("counted", 0)
        self._sums = np.array(state.get("sums", [0, 0, 0]), np.float64)
        self._log.trim(self.step)
        self._notice(f"goes on from step {self.step}")

    def _compare_schedule(self, before: Mapping[str, Any]) -> None:
        now = msgspec.to_builtins(self.schedule)
        changed = [name for name in before if before[name] != now.get(name)]
        told = ", ".join(f"{name} {before[name]}, now {now.get(name)}" for name in changed)
        if set(changed) - _TO_CHANGE:
            raise ArgumentError(
                f"{self._checkpoint}: was made with another schedule ({told}); use that one, or"
                " another folder for -o"
            )
        if changed:
            self._notice(f"goes on with another schedule than before: {told}")


@contextmanager
def _stopping() -> Iterator[Callable[[], bool]]:
    """Turn the first SIGINT or SIGTERM into a flag; a second one interrupts at once."""
    asked: list[int] = []

    def ask(number: int, _: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
