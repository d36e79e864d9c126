"""``edgerestore evaluate``: quality and speed of models on pictures with ground truth."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from .printing import echo

__all__ = ["evaluate_command"]

# Options by their panel of the help.
_models, _pictures, _reports = (
    partial(typer.Option, rich_help_panel=panel) for panel in ("Models", "Pictures", "Reports")
)


def evaluate_command(
    model: Annotated[
        list[str],
        _models(
            help="A model's name, a bundle's folder, or an average (a*0.7+b*0.3); repeatable.",
            show_default=False,
        ),
    ],
    targets: Annotated[Path, _pictures(help="Folder of ground truth.", show_default=False)],
    inputs: Annotated[
        Path | None, _pictures(help="Folder of inputs with the targets' file names.")
    ] = None,
    degrade: Annotated[
        str | None,
        _pictures(
            help="Make the inputs from the targets: blur, shake:20, noise:25, jpeg:20, downscale,"
            " ..., or none."
        ),
    ] = None,
    seed: Annotated[int, _pictures(help="Seed of the degradation.")] = 0,
    border: Annotated[
        int | None,
        _pictures(
            help="Pixels cut from every side before measuring. [default: the models' scale, 0"
            " where they do not enlarge]"
        ),
    ] = None,
    precision: Annotated[
        list[str] | None,
        _models(help="auto, fp32, tf32, bf16, fp16 or int8; repeatable. [default: auto]"),
    ] = None,
    device: Annotated[str, _models(help="CPU, GPU, NPU, AUTO, AUTO:GPU,CPU, ...")] = "CPU",
    strength: Annotated[float, _models(help="0 input, 1 model, up to 2.")] = 1.0,
    tta: Annotated[
        bool, _models("--tta", help="Average the eight rotations and mirrorings; 8 times as slow.")
    ] = False,
    csv: Annotated[Path | None, _reports(help="Write every picture's figures there.")] = None,
    json: Annotated[Path | None, _reports(help="Write all figures and facts there.")] = None,
    html: Annotated[
        Path | None,
        _reports(help="Write a page with charts and pictures there; needs edgerestore[convert]."),
    ] = None,
    record: Annotated[
        str | None,
        _reports(
            metavar="TEXT",
            help="Write the means into the models' manifests, as measured on TEXT.",
        ),
    ] = None,
    overwrite: Annotated[
        bool, _reports("--overwrite", "-y", help="Replace existing reports.")
    ] = False,
) -> None:
    """Measure models against ground truth: quality and speed."""
    # Imported here: the runtime takes a second, and --help must not.
    from ..evaluation.evaluator import evaluate
    from ..evaluation.record import ScoreRecord
    from ..evaluation.report import csv_text, html_text, json_text, reserved, table_text
    from ..imaging.image_files import pictures_in
    from ..reports.pages import require_page_libraries
    from ..streams.progress import CountedBar

    wanted = {csv: csv_text, json: json_text, html: html_text}
    if html is not None:
        require_page_libraries()
    scores = None if record is None else ScoreRecord(record, model, strength, tta)
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
        echo(table_text(found))
        write({path: wanted[path](found) for path in paths})
        if scores is not None:
            scores.write(found)
