"""A converted model on disk: a folder that is complete by itself."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from mmap import ACCESS_READ, mmap
from pathlib import Path

from ..errors import BundleError
from .locks import lock_if_free
from .manifest import FileInfo, Manifest

__all__ = [
    "GRAPHS",
    "Bundle",
    "file_info",
    "model_names",
    "new_bundle_folder",
    "stored_files",
    "stored_graphs",
    "write_manifest",
]

logger = logging.getLogger(__name__)

MANIFEST_NAME = "bundle.json"

GRAPHS = {"fp32": "model.onnx", "fp16": "fp16/model.xml", "int8": "int8/model.xml"}
"""Path of the graph of each stored variant."""

_MANIFEST_BYTES = 16 << 20
_JUST_CREATED_S = 5.0  # its lock may be about to be taken
# A tensor that ONNX reads from another file names it in an entry with this key. Protobuf writes
# the key's length in front, 8, which may be spelled in more bytes than one.
_KEY, _EXTERNAL = b"location", re.compile(rb"(?:\x08|\x88\x80*\x00)location")


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
        # Of a name that no file can have, `Path.exists` raises.
        there = os.path.exists(folder)  # noqa: PTH110
        if not there and os.fspath(name_or_folder) in model_names():
            folder = _shipped() / name_or_folder
        path = folder / MANIFEST_NAME
        if os.path.isfile(folder):  # noqa: PTH113
            raise BundleError(
                f"{folder}: is a file, not a bundle; convert it first:"
                f" edgerestore convert {folder} -o {folder.stem}"
            )
        if not os.path.isfile(path):  # noqa: PTH113
            raise BundleError(
                f"{name_or_folder}: no bundle there and no model of that name"
                f" (models: {', '.join(model_names()) or 'none'})"
            )
        try:
            if path.stat().st_size > _MANIFEST_BYTES:
                raise BundleError(f"{MANIFEST_NAME} is larger than {_MANIFEST_BYTES >> 20} MiB")
            manifest = Manifest.from_json(path.read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            raise BundleError(f"{folder}: {MANIFEST_NAME} is not UTF-8: {error}") from error
        except (BundleError, OSError) as error:
            raise BundleError(f"{folder}: {error}") from error
        return cls(folder, manifest)

    def variant_files(self, variant: str) -> list[Path]:
        """Return a variant's files, the graph first, after checking each one's hash.

        A runtime reads nothing but these files: weights beside a graph that the manifest does
        not list, and graphs that name weights elsewhere, are refused.

        Parameters
        ----------
        variant : str
            ``fp32``, ``fp16`` or ``int8``.

        Raises
        ------
        BundleError
            When the bundle has no such variant, a file is missing, was changed, or would have
            a runtime read another one.
        """
        if variant not in self.manifest.variants:
            has = ", ".join(self.manifest.variants)
            raise BundleError(f"{self.folder}: has no {variant} model, only {has}")
        where = f"{self.folder}: variants.{variant}"
        files = self.manifest.variants[variant].files
        names = sorted(files, key=lambda name: name.endswith(".bin"))
        for name in names:
            if not (self.folder / name).is_file():
                raise BundleError(f"{where}: {name} is missing")
            if file_info(self.folder / name) != files[name]:
                raise BundleError(
                    f"{where}: {name} was changed or is corrupted (sha256 differs): convert again"
                )
        paths = [self.folder / name for name in names]
        _refuse_others(paths, where)
        return paths

    def verify(self) -> None:
        """Check every file of every variant."""
        for variant in self.manifest.variants:
            self.variant_files(variant)

    def digest(self, variant: str) -> str:
        """Return a name for a variant's content, to key caches with."""
        facts = self.manifest.variants[variant].files
        joined = "".join(facts[name].sha256 for name in sorted(facts))
        return hashlib.sha256(joined.encode()).hexdigest()[:16]

    def family(self) -> list[Bundle]:
        """Return the models that may run in place of this one, with itself, the cheapest first.

        They are of its family, take the same channels and return the same; they lie in the folder
        beside it or ship with the package. Of equal models the first counts.
        """
        name, found = self.manifest.family, {self.digest("fp32"): self}
        beside = self.folder.resolve().parent if name else None
        for where in dict.fromkeys(one for one in (beside, _shipped()) if one and name):
            for path in sorted(where.glob(f"[!.]*/{MANIFEST_NAME}")):
                try:
                    other = Bundle.find(path.parent)
                except BundleError as error:
                    logger.warning("left out of the family %s: %s", name, error)
                    continue
                if other.manifest.family == name and _runs_as(other.manifest, self.manifest):
                    found.setdefault(other.digest("fp32"), other)
        counted = all(one.manifest.gmac_720p for one in found.values())

        def cost(one: Bundle) -> float:
            files = one.manifest.variants["fp32"].files.values()
            gmac = one.manifest.gmac_720p if counted else None
            return gmac or float(sum(file.bytes for file in files))

        return sorted(found.values(), key=cost)


