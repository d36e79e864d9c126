"""Log of a training run as CSV, and its curves as a picture."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from ..errors import SinkError, first_line

__all__ = ["TrainingLog", "plot_curves"]


class TrainingLog:
    """CSV file of figures by step; the first column is ``step``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, row: Mapping[str, float]) -> None:
        """Append a row; the first one writes the header."""
        fresh = not self.path.exists()
        try:
            with self.path.open("a", newline="") as file:
                writer = csv.DictWriter(file, list(row))
                if fresh:
                    writer.writeheader()
                writer.writerow({name: f"{value:.7g}" for name, value in row.items()})
        except OSError as error:
            raise SinkError(f"{self.path}: cannot be written: {first_line(error)}") from error

    def trim(self, step: int) -> None:
        """Drop the rows after a step: those of a run that was killed after its last checkpoint."""
        if not self.path.exists():
            return
        rows = self.path.read_bytes().splitlines(keepends=True)
        kept = [row for row in rows[1:] if int(row.partition(b",")[0]) <= step]
        if kept:
            self.path.write_bytes(b"".join([*rows[:1], *kept]))
        else:
            self.path.unlink()


def plot_curves(log: Path, picture: Path) -> None:
    """Draw loss and validation gain over the steps of a log as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with log.open(newline="") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    steps = [row["step"] for row in rows]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    left.plot(steps, [row["loss"] for row in rows])
    left.set(xlabel="step", title="training loss")
    right.plot(steps, [row["gain_db"] for row in rows])
    right.axhline(0, color="grey", linewidth=0.8)
    right.set(xlabel="step", ylabel="dB", title="validation: PSNR gain over the input")
    figure.savefig(picture, dpi=110)
    pyplot.close(figure)
