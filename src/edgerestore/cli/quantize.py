"""``edgerestore quantize``, and the options that ``convert --int8`` shares with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import VerificationError

if TYPE_CHECKING:
    from ..convert.quantization import QuantizationResult

__all__ = [
    "Calibrate",
    "Degrade",
    "Force",
    "MaxDropDb",
    "Minutes",
    "Qat",
    "QatMinutes",
    "Seed",
    "Targets",
    "finish",
    "quantize_command",
    "tell",
]

Calibrate = Annotated[
    list[Path] | None,
    typer.Option(metavar="PATH", help="Pictures, videos or folders to calibrate on; repeatable."),
]
Targets = Annotated[
    Path | None,
    typer.Option(help="Folder of ground truth; --calibrate then holds the degraded pictures."),
]
Degrade = Annotated[
    str | None,
    typer.Option(
        help="What clean pictures are given: blur, noise:25, downscale or none."
        " [default: by the task]"
    ),
]
MaxDropDb = Annotated[
    float, typer.Option(help="Largest mean loss of PSNR on crops that were held out.")
]
Minutes = Annotated[float, typer.Option(help="Stop looking for better after this long.")]
Qat = Annotated[
    bool, typer.Option("--qat", help="Fine-tune with the rounding in place, float as teacher.")
]
QatMinutes = Annotated[float, typer.Option(help="How long to fine-tune.")]
Seed = Annotated[int, typer.Option(help="Of the crops that are chosen, and of fine-tuning.")]
Force = Annotated[bool, typer.Option("--force", help="Write INT8 even over the budget or slower.")]


def quantize_command(
    bundle: Annotated[
        Path, typer.Argument(help="Bundle folder; INT8 is added to it.", show_default=False)
    ],
    calibrate: Calibrate = None,
    targets: Targets = None,
    degrade: Degrade = None,
    max_drop_db: MaxDropDb = 0.1,
    minutes: Minutes = 30.0,
    qat: Qat = False,
    qat_minutes: QatMinutes = 60.0,
    qat_steps: Annotated[
        int | None, typer.Option(help="A fixed number of steps instead, which repeats itself.")
    ] = None,
    seed: Seed = 0,
    force: Force = False,
    overwrite: Annotated[bool, typer.Option(help="Do it again where INT8 is there.")] = False,
) -> None:
    """Add INT8 to a bundle where it keeps a quality budget and is faster on this machine."""
    # Imported here: NNCF takes seconds, and --help must not.
    from ..convert import QuantizationOptions, quantize

    options = QuantizationOptions(
        calibrate=calibrate or [],
        targets=targets,
        degradation=degrade,
        max_drop_db=max_drop_db,
        minutes=minutes,
        qat=qat,
        qat_minutes=qat_minutes,
        qat_steps=qat_steps,
        seed=seed,
        force=force,
        overwrite=overwrite,
    )
    finish(quantize(bundle, options, tell))


def tell(line: str) -> None:
    """Show a line of progress where it does not mix with results."""
    typer.echo(line, err=True)


def finish(result: QuantizationResult) -> None:
    """Show what was found; a refusal is an error of its own code.

    Raises
    ------
    VerificationError
        When INT8 was refused.
    """
    typer.echo(result.table)
    if not result.results.written:
        raise VerificationError(result.results.verdict)
