"""The manifest of a bundle: its fields, their checks, and the JSON they are kept in.

``docs/bundle.md`` is the same schema in prose. Reading checks everything and names the field
that is wrong; a `Manifest` that was read is therefore valid. Format 2 is written; formats 1 and 2
are read.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import reprlib
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Any, NoReturn, TypeVar

import msgspec
from msgspec import Meta, Struct, field

from ..errors import BundleError
from .kinds import InputKind, OutputKind
from .precision import STORED_VARIANTS

__all__ = [
    "FORMAT",
    "STRENGTH",
    "Color",
    "FileInfo",
    "InputPort",
    "Manifest",
    "OutputPort",
    "Score",
    "Side",
    "StrengthKind",
    "Tiling",
    "TilingMode",
    "Variant",
]

FORMAT = 2
"""Version of the bundle format that this package writes and the newest it reads."""

_FILE = re.compile(r"(?:[\w-][\w.-]*/)*[\w-][\w.-]*\.(?:onnx|xml|bin)", re.ASCII)
_DEEPEST = 64
_DIGITS = 300
_LONGEST = 255

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\Z", max_length=_LONGEST)]
Channels = Annotated[int, Meta(ge=1, le=1024)]
Scale = Annotated[int, Meta(ge=1, le=64)]
Side = Annotated[int, Meta(ge=1, le=1 << 16)]
"""Of an image or a tile, in pixels."""

Length = Annotated[int, Meta(ge=0, le=1 << 20)]
Count = Annotated[int, Meta(ge=1)]
Span = Annotated[float, Meta(gt=0)]
Color = Annotated[str, Meta(pattern=r"^(rgb|bgr|gray)\Z")]


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


class FileInfo(Struct, frozen=True):
    """Size and hash of a file of the bundle, as it was written."""

    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    bytes: Count


class InputPort(Struct, frozen=True):
    """One input tensor of the graph.

    The graph itself takes f32; images as RGB or grey in [0, 1]. What is said here of colours and
    range is the network's own, inside the graph.

    Parameters
    ----------
    name : str
        Of the tensor.
    kind : InputKind
    channels : int
        2 for a pair of grey tiles.
    color : {'rgb', 'bgr', 'gray'} or None
        Channel order of the network; None where there are no colours.
    value_range, black : float
        White and black to the network: 1 and 0, 255 and 0, or 1 and -1.
    multiple_of : int
        Sides are padded to this inside the graph; tiles start on its multiples.
    minimum_px : int
        The smallest side that the network takes unpadded.
    size_px : int or None
        The only side that the graph takes, where it takes but one.
    """

    name: Name
    kind: InputKind
    channels: Channels
    color: Color | None = None
    value_range: Span = 1.0
    black: float = 0.0
    multiple_of: Side = 1
    minimum_px: Side = 1
    size_px: Side | None = None


STRENGTH = InputPort("strength", InputKind.STRENGTH, channels=1)
"""The input of every model whose strength can be turned: one number or a map."""


class OutputPort(Struct, frozen=True):
    """One output tensor of the graph.

    Parameters
    ----------
    name : str
        Of the tensor.
    kind : OutputKind
    channels : int
    color, value_range, black
        As the network returns them; the graph returns RGB or grey in [0, 1].
    upscale : int
        Output pixels per input pixel and side.
    """

    name: Name
    kind: OutputKind
    channels: Channels
    color: Color | None = None
    value_range: Span = 1.0
    black: float = 0.0
    upscale: Scale = 1

    @classmethod
    def of(cls, image: InputPort, kind: OutputKind, channels: int, upscale: int = 1) -> OutputPort:
        """Return the output of a model that takes ``image``; a picture has the same colours."""
        name = kind.traits.tensor
        if not kind.traits.blended:
            return cls(name, kind, channels, upscale=upscale)
        return cls(name, kind, channels, image.color, image.value_range, image.black, upscale)


class Tiling(Struct, frozen=True):
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
    halo_px: Length = 0
    halo_measured_px: Length | None = None
    window_px: Length | None = None
    ramp_px: Length | None = None
    reason: str = ""


class Variant(Struct, frozen=True):
    """One stored precision: ``fp32`` (ONNX), ``fp16`` (IR, f16 weights) or ``int8`` (IR).

    ``quality`` and ``timings`` are what conversion measured, in no fixed schema: each timing
    carries the CPU's name, its instruction set, the shape and the milliseconds.
    """

    files: dict[str, FileInfo]
    quality: dict[str, Any] = field(default_factory=dict)
    timings: list[dict[str, Any]] = field(default_factory=list)


class Score(Struct, frozen=True):
    """Mean of a metric over pictures with ground truth.

    Parameters
    ----------
    metric, unit : str
    value : float
    precision : str
        What the model was computed in.
    data : str
        Pictures that it was measured on, in one phrase.
    before : float or None
        The same metric of the input.
    """

    metric: str
    unit: str
    value: float
    precision: str
    data: str
    before: float | None = None


class Manifest(Struct, frozen=True, kw_only=True):
    """Everything a host must know to run a bundle, and where it came from.

    Parameters
    ----------
    name, task, summary, licence : str
    inputs, outputs : tuple
        At least one image goes in, and something comes out.
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
    family : str or None
        Name shared by models that differ in cost and quality alone, so that one may run in
        place of another.
    suited_for : str
        Degradations that the model is trained for, in one phrase.
    parameters : int or None
        Numbers in the network's weights.
    gmac_720p : float or None
        Billions of multiply-adds of the graph for an input frame of 1280x720.
    scores : tuple of Score
        Quality against ground truth, as it was measured.
    """

    name: Name
    task: str
    summary: str
    licence: str
    inputs: Annotated[tuple[InputPort, ...], Meta(min_length=1)]
    outputs: Annotated[tuple[OutputPort, ...], Meta(min_length=1)]
    tiling: Tiling
    strength: StrengthKind
    variants: dict[str, Variant]
    source: dict[str, Any] = field(default_factory=dict)
    calibration: dict[str, Any] | None = None
    tools: dict[str, Any] = field(default_factory=dict)
    family: Name | None = None
    suited_for: str = ""
    parameters: Count | None = None
    gmac_720p: Span | None = None
    scores: tuple[Score, ...] = ()

    @property
    def input(self) -> InputPort:
        """The first image that goes in."""
        return next(port for port in self.inputs if port.kind is InputKind.IMAGE)

    @property
    def output(self) -> OutputPort:
        """The first tensor that comes out."""
        return self.outputs[0]

    @property
    def refusal(self) -> str:
        """Why single frames cannot be run through the model; empty where they can."""
        traits = self.output.kind.traits
        if not traits.per_pixel:
            return f"{traits.does} and restores no images"
        given = [port.name for port in self.inputs]
        made = [port.name for port in self.outputs]
        if given != ["image", "strength"][: len(given)] or made != [traits.tensor]:
            return f"takes {', '.join(given)} and returns {', '.join(made)}, not single frames"
        return ""

    def to_json(self) -> str:
        """Return the text of ``bundle.json``, sealed with a hash of its own content.

        Raises
        ------
        BundleError
            Where a field could not be read back.
        """
        content = {"format": FORMAT, **msgspec.to_builtins(self)}
        text = json.dumps({**content, "seal": _seal(content)}, indent=2) + "\n"
        Manifest.from_json(text)
        return text

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read and check a manifest of any format up to `FORMAT`.

        Control characters in its texts become spaces, so that they can be printed.

        Raises
        ------
        BundleError
            Names the field that is missing, of the wrong type or value; says when the
            format is newer than this package, or the text was edited.
        """
        written = _parsed(text)
        content = _clean(written, ())
        version = _read(_Head, content).format
        if version > FORMAT:
            raise BundleError(
                f"bundle.json: format {version} is newer than {FORMAT}, the newest this"
                " version of edgerestore reads: upgrade edgerestore"
            )
        _check_files(content)
        made = _read(Manifest, _upgraded(content) if version == 1 else content)
        _check(made)
        seal = _read(_Seal, content).seal
        if seal != _seal({k: v for k, v in written.items() if k != "seal"}):
            raise BundleError(
                "bundle.json: edited or corrupted, seal does not match: convert again"
            )
        return made


