"""``edgerestore evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["evaluate_command"]


def evaluate_command(
    model: Annotated[
        list[str],
        typer.Option(help="A model's name or a bundle's folder; repeatable.", show_default=False),
    ],
    targets: Annotated[Path, typer.Option(help="Folder of ground truth.", show_default=False)],
    inputs: Annotated[
        Path | None, typer.Option(help="Folder of inputs with the targets' file names.")
    ] = None,
    degrade: Annotated[
        str | None,
        typer.Option(help="Make the inputs from the targets: blur, noise:25, downscale or none."),
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(help="auto, fp32, bf16, fp16 or int8; repeatable. [default: auto]"),
    ] = None,
    device: Annotated[str, typer.Option(help="CPU, GPU, NPU, AUTO, AUTO:GPU,CPU, ...")] = "CPU",
    border: Annotated[
        int | None,
        typer.Option(help="Pixels cut from every side. [default: as often as a model enlarges]"),
    ] = None,
    strength: Annotated[float, typer.Option(help="0 input, 1 model, up to 2.")] = 1.0,
    tta: Annotated[
        bool, typer.Option("--tta", help="Average eight turns; 8 times as slow.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of what --degrade draws.")] = 0,
    csv: Annotated[Path | None, typer.Option(help="Write every picture's figures there.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write all figures and facts there.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with pictures there.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace reports that are there.")
    ] = False,
) -> None:
    """Measure quality and speed of models on pictures whose truth is known."""
    # Imported here: the runtime takes a second, and --help must not.
    from ..evaluation.dataset import pictures_in
    from ..evaluation.evaluator import evaluate
    from ..evaluation.progress import ProgressLine
    from ..evaluation.report import csv_text, html_text, json_text, reserved, table_text
    from ..reports.pages import require_page_libraries

    wanted = {csv: csv_text, json: json_text, html: html_text}
    if html is not None:
        require_page_libraries()
    sources = pictures_in("--targets", targets)
    if inputs is not None:
        sources += pictures_in("--inputs", inputs)
    paths = [path for path in (csv, json, html) if path is not None]
    line = ProgressLine()
    with reserved(paths, overwrite=overwrite, inputs=sources) as files:
        try:
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
                report=lambda text: typer.echo(f"edgerestore: {text}", err=True),
                tick=line.tick,
            )
        finally:
            line.clear()
        # First the table: a full disk must not take it away.
        typer.echo(table_text(found))
        files.write({path: wanted[path](found) for path in paths})
