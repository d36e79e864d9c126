"""``edgerestore dataset``: training pairs of a recipe, made from photographs."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ..errors import ArgumentError
from .printing import echo

__all__ = ["dataset_command"]

# Options by their panel of the help.
_pictures, _pairs = (
    partial(typer.Option, rich_help_panel=panel) for panel in ("Pictures", "Pairs")
)


def dataset_command(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE", help="A recipe's name, or FILE.py with a RECIPE.", show_default=False
        ),
    ],
    photographs: Annotated[
        list[Path],
        _pictures(
            metavar="DIR",
            help="Folder of clean, sharp photographs; repeatable.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Dataset folder to write.", show_default=False)
    ],
    objects: Annotated[
        Path | None,
        _pictures(metavar="DIR", help="Folder of cut-out objects with transparency."),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        _pictures(metavar="STEM", help="Photograph that is not used; repeatable."),
    ] = None,
    count: Annotated[
        int, _pairs(help="Training pairs; validation and test have up to a tenth of it each.")
    ] = 4000,
    side: Annotated[
        int | None, _pairs(metavar="PX", help="Side of the inputs. Default: the recipe's.")
    ] = None,
    seed: Annotated[int, _pairs(help="Seed of all that is drawn.")] = 0,
    workers: Annotated[
        int | None, _pairs(help="Processes that draw pairs. Default: one for each core.")
    ] = None,
) -> None:
    """Make the training pairs of a recipe from photographs.

    The same command goes on after an interruption.
    """
    # Imported here: PyTorch takes seconds, and --help must not.
    import os
    from dataclasses import replace

    from ..streams.progress import CountedBar
    from ..training.making import SAMPLES_NAME, make_dataset
    from ..training.recipes import load_recipe

    chosen = load_recipe(recipe)
    if chosen.pairs is None:
        raise ArgumentError(f"recipe {chosen.name}: does not say how its pairs are made; see Pairs")
    pairs = chosen.pairs if side is None else replace(chosen.pairs, side_px=side)
    with CountedBar("pairs") as bar:
        made = make_dataset(
            output,
            chosen.name,
            pairs,
            photographs,
            objects=objects,
            exclude=exclude or (),
            count=count,
            seed=seed,
            workers=len(os.sched_getaffinity(0)) if workers is None else workers,
            tick=bar.tick,
        )
    counts = ", ".join(f"{count} {split}" for split, count in made.manifest.counts.items())
    echo(f"{output}: {counts} pairs of {pairs.side_px} px; look at {output / SAMPLES_NAME}")
