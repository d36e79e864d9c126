"""``python -m edgerestore.training``: train a model by a recipe."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import EdgerestoreError
from .data import load_photographs, skimage_photographs
from .recipes import load_recipe
from .trainer import Progress, plot_curves, train

_BY_RECIPE = "Default: the recipe's."


def main(
    data: Annotated[Path, typer.Option(help="Folder of clean photographs.")],
    output: Annotated[Path, typer.Option("-o", help="Folder for checkpoint, log and model.")],
    exclude: Annotated[
        list[str] | None, typer.Option(help="Photograph (stem) kept out, repeatable.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help=_BY_RECIPE)] = None,
    seed: Annotated[int | None, typer.Option(min=0, help=_BY_RECIPE)] = None,
    rate: Annotated[float | None, typer.Option(help=f"Peak learning rate. {_BY_RECIPE}")] = None,
    initial: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="State dict to start from instead of chance."
        ),
    ] = None,
    recipe: Annotated[str, typer.Option(help="Module of training/recipes.")] = "deblur",
    workers: Annotated[int, typer.Option(min=0, help="Processes that prepare crops.")] = 1,
) -> None:
    """Train a model, or resume training where the output folder holds a checkpoint."""
    import torch

    chosen = load_recipe(recipe)
    given: dict[str, Any] = {"steps": steps, "seed": seed, "learning_rate": rate}
    changes = {name: value for name, value in given.items() if value is not None}
    schedule = replace(chosen.schedule, **changes)
    photographs = load_photographs(data, exclude or []) + skimage_photographs(chosen.added)
    held_out = skimage_photographs(chosen.validation)
    torch.manual_seed(schedule.seed)
    network = chosen.network()
    if initial is not None:
        network.load_state_dict(torch.load(initial, weights_only=True))

    def report(row: Progress) -> None:
        print(
            f"step {row.step}/{schedule.steps}  loss {row.loss:.5f}  rate {row.rate:.2e}"
            f"  {row.input_db:.2f} -> {row.output_db:.2f} dB  ETA {row.remaining_s / 60:.0f} min",
            flush=True,
        )

    chosen = replace(chosen, schedule=schedule)
    model = train(network, photographs, held_out, chosen, output, report=report, workers=workers)
    plot_curves(output / "log.csv", output / "curves.png")
    print(f"wrote {model} and {output / 'curves.png'}")


if __name__ == "__main__":
    try:
        typer.run(main)
    except EdgerestoreError as error:
        print(f"edgerestore.training: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
