"""The training loop: L1 loss, Adam, cosine schedule, weight averaging, resumable to the step."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from ..errors import ArgumentError
from ..imaging.degradations import PROTOCOL, degrade
from ..imaging.metrics import psnr
from .data import CropPairs, Photograph
from .recipes import Recipe, Schedule

__all__ = ["Progress", "plot_curves", "train"]


@dataclass(frozen=True)
class Progress:
    """Row of the training log."""

    step: int
    loss: float
    rate: float
    input_db: float
    output_db: float
    remaining_s: float


def train(
    network: nn.Module,
    photographs: Sequence[Photograph],
    validation: Sequence[Photograph],
    recipe: Recipe,
    folder: Path,
    *,
    report: Callable[[Progress], None],
    every: int = 500,
    workers: int = 1,
) -> Path:
    """Train a network by a recipe; return the path of its state dict.

    Parameters
    ----------
    network : nn.Module
        ``[N, 3, H, W]`` f32 in [0, 1] to the same.
    photographs, validation : sequences of ndarray, u8, shape (H, W, 3)
        To train on, and to measure the log's PSNR on.
    recipe : Recipe
        Its degradation and schedule are used.
    folder : Path
        Gets ``checkpoint.pt`` (resumed when present), ``log.csv`` and ``model.pth``.
    report : callable
        Called with a `Progress` every ``every`` steps.
    workers : int
        Processes that prepare crops.
    """
    schedule = recipe.schedule
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(schedule.seed)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    decay = torch.optim.swa_utils.get_ema_multi_avg_fn(  # type: ignore[no-untyped-call]
        schedule.average_decay
    )
    average = torch.optim.swa_utils.AveragedModel(network, multi_avg_fn=decay)
    optimizer = torch.optim.Adam(network.parameters(), schedule.learning_rate)
    first = _resume(folder / "checkpoint.pt", schedule, network, average, optimizer)
    log = folder / "log.csv"
    _trim_log(log, first)
    pairs = CropPairs(
        photographs,
        recipe.degradation,
        crop_px=schedule.crop_px,
        count=schedule.steps * schedule.batch,
        seed=schedule.seed,
    )
    losses: list[float] = []
    start = time.monotonic()
    for step, (degraded, clean) in enumerate(_batches(pairs, schedule, first, workers), first):
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(step)
        loss = torch.nn.functional.l1_loss(network(degraded), clean)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        average.update_parameters(network)
        losses.append(loss.item())
        done = step + 1
        if done % every and done != schedule.steps:
            continue
        before, after = _validate(average.module, validation)
        row = Progress(
            done,
            float(np.mean(losses)),
            schedule.rate(step),
            before,
            after,
            (time.monotonic() - start) / (done - first) * (schedule.steps - done),
        )
        losses.clear()
        _append(log, row)
        _save(folder / "checkpoint.pt", done, schedule, network, average, optimizer)
        report(row)
    model = folder / "model.pth"
    torch.save(average.module.state_dict(), model)
    return model


def _batches(
    pairs: CropPairs, schedule: Schedule, first: int, workers: int
) -> Iterator[tuple[Tensor, Tensor]]:
    rest = Subset(pairs, range(first * schedule.batch, len(pairs)))
    loader: DataLoader[tuple[Tensor, Tensor]] = DataLoader(
        rest, batch_size=schedule.batch, num_workers=workers, prefetch_factor=8 if workers else None
    )
    for degraded, clean in loader:
        yield (
            degraded.to(memory_format=torch.channels_last),
            clean.to(memory_format=torch.channels_last),
        )


def _validate(network: nn.Module, validation: Sequence[Photograph]) -> tuple[float, float]:
    """Return the mean PSNR in dB of the degraded pictures and of the restored ones."""
    rng = np.random.default_rng(7)
    scores = []
    for photograph in validation:
        height, width = (side // 8 * 8 for side in photograph.shape[:2])
        clean = photograph[:height, :width]
        degraded, _ = degrade(clean.astype(np.float32) / np.float32(255), PROTOCOL, rng)
        scores.append((psnr(degraded, clean), psnr(_restore(network, degraded), clean)))
    before, after = np.mean(scores, axis=0)
    return float(before), float(after)


def _restore(network: nn.Module, image: Photograph) -> Photograph:
    tensor = torch.from_numpy(image.transpose(2, 0, 1)[None].astype(np.float32) / 255)
    with torch.inference_mode():
        restored: NDArray[np.float32] = network(tensor)[0].clamp(0, 1).numpy()
    return np.rint(restored.transpose(1, 2, 0) * 255).astype(np.uint8)


def _save(
    path: Path,
    step: int,
    schedule: Schedule,
    network: nn.Module,
    average: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> None:
    beside = path.with_suffix(".part")
    state: dict[str, Any] = {
        "step": step,
        "schedule": asdict(schedule),
        "network": network.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    torch.save(state, beside)
    beside.replace(path)


def _resume(
    path: Path,
    schedule: Schedule,
    network: nn.Module,
    average: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> int:
    """Load an earlier run's state; return the first step that is left."""
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    if state["schedule"] != asdict(schedule):
        raise ArgumentError(f"{path}: made with another schedule; use that one or another folder")
    network.load_state_dict(state["network"])
    average.load_state_dict(state["average"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def _append(log: Path, row: Progress) -> None:
    values = asdict(row)
    fresh = not log.exists()
    with log.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(values))
        if fresh:
            writer.writeheader()
        writer.writerow(values)


def _trim_log(log: Path, first: int) -> None:
    """Drop the rows of an interrupted run after its last checkpoint."""
    if log.exists():
        rows = log.read_bytes().splitlines(keepends=True)
        kept = [row for row in rows[1:] if int(row.partition(b",")[0]) <= first]
        log.write_bytes(b"".join([*rows[:1], *kept]))


def plot_curves(log: Path, picture: Path) -> None:
    """Draw loss and validation PSNR over the steps of ``log.csv`` as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with log.open(newline="") as file:
        rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    steps = [row["step"] for row in rows]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    left.plot(steps, [row["loss"] for row in rows])
    left.set(xlabel="step", ylabel="L1 loss", title="training loss")
    right.plot(steps, [row["output_db"] for row in rows], label="restored")
    right.plot(steps, [row["input_db"] for row in rows], "--", label="degraded")
    right.set(xlabel="step", ylabel="PSNR, dB", title="held-out validation picture")
    right.legend()
    figure.savefig(picture, dpi=110)
    pyplot.close(figure)
