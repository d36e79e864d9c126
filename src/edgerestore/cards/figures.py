"""Figures of a card: a model evaluated on held-out pictures, by kind of degradation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np

from ..bundle.bundle import Bundle
from ..bundle.manifest import Manifest
from ..bundle.precision import Precision
from ..errors import SinkError
from ..evaluation.evaluator import evaluate
from ..evaluation.results import Evaluation, ImageScore, Row
from ..evaluation.scores import Metric
from ..imaging.image_files import pictures_in
from ..reports.tables import Table
from ..runtimes import runtime_for
from ..training.dataset import Dataset, SplitName

__all__ = [
    "Change",
    "HeldOut",
    "Measured",
    "changes",
    "held_out_pairs",
    "measure",
    "quality_table",
    "served_precisions",
    "suitable_degradations",
]

DEVICE = "CPU"
_MOST_PAIRS = 200

# By a word in the model's task. What is clean must stay so.
_DEGRADATIONS = {
    "blur": ("blur", "shake:20", "shake:40", "defocus:2", "none"),
    "noise": ("noise:15", "noise:25", "noise:50", "poisson:500", "none"),
    "jpeg": ("jpeg:10", "jpeg:20", "jpeg:40", "jpeg:60", "none"),
    "retouch": ("exposure", "none"),
}
_OF_SMALLER = ("downscale", "aliased", "nearest")

Tick = Callable[[int, int, str], None]


@dataclass(frozen=True)
class HeldOut:
    """Pictures that a model is measured on or shown with.

    Parameters
    ----------
    name : str
        In the card.
    targets : Path
        Folder of ground truth.
    inputs : Path or None
        Folder of inputs; None where they are made by a degradation.
    """

    name: str
    targets: Path
    inputs: Path | None = None

    @classmethod
    def of(cls, folder: Path) -> HeldOut:
        """Return a folder of photographs, or of pairs in ``inputs`` and ``targets``."""
        name, pairs = folder.resolve().name, (folder / "inputs", folder / "targets")
        if all(part.is_dir() for part in pairs):
            return cls(name, targets=pairs[1], inputs=pairs[0])
        return cls(name, folder)

    def pictures(self) -> list[Path]:
        """Return the targets; raises as `pictures_in` does."""
        return pictures_in("pictures", self.targets)

    def degradations(self, names: Sequence[str]) -> Sequence[str | None]:
        """Return what its inputs are made by: nothing where they are files."""
        return names if self.inputs is None else (None,)


@dataclass(frozen=True)
class Measured:
    """Evaluation of a model on held-out pictures."""

    held_out: HeldOut
    found: Evaluation

    @property
    def degradation(self) -> str:
        """The degradation in a few words."""
        made = self.found.recipe["degradation"]
        return "inputs as they are" if made is None else str(made)


@dataclass(frozen=True)
class Change:
    """Metric of a picture before and after restoration.

    Parameters
    ----------
    image : ImageScore
        Restored.
    before : float or None
        None where there is nothing to compare, as with masks.
    after : float
    gain : float
        How much better; of masks how good.
    """

    image: ImageScore
    before: float | None
    after: float
    gain: float


def changes(found: Evaluation, row: Row) -> list[Change]:
    """Return what a model does to the metric that ranks pictures, the largest gain first.

    Pictures whose gain is not finite are left out: nothing can be gained on a clean one.
    """
    metric = found.metrics[0]
    sign = 1 if metric.more_is_better else -1
    with_input = found.kind.traits.blended
    made = []
    for at, image in enumerate(row.images):
        before = found.rows[0].images[at].values[metric.key] if with_input else None
        after = image.values[metric.key]
        made.append(Change(image, before, after, sign * (after - (before or 0.0))))
    finite = [change for change in made if math.isfinite(change.gain)]
    return sorted(finite, key=lambda change: -change.gain)


def suitable_degradations(manifest: Manifest) -> tuple[str, ...]:
    """Return the degradations that tell what a model does, by its task."""
    if manifest.output.upscale > 1:
        return _OF_SMALLER
    task = manifest.task.lower()
    return next((names for word, names in _DEGRADATIONS.items() if word in task), ("none",))


def served_precisions(bundle: Bundle) -> tuple[list[Precision], list[Precision]]:
    """Return the precisions of a bundle that this machine computes natively, and the others."""
    native = runtime_for(DEVICE).precisions(DEVICE)
    # tf32 is the f32 variant on cards of another runtime.
    kinds = [one for one in Precision if one is not Precision.TF32]
    served = [one for one in kinds if one.stored in bundle.manifest.variants]
    return [one for one in served if one in native], [one for one in served if one not in native]


@contextmanager
def held_out_pairs(dataset: Dataset) -> Iterator[HeldOut | None]:
    """Yield the first pairs of a dataset's test split as files; None where the split is gone."""
    arrays = dataset.manifest.arrays.get(SplitName.TEST)
    if arrays is None or not (dataset.folder / arrays.inputs.file).is_file():
        yield None
        return
    split = dataset.split(SplitName.TEST)
    with TemporaryDirectory() as name:
        folders = Path(name) / "targets", Path(name) / "inputs"
        for folder, pictures in zip(folders, (split.targets, split.inputs), strict=True):
            folder.mkdir()
            for index, picture in enumerate(pictures[:_MOST_PAIRS]):
                path = folder / f"pair-{index:04}.png"
                if not cv2.imwrite(str(path), _opencv_order(np.array(picture))):
                    raise SinkError(f"{path}: cannot be written; is the disk full?")
        yield HeldOut(f"test split of dataset {dataset.digest}", *folders)


