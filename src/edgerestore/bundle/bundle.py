"""A converted model on disk: a folder that is complete by itself."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from ..errors import BundleError
from .manifest import FileInfo, Manifest

__all__ = ["Bundle", "file_info", "model_names", "new_bundle_folder"]

MANIFEST_NAME = "bundle.json"


@dataclass(frozen=True)
class Bundle:
    """A bundle that was found and whose manifest is valid.

    Parameters
    ----------
    folder : Path
    manifest : Manifest
    """

    folder: Path
    manifest: Manifest

    @classmethod
    def find(cls, name_or_folder: str | os.PathLike[str]) -> Bundle:
        """Open a bundle by its folder, or one that ships with the package by its name.

        Raises
        ------
        BundleError
            When there is none, or its manifest is not valid.
        """
        folder = Path(name_or_folder)
        shipped = _shipped() / os.fspath(name_or_folder)
        # Of a name that no file can have, `Path.exists` raises.
        there = os.path.exists(folder)  # noqa: PTH110
        if not there and os.fspath(name_or_folder) in model_names():
            folder = shipped
        path = folder / MANIFEST_NAME
        if not os.path.isfile(path):  # noqa: PTH113
            raise BundleError(
                f"{name_or_folder}: no bundle there and no model of that name"
                f" (models: {', '.join(model_names()) or 'none'})"
            )
        try:
            manifest = Manifest.from_json(path.read_text(encoding="utf-8"))
        except (BundleError, UnicodeDecodeError) as error:
            raise BundleError(f"{folder}: {error}") from error
        return cls(folder, manifest)

    def variant_files(self, variant: str) -> list[Path]:
        """Return a variant's files, the graph first, after checking each one's hash.

        Parameters
        ----------
        variant : str
            ``fp32``, ``fp16`` or ``int8``.

        Raises
        ------
        BundleError
            When the bundle has no such variant, a file is missing, or was changed.
        """
        if variant not in self.manifest.variants:
            has = ", ".join(self.manifest.variants)
            raise BundleError(f"{self.folder}: has no {variant} model, only {has}")
        paths = []
        for name, wanted in self.manifest.variants[variant].files.items():
            path = self.folder / name
            if not path.is_file():
                raise BundleError(f"{self.folder}: variants.{variant}: {name} is missing")
            if file_info(path) != wanted:
                raise BundleError(
                    f"{self.folder}: variants.{variant}: {name} was changed or is corrupted"
                    " (sha256 differs): convert again"
                )
            paths.append(path)
        return sorted(paths, key=lambda path: path.suffix == ".bin")

    def verify(self) -> None:
        """Check every file of every variant."""
        for variant in self.manifest.variants:
            self.variant_files(variant)

    def digest(self, variant: str) -> str:
        """Return a name for a variant's content, to key caches with."""
        facts = self.manifest.variants[variant].files
        joined = "".join(facts[name].sha256 for name in sorted(facts))
        return hashlib.sha256(joined.encode()).hexdigest()[:16]


def file_info(path: Path) -> FileInfo:
    """Return size and sha256 of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileInfo(digest, path.stat().st_size)


def model_names() -> list[str]:
    """Return the names of the bundles that ship with the package."""
    if not _shipped().is_dir():
        return []
    return sorted(p.parent.name for p in _shipped().glob(f"*/{MANIFEST_NAME}"))


@contextmanager
def new_bundle_folder(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a folder to fill; it takes the name ``target`` only if the block succeeds.

    Raises
    ------
    BundleError
        When ``target`` exists and ``overwrite`` is off, or is not a bundle.
    """
    if target.exists():
        if not overwrite:
            raise BundleError(f"{target}: exists, add --overwrite to replace it")
        if not (target / MANIFEST_NAME).is_file() and (
            not target.is_dir() or any(target.iterdir())
        ):
            raise BundleError(f"{target}: exists and is not a bundle, so it is not replaced")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise BundleError(f"{target}: cannot be written: {error.strerror}") from error
    try:
        yield fresh
        fresh.chmod(0o755)
        if target.exists():
            shutil.rmtree(target)
        fresh.rename(target)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise


def _shipped() -> Path:
    return Path(str(resources.files("edgerestore"))) / "models"
