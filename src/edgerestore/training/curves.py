"""The log of a training run as a picture."""

from __future__ import annotations

import csv
from pathlib import Path

__all__ = ["plot_curves"]


def plot_curves(log: Path, picture: Path) -> None:
    """Draw loss and validation PSNR over the steps of ``log.csv`` as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with log.open(newline="") as file:
        rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    steps = [row["step"] for row in rows]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    left.plot(steps, [row["loss"] for row in rows])
    left.set(xlabel="step", ylabel="L1 loss", title="training loss")
    right.plot(steps, [row["output_db"] for row in rows], label="restored")
    right.plot(steps, [row["input_db"] for row in rows], "--", label="degraded")
    right.set(xlabel="step", ylabel="PSNR, dB", title="held-out validation picture")
    right.legend()
    figure.savefig(picture, dpi=110)
    pyplot.close(figure)
