"""Plan of a conversion: the signature around a network, its tiling, and the experiments on it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import openvino

from ..bundle.kinds import OutputKind
from ..bundle.manifest import Tiling, TilingMode
from ..errors import ArgumentError, ConversionError, VerificationError, first_line
from ..imaging.arrays import round_up
from ..runtimes.openvino.graph import last_line, shared_core
from .checkpoint.loaded_model import LoadedModel
from .graph.ir import read_proto
from .graph.receptive_field import ReceptiveField
from .graph.signature import BASE_REACH_PX, Signature
from .verify import NetworkFunction

__all__ = [
    "Levels",
    "check_levels",
    "describe_plan",
    "find_sides",
    "levels_pair",
    "measure_halo",
    "plan_signature",
    "plan_tiling",
    "with_declared_sides",
]


_LARGEST_LEAST_PX = 512  # a network that does not run at this side does not run
_SIDES_TRIED = 4
_SAME = 1e-3  # of the largest value: another size's outcome differs by far more
_MOST_PHASES = 64
_LOUD = 8.0  # far beyond any picture: what sees the change at all shows it


def find_sides(
    core: openvino.Model,
    network: NetworkFunction,
    upscale: int,
    multiple_of: int,
    minimum_px: int,
    *,
    comparable: bool = True,
) -> tuple[int, int]:
    """Run a windowed network at small sizes and find which sides it takes.

    Where nothing is exact, the strides are no reason to keep to a grid: a network that
    brings its own padding, or stretches what is left over, takes any side.

    Parameters
    ----------
    core : openvino.Model
        Without a signature.
    network : callable
        The author's model; a side counts where both run and agree.
    upscale : int
        What they enlarge by.
    multiple_of, minimum_px : int
        What the graph claims.
    comparable : bool
        Both return the same thing, not one the image and the other what is added to it.

    Returns
    -------
    int, int
        The smallest divisor of ``multiple_of`` whose multiples it takes, and the smallest
        side. What the graph claims where the network runs at no size.
    """
    takes = _Trial(core, network, upscale, comparable=comparable)
    least = round_up(minimum_px, multiple_of)
    while not takes(least, least):
        least *= 2  # some operation needs more than its rule knows
        if least > _LARGEST_LEAST_PX:
            return multiple_of, minimum_px
    step = multiple_of
    for divisor in (d for d in range(1, multiple_of) if multiple_of % d == 0):
        sides = [least + near * divisor for near in range(_SIDES_TRIED)]
        if all(takes(*size) for size in pairwise(sides)):
            step = divisor
            break
    while least > step and takes(least - step, least - step):
        least -= step
    return step, least


class _Trial:
    """Trial of a size: the core and the author's model run on it, and agree."""

    def __init__(
        self, core: openvino.Model, network: NetworkFunction, upscale: int, *, comparable: bool
    ) -> None:
        self._channels = core.input(0).partial_shape[1].get_length()
        hint = {"INFERENCE_PRECISION_HINT": "f32"}
        try:
            self._core = shared_core().compile_model(core, "CPU", hint)
        except RuntimeError as error:
            raise ConversionError(f"OpenVINO: {last_line(error)}") from error
        self._network, self._upscale, self._comparable = network, upscale, comparable

    def __call__(self, height: int, width: int) -> bool:
        shape = (1, self._channels, height, width)
        image = np.random.default_rng(0).random(shape, np.float32)
        try:
            wanted = self._network(image)
            made = self._core(image)[0]
        except Exception:  # whatever an author's model raises at a size that it does not take
            return False
        if made.shape != wanted.shape:
            return False
        if made.shape[2:] != (height * self._upscale, width * self._upscale):
            return False
        scale = max(1.0, float(np.abs(wanted).max()))
        return not self._comparable or float(np.abs(made - wanted).max()) <= _SAME * scale


