"""``edgerestore train``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import ArgumentError

__all__ = ["train_command"]

# Options by their panel of the help.
_schedule, _machine = (
    partial(typer.Option, rich_help_panel=panel) for panel in ("Schedule", "Machine")
)
_BY_RECIPE = "Default: the recipe's."


def train_command(
    recipe: Annotated[
        str | None,
        typer.Argument(help="Name of a recipe, or FILE.py of one's own.", show_default=False),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the recipes.")] = False,
    data: Annotated[
        list[Path] | None, typer.Option(metavar="DIR", help="Dataset folder; repeatable.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Folder for checkpoint, log and model; resumed if it has one."
        ),
    ] = None,
    initial: Annotated[
        Path | None, typer.Option(metavar="FILE", help="State dict to start from.")
    ] = None,
    steps: Annotated[int | None, _schedule(min=1, help=_BY_RECIPE)] = None,
    batch: Annotated[int | None, _schedule(min=1, help=f"Crops per step. {_BY_RECIPE}")] = None,
    crop: Annotated[int | None, _schedule(min=8, help=f"Side of crops, px. {_BY_RECIPE}")] = None,
    rate: Annotated[float | None, _schedule(help=f"Peak learning rate. {_BY_RECIPE}")] = None,
    seed: Annotated[int | None, _schedule(min=0, help=_BY_RECIPE)] = None,
    every: Annotated[
        int | None, _schedule(min=1, help=f"Steps between checkpoints. {_BY_RECIPE}")
    ] = None,
    threads: Annotated[
        int | None, _machine(min=1, help="Threads of the CPU. Default: one per core.")
    ] = None,
    device: Annotated[
        str | None, _machine(help="cpu or cuda. Default: cuda where there is one.")
    ] = None,
) -> None:
    """Train a model by a recipe, or resume training where the output folder has a checkpoint."""
    # Imported here: PyTorch takes seconds, and --help must not.
    from dataclasses import replace

    from ..training.recipes import load_recipe, recipes

    if list_:
        rows = [(one.name, one.task, one.summary) for one in recipes()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            typer.echo("  ".join(cells).rstrip())
        return
    if recipe is None or not data or output is None:
        raise ArgumentError("train needs RECIPE, --data DIR and -o OUT; recipes: train --list")
    chosen = load_recipe(recipe)
    given: dict[str, Any] = {
        "steps": steps,
        "batch": batch,
        "crop_px": crop,
        "learning_rate": rate,
        "seed": seed,
        "every": every,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    chosen = replace(chosen, schedule=replace(chosen.schedule, **changes))
    _train(chosen, data, output, initial, threads, device)


def _train(
    recipe: Any,
    data: list[Path],
    output: Path,
    initial: Path | None,
    threads: int | None,
    device: str | None,
) -> None:
    import torch

    from ..convert.checkpoint.files import load_state
    from ..errors import CheckpointError, first_line
    from ..streams.progress import CountedBar
    from ..training.dataset import Dataset
    from ..training.trainer import Row, Trainer, find_device

    if threads is not None:
        torch.set_num_threads(threads)
    chosen_device = find_device(device)
    datasets = [Dataset.open(folder) for folder in data]
    torch.manual_seed(recipe.schedule.seed)
    network = recipe.network()
    if initial is not None:
        try:
            network.load_state_dict(load_state(initial))
        except RuntimeError as error:
            raise CheckpointError(
                f"{initial}: does not fit recipe {recipe.name}: {first_line(error)}"
            ) from error

    def notice(line: str) -> None:
        typer.echo(line, err=True)

    trainer = Trainer(recipe, network, datasets, output, device=chosen_device, notice=notice)
    steps = recipe.schedule.steps

    def report(row: Row) -> None:
        left_h = (steps - row.step) * row.step_s / 3600
        typer.echo(
            f"step {row.step}/{steps}  loss {row.loss:.5f}  {row.input_db:.2f} ->"
            f" {row.output_db:.2f} dB ({row.gain_db:+.2f})  {row.step_s:.2f} s a step,"
            f" {left_h:.1f} h left"
        )

    with CountedBar("steps") as bar:
        outcome = trainer.run(report, lambda done, loss: bar.tick(done, steps, f"loss {loss:.5f}"))
    if outcome.test is not None:
        typer.echo(
            f"test split: {outcome.test.input_db:.2f} -> {outcome.test.output_db:.2f} dB"
            f" ({outcome.test.gain_db:+.2f})"
        )
    typer.echo(f"wrote {outcome.model}; next: edgerestore convert {outcome.model} -o BUNDLE")