def measure(
    bundle: Bundle,
    held_out: HeldOut,
    degradations: Sequence[str],
    precisions: Sequence[str],
    tick: Tick,
) -> list[Measured]:
    """Evaluate a model at some precisions; raises as `evaluate` does."""
    return [
        Measured(
            held_out,
            evaluate(
                [bundle.folder],
                targets=held_out.targets,
                inputs=held_out.inputs,
                degrade=degrade,
                precisions=precisions,
                device=DEVICE,
                tick=tick,
            ),
        )
        for degrade in held_out.degradations(degradations)
    ]


def quality_table(measured: Sequence[Measured]) -> Table:
    """Return means, best and worst picture, a line for each degradation and precision."""
    metrics = _shown_metrics(measured[0].found)
    blended = measured[0].found.kind.traits.blended
    ends = ("gains most", "gains least") if blended else ("best", "worst")
    rows = []
    for one in measured:
        words = one.degradation
        for row in one.found.rows:
            if row.precision:
                means = [_mean(one.found, row, metric) for metric in metrics]
                rows.append([words, row.precision, *means, *_ends(one.found, row)])
                words = ""
    return Table(("input", "precision", *(metric.head for metric in metrics), *ends), rows)


def _shown_metrics(found: Evaluation) -> list[Metric]:
    """Return the metrics of a card: luma's own are of interest to models that enlarge."""
    luma = found.upscale > 1
    return [metric for metric in found.metrics if luma or not metric.title.endswith("-Y")]


def _mean(found: Evaluation, row: Row, metric: Metric) -> str:
    after = row.mean(metric.key)
    if not found.kind.traits.blended:
        return metric.shown(after)
    before = found.rows[0].mean(metric.key)
    text, change = f"{metric.shown(before)} → {metric.shown(after)}", after - before
    return f"{text} ({change:+z.{metric.digits}f})" if math.isfinite(change) else text


def _ends(found: Evaluation, row: Row) -> tuple[str, str]:
    ordered, metric = changes(found, row), found.metrics[0]
    if not ordered:
        return "-", "-"

    def text(change: Change) -> str:
        gained = f"{change.gain:+z.{metric.digits}f}"
        value = metric.shown(change.after) if change.before is None else gained
        return f"{value} {metric.unit}".strip() + f" ({change.image.name})"

    return text(ordered[0]), text(ordered[-1])


def _opencv_order(picture: np.ndarray) -> np.ndarray:
    """Return an RGB or RGBA picture as OpenCV writes it; grey as it is."""
    order = {3: [2, 1, 0], 4: [2, 1, 0, 3]}.get(picture.shape[2])
    return picture if order is None else np.ascontiguousarray(picture[..., order])