def measure_halo(core: openvino.Model, halo_px: int, multiple_of: int, minimum_px: int) -> int:
    """Measure the halo: the largest distance at which a changed line changes the output.

    Parameters
    ----------
    core : openvino.Model
        Without a signature, whose clamp would hide changes.
    halo_px, multiple_of, minimum_px : int
        What the graph claims; they only decide how large the trial is.

    Returns
    -------
    int
        Input pixels.

    Raises
    ------
    ConversionError
        When the graph does not run at sides that are multiples.
    """
    long = round_up(2 * halo_px + 32 + 4 * multiple_of, max(multiple_of, 8))
    short = round_up(max(minimum_px, 16), multiple_of)
    farthest = 0
    for along in (2, 3):
        shape = [1, core.input(0).partial_shape[1].get_length(), short, short]
        shape[along] = long
        fixed = core.clone()
        try:
            fixed.reshape(shape)
            hint = {"INFERENCE_PRECISION_HINT": "f32"}
            compiled = shared_core().compile_model(fixed, "CPU", hint)
        except RuntimeError as error:
            raise ConversionError(
                f"OpenVINO does not run the graph at {shape[3]}x{shape[2]}: {last_line(error)};"
                " where the network takes some sides alone, say which with --multiple-of or the"
                " attributes multiple_of and minimum_px"
            ) from error
        farthest = max(farthest, _reach(compiled, shape, along, multiple_of))
    return farthest


def _reach(compiled: openvino.CompiledModel, shape: list[int], along: int, multiple_of: int) -> int:
    rng = np.random.default_rng(0)
    image = rng.uniform(-1, 1, shape).astype(np.float32)
    before = np.array(compiled(image)[0])
    upscale = before.shape[along] // shape[along]
    middle = shape[along] // 2 // multiple_of * multiple_of
    farthest = 0
    phases = np.unique(np.linspace(0, multiple_of - 1, _MOST_PHASES, dtype=int))
    for line in middle + phases:
        changed = image.copy()
        place: list[slice | int] = [slice(None)] * 4
        place[along] = int(line)
        thrown = rng.normal(0, _LOUD, changed[tuple(place)].shape)
        changed[tuple(place)] = thrown.astype(np.float32)
        others = tuple(d for d in range(4) if d != along)
        touched = np.flatnonzero((compiled(changed)[0] != before).any(axis=others)) // upscale
        if touched.size:
            farthest = max(farthest, int(np.abs(touched - line).max()))
    return farthest


_WINDOW_PX = 384

Levels = float | tuple[float, float]
"""Value of white in a network's range, or values of black and white."""


def check_levels(levels: Levels | None, color: str | None) -> None:
    """Check the user's value range and colour order.

    Raises
    ------
    ArgumentError
    """
    if levels is not None:
        black, white = levels_pair(levels)
        if not (math.isfinite(black) and math.isfinite(white) and white > max(black, 0)):
            raise ArgumentError(
                f"value range {levels}: expected a number above 0, like 1 or 255, or two like -1..1"
            )
    if color not in (None, "rgb", "bgr", "gray"):
        raise ArgumentError(f"color {color!r}: use rgb, bgr or gray")


def levels_pair(levels: Levels) -> tuple[float, float]:
    """Return the values of black and white."""
    return levels if isinstance(levels, tuple) else (0.0, levels)


def with_declared_sides(field: ReceptiveField, declared: Mapping[str, Any]) -> ReceptiveField:
    """Raise the graph's grid and smallest side to those that the network declares.

    Parameters
    ----------
    field : ReceptiveField
    declared : mapping
        Declared by the network, ``multiple_of`` and ``minimum_px`` among them.
    """
    multiple = math.lcm(field.multiple_of, int(declared.get("multiple_of", 1)))
    least = max(field.minimum_px, int(declared.get("minimum_px", 1)))
    return replace(field, multiple_of=multiple, minimum_px=least)


