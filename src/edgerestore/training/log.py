"""Log of a training run as CSV, and its curves as a picture."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from ..errors import SinkError, SourceError, first_line

__all__ = ["TrainingLog", "plot_curves", "read_log"]

_FIGURES = {
    "gain_db": ("dB", "validation: PSNR gain over the input"),
    "iou": ("", "validation: intersection over union"),
}
"""Columns of a log that are drawn, the first that is there: their unit and title."""


class TrainingLog:
    """CSV file of figures by step; the first column is ``step``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, row: Mapping[str, float]) -> None:
        """Append a row; the first one of the file decides the columns."""
        try:
            with self.path.open("a+", newline="") as file:
                file.seek(0)
                columns = next(csv.reader(file), None)
                writer = csv.DictWriter(file, columns or list(row), "", extrasaction="ignore")
                if columns is None:
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


def read_log(path: Path) -> list[dict[str, float]]:
    """Read the rows of a log; figures that a row lacks are left out of it.

    Raises
    ------
    SourceError
        When there is none, or it is damaged.
    """
    try:
        with path.open(newline="") as file:
            rows = [
                {name: float(value) for name, value in row.items() if value != ""}
                for row in csv.DictReader(file)
            ]
        found = bool(rows) and all({"step", "loss"} <= row.keys() for row in rows)
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise SourceError(
            f"{path}: cannot be read as a training log: {first_line(error)}"
        ) from error
    if not found:
        raise SourceError(f"{path}: has no rows of step and loss; is it a training log?")
    return rows


def plot_curves(logs: Sequence[Path], picture: Path | IO[bytes]) -> None:
    """Draw loss and validation over the steps of runs, one after another, as a PNG.

    The same logs give the same bytes.

    Raises
    ------
    SourceError
        When a log is missing or damaged.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    runs = [read_log(log) for log in logs]
    known = [name for name in _FIGURES if all(name in row for rows in runs for row in rows)]
    figure = Figure((10, 3.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    plots = figure.subplots(1, 1 + bool(known), squeeze=False)[0]
    shown = [("loss", "", "training loss"), *((name, *_FIGURES[name]) for name in known[:1])]
    for plot, (name, unit, title) in zip(plots, shown, strict=True):
        first = 0.0
        for at, rows in enumerate(runs):
            plot.plot([first + row["step"] for row in rows], [row[name] for row in rows])
            first += rows[-1]["step"]
            if at < len(runs) - 1:
                plot.axvline(first, color="grey", linewidth=0.8, linestyle="--")
        plot.set(xlabel="step", ylabel=unit, title=title)
        if name == "gain_db":
            plot.axhline(0, color="grey", linewidth=0.8)
    figure.savefig(picture, format="png", metadata={"Software": None})
