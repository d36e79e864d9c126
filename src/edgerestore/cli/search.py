"""``edgerestore search``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ..errors import ArgumentError
from .printing import echo

__all__ = ["search_command"]

# Options by their panel of the help.
_search, _schedule, _machine = (
    partial(typer.Option, rich_help_panel=panel) for panel in ("Search", "Trials", "Machine")
)
_BY_RECIPE = "Default: the recipe's."


def search_command(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE", help="Name of a recipe, or FILE.py of one's own.", show_default=False
        ),
    ],
    data: Annotated[
        list[Path],
        _search(
            metavar="DIR",
            help="Dataset folder; of several, their shares are searched.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        _search(
            "--output",
            "-o",
            help="Folder for storage, trials and report; resumed if it has a search.",
            show_default=False,
        ),
    ],
    trials: Annotated[
        int, _search(min=1, help="Trials, those of earlier runs in the folder included.")
    ] = 40,
    sampler: Annotated[str, _search(help="tpe or cma (CMA-ES).")] = "tpe",
    budget_gmac: Annotated[
        float | None,
        _search(metavar="G", help="Most multiply-adds per 1280x720 frame, in billions."),
    ] = None,
    time: Annotated[
        float | None,
        _search(metavar="HOURS", help="Stop then; the same command goes on with the search."),
    ] = None,
    seed: Annotated[int, _search(min=0, help="Seed of what is drawn.")] = 0,
    steps: Annotated[
        int | None, _schedule(min=1, help="Of each trial. Default: the space's.")
    ] = None,
    batch: Annotated[int | None, _schedule(min=1, help=f"Crops per step. {_BY_RECIPE}")] = None,
    crop: Annotated[int | None, _schedule(min=8, help=f"Side of crops, px. {_BY_RECIPE}")] = None,
    threads: Annotated[
        int | None, _machine(min=1, help="Threads of the CPU. Default: one per core.")
    ] = None,
    precision: Annotated[
        Literal["auto", "f32", "bf16"],
        _machine(help="Of a step's arithmetic; auto times both and takes the faster."),
    ] = "auto",
    device: Annotated[
        str | None, _machine(help="cpu or cuda. Default: cuda where there is one.")
    ] = None,
) -> None:
    """Search the settings of a recipe by many short trials.

    Learning rate, losses, shares of data and network are searched in the space that it names.
    """
    # Imported here: PyTorch takes seconds, and --help must not.
    from importlib.util import find_spec

    from ..errors import MissingExtraError
    from ..extensions import install_command

    for name in ("optuna", "cmaes"):
        if find_spec(name) is None:
            raise MissingExtraError(f"search needs {name}: {install_command('train')}")
    for option, value in {"--budget-gmac": budget_gmac, "--time": time}.items():
        if value is not None and not 0 < value < float("inf"):
            raise ArgumentError(f"{option} {value:g}: expected a number above 0")
    given = {"batch": batch, "crop_px": crop}
    changes = {name: value for name, value in given.items() if value is not None}
    _search_trials(
        recipe, data, output, changes, threads, device, trials=trials, hours=time, steps=steps,
        sampler=sampler, precision=precision, budget_gmac=budget_gmac, seed=seed,
    )  # fmt: skip


def _search_trials(
    reference: str,
    data: list[Path],
    output: Path,
    schedule: dict[str, Any],
    threads: int | None,
    device: str | None,
    *,
    trials: int,
    hours: float | None,
    sampler: str,
    precision: str,
    steps: int | None,
    **options: Any,
) -> None:
    import math
    from contextlib import closing

    import torch

    from ..errors import TrainingError
    from ..streams.progress import CountedBar
    from ..training.dataset import Dataset
    from ..training.learner import TrainingPrecision
    from ..training.recipes import load_recipe
    from ..training.search import Search, SearchSampler
    from ..training.search_report import front_table, trial_line, write_report
    from ..training.search_results import SearchResults, TrialResult
    from ..training.trainer import find_device

    try:
        drawing = SearchSampler(sampler)
    except ValueError:
        known = ", ".join(SearchSampler)
        raise ArgumentError(f"sampler {sampler!r} is not known; use {known}") from None
    if threads is not None:
        torch.set_num_threads(threads)

    def report(found: SearchResults, latest: TrialResult) -> None:
        write_report(found, output, reference)
        done = len(found.finished)
        left_h = found.seconds / done * (trials - done) / 3600
        best = f"best {found.best.gain_db:+.3f} dB, " if found.best else ""
        echo(f"{trial_line(latest)}; {best}{done}/{trials}, {left_h:.1f} h left")

    search = Search(
        load_recipe(reference),
        [Dataset.open(folder) for folder in data],
        output,
        schedule=schedule,
        sampler=drawing,
        steps=steps,
        device=find_device(device),
        precision=TrainingPrecision(precision),
        notice=partial(echo, err=True),
        **options,
    )
    seconds = math.inf if hours is None else hours * 3600
    with closing(search), CountedBar("steps") as bar:
        found = search.run(trials, seconds, report, bar.tick)
    done = len(found.finished)
    if done < trials:
        echo(f"stopped by --time after {done} trials; the same command goes on")
        if found.best is None:
            return
    if found.best is None:
        raise TrainingError(
            f"{output}: none of {done} trials was completed; {output / 'report.html'} has the"
            " reasons"
        )
    write_report(found, output, reference)
    for line in front_table(found).lines():
        echo(line)
    echo(f"wrote {output / 'report.html'}; next: edgerestore train {output / 'best.py'}")