def plan_signature(
    loaded: LoadedModel, field: ReceptiveField, levels: Levels | None, color: str | None
) -> Signature:
    """Plan the signature around a core graph.

    Parameters
    ----------
    loaded : LoadedModel
    field : ReceptiveField
    levels : float, (float, float) or None
        What white, or black and white, are to the network; None takes the network's own.
    color : str or None
        ``rgb``, ``bgr`` or ``gray``; None takes the network's own.

    Raises
    ------
    ConversionError, ArgumentError
        Where the network is no image to image one, or the user contradicts it.
    """
    channels = loaded.channels
    if channels not in (1, 3):
        raise ConversionError(f"the model takes {channels} channels, expected 1 or 3")
    if color is not None and (color == "gray") != (channels == 1):
        raise ArgumentError(f"color {color}: the model takes {channels} channels")
    wanted = color or str(loaded.declared.get("color", "rgb"))
    if levels is None:
        declared = loaded.declared
        levels = float(declared.get("black", 0.0)), float(declared.get("value_range", 1.0))
    black, white = levels_pair(levels)
    out_channels, upscale = _output(loaded, field)
    usual = OutputKind.IMAGE if out_channels == channels else OutputKind.MASK
    kind = OutputKind(loaded.declared.get("output_kind") or usual)
    if kind.traits.blended and out_channels != channels:
        raise ConversionError(
            f"the model declares an {kind} and returns {out_channels} channels for {channels}"
        )
    multiple, minimum = field.multiple_of, field.minimum_px
    if loaded.declared.get("whole"):
        multiple, minimum = 1, 1  # whatever the frame's size, the thumbnail has the network's own
    elif field.mode is TilingMode.WINDOWED:
        multiple, minimum = find_sides(
            read_proto(loaded.core),
            loaded.network,
            upscale,
            multiple,
            minimum,
            comparable=loaded.core_residual == loaded.network_residual,
        )
    return Signature(
        channels=channels,
        out_channels=out_channels,
        color="gray" if channels == 1 else wanted,
        black=black,
        value_range=white,
        multiple_of=multiple,
        minimum_px=minimum,
        upscale=upscale,
        residual=loaded.core_residual,
        kind=kind,
    )


def _output(loaded: LoadedModel, field: ReceptiveField) -> tuple[int, int]:
    """Run the model once for its output's channels and scale."""
    side = round_up(max(64, field.minimum_px), field.multiple_of)
    try:
        made = loaded.network(np.zeros((1, loaded.channels, side, side), np.float32))
    except Exception as error:
        raise ConversionError(
            f"the model fails at {side}x{side}: {first_line(error)}; a graph that holds the sizes"
            " of its export has to be exported again with dynamic height and width"
        ) from error
    if not np.isfinite(made).all():
        raise ConversionError(
            f"the model makes NaN or infinity of a black image of {side}x{side}; its weights hold"
            " some, or its numbers leave the range of float32"
        )
    if made.ndim != 4 or made.shape[2] != made.shape[3] or made.shape[2] % side:
        raise ConversionError(
            f"the model turns {side}x{side} into {list(made.shape)}; expected an image of the"
            " same size or a whole multiple of it"
        )
    channels = int(made.shape[1])
    if channels not in (1, loaded.channels):
        raise ConversionError(
            f"the model returns {channels} channels for {loaded.channels}, expected an image"
            " or a mask of one channel"
        )
    return channels, made.shape[2] // side


def plan_tiling(loaded: LoadedModel, field: ReceptiveField, upscale: int) -> Tiling:
    """Plan the tiling, and check the halo by experiment.

    Raises
    ------
    VerificationError
        When a change farther away than the graph's halo reached the output.
    """
    if loaded.declared.get("whole"):
        return Tiling(TilingMode.WHOLE, reason=field.reason)
    if field.mode is TilingMode.EXACT:
        measured = measure_halo(
            read_proto(loaded.core), field.halo_px, field.multiple_of, field.minimum_px
        )
        if measured > field.halo_px:
            raise VerificationError(
                f"a change {measured} px away reached the output, but the graph's halo is"
                f" {field.halo_px} px: no bundle was written"
            )
        # The base that the network's outcome is blended with looks around too.
        halo = max(field.halo_px, BASE_REACH_PX if upscale > 1 else 0)
        return Tiling(TilingMode.EXACT, halo, measured, reason=field.reason)
    advice = loaded.declared.get("tiling_advice")
    reason = f"{field.reason}; {advice}" if advice else field.reason
    multiple = field.multiple_of
    window = round_up(int(loaded.declared.get("window_px", _WINDOW_PX)), multiple)
    ramp = round_up(-(-window // 4), multiple)
    return Tiling(TilingMode.WINDOWED, window_px=window, ramp_px=ramp, reason=reason)


def describe_plan(tiling: Tiling, signature: Signature) -> str:
    """Describe tiling in one line."""
    if tiling.mode is TilingMode.WHOLE:
        return "runs on a thumbnail of the whole frame, which is never cut"
    grid = f"multiple of {signature.multiple_of}"
    if tiling.mode is TilingMode.EXACT:
        return f"halo {tiling.halo_px} px (measured {tiling.halo_measured_px}), {grid}, tiles exact"
    return f"windowed, since {tiling.reason}; window {tiling.window_px} px, {grid}"
