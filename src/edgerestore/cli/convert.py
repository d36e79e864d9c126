"""``edgerestore convert``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ..errors import ArgumentError
from .printing import echo
from .quantize import (
    Calibrate,
    Degrade,
    Kinds,
    MaxDropDb,
    Minutes,
    Qat,
    QatMinutes,
    Seed,
    Targets,
    print_progress,
    print_results,
)

__all__ = ["convert_command"]


# Options by their panel of the help.
_network, _images, _bundle = (
    partial(typer.Option, rich_help_panel=panel)
    for panel in ("Network", "Image format of the network", "Bundle")
)


def convert_command(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="State dict (.pth .pt .ckpt .safetensors), TorchScript, .pt2, .onnx, or a folder"
            " of the parts of one network.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Bundle folder to write.", show_default=False)
    ],
    arch: Annotated[
        str | None,
        _network(
            help="Architecture: a known name, FILE.py:FACTORY or pkg.mod:FACTORY."
            " Default: detected from the weights."
        ),
    ] = None,
    arch_arg: Annotated[
        list[str] | None,
        _network(
            metavar="NAME=VALUE",
            help="Constructor argument; repeatable. Default: read off the weights.",
        ),
    ] = None,
    residual: Annotated[
        bool | None,
        _network(
            "--residual/--no-residual",
            help="The network returns a correction that is added to the image.",
        ),
    ] = None,
    network_output: Annotated[
        int | None,
        _network(help="Which of several outputs is the restored image, from 0."),
    ] = None,
    multiple_of: Annotated[
        int | None,
        _network(
            metavar="PX",
            help="Frames are continued by their edge to multiples of this, also where the network"
            " takes other sides.",
        ),
    ] = None,
    window_px: Annotated[
        int | None,
        _network(
            metavar="PX",
            help="Side of a window where tiles are not exact: smaller frames are not cut."
            " Default: the architecture's, else 384.",
        ),
    ] = None,
    value_range: Annotated[
        str | None,
        _images(
            "--range",
            metavar="WHITE or BLACK..WHITE",
            help="Value range of the network: 1, 255, or -1..1.",
        ),
    ] = None,
    color: Annotated[
        str | None, _images(help="Channel order of the network: rgb, bgr or gray.")
    ] = None,
    name: Annotated[
        str | None, _bundle(help="Name in the manifest. Default: the folder's.")
    ] = None,
    task: Annotated[
        str | None,
        _bundle(
            help="Task in the manifest: deblur, denoise, super-resolve, ..."
            " Default: the architecture's."
        ),
    ] = None,
    summary: Annotated[str, _bundle(help="One sentence for the manifest.")] = "",
    licence: Annotated[str, _bundle(help="Licence of the weights.")] = "unspecified",
    family: Annotated[
        str | None,
        _bundle(
            help="Family in the manifest: models of one family, of several sizes, may run in place"
            " of each other."
        ),
    ] = None,
    suited_for: Annotated[
        str,
        _bundle(metavar="TEXT", help="Degradations that it is trained for, for the manifest."),
    ] = "",
    trust: Annotated[
        bool,
        _network(
            "--trust",
            help="Run code of the model (TorchScript, .pt2, --arch FILE.py:FACTORY) as it is, not"
            " in a confined process.",
        ),
    ] = False,
    overwrite: Annotated[
        bool, _bundle("--overwrite", "-y", help="Replace an existing bundle.")
    ] = False,
    samples: Annotated[
        Path | None,
        typer.Option(help="Pictures for verification, a folder or a file. Default: drawn scenes."),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="Prove parity and tiles alone: no 16-bit comparison, no times, no pictures in"
            " the report.",
        ),
    ] = False,
    int8: Annotated[
        bool, typer.Option("--int8", help="Add INT8 where it keeps the budget and is faster.")
    ] = False,
    calibrate: Calibrate = None,
    targets: Targets = None,
    degrade: Degrade = None,
    kinds: Kinds = None,
    max_drop_db: MaxDropDb = 0.1,
    minutes: Minutes = 30.0,
    qat: Qat = False,
    qat_minutes: QatMinutes = 60.0,
    seed: Seed = 0,
    force: Annotated[
        bool,
        _bundle(
            "--force",
            help="Write a bundle that restores worse than it is given, and INT8 that is over the"
            " budget or slower.",
        ),
    ] = False,
) -> None:
    """Convert a trained model to a bundle, and verify it.

    Both compute the same, or nothing is written.
    """
    # Imported here: PyTorch takes seconds, and --help must not.
    from ..convert import QuantizationOptions, convert, quantize
    from ..convert.checkpoint.network import parse_arguments

    if not int8 and (calibrate or targets or degrade or kinds or qat):
        raise ArgumentError("calibration without --int8: add --int8, or leave the options out")
    # Checked before the minutes that conversion takes.
    options = int8 and QuantizationOptions(
        calibrate=calibrate or [],
        targets=targets,
        degradation=degrade,
        kinds=kinds or ["all"],
        max_drop_db=max_drop_db,
        minutes=minutes,
        qat=qat,
        qat_minutes=qat_minutes,
        seed=seed,
        force=force,
    )
    result = convert(
        source,
        output,
        architecture=arch,
        arguments=parse_arguments(arch_arg or []),
        task=task,
        value_range=_levels(value_range),
        color=color,
        residual=residual,
        network_output=network_output,
        multiple_of=multiple_of,
        window_px=window_px,
        name=name,
        summary=summary,
        licence=licence,
        family=family,
        suited_for=suited_for,
        samples=samples,
        quick=quick,
        overwrite=overwrite,
        force=force,
        trust=trust,
        report=print_progress,
    )
    echo(result.table)
    if options:
        echo()
        print_results(quantize(output, options, print_progress))


def _levels(text: str | None) -> float | tuple[float, float] | None:
    """Read ``255`` or ``-1..1``."""
    if text is None:
        return None
    black, dots, white = text.partition("..")
    try:
        return (float(black), float(white)) if dots else float(text)
    except ValueError:
        raise ArgumentError(f"--range {text}: expected 1, 255, or two like -1..1") from None
