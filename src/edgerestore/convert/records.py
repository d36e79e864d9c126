"""What a manifest records of a conversion: where the model is from and what was written."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..bundle.bundle import GRAPHS, stored_files, stored_graphs
from ..bundle.manifest import Variant
from .checkpoint.files import SourceKind

__all__ = ["FP16", "FP32", "Labels", "Measured", "source_facts", "stored_variants"]

FP32, FP16 = GRAPHS["fp32"], GRAPHS["fp16"]
"""The graphs of the two variants that every conversion writes, inside the bundle."""


@dataclass(frozen=True)
class Labels:
    """What the user says of a model, for the manifest.

    Parameters
    ----------
    name, summary, licence : str
    task : str or None
        None takes the network's.
    """

    name: str
    summary: str = ""
    licence: str = "unspecified"
    task: str | None = None


class Measured(Protocol):
    """Findings that can be told by variant."""

    def quality_of(self, variant: str) -> dict[str, Any]:
        """Return a variant's distance to the float model."""

    def timings_of(self, variant: str) -> list[dict[str, Any]]:
        """Return a variant's timings."""


def source_facts(
    source: Path, kind: SourceKind, architecture: str, arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """Return where a model came from, for the manifest.

    Parameters
    ----------
    source : Path
        A file, or a folder of state dicts.
    kind : SourceKind
    architecture : str
        As the registry or the user names it.
    arguments : mapping
        What the network's constructor was given.
    """
    if ".py:" in architecture:
        # A bundle travels; the folder its author kept the file in does not.
        where, _, factory = architecture.rpartition(":")
        architecture = f"{Path(where).name}:{factory}"
    return {
        "file": source.name,
        "sha256": _digest(source),
        "kind": str(kind),
        "architecture": architecture,
        "arguments": {key: _plain(value) for key, value in arguments.items()},
    }


def stored_variants(folder: Path, findings: Measured | None = None) -> dict[str, Variant]:
    """Return the variants that lie in a bundle's folder, with what was measured of each."""
    return {
        variant: Variant(
            stored_files(folder, variant),
            findings.quality_of(variant) if findings else {},
            findings.timings_of(variant) if findings else [],
        )
        for variant in stored_graphs(folder)
    }


def _digest(source: Path) -> str:
    """Return the sha256 of a file, or of a folder's files one after another, by name."""
    files = sorted(f for f in source.iterdir() if f.is_file()) if source.is_dir() else [source]
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            while block := opened.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    return value if isinstance(value, (str, int, float, bool, list, type(None))) else repr(value)
