"""Dataset of training pairs on disk: its manifest, and its splits as memory maps.

``docs/training.md`` describes the folder. It is complete by itself: what the pairs were made of,
by which mix and seed, and a digest of each array.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from ..errors import SourceError
from ..imaging.error_translation import translated

__all__ = [
    "FORMAT",
    "MANIFEST_NAME",
    "ArrayFile",
    "Dataset",
    "DatasetManifest",
    "PictureEntry",
    "Split",
    "SplitArrays",
    "SplitName",
    "read_manifest",
]

FORMAT = 1
"""Version of the dataset format that this package writes and reads."""

MANIFEST_NAME = "dataset.json"

Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Pixels = NDArray[np.uint8]


class SplitName(StrEnum):
    """Splits of a dataset; no photograph is in two of them."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


class PictureEntry(Struct, frozen=True):
    """Photograph or cut-out object that pairs were made of.

    Parameters
    ----------
    name : str
        File name, without its folder.
    sha256 : str
        Of its pixels (`photographs.pixel_digest`), so that a copy by another name or in another
        lossless format is the same picture.
    split : SplitName
    """

    name: str
    sha256: Digest
    split: SplitName


class ArrayFile(Struct, frozen=True):
    """Array of a split: its path inside the folder, its digest, and its shape (N, H, W, C)."""

    file: Annotated[str, Meta(pattern=r"^(train|validation|test)/(inputs|targets)\.npy\Z")]
    sha256: Digest
    shape: tuple[int, int, int, int]


class SplitArrays(Struct, frozen=True):
    """Inputs and targets of a split; pair ``i`` is row ``i`` of both."""

    inputs: ArrayFile
    targets: ArrayFile


class DatasetManifest(Struct, frozen=True, kw_only=True):
    """Content of ``dataset.json``.

    Parameters
    ----------
    format : int
    recipe : str
        Name of the recipe.
    pairs : dict
        The mix that pairs were drawn from, as plain data, by split.
    seed : int
    counts : dict of SplitName to int
        Pairs of each split.
    tools : dict
        Versions of what made the arrays.
    photographs, objects : tuple of PictureEntry
    arrays : dict of SplitName to SplitArrays
        Empty while the dataset is being made.
    """

    format: int
    recipe: str
    pairs: dict[SplitName, dict[str, Any]]
    seed: int
    counts: dict[SplitName, int]
    tools: dict[str, str]
    photographs: tuple[PictureEntry, ...]
    objects: tuple[PictureEntry, ...] = ()
    arrays: dict[SplitName, SplitArrays] = {}


@dataclass(frozen=True)
class Split:
    """Pairs of a split, as read-only memory maps.

    Parameters
    ----------
    inputs : ndarray, u8, shape (N, h, w, C)
        Degraded crops; RGB, or grey with C = 1.
    targets : ndarray, u8, shape (N, H, W, C')
        Truth: pictures `upscale` times the inputs' size, masks (C' = 1), or cut-outs in RGBA
        (C' = 4) whose colours are the foreground's, not multiplied by alpha.
    """

    inputs: Pixels
    targets: Pixels

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def upscale(self) -> int:
        """How many times larger the targets are."""
        return int(self.targets.shape[1] // self.inputs.shape[1])


@dataclass(frozen=True)
class Dataset:
    """A complete dataset whose manifest is valid.

    Parameters
    ----------
    folder : Path
    manifest : DatasetManifest
    """

    folder: Path
    manifest: DatasetManifest

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Dataset:
        """Open a dataset; sizes are checked, digests only by `verify`.

        Raises
        ------
        SourceError
            When there is none, it is not finished, or its files do not fit the manifest.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        if manifest is None:
            raise SourceError(
                f"{folder}: is no dataset (no {MANIFEST_NAME}); make one with edgerestore dataset"
            )
        if not manifest.arrays:
            raise SourceError(
                f"{folder}: is not finished; give the command that made it again to go on"
            )
        dataset = cls(folder, manifest)
        for name in manifest.arrays:
            dataset.split(name)
        return dataset

    def split(self, name: str | SplitName) -> Split:
        """Return the pairs of a split.

        Raises
        ------
        SourceError
            When the dataset has no such split, or a file is missing or of another shape.
        """
        arrays = self.manifest.arrays.get(SplitName(name))
        if arrays is None:
            raise SourceError(f"{self.folder}: has no {name} split")
        return Split(self._mapped(arrays.inputs), self._mapped(arrays.targets))

    def verify(self) -> None:
        """Check the digest of every array.

        Raises
        ------
        SourceError
            For the first file that was changed.
        """
        for arrays in self.manifest.arrays.values():
            for array in (arrays.inputs, arrays.targets):
                path = self.folder / array.file
                with translated(SourceError, path), path.open("rb") as file:
                    found = hashlib.file_digest(file, "sha256").hexdigest()
                if found != array.sha256:
                    raise SourceError(
                        f"{path}: was changed (sha256 differs); make the dataset again"
                    )

    @property
    def digest(self) -> str:
        """Name of the dataset's pixels, to tell in a checkpoint what it was trained on."""
        digests = [
            f"{name}/{kind} {getattr(arrays, kind).sha256}"
            for name, arrays in sorted(self.manifest.arrays.items())
            for kind in ("inputs", "targets")
        ]
        return hashlib.sha256("\n".join(digests).encode()).hexdigest()[:16]

    def _mapped(self, array: ArrayFile) -> Pixels:
        path = self.folder / array.file
        with translated(SourceError, path):
            try:
                pixels: Pixels = np.load(path, mmap_mode="r", allow_pickle=False)
            except ValueError as error:  # cut off, or no array at all
                raise SourceError(f"{path}: is damaged; make the dataset again") from error
        if pixels.shape != array.shape or pixels.dtype != np.uint8:
            raise SourceError(
                f"{path}: is {pixels.dtype} {pixels.shape}, and the manifest says uint8"
                f" {array.shape}; make the dataset again"
            )
        return pixels


def read_manifest(folder: Path) -> DatasetManifest | None:
    """Read a folder's manifest; None where it has none.

    Raises
    ------
    SourceError
        When it cannot be read, is not valid, or is of a newer format.
    """
    path = folder / MANIFEST_NAME
    if not path.exists():
        return None
    with translated(SourceError, path):
        content = path.read_bytes()
    try:
        version = msgspec.json.decode(content, type=_Head).format
        if version != FORMAT:
            raise SourceError(
                f"{path}: format {version} is not {FORMAT}, the one this version reads;"
                " upgrade edgerestore, or make the dataset again"
            )
        return msgspec.json.decode(content, type=DatasetManifest)
    except msgspec.MsgspecError as error:
        raise SourceError(f"{path}: is not valid: {error}") from error


class _Head(Struct):
    format: int
