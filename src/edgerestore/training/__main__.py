"""``python -m edgerestore.training``: train the default deblurring network."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ..errors import EdgerestoreError
from .photographs import load_photographs, skimage_photographs
from .trainer import Progress, Schedule, train


def main(
    data: Annotated[Path, typer.Option(help="Folder of clean photographs.")],
    output: Annotated[Path, typer.Option("-o", help="Folder for checkpoint, log and model.")],
    exclude: Annotated[
        list[str] | None, typer.Option(help="Photograph (stem) kept out, repeatable.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1)] = Schedule.steps,
    seed: Annotated[int, typer.Option(min=0)] = Schedule.seed,
    rate: Annotated[float, typer.Option(help="Peak learning rate.")] = Schedule.learning_rate,
    initial: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="State dict to start from instead of chance."
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that prepare crops.")] = 1,
) -> None:
    """Train, or go on training where the output folder holds a checkpoint."""
    import torch

    from ..convert.architectures.edge_unet import EdgeUNet

    schedule = Schedule(steps=steps, seed=seed, learning_rate=rate)
    photographs = load_photographs(data, exclude or []) + skimage_photographs()
    held_out = skimage_photographs(validation=True)
    torch.manual_seed(seed)
    network = EdgeUNet()
    if initial is not None:
        network.load_state_dict(torch.load(initial, weights_only=True))

    def report(row: Progress) -> None:
        print(
            f"step {row.step}/{steps}  loss {row.loss:.5f}  rate {row.rate:.2e}"
            f"  {row.input_db:.2f} -> {row.output_db:.2f} dB  ETA {row.remaining_s / 60:.0f} min",
            flush=True,
        )

    model = train(network, photographs, held_out, schedule, output, report=report, workers=workers)
    from .curves import plot_curves

    plot_curves(output / "log.csv", output / "curves.png")
    print(f"wrote {model} and {output / 'curves.png'}")


if __name__ == "__main__":
    try:
        typer.run(main)
    except EdgerestoreError as error:
        print(f"edgerestore.training: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
