"""The manifest of a bundle: its fields, their checks, and the JSON they are kept in.

``docs/bundle.md`` is the same schema in prose. Reading checks everything and names the
field that is wrong; a `Manifest` in memory is therefore always valid.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from ..errors import BundleError
from .fields import read_choice, read_integer, read_number, read_object, read_text
from .precision import STORED_VARIANTS

__all__ = [
    "FORMAT",
    "FileFacts",
    "InputFacts",
    "Manifest",
    "OutputFacts",
    "OutputKind",
    "StrengthKind",
    "Tiling",
    "TilingMode",
    "Variant",
]

FORMAT = 1
"""Version of the bundle format that this package writes and the newest it reads."""


class OutputKind(StrEnum):
    """What the numbers that come out are."""

    IMAGE = "image"
    MASK = "mask"
    SHIFT = "shift"


class StrengthKind(StrEnum):
    """How a model takes its strength: blended with the base, as an input of its own, or not."""

    BLEND = "blend"
    CONDITIONED = "conditioned"
    NONE = "none"


class TilingMode(StrEnum):
    """Whether tiles can reproduce the whole frame, or must not be cut at all."""

    EXACT = "exact"
    WINDOWED = "windowed"
    WHOLE = "whole"


@dataclass(frozen=True)
class FileFacts:
    """A file of the bundle, as it was written."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class InputFacts:
    """What goes in. The graph's own face is always f32 in [0, 1], RGB or grey."""

    channels: int
    color: str
    value_range: float
    multiple_of: int = 1
    minimum_px: int = 1
    black: float = 0.0


@dataclass(frozen=True)
class OutputFacts:
    """What comes out."""

    kind: OutputKind
    channels: int
    upscale: int = 1


@dataclass(frozen=True)
class Tiling:
    """How a frame may be cut.

    Parameters
    ----------
    mode : TilingMode
    halo_px : int
        Input pixels around a tile's kept part whose absence could change it (exact only).
    halo_measured_px : int or None
        The largest distance at which a changed input pixel was seen to change an output
        pixel; never more than ``halo_px``.
    window_px, ramp_px : int or None
        Window and overlap ramp of a windowed model.
    reason : str
        Why a model is windowed, or where the halo comes from.
    """

    mode: TilingMode
    halo_px: int = 0
    halo_measured_px: int | None = None
    window_px: int | None = None
    ramp_px: int | None = None
    reason: str = ""


@dataclass(frozen=True)
class Variant:
    """One stored precision: ``fp32`` (ONNX), ``fp16`` (IR, f16 weights) or ``int8`` (IR).

    ``quality`` and ``timings`` are what conversion measured, as free facts: each timing
    carries the CPU's name, its instruction set, the shape and the milliseconds.
    """

    files: dict[str, FileFacts]
    quality: dict[str, Any] = field(default_factory=dict)
    timings: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Manifest:
    """Everything a host must know to run a bundle, and where it came from.

    Parameters
    ----------
    name, task, summary, licence : str
    input : InputFacts
    output : OutputFacts
    tiling : Tiling
    strength : StrengthKind
    variants : dict of str to Variant
        By ``fp32``, ``fp16``, ``int8``; ``fp32`` is always there.
    source : dict
        File name, sha256, architecture and arguments.
    calibration : dict or None
        Digest and recipe of the calibration data of an INT8 variant.
    tools : dict of str to str
        Versions of what made the bundle.
    """

    name: str
    task: str
    summary: str
    licence: str
    input: InputFacts
    output: OutputFacts
    tiling: Tiling
    strength: StrengthKind
    variants: dict[str, Variant]
    source: dict[str, Any] = field(default_factory=dict)
    calibration: dict[str, Any] | None = None
    tools: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the text of ``bundle.json``, sealed with a hash of its own content."""
        content: dict[str, Any] = {"format": FORMAT, **asdict(self)}
        return json.dumps({**content, "seal": _seal(content)}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read and check a manifest.

        Raises
        ------
        BundleError
            Names the field that is missing, of the wrong type or value; says when the
            format is newer than this package, or the text was edited.
        """
        try:
            content = json.loads(text)
        except ValueError as error:
            raise BundleError(f"bundle.json is not JSON: {error}") from error
        if not isinstance(content, dict):
            raise BundleError("bundle.json: expected an object")
        version = read_integer(content, "format", 1)
        if version > FORMAT:
            raise BundleError(
                f"bundle.json: format {version} is newer than {FORMAT}, the newest this"
                " version of edgerestore reads: upgrade edgerestore"
            )
        manifest = cls._from_fields(content)
        seal = read_text(content, "seal")
        if seal != _seal({k: v for k, v in content.items() if k != "seal"}):
            raise BundleError(
                "bundle.json: edited or corrupted, seal does not match: convert again"
            )
        return manifest

    @classmethod
    def _from_fields(cls, content: Mapping[str, Any]) -> Manifest:
        variants = read_object(content, "variants")
        if "fp32" not in variants:
            raise BundleError("bundle.json: variants.fp32 is missing")
        calibration = content.get("calibration")
        return cls(
            name=read_text(content, "name", r"[A-Za-z0-9][A-Za-z0-9._-]*"),
            task=read_text(content, "task"),
            summary=read_text(content, "summary"),
            licence=read_text(content, "licence"),
            input=_input(read_object(content, "input")),
            output=_output(read_object(content, "output")),
            tiling=_tiling(read_object(content, "tiling")),
            strength=read_choice(content, "strength", StrengthKind),
            variants={name: _variant(variants, name) for name in variants},
            source=dict(read_object(content, "source")),
            calibration=None if calibration is None else dict(read_object(content, "calibration")),
            tools=dict(read_object(content, "tools")),
        )


