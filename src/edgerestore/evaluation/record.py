"""Record of an evaluation in the manifests of the models."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from ..bundle.bundle import Bundle, write_manifest
from ..bundle.manifest import Score
from ..engine.loader import Loader
from ..errors import ArgumentError, BundleError
from .models import ModelName
from .results import Evaluation

__all__ = ["ScoreRecord"]


@dataclass(frozen=True)
class ScoreRecord:
    """Record of means in manifests, refused before any work where it could not be made.

    Parameters
    ----------
    data : str
        Pictures that the models are measured on, in one phrase.
    models : sequence of str or path
    strength : float
    tta : bool

    Raises
    ------
    ArgumentError
        When what is measured is not the model itself, or the data have no name.
    BundleError
        When a bundle is not there, or cannot be written.
    """

    data: str
    models: Sequence[ModelName]
    strength: float = 1.0
    tta: bool = False

    def __post_init__(self) -> None:
        if not self.data.strip():
            raise ArgumentError("record: say in a phrase what the pictures are")
        if self.strength != 1 or self.tta:
            raise ArgumentError("record: only at strength 1 and without tta is it the model's own")
        for model in self.models:
            parts = Loader(model).parts
            if len(parts) > 1:
                raise ArgumentError(f"record: {model} is several models; name one")
            folder = Bundle.find(parts[0][0]).folder
            if not os.access(folder, os.W_OK):
                raise BundleError(f"{folder}: cannot be written; evaluate without record")

    def write(self, found: Evaluation) -> None:
        """Write the means of an evaluation; those of the same data and precision are replaced.

        Raises
        ------
        BundleError
            When a manifest cannot be written; it stays as it was.
        """
        given = next((row for row in found.rows if row.folder is None), None)
        for row in found.rows:
            if row.folder is None:
                continue
            fresh = tuple(
                Score(
                    metric.title,
                    metric.unit,
                    round(row.mean(metric.key), 5),
                    row.precision,
                    self.data,
                    None if given is None else _finite(given.mean(metric.key)),
                )
                for metric in found.metrics
                if math.isfinite(row.mean(metric.key))
            )
            manifest = Bundle.find(row.folder).manifest
            kept = [
                score
                for score in manifest.scores
                if (score.data, score.precision) != (self.data, row.precision)
            ]
            write_manifest(row.folder, replace(manifest, scores=(*kept, *fresh)))


def _finite(value: float) -> float | None:
    return round(value, 5) if math.isfinite(value) else None
