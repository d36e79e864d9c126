"""``edgerestore evaluate``: quality and speed of models on pictures with ground truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["evaluate_command"]

_MODELS, _PICTURES, _REPORTS = "Models", "Pictures", "Reports"


def evaluate_command(
    model: Annotated[
        list[str],
        typer.Option(
            help="A model's name or a bundle's folder; repeatable.",
            show_default=False,
            rich_help_panel=_MODELS,
        ),
    ],
    targets: Annotated[
        Path,
        typer.Option(help="Folder of ground truth.", show_default=False, rich_help_panel=_PICTURES),
    ],
    inputs: Annotated[
        Path | None,
        typer.Option(
            help="Folder of inputs with the targets' file names.", rich_help_panel=_PICTURES
        ),
    ] = None,
    degrade: Annotated[
        str | None,
        typer.Option(
            help="Make the inputs from the targets: blur, noise:25, downscale or none.",
            rich_help_panel=_PICTURES,
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Seed of the degradation.", rich_help_panel=_PICTURES)
    ] = 0,
    border: Annotated[
        int | None,
        typer.Option(
            help="Pixels cut from every side before measuring. [default: the models' scale, 0"
            " where they do not enlarge]",
            rich_help_panel=_PICTURES,
        ),
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(
            help="auto, fp32, bf16, fp16 or int8; repeatable. [default: auto]",
            rich_help_panel=_MODELS,
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(help="CPU, GPU, NPU, AUTO, AUTO:GPU,CPU, ...", rich_help_panel=_MODELS)
    ] = "CPU",
    strength: Annotated[
        float, typer.Option(help="0 input, 1 model, up to 2.", rich_help_panel=_MODELS)
    ] = 1.0,
    tta: Annotated[
        bool,
        typer.Option(
            "--tta",
            help="Average the eight rotations and mirrorings; 8 times as slow.",
            rich_help_panel=_MODELS,
        ),
    ] = False,
    csv: Annotated[
        Path | None,
        typer.Option(help="Write every picture's figures there.", rich_help_panel=_REPORTS),
    ] = None,
    json: Annotated[
        Path | None,
        typer.Option(help="Write all figures and facts there.", rich_help_panel=_REPORTS),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            help="Write a page with charts and pictures there; needs edgerestore[convert].",
            rich_help_panel=_REPORTS,
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace existing reports.", rich_help_panel=_REPORTS),
    ] = False,
) -> None:
    """Measure quality and speed of models on pictures with ground truth."""
    # Imported here: the runtime takes a second, and --help must not.
    from ..evaluation.dataset import pictures_in
    from ..evaluation.evaluator import evaluate
    from ..evaluation.report import csv_text, html_text, json_text, reserved, table_text
    from ..reports.pages import require_page_libraries
    from ..streams.progress import CountedBar

    wanted = {csv: csv_text, json: json_text, html: html_text}
    if html is not None:
        require_page_libraries()
    sources = pictures_in("--targets", targets)
    if inputs is not None:
        sources += pictures_in("--inputs", inputs)
    paths = [path for path in (csv, json, html) if path is not None]
    with reserved(paths, overwrite=overwrite, inputs=sources) as write:
        with CountedBar("pictures") as bar:
            found = evaluate(
                model,
                targets=targets,
                inputs=inputs,
                degrade=degrade,
                precisions=precision or ("auto",),
                device=device,
                border=border,
                strength=strength,
                tta=tta,
                seed=seed,
                tick=bar.tick,
            )
        # First the table: a full disk must not take it away.
        typer.echo(table_text(found))
        write({path: wanted[path](found) for path in paths})
