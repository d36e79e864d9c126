"""Origin of a model: its recipe, training runs and datasets, as their folders record them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from ..bundle.manifest import Manifest
from ..errors import ArgumentError, CheckpointError, SourceError
from ..imaging.error_translation import translated
from ..training.checkpoints import load_checkpoint
from ..training.collection import photograph_digest
from ..training.dataset import MANIFEST_NAME, Dataset, SplitName, read_manifest
from ..training.recipes import Recipe, load_recipe

__all__ = ["LOG_NAME", "Origin", "TrainingRun", "described", "find_origin"]

LOG_NAME = "log.csv"


@dataclass(frozen=True)
class TrainingRun:
    """Training run as its folder records it.

    Parameters
    ----------
    folder : Path
    recipe : str
    schedule : mapping
        As it was carried out, options of the command line included.
    steps : int
        Done.
    datasets : tuple of str
        Digests.
    teacher : str or None
    """

    folder: Path
    recipe: str
    schedule: Mapping[str, Any]
    steps: int
    datasets: tuple[str, ...]
    teacher: str | None

    @classmethod
    def open(cls, folder: Path) -> TrainingRun:
        """Read a folder of ``edgerestore train``.

        Raises
        ------
        SourceError, CheckpointError
            When it is none, or its checkpoint is damaged.
        """
        path = folder / "checkpoint.pt"
        state = load_checkpoint(path)
        if state is None:
            raise SourceError(f"{path}: not there; name a folder that edgerestore train wrote")
        teacher = state.get("teacher")
        return cls(
            folder,
            str(state["recipe"]),
            state["schedule"],
            int(state["step"]),
            tuple(state.get("datasets", ())),
            None if teacher is None else Path(teacher).name,
        )


@dataclass(frozen=True)
class Origin:
    """Origin of a model, as far as it is known.

    Parameters
    ----------
    recipe : Recipe or None
    runs : tuple of TrainingRun
        In their order, each but the first continued the one before.
    verified : bool
        The bundle was converted from a file of the last run.
    datasets : tuple of Dataset
    sources : tuple of (str, str)
        Names and texts of files on sources and licences.
    """

    recipe: Recipe | None = None
    runs: tuple[TrainingRun, ...] = ()
    verified: bool = False
    datasets: tuple[Dataset, ...] = ()
    sources: tuple[tuple[str, str], ...] = ()

    def trained_on(self, pictures: Sequence[Path]) -> list[Path]:
        """Return those pictures whose pixels are in a dataset's training split."""
        seen = {
            entry.sha256
            for dataset in self.datasets
            for entry in dataset.manifest.photographs
            if entry.split == SplitName.TRAIN
        }
        return [path for path in pictures if seen and photograph_digest(path) in seen]

    @property
    def complete(self) -> bool:
        """Whether everything that the model was trained on is known."""
        return bool(self.runs and self.datasets) and not self.unnamed

    @property
    def unnamed(self) -> tuple[str, ...]:
        """Digests of datasets that the runs saw and that were not given."""
        known = {dataset.digest for dataset in self.datasets}
        seen = dict.fromkeys(digest for run in self.runs for digest in run.datasets)
        return tuple(digest for digest in seen if digest not in known)


def find_origin(
    manifest: Manifest,
    *,
    recipe: str | None = None,
    training: Sequence[Path] = (),
    data: Sequence[Path] = (),
    sources: Sequence[Path] = (),
) -> Origin:
    """Read where a model comes from, and check that the parts belong together.

    Parameters
    ----------
    manifest : Manifest
    recipe : str, optional
        Name, or path of a file; by default the last run's.
    training, data, sources : sequence of Path
        Folders of runs in their order, folders of datasets, and files of text.

    Raises
    ------
    ArgumentError
        For a recipe that is not the last run's, and a dataset that no run saw.
    CheckpointError
        When the bundle was not converted from what the last run ended in.
    SourceError
        For a folder or file that cannot be read.
    """
    runs = tuple(TrainingRun.open(folder) for folder in training)
    datasets = tuple(_dataset(folder) for folder in data)
    chosen = _recipe(recipe, runs)
    seen = {digest for run in runs for digest in run.datasets}
    for dataset in datasets:
        if runs and dataset.digest not in seen:
            raise ArgumentError(f"--data {dataset.folder}: none of the runs was trained on it")
    verified = bool(runs) and _converted_from(manifest, runs[-1])
    texts = tuple((path.name, _text(path)) for path in sources)
    return Origin(chosen, runs, verified, datasets, texts)


def described(value: object) -> str:
    """Return a part of a recipe in a few words: names, and numbers without their noise."""
    if is_dataclass(value) and not isinstance(value, type):
        parts = [f"{one.name} {described(getattr(value, one.name))}" for one in fields(value)]
        return f"{type(value).__name__} ({', '.join(parts)})"
    if isinstance(value, Mapping):
        return " + ".join(f"{described(number)} x {name}" for name, number in value.items())
    if isinstance(value, Callable):  # type: ignore[arg-type]
        return str(getattr(value, "__name__", type(value).__name__))
    if isinstance(value, (list, tuple)):
        return ", ".join(map(described, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _recipe(reference: str | None, runs: Sequence[TrainingRun]) -> Recipe | None:
    if reference is None and not runs:
        return None
    recipe = load_recipe(reference or runs[-1].recipe)
    if runs and recipe.name != runs[-1].recipe:
        raise ArgumentError(
            f"--recipe {reference}: is {recipe.name}, and {runs[-1].folder} was trained by"
            f" {runs[-1].recipe}"
        )
    return recipe


def _dataset(folder: Path) -> Dataset:
    """Open a dataset of which the arrays may be gone."""
    manifest = read_manifest(folder)
    if manifest is None or not manifest.arrays:
        raise SourceError(f"{folder / MANIFEST_NAME}: no finished dataset there")
    return Dataset(folder, manifest)


def _converted_from(manifest: Manifest, run: TrainingRun) -> bool:
    wanted = manifest.source.get("sha256")
    weights = sorted(path for path in run.folder.iterdir() if path.suffix in {".pth", ".pt"})
    for path in weights:
        with translated(SourceError, path), path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == wanted:
                return True
    if any(path.name == "model.pth" for path in weights):
        raise CheckpointError(
            f"{run.folder / 'model.pth'}: {manifest.name} was converted from another file; name the"
            " run that it is from, or convert again"
        )
    return False


def _text(path: Path) -> str:
    with translated(SourceError, path):
        return path.read_text("utf-8", "replace")
