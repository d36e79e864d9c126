"""Request and plan of a conversion, and the manifest's records of its source."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onnx import ModelProto

from ..bundle.bundle import GRAPHS, stored_files, stored_graphs
from ..bundle.manifest import InputPort, Manifest, OutputPort, StrengthKind, Tiling, Variant
from ..runtimes.machine import tool_versions
from .checkpoint.files import SourceKind
from .plan import Levels
from .report import Measurements

__all__ = [
    "FP16",
    "FP32",
    "ConversionPlan",
    "Report",
    "Request",
    "new_manifest",
    "stored_variants",
]

Report = Callable[[str], None]
"""Takes one line of progress."""

FP32, FP16 = GRAPHS["fp32"], GRAPHS["fp16"]
"""The graphs of the two variants that every conversion writes, inside the bundle."""


@dataclass(frozen=True)
class Request:
    """Arguments of a conversion.

    Parameters
    ----------
    source : Path
    name, summary, licence : str
        For the manifest.
    task : str or None
        None takes the network's.
    architecture : str or None
    arguments : mapping
        Constructor arguments.
    levels : float, (float, float) or None
        White, or black and white, to the network.
    color : str or None
    residual : bool or None
    samples : Path or None
        Photographs to check on; None draws some.
    family : str or None
    suited_for : str
        For the manifest.
    network_output : int or None
        Which of several outputs is the restored image.
    multiple_of : int or None
        What frames are continued to, where the network takes other sides too.
    window_px : int or None
        Side of a window; None takes the network's, else the usual one.
    quick : bool
        Leave out what proves nothing: distances of 16-bit floats, times, pictures of the report.
    force : bool
        Write a network that restores worse than it is given.
    """

    source: Path
    name: str
    summary: str = ""
    licence: str = "unspecified"
    task: str | None = None
    architecture: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    levels: Levels | None = None
    color: str | None = None
    residual: bool | None = None
    samples: Path | None = None
    family: str | None = None
    suited_for: str = ""
    network_output: int | None = None
    multiple_of: int | None = None
    window_px: int | None = None
    quick: bool = False
    force: bool = False


@dataclass(frozen=True)
class ConversionPlan:
    """A network that was read and planned, ready to be written and measured.

    Parameters
    ----------
    manifest : Manifest
        Without variants.
    graph : onnx.ModelProto
        As hosts run it.
    half_precision : bool
        Whether a variant in 16-bit floats is written.
    tiles : str
        How frames are cut, in one line.
    measure : callable
        Takes the bundle's folder with its graphs and `report`; returns what was measured.
        Raises `VerificationError` where the converted model is not the source.
    """

    manifest: Manifest
    graph: ModelProto
    half_precision: bool
    tiles: str
    measure: Callable[[Path, Report], Measurements]


def new_manifest(
    request: Request,
    kind: SourceKind,
    architecture: str,
    arguments: Mapping[str, Any],
    *,
    task: str,
    inputs: tuple[InputPort, ...],
    outputs: tuple[OutputPort, ...],
    tiling: Tiling,
    strength: StrengthKind,
) -> Manifest:
    """Return the manifest of a conversion, without variants yet.

    Parameters
    ----------
    request : Request
    kind : SourceKind
    architecture : str
        As the registry or the user names it.
    arguments : mapping
        Of the network's constructor.
    task : str
        Used where the request names none.
    inputs, outputs, tiling, strength
        As in `Manifest`.
    """
    if ".py:" in architecture:
        # A bundle travels; the folder its author kept the file in does not.
        where, _, factory = architecture.rpartition(":")
        architecture = f"{Path(where).name}:{factory}"
    return Manifest(
        name=request.name,
        task=request.task or task,
        summary=request.summary,
        licence=request.licence,
        inputs=inputs,
        outputs=outputs,
        tiling=tiling,
        strength=strength,
        variants={},
        source={
            "file": request.source.name,
            "sha256": _digest(request.source),
            "kind": str(kind),
            "architecture": architecture,
            "arguments": {key: _plain(value) for key, value in arguments.items()},
        },
        tools=tool_versions(),
        family=request.family,
        suited_for=request.suited_for,
    )


def stored_variants(folder: Path, found: Measurements | None = None) -> dict[str, Variant]:
    """Return the variants that lie in a bundle's folder, with what was measured of each."""
    return {
        variant: Variant(
            stored_files(folder, variant),
            found.quality_of(variant) if found else {},
            found.timings_of(variant) if found else [],
        )
        for variant in stored_graphs(folder)
    }


def _digest(source: Path) -> str:
    """Return the sha256 of a file, or of a folder's files one after another, by name."""
    files = sorted(f for f in source.iterdir() if f.is_file()) if source.is_dir() else [source]
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            hashlib.file_digest(opened, lambda: digest)
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    return value if isinstance(value, (str, int, float, bool, list, type(None))) else repr(value)