class _Head(Struct):
    format: Count


class _Seal(Struct):
    seal: str


class _Input1(Struct):
    channels: Channels
    color: Color
    value_range: Span
    multiple_of: Side
    minimum_px: Side
    black: float = 0.0  # bundles from before there were other blacks than 0 do not say it


class _Output1(Struct):
    kind: OutputKind
    channels: Channels
    upscale: Scale


class _Format1(Struct):
    input: _Input1
    output: _Output1
    strength: StrengthKind


def _upgraded(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a manifest of format 1 with the ports of format 2."""
    old = _read(_Format1, content)
    image = InputPort(
        "image",
        InputKind.IMAGE,
        size_px=None if old.output.kind.traits.per_pixel else old.input.minimum_px,
        **msgspec.structs.asdict(old.input),
    )
    inputs = [image] if old.strength is StrengthKind.NONE else [image, STRENGTH]
    outputs = [OutputPort.of(image, old.output.kind, old.output.channels, old.output.upscale)]
    return {**content, **msgspec.to_builtins({"inputs": inputs, "outputs": outputs})}


_OPTIONAL = {
    "before",
    "black",
    "calibration",
    "family",
    "gmac_720p",
    "halo_measured_px",
    "parameters",
    "ramp_px",
    "scores",
    "size_px",
    "suited_for",
    "timings",
    "window_px",
}
"""Fields that a manifest may leave out; all others are there even where they have a default."""

_ELEMENTS: dict[str, type[Struct]] = {"variants": Variant, "files": FileInfo}
"""What the objects hold whose keys are names."""

_Read = TypeVar("_Read", bound=Struct)
_Place = tuple[str | int, ...]


def _read(kind: type[_Read], content: Any, place: _Place = ()) -> _Read:
    """Convert parsed JSON to a type; this is where msgspec's errors become ours."""
    try:
        made = msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        what, _, path = str(error).partition(" - at `$")
        known, unnamed, _ = path.rstrip("`").partition("[...]")
        steps = [int(n) if n else name for name, n in re.findall(r"\.(\w+)|\[(\d+)\]", known)]
        value = content
        for step in steps:
            value = value[step]
        if unnamed:
            # msgspec leaves out which key it was: the first whose value does not convert.
            for key, element in value.items():
                _read(_ELEMENTS[str(steps[-1])], element, (*place, *steps, key))
        _refuse((*place, *steps), what, value)
    _require(made, content, place)
    return made


def _require(made: Any, content: Any, place: _Place) -> None:
    """Check that every field is there which must not be left out."""
    if isinstance(made, Struct):
        for name in made.__struct_fields__:
            if name in content:
                _require(getattr(made, name), content[name], (*place, name))
            elif name not in _OPTIONAL:
                _fail((*place, name), " is missing")
    elif isinstance(made, tuple):
        for index, (element, its) in enumerate(zip(made, content, strict=True)):
            _require(element, its, (*place, index))
    elif isinstance(made, dict):
        for key, element in made.items():
            _require(element, content[key], (*place, key))


_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "object": "an object",
    "array": "a list",
    "null": "null",
}
_LIMITS = (
    (r" >= (\S+)", r" of at least \1"),
    (r" <= (\S+)", r" of at most \1"),
    (r" > 0\.0", " above 0"),
    (r" of length >= (\S+)", r" of at least \1"),
    (r" of length <= (\S+)", r" of at most \1 characters"),
    (r" matching regex '\^(.*)\\\\Z'", r" like \1"),
)


