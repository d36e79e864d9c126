"""``edgerestore train``."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..errors import ArgumentError
from .printing import echo

if TYPE_CHECKING:
    from ..training.dataset import Dataset
    from ..training.recipes import Recipe
    from ..training.trainer import Outcome

__all__ = ["train_command"]

# Options by their panel of the help.
_run, _weights, _schedule, _machine = (
    partial(typer.Option, rich_help_panel=panel)
    for panel in ("Run", "Weights", "Schedule", "Machine")
)
_BY_RECIPE = "Default: the recipe's."
TrainingPrecisionName = Literal["auto", "f32", "bf16"]


def train_command(
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="RECIPE", help="Name of a recipe, or FILE.py of one's own.", show_default=False
        ),
    ] = None,
    list_: Annotated[bool, _run("--list", help="List the recipes.")] = False,
    data: Annotated[
        list[Path] | None,
        _run(
            metavar="DIR",
            help="Dataset folder, or folder of photographs that one is made of first; repeatable.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        _run("--output", "-o", help="Folder for checkpoint, log and model; resumed if it has one."),
    ] = None,
    initial: Annotated[
        str | None,
        _weights(
            metavar="MODEL",
            help="Weights to start from: a state dict's file, or a bundle's folder or name.",
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        _weights(
            metavar="BUNDLE", help="Model of the same task to distil from, by folder or name."
        ),
    ] = None,
    qat: Annotated[
        bool,
        _weights(
            "--qat",
            help="Fine-tune the INT8 of the bundle --initial, rounding in every step; on the CPU.",
        ),
    ] = False,
    steps: Annotated[int | None, _schedule(min=1, help=_BY_RECIPE)] = None,
    batch: Annotated[int | None, _schedule(min=1, help=f"Crops per step. {_BY_RECIPE}")] = None,
    crop: Annotated[
        int | None, _schedule(min=8, help=f"Side of the inputs' crops, px. {_BY_RECIPE}")
    ] = None,
    rate: Annotated[float | None, _schedule(help=f"Peak learning rate. {_BY_RECIPE}")] = None,
    seed: Annotated[int | None, _schedule(min=0, help=_BY_RECIPE)] = None,
    every: Annotated[
        int | None, _schedule(min=1, help=f"Steps between checkpoints. {_BY_RECIPE}")
    ] = None,
    threads: Annotated[
        int | None, _machine(min=1, help="Threads of the CPU. Default: one per core.")
    ] = None,
    precision: Annotated[
        TrainingPrecisionName,
        _machine(help="Of a step's arithmetic; auto times both and takes the faster."),
    ] = "auto",
    device: Annotated[
        str | None, _machine(help="cpu or cuda. Default: cuda where there is one.")
    ] = None,
) -> None:
    """Train a model by a recipe, or resume its training.

    It goes on where the output folder has a checkpoint.
    """
    # Imported here: PyTorch takes seconds, and --help must not.
    from ..training.recipes import load_recipe

    if list_:
        return _list()
    if recipe is None or not data or output is None:
        raise ArgumentError("train needs RECIPE, --data DIR and -o OUT; recipes: train --list")
    if rate is not None and not 0 < rate < float("inf"):
        raise ArgumentError(f"--rate {rate:g}: expected a number above 0")
    if qat and initial is None:
        raise ArgumentError("--qat fine-tunes the INT8 of a bundle: name it with --initial")
    if qat and (precision == "bf16" or (device or "cpu") != "cpu"):
        raise ArgumentError("--qat computes in f32 on the CPU: leave out --precision and --device")
    given: dict[str, Any] = {
        "steps": steps,
        "batch": batch,
        "crop_px": crop,
        "learning_rate": rate,
        "seed": seed,
        "every": every,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    chosen = load_recipe(recipe)
    chosen = replace(chosen, schedule=replace(chosen.schedule, **changes))
    outcome = _train(
        chosen, data, output, initial, teacher, threads, device, qat=qat, precision=precision
    )
    if outcome.test is not None:
        echo(f"test split: {outcome.test}")
    if qat:
        echo(f"wrote {outcome.model}; next: edgerestore evaluate {outcome.model}")
        return None
    task = f" --task {chosen.task}"
    echo(f"wrote {outcome.model}; next: edgerestore convert {outcome.model} -o BUNDLE{task}")
    return None


def _list() -> None:
    from ..training.recipes import recipes

    rows = [(one.name, one.task, one.summary) for one in recipes()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        echo("  ".join(cells).rstrip())


def _train(
    recipe: Recipe,
    data: list[Path],
    output: Path,
    initial: str | None,
    teacher: str | None,
    threads: int | None,
    device_name: str | None,
    *,
    qat: bool,
    precision: TrainingPrecisionName,
) -> Outcome:
    import torch

    from ..streams.progress import CountedBar
    from ..training.learner import TrainingPrecision
    from ..training.networks import load_teacher, start_from
    from ..training.objectives import Distilled
    from ..training.trainer import Row, Trainer, find_device

    if threads is not None:
        torch.set_num_threads(threads)
    device = find_device("cpu" if qat else device_name)
    datasets = _datasets(recipe, data, output)
    torch.manual_seed(recipe.schedule.seed)
    changed: dict[str, Any] = {"precision": TrainingPrecision(precision)}
    if qat and initial is not None:
        from ..training.quantized_network import QuantizedNetwork, write_fine_tuned

        # Of the whole graph: outputs that only guide the training are not in it.
        recipe = replace(recipe, outputs=lambda network, image: (network(image),))
        quantized = QuantizedNetwork(initial, recipe.task, datasets[0].split("train"))
        held_out = "validation" if "validation" in datasets[0].manifest.arrays else "train"
        judged = datasets[0].split(held_out)
        changed = {
            "precision": TrainingPrecision.F32,
            "qat": quantized.student.digest(),
            "write": partial(write_fine_tuned, recipe.name, judged),
        }
        network: torch.nn.Module = quantized
    else:
        network = recipe.network()
        if initial is not None:
            start_from(network, initial, recipe.name)
    taught = None
    if teacher is not None:
        pairs = datasets[0].split("train")
        taught = load_teacher(
            teacher,
            task=recipe.task,
            upscale=pairs.upscale,
            channels=pairs.inputs.shape[3],
            device=device,
        )
        recipe = replace(recipe, objective=Distilled(recipe.objective, recipe.teacher_weight))
    trainer = Trainer(
        recipe,
        network,
        datasets,
        output,
        device=device,
        notice=partial(echo, err=True),
        teacher=taught,
        teacher_name=teacher,
        **changed,
    )
    steps = recipe.schedule.steps

    def report(row: Row) -> None:
        left_h = (steps - row.step) * row.step_s / 3600
        echo(
            f"step {row.step}/{steps}  loss {row.loss:.5f}  {row.scores}"
            f"  {row.step_s:.3f} s a step, {left_h:.1f} h left"
        )

    with CountedBar("steps") as bar:
        return trainer.run(report, lambda done, loss: bar.tick(done, steps, f"loss {loss:.5f}"))


def _datasets(recipe: Recipe, folders: list[Path], output: Path) -> list[Dataset]:
    """Open dataset folders; make one of the others, inside the output folder."""
    from ..streams.progress import CountedBar
    from ..training.dataset import MANIFEST_NAME, Dataset
    from ..training.making import make_dataset

    made = [folder for folder in folders if (folder / MANIFEST_NAME).exists()]
    photographs = [folder for folder in folders if folder not in made]
    datasets = [Dataset.open(folder) for folder in made]
    if photographs:
        if recipe.pairs is None:
            raise ArgumentError(
                f"--data {photographs[0]}: is no dataset, and recipe {recipe.name} does not say how"
                " its pairs are made"
            )
        if recipe.pairs.needs_objects:
            raise ArgumentError(
                f"--data {photographs[0]}: is no dataset, and recipe {recipe.name} composites"
                f" objects; make one: edgerestore dataset {recipe.name} --photographs"
                f" {photographs[0]} --objects DIR -o DATA"
            )
        workers = len(os.sched_getaffinity(0))
        with CountedBar("pairs") as bar:
            datasets.append(
                make_dataset(
                    output / "dataset",
                    recipe.name,
                    recipe.pairs,
                    photographs,
                    option="--data",
                    workers=workers,
                    tick=bar.tick,
                )
            )
    return datasets