def _runs_as(manifest: Manifest, other: Manifest) -> bool:
    """Return whether a model takes what another one takes, and returns what that returns."""

    def face(one: Manifest) -> tuple[object, ...]:
        return one.input.channels, one.output.kind, one.output.channels, one.output.upscale

    return not manifest.refusal and face(manifest) == face(other)


def _refuse_others(paths: list[Path], where: str) -> None:
    """Refuse graphs that would have a runtime read files that nobody checked."""
    graph = paths[0]
    weights = graph.with_suffix(".bin")
    if graph.suffix == ".xml" and weights not in paths and weights.exists():
        raise BundleError(f"{where}: {weights.name} is not in the manifest: delete it")
    if graph.suffix == ".onnx":
        with graph.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
            if content.find(_KEY) >= 0 and _EXTERNAL.search(content):
                raise BundleError(f"{where}: {graph.name} reads weights from another file")


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


def stored_graphs(folder: Path) -> dict[str, Path]:
    """Return the graphs that lie in a bundle's folder, by stored variant."""
    graphs = {variant: folder / name for variant, name in GRAPHS.items()}
    return {variant: path for variant, path in graphs.items() if path.is_file()}


def stored_files(folder: Path, variant: str) -> dict[str, FileInfo]:
    """Return what the manifest says of a variant's files in a folder, by path inside it."""
    graph = Path(GRAPHS[variant])
    names = [graph, graph.with_suffix(".bin")] if graph.suffix == ".xml" else [graph]
    return {name.as_posix(): file_info(folder / name) for name in names}


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``bundle.json`` into a bundle's folder, whole or not at all.

    Raises
    ------
    BundleError
        When it cannot be written; one that was there stays.
    """
    text, part = manifest.to_json(), folder / f".{MANIFEST_NAME}.part"
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(folder / MANIFEST_NAME)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise BundleError(f"{folder}: cannot be written: {error.strerror}") from error


@contextmanager
def new_bundle_folder(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a folder to fill; it takes the name ``target`` only if the block succeeds.

    What killed runs left beside the target is removed, and told; a bundle that is whole is only
    told.

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
        _clear_unfinished(target)
        fresh = target.with_name(f".{target.name}.part-{secrets.token_hex(4)}")
        fresh.mkdir(0o700)
        lock = lock_if_free(fresh)
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
    finally:
        if lock is not None:
            os.close(lock)


def _clear_unfinished(target: Path) -> None:
    """Remove the folders of killed runs beside a bundle, but none that is a bundle itself."""
    unfinished = re.compile(rf"\.{re.escape(target.name)}\.part-[0-9a-f]{{8}}")
    for path in [one for one in target.parent.iterdir() if unfinished.fullmatch(one.name)]:
        lock = lock_if_free(path)
        if lock is None:
            continue
        try:
            if (path / MANIFEST_NAME).is_file():
                line = "%s: a whole bundle of a run that was killed; move or remove it"
                logger.warning(line, path)
            elif any(path.iterdir()) or time.time() - path.stat().st_mtime > _JUST_CREATED_S:
                shutil.rmtree(path)
                logger.warning("%s: removed; an unfinished bundle of a run that was killed", path)
        finally:
            os.close(lock)


def _shipped() -> Path:
    return Path(str(resources.files("edgerestore"))) / "models"
