"""``edgerestore convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["convert_command"]


def convert_command(
    source: Annotated[
        Path,
        typer.Argument(
            help="State dict (.pth .pt .ckpt .safetensors), TorchScript, .pt2 or .onnx.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Bundle folder to write.", show_default=False)
    ],
    arch: Annotated[
        str | None,
        typer.Option(help="A known network, FILE.py:FACTORY or pkg.mod:FACTORY."),
    ] = None,
    arch_arg: Annotated[
        list[str] | None,
        typer.Option(metavar="K=V", help="Argument of the network; repeat for more."),
    ] = None,
    task: Annotated[str | None, typer.Option(help="What the model is for: deblur, ...")] = None,
    value_range: Annotated[
        float | None, typer.Option("--range", help="What white is to the network: 1 or 255.")
    ] = None,
    color: Annotated[
        str | None, typer.Option(help="Channels the network takes: rgb, bgr or gray.")
    ] = None,
    residual: Annotated[
        bool | None,
        typer.Option(
            "--residual/--no-residual", help="The model returns what is added to the image."
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name in the manifest.")] = None,
    summary: Annotated[str, typer.Option(help="One sentence for the manifest.")] = "",
    licence: Annotated[str, typer.Option(help="Licence of the weights.")] = "unspecified",
    samples: Annotated[
        Path | None,
        typer.Option(help="Photographs to verify on, a folder or a file; else scenes are drawn."),
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace a bundle that is there.")] = False,
) -> None:
    """Convert a trained model into a bundle, and verify that it is still the same model."""
    # Imported here: PyTorch takes seconds, and --help must not.
    from . import convert
    from .factories import parse_arguments

    result = convert(
        source,
        output,
        architecture=arch,
        arguments=parse_arguments(arch_arg or []),
        task=task,
        value_range=value_range,
        color=color,
        residual=residual,
        name=name,
        summary=summary,
        licence=licence,
        samples=samples,
        overwrite=overwrite,
        report=lambda line: typer.echo(line, err=True),
    )
    typer.echo(result.table)
