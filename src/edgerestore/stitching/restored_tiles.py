"""Tiles that are restored once, and kept on the disk until the mosaic is written."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path

import numpy as np

from ..engine.intensity import IntensityRange, RangeKind
from ..engine.restorer import Restorer
from ..errors import ArgumentError, SinkError
from ..imaging.arrays import Image
from ..imaging.error_translation import translated
from .grid import Cell

__all__ = ["RestoreStage", "RestoredTiles"]

_SAMPLES = 9  # tiles that a range is found in


class RestoreStage(StrEnum):
    """When tiles are restored."""

    ESTIMATION = "estimation"
    WRITING = "writing"

    @property
    def pixels(self) -> tuple[str, str]:
        """What positions are measured on, and what the mosaic shows."""
        return ("restored" if self is RestoreStage.ESTIMATION else "measured"), "restored"


class RestoredTiles:
    """Restored tiles by cell. A context manager.

    Parameters
    ----------
    restorer : Restorer
        Of a model that restores images and keeps their size.
    read : callable
        Given a cell; returns its tile as it was measured.
    folder : Path
        Where a hidden folder is made for them: as large as all tiles.

    Raises
    ------
    ArgumentError
        When the model enlarges, or makes no images.
    """

    def __init__(
        self, restorer: Restorer, read: Callable[[Cell], Image | None], folder: Path
    ) -> None:
        manifest = restorer.bundle.manifest
        if not manifest.output.kind.traits.blended or manifest.output.upscale != 1:
            raise ArgumentError(
                f"{manifest.name} does not restore an image in its size; --restore takes a model"
                " such as denoise-gray"
            )
        self._restorer, self._read, self._lock = restorer, read, threading.Lock()
        with translated(SinkError, folder):
            self._folder = tempfile.TemporaryDirectory(dir=folder, prefix=".restored-")
        self._done: dict[Cell, Path] = {}

    def share_range(self, cells: Sequence[Cell]) -> None:
        """Find one range of intensities for all tiles, in some of them: all are restored alike."""
        wanted = self._restorer.intensity_range
        if wanted.kind in (RangeKind.FULL, RangeKind.VALUES):
            return
        step = max(1, len(cells) // _SAMPLES)
        tiles = [tile for cell in cells[::step] if (tile := self._read(cell)) is not None]
        if not tiles or (tiles[0].dtype == np.uint8 and wanted.kind is RangeKind.AUTO):
            return
        found = wanted.mapping(np.concatenate([tile[::2, ::2] for tile in tiles]))
        self._restorer.intensity_range = (
            IntensityRange(RangeKind.FULL)
            if found is None
            else IntensityRange(RangeKind.VALUES, found.low, found.high)
        )

    def __enter__(self) -> RestoredTiles:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    @property
    def words(self) -> str:
        """What restores them, for reports."""
        name = self._restorer.bundle.manifest.name
        return f"{name} at strength {self._restorer.strength:g}, {self._restorer.precision}"

    def __call__(self, cell: Cell) -> Image | None:
        """Return a restored tile; None where there is none."""
        with self._lock:
            path = self._done.get(cell)
            if path is not None:
                restored: Image = np.load(path)
                return restored
            tile = self._read(cell)
            if tile is None:
                return None
            restored = self._restorer(tile)
            path = Path(self._folder.name) / f"{cell[0]}-{cell[1]}.npy"
            with translated(SinkError, path):
                np.save(path, restored)
            self._done[cell] = path
            return restored