def _refuse(place: _Place, what: str, value: Any) -> NoReturn:
    """Raise what msgspec says of a value, in our words."""
    if missing := re.fullmatch(r"Object missing required field `(\w+)`", what):
        _fail((*place, missing[1]), " is missing")
    wanted = re.fullmatch(r"Expected `([^`]*)`(.*?)(, got `.*`)?", what, re.DOTALL)
    if wanted is None:  # not one of an enumeration, or out of a number's range
        _fail(place, f": {_SHOWN.repr(value)} is not known")
    words = " or ".join(_WORDS[word] for word in wanted[1].split(" | "))
    for pattern, replacement in _LIMITS:
        if limit := re.fullmatch(pattern, wanted[2], re.DOTALL):
            words += limit.expand(replacement)
            break
    _fail(place, f": expected {words}, got {_SHOWN.repr(value)}")


def _fail(place: Iterable[str | int], said: str) -> NoReturn:
    where = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)[1:]
    where = _CONTROL.sub(" ", where)
    raise BundleError(f"bundle.json: {where[:_LONGEST]}{said}") from None


_SHOWN = reprlib.Repr()
_SHOWN.maxstring = _SHOWN.maxother = _SHOWN.maxlong = 60

# Controls of a terminal, ends of lines, overrides of the writing direction, halves of characters.
_CONTROL = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def _parsed(text: str) -> dict[str, Any]:
    try:
        content = json.loads(text, object_pairs_hook=_object, parse_int=_integer)
    except RecursionError:
        raise BundleError(f"bundle.json: is nested more than {_DEEPEST} deep") from None
    except ValueError as error:
        raise BundleError(f"bundle.json is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise BundleError("bundle.json: expected an object")
    return content


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for name, value in pairs:
        if name in content:
            _fail((name,), " is there twice")
        content[name] = value
    return content


def _integer(digits: str) -> int | float:
    # What no float can hold becomes infinite, and is then refused by its name.
    return int(digits) if len(digits) <= _DIGITS else math.inf


def _clean(value: Any, place: _Place) -> Any:
    """Return a parsed value without control characters; refuse what no writer leaves."""
    if len(place) > _DEEPEST:
        _fail(place[:3], f" is nested more than {_DEEPEST} deep")
    if isinstance(value, dict):
        return {_CONTROL.sub(" ", k): _clean(v, (*place, k)) for k, v in value.items()}
    if isinstance(value, list):
        return [_clean(element, (*place, index)) for index, element in enumerate(value)]
    if isinstance(value, str):
        return _CONTROL.sub(" ", value)
    if isinstance(value, float) and not math.isfinite(value):
        _fail(place, ": expected a number, got one that is infinite, too large or none")
    return value


def _check_files(content: dict[str, Any]) -> None:
    """Check the names of variants and files, before what they hold is looked at."""
    variants = content.get("variants")
    if not isinstance(variants, dict):
        return
    if "fp32" not in variants:
        _fail(("variants", "fp32"), " is missing")
    for name, variant in variants.items():
        if name not in STORED_VARIANTS:
            _fail(("variants", name), f" is unknown, use {', '.join(STORED_VARIANTS)}")
        files = variant.get("files") if isinstance(variant, dict) else None
        for path in files if isinstance(files, dict) else ():
            where = ("variants", name, "files")
            if path.startswith("/") or ".." in path.split("/"):
                _fail(where, f": {_SHOWN.repr(path)} points outside the bundle")
            if len(path) > _LONGEST or not _FILE.fullmatch(path):
                _fail(where, f": {_SHOWN.repr(path)} is no name of a bundle's file")


def _check(made: Manifest) -> None:
    """Check what holds between fields."""
    kinds = [port.kind for port in made.inputs]
    if InputKind.IMAGE not in kinds:
        _fail(("inputs",), ": expected an image among them")
    if (InputKind.STRENGTH in kinds) is (made.strength is StrengthKind.NONE):
        _fail(("strength",), f": {made.strength} does not fit the inputs, {', '.join(kinds)}")
    names = [port.name for port in made.inputs] + [port.name for port in made.outputs]
    for index, name in enumerate(names):
        if name in names[:index]:
            _fail(("outputs" if index >= len(kinds) else "inputs",), f": two are named {name}")
    for name, variant in made.variants.items():
        if sum(not path.endswith(".bin") for path in variant.files) != 1:
            _fail(("variants", name, "files"), ": expected one graph, an .onnx or an .xml")
    if made.tiling.mode is TilingMode.WINDOWED and not (
        made.tiling.window_px and made.tiling.ramp_px
    ):
        raise BundleError("bundle.json: tiling.window_px and tiling.ramp_px are missing")


def _seal(content: dict[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