def _input(content: Mapping[str, Any]) -> InputFacts:
    return InputFacts(
        channels=read_integer(content, "channels", 1, "input."),
        color=read_text(content, "color", r"rgb|bgr|gray", "input."),
        value_range=read_number(content, "value_range", "input."),
        multiple_of=read_integer(content, "multiple_of", 1, "input."),
        minimum_px=read_integer(content, "minimum_px", 1, "input."),
        # Bundles from before there were other blacks than 0 do not say it.
        black=_black(content),
    )


def _black(content: Mapping[str, Any]) -> float:
    value = content.get("black", 0.0)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
        raise BundleError(f"bundle.json: input.black: expected a number, got {value!r}")
    return float(value)


def _output(content: Mapping[str, Any]) -> OutputFacts:
    return OutputFacts(
        kind=read_choice(content, "kind", OutputKind, "output."),
        channels=read_integer(content, "channels", 1, "output."),
        upscale=read_integer(content, "upscale", 1, "output."),
    )


def _tiling(content: Mapping[str, Any]) -> Tiling:
    def optional(name: str) -> int | None:
        return None if content.get(name) is None else read_integer(content, name, 0, "tiling.")

    tiling = Tiling(
        mode=read_choice(content, "mode", TilingMode, "tiling."),
        halo_px=read_integer(content, "halo_px", 0, "tiling."),
        halo_measured_px=optional("halo_measured_px"),
        window_px=optional("window_px"),
        ramp_px=optional("ramp_px"),
        reason=read_text(content, "reason", prefix="tiling."),
    )
    if tiling.mode is TilingMode.WINDOWED and not (tiling.window_px and tiling.ramp_px):
        raise BundleError("bundle.json: tiling.window_px and tiling.ramp_px are missing")
    return tiling


def _variant(variants: Mapping[str, Any], name: str) -> Variant:
    if name not in STORED_VARIANTS:
        raise BundleError(f"bundle.json: variants.{name} is unknown, use fp32, fp16 or int8")
    where = f"variants.{name}."
    content = read_object(variants, name, "variants.")
    files = {}
    for path, facts in read_object(content, "files", where).items():
        if path.startswith("/") or ".." in path.split("/"):
            raise BundleError(f"bundle.json: {where}files: {path!r} points outside the bundle")
        at = f"{where}files.{path}."
        if not isinstance(facts, dict):
            raise BundleError(f"bundle.json: {where}files.{path}: expected an object")
        files[path] = FileFacts(
            read_text(facts, "sha256", r"[0-9a-f]{64}", at), read_integer(facts, "bytes", 1, at)
        )
    timings = content.get("timings", [])
    if not isinstance(timings, list):
        raise BundleError(f"bundle.json: {where}timings: expected a list")
    return Variant(files, dict(read_object(content, "quality", where)), list(timings))


def _seal(content: Mapping[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
