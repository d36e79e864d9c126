"""The training loop: Adam, averaged weights, resumable to the step, stopped at a checkpoint."""

from __future__ import annotations

import copy
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import ArgumentError, CheckpointError, DeviceError, SourceError, TrainingError
from .batches import Crops, PixelPair
from .checkpoints import load_checkpoint, save_beside
from .dataset import Dataset, Split, SplitName
from .log import TrainingLog, plot_curves
from .objectives import Batch
from .recipes import Recipe
from .validation import Scores, sample_sheet, score

__all__ = ["Outcome", "Row", "Trainer", "find_device"]

_SHEETS = 10  # sample sheets that are kept of a run
_VALIDATION_PAIRS = 64  # of each dataset, the first ones
_TIMED_STEPS = 3
_TO_CHANGE = ("steps", "every")  # what a resumed run may have other values of


@dataclass(frozen=True)
class Row:
    """Row of the training log: means over the steps since the last one, and validation."""

    step: int
    loss: float
    gradient_norm: float
    rate: float
    input_db: float
    output_db: float
    gain_db: float
    step_s: float


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
    return device


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

    Raises
    ------
    ArgumentError, CheckpointError
        When the folder's checkpoint is of another recipe or schedule.
    SourceError
        When the pairs do not fit the network.
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
    ) -> None:
        schedule = recipe.schedule
        self.recipe, self.schedule, self.folder = recipe, schedule, folder
        self.device, self._datasets, self._notice = device, datasets, notice
        self._network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        decay = torch.optim.swa_utils.get_ema_multi_avg_fn(  # type: ignore[no-untyped-call]
            schedule.average_decay
        )
        self._average = torch.optim.swa_utils.AveragedModel(self._network, multi_avg_fn=decay)
        self._optimizer = torch.optim.Adam(
            self._network.parameters(), schedule.learning_rate, betas=schedule.betas, fused=True
        )
        self._crops = Crops(
            self._splits(SplitName.TRAIN),
            schedule.crop_px,
            schedule.batch,
            schedule.seed,
            orientations=recipe.orientations,
            color_orders=recipe.color_orders,
            shares=schedule.shares,
        )
        self.step = 0
        self._half = False
        folder.mkdir(parents=True, exist_ok=True)
        self._log = TrainingLog(folder / "log.csv")
        self._resume()

    def run(self, report: Callable[[Row], None], tick: Callable[[int, float], None]) -> Outcome:
        """Train to the last step.

        Parameters
        ----------
        report : callable
            Called with the row of each validation.
        tick : callable
            Called after each step with the number of steps done and the loss.

        Raises
        ------
        KeyboardInterrupt
            After SIGINT or SIGTERM, once the checkpoint of the latest step is written.
        TrainingError
            When the loss is not finite; the batch is kept in ``bad_batch.npz``.
        SinkError
            When a file cannot be written.
        """
        schedule, sums, began = self.schedule, np.zeros(2), time.monotonic()
        counted = 0
        with _stopping() as stopped:
            for pairs in self._crops.ahead(self.step, schedule.steps, self._loader_threads()):
                sums += self._advance(pairs)
                counted += 1
                tick(self.step, sums[0] / counted)
                if self.step % schedule.every == 0 or self.step == schedule.steps:
                    seconds = time.monotonic() - began
                    loss, norm = sums / counted
                    report(self._validate(loss, norm, seconds / counted))
                    sums, counted, began = np.zeros(2), 0, time.monotonic()
                elif stopped():
                    self._save()
                if stopped():
                    self._notice(f"stopped after step {self.step}; the same command goes on")
                    raise KeyboardInterrupt
        return self._finish()

    def _loader_threads(self) -> int:
        return 1 if self.device.type == "cpu" else 4

    def _advance(self, pairs: PixelPair) -> NDArray[np.float64]:
        """Make a step; return its loss and the norm of its gradients."""
        rate = self.schedule.rate(self.step)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        torch.manual_seed(self.schedule.seed * 1_000_003 + self.step)  # of drop-out
        loss, norm = self._backward(self._network, self._optimizer, pairs, half=self._half)
        figures = torch.stack([loss, norm]).double().cpu().numpy()
        if not np.isfinite(figures).all():
            self._refuse_batch(pairs)
        self._optimizer.step()
        self._average.update_parameters(self._network)
        self.step += 1
        return np.asarray(figures)

    def _backward(
        self, network: nn.Module, optimizer: torch.optim.Optimizer, pairs: PixelPair, *, half: bool
    ) -> tuple[Tensor, Tensor]:
        batch = Batch(*(self._tensor(pictures) for pictures in pairs))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            restored = network(batch.degraded)
        loss = self.recipe.objective.loss(restored.float(), batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(network.parameters(), self.schedule.clip_norm)
        return loss.detach(), norm.detach()

    def _tensor(self, pictures: NDArray[np.uint8]) -> Tensor:
        """Return f32 ``[N, C, H, W]`` in [0, 1], channels last."""
        sent = torch.from_numpy(pictures).to(self.device, non_blocking=True)
        return sent.permute(0, 3, 1, 2).float() / 255

    def _refuse_batch(self, pairs: PixelPair) -> None:
        path = self.folder / "bad_batch.npz"
        np.savez_compressed(path, inputs=pairs[0], targets=pairs[1], step=self.step)
        raise TrainingError(
            f"step {self.step}: the loss or its gradient is not finite; its batch is in {path}."
            f" {self.folder / 'checkpoint.pt'} holds the last good step: lower --rate"
        )

    def _restore(self, pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
        with torch.inference_mode():
            restored = self._average.module.eval()(self._tensor(np.ascontiguousarray(pictures)))
            levels = (restored.clamp(0, 1) * 255).round().byte()
        made: NDArray[np.uint8] = levels.permute(0, 2, 3, 1).cpu().numpy()
        return made

    def _validate(self, loss: float, norm: float, step_s: float) -> Row:
        """Score the averaged weights, and write everything that a later start goes on from."""
        splits = self._splits(SplitName.VALIDATION) or self._splits(SplitName.TRAIN)
        scores = score(self._restore, splits, _VALIDATION_PAIRS)
        row = Row(
            step=self.step,
            loss=loss,
            gradient_norm=norm,
            rate=self.schedule.rate(self.step - 1),
            input_db=scores.input_db,
            output_db=scores.output_db,
            gain_db=scores.gain_db,
            step_s=step_s,
        )
        self._save()
        self._log.append(asdict(row))
        plot_curves([self._log.path], self.folder / "curves.png")
        tenth = math.ceil(self.schedule.steps / _SHEETS)
        kept = self.step // tenth * tenth  # a sheet of a later step of the same tenth replaces it
        sample_sheet(self._restore, splits[0], self.folder / "samples" / f"{kept:07}.jpg")
        return row

    def _finish(self) -> Outcome:
        model = self.folder / "model.pth"
        save_beside(self._weights(), model)
        splits = self._splits(SplitName.TEST)
        return Outcome(model, score(self._restore, splits) if splits else None)

    def _weights(self) -> dict[str, Tensor]:
        state = self._average.module.state_dict()
        return {name: value.detach().cpu().contiguous() for name, value in state.items()}

    def _save(self) -> None:
        state: dict[str, Any] = {
            "format": 1,
            "recipe": self.recipe.name,
            "schedule": msgspec.to_builtins(self.schedule),
            "step": self.step,
            "half": self._half,
            "datasets": [dataset.digest for dataset in self._datasets],
            "network": self._network.state_dict(),
            "average": self._average.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }
        save_beside(state, self.folder / "checkpoint.pt")

    def _splits(self, name: SplitName) -> list[Split]:
        return [one.split(name) for one in self._datasets if name in one.manifest.arrays]

    def _resume(self) -> None:
        path = self.folder / "checkpoint.pt"
        state = load_checkpoint(path)
        if state is None:
            self._probe()
            return
        if state["recipe"] != self.recipe.name:
            raise CheckpointError(
                f"{path}: is of recipe {state['recipe']}, not {self.recipe.name};"
                " use another folder for -o"
            )
        self._compare_schedule(path, state["schedule"])
        if state["datasets"] != [dataset.digest for dataset in self._datasets]:
            self._notice(f"goes on from step {state['step']} with other datasets than before")
        try:
            self._network.load_state_dict(state["network"])
            self._average.load_state_dict(state["average"])
            self._optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise CheckpointError(
                f"{path}: is of another network than recipe {self.recipe.name} has now;"
                " use another folder for -o"
            ) from error
        self.step, self._half = state["step"], state["half"]
        self._log.trim(self.step)
        self._notice(f"goes on from step {self.step}")

    def _compare_schedule(self, path: Path, before: Mapping[str, Any]) -> None:
        now = msgspec.to_builtins(self.schedule)
        changed = [name for name in before if before[name] != now.get(name)]
        told = ", ".join(f"{name} {before[name]}, now {now.get(name)}" for name in changed)
        if set(changed) - set(_TO_CHANGE):
            raise ArgumentError(
                f"{path}: was made with another schedule ({told}); use that one, or another"
                " folder for -o"
            )
        if changed:
            self._notice(f"goes on with another schedule than before: {told}")

    def _probe(self) -> None:
        """Run a step on a copy, to see that the pairs fit and whether bf16 is faster."""
        self._log.trim(0)
        pairs = self._crops.at(0)
        try:
            plain_s = self._timed(pairs, half=False)
        except RuntimeError as error:
            shapes = ", ".join(str(pictures.shape[1:]) for pictures in pairs)
            raise SourceError(
                f"recipe {self.recipe.name}: its network or objective does not take pairs of"
                f" {shapes}: {error}"
            ) from error
        if not _has_bf16(self.device):
            self._notice("precision f32: no bf16 here")
            return
        half_s = self._timed(pairs, half=True)
        self._half = half_s < plain_s
        self._notice(
            f"precision {'bf16' if self._half else 'f32'}: a step takes {plain_s * 1e3:.0f} ms in"
            f" f32, {half_s * 1e3:.0f} ms in bf16"
        )

    def _timed(self, pairs: PixelPair, *, half: bool) -> float:
        """Return the seconds of a step on a copy of the network."""
        network = copy.deepcopy(self._network)
        optimizer = torch.optim.Adam(network.parameters())
        best = math.inf
        for _ in range(_TIMED_STEPS):
            began = time.perf_counter()
            loss, _ = self._backward(network, optimizer, pairs, half=half)
            loss.item()
            best = min(best, time.perf_counter() - began)
        return best


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


@contextmanager
def _stopping() -> Iterator[Callable[[], bool]]:
    """Turn the first SIGINT or SIGTERM into a flag; a second SIGINT interrupts at once."""
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
