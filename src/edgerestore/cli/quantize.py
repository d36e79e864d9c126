"""``edgerestore quantize``, and the options that ``convert --int8`` shares with it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import VerificationError
from .printing import echo

if TYPE_CHECKING:
    from ..convert.quantization import QuantizationResult

__all__ = [
    "Calibrate",
    "Degrade",
    "Force",
    "Kinds",
    "MaxDropDb",
    "Minutes",
    "Qat",
    "QatMinutes",
    "Seed",
    "Targets",
    "print_progress",
    "print_results",
    "quantize_command",
]

# Options by their panel of the help.
_data, _search, _tuning = (
    partial(typer.Option, rich_help_panel=f"INT8: {panel}")
    for panel in ("calibration data", "search", "fine-tuning")
)

Calibrate = Annotated[
    list[Path] | None,
    _data(metavar="PATH", help="Pictures, videos or folders to calibrate on; repeatable."),
]
Targets = Annotated[
    Path | None, _data(help="Folder of ground truth; --calibrate then holds the degraded pictures.")
]
Degrade = Annotated[
    str | None,
    _data(
        metavar="KIND",
        help="Degradation of clean pictures: blur, noise:25, jpeg:20, downscale, ..., or none."
        " Default: by the task.",
    ),
]
Kinds = Annotated[
    list[str] | None,
    _data(
        metavar="KIND",
        help="Kinds of input to calibrate on and to hold the budget for: all, task (its own"
        " alone), or names of the report; repeatable.  [default: all]",
    ),
]
Seed = Annotated[int, _data(help="Seed of the crops and of fine-tuning.")]
MaxDropDb = Annotated[
    float, _search(help="Largest mean loss of PSNR on the held-out crops of the worst kind.")
]
Minutes = Annotated[float, _search(help="No further candidate after this long.")]
Force = Annotated[bool, _search("--force", help="Write INT8 even over the budget or slower.")]
Qat = Annotated[
    bool, _tuning("--qat", help="Fine-tune with quantizers in place, the float model as teacher.")
]
QatMinutes = Annotated[float, _tuning(help="Time limit of fine-tuning.")]


def quantize_command(
    bundle: Annotated[
        Path,
        typer.Argument(
            metavar="BUNDLE", help="Bundle folder; INT8 is added to it.", show_default=False
        ),
    ],
    calibrate: Calibrate = None,
    targets: Targets = None,
    degrade: Degrade = None,
    kinds: Kinds = None,
    max_drop_db: MaxDropDb = 0.1,
    minutes: Minutes = 30.0,
    qat: Qat = False,
    qat_minutes: QatMinutes = 60.0,
    qat_steps: Annotated[
        int | None, _tuning(help="Fixed number of steps instead, for reproducible results.")
    ] = None,
    seed: Seed = 0,
    force: Force = False,
    overwrite: Annotated[
        bool, _search("--overwrite", "-y", help="Replace an INT8 variant.")
    ] = False,
) -> None:
    """Add INT8 to a bundle, within a budget of quality.

    It is left out where it is no faster on this machine.
    """
    # Imported here: NNCF takes seconds, and --help must not.
    from ..convert import QuantizationOptions, quantize

    options = QuantizationOptions(
        calibrate=calibrate or [],
        targets=targets,
        degradation=degrade,
        kinds=kinds or ["all"],
        max_drop_db=max_drop_db,
        minutes=minutes,
        qat=qat,
        qat_minutes=qat_minutes,
        qat_steps=qat_steps,
        seed=seed,
        force=force,
        overwrite=overwrite,
    )
    print_results(quantize(bundle, options, print_progress))


def print_progress(line: str) -> None:
    """Print a line of progress on stderr."""
    echo(line, err=True)


def print_results(result: QuantizationResult) -> None:
    """Print the table of a quantization.

    Raises
    ------
    VerificationError
        When INT8 was refused.
    """
    echo(result.table)
    if not result.results.written:
        raise VerificationError(result.results.verdict)
