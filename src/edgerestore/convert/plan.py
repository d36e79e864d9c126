"""What conversion decides about a network before it writes anything: its face, its tiling."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..bundle.kinds import OutputKind
from ..bundle.manifest import Tiling, TilingMode
from ..errors import ArgumentError, ConversionError, VerificationError, first_line
from ..imaging.arrays import round_up
from .checkpoint.loaded_model import Origin
from .graph.ir import read_proto
from .graph.receptive.field import ReceptiveField
from .graph.signature import BASE_REACH_PX, Face
from .probe import find_sides, measure_halo

__all__ = [
    "Levels",
    "check_levels",
    "describe_plan",
    "plan_face",
    "plan_tiling",
    "with_declared_sides",
]

_WINDOW_PX = 384

Levels = float | tuple[float, float]
"""What white is to a network, or what black and white are."""


def check_levels(levels: Levels | None, color: str | None) -> None:
    """Check what the user says of a network's numbers and colours.

    Raises
    ------
    ArgumentError
    """
    if levels is not None:
        black, white = _pair(levels)
        if not (math.isfinite(black) and math.isfinite(white) and white > max(black, 0)):
            raise ArgumentError(
                f"value range {levels}: expected a number above 0, like 1 or 255, or two like -1..1"
            )
    if color not in (None, "rgb", "bgr", "gray"):
        raise ArgumentError(f"color {color!r}: use rgb, bgr or gray")


def _pair(levels: Levels) -> tuple[float, float]:
    return levels if isinstance(levels, tuple) else (0.0, levels)


def with_declared_sides(field: ReceptiveField, declared: Mapping[str, Any]) -> ReceptiveField:
    """Raise the grid and the smallest side that a graph shows to those its author declares.

    Parameters
    ----------
    field : ReceptiveField
    declared : mapping
        What the network says of itself, ``multiple_of`` and ``minimum_px`` perhaps.
    """
    multiple = math.lcm(field.multiple_of, int(declared.get("multiple_of", 1)))
    least = max(field.minimum_px, int(declared.get("minimum_px", 1)))
    return replace(field, multiple_of=multiple, minimum_px=least)


def plan_face(
    origin: Origin, field: ReceptiveField, levels: Levels | None, color: str | None
) -> Face:
    """Decide what stands around a core graph.

    Parameters
    ----------
    origin : Origin
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
    channels = origin.channels
    if channels not in (1, 3):
        raise ConversionError(f"the model takes {channels} channels, expected 1 or 3")
    if color is not None and (color == "gray") != (channels == 1):
        raise ArgumentError(f"color {color}: the model takes {channels} channels")
    wanted = color or str(origin.declared.get("color", "rgb"))
    if levels is None:
        declared = origin.declared
        levels = float(declared.get("black", 0.0)), float(declared.get("value_range", 1.0))
    black, white = _pair(levels)
    out_channels, upscale = _output(origin, field)
    usual = OutputKind.IMAGE if out_channels == channels else OutputKind.MASK
    kind = OutputKind(origin.declared.get("output_kind") or usual)
    multiple, minimum = field.multiple_of, field.minimum_px
    if origin.declared.get("whole"):
        multiple, minimum = 1, 1  # whatever the frame's size, the thumbnail has the network's own
    elif field.mode is TilingMode.WINDOWED:
        multiple, minimum = find_sides(
            read_proto(origin.core),
            origin.network,
            upscale,
            multiple,
            minimum,
            comparable=origin.core_residual == origin.network_residual,
        )
    return Face(
        channels=channels,
        out_channels=out_channels,
        color="gray" if channels == 1 else wanted,
        black=black,
        value_range=white,
        multiple_of=multiple,
        minimum_px=minimum,
        upscale=upscale,
        residual=origin.core_residual,
        kind=kind,
    )


def _output(origin: Origin, field: ReceptiveField) -> tuple[int, int]:
    """Run the model once for its output's channels and scale."""
    side = round_up(max(64, field.minimum_px), field.multiple_of)
    try:
        made = origin.network(np.zeros((1, origin.channels, side, side), np.float32))
    except Exception as error:
        raise ConversionError(f"the model fails at {side}x{side}: {first_line(error)}") from error
    if made.ndim != 4 or made.shape[2] != made.shape[3] or made.shape[2] % side:
        raise ConversionError(
            f"the model turns {side}x{side} into {list(made.shape)}; expected an image of the"
            " same size or a whole multiple of it"
        )
    channels = int(made.shape[1])
    if channels not in (1, origin.channels):
        raise ConversionError(
            f"the model returns {channels} channels for {origin.channels}, expected an image"
            " or a mask of one channel"
        )
    return channels, made.shape[2] // side


def plan_tiling(origin: Origin, field: ReceptiveField, upscale: int) -> Tiling:
    """Decide how frames may be cut, and check a halo by experiment.

    Raises
    ------
    VerificationError
        When the network was seen to look farther than its graph says.
    """
    if origin.declared.get("whole"):
        return Tiling(TilingMode.WHOLE, reason=field.reason)
    if field.mode is TilingMode.EXACT:
        measured = measure_halo(
            read_proto(origin.core), field.halo_px, field.multiple_of, field.minimum_px
        )
        if measured > field.halo_px:
            raise VerificationError(
                f"a change {measured} px away reached the output, but the graph's halo is"
                f" {field.halo_px} px: no bundle was written"
            )
        # The base that the network's outcome is blended with looks around too.
        halo = max(field.halo_px, BASE_REACH_PX if upscale > 1 else 0)
        return Tiling(TilingMode.EXACT, halo, measured, reason=field.reason)
    advice = origin.declared.get("tiling_advice")
    reason = f"{field.reason}; {advice}" if advice else field.reason
    multiple = field.multiple_of
    window = round_up(int(origin.declared.get("window_px", _WINDOW_PX)), multiple)
    ramp = round_up(-(-window // 4), multiple)
    return Tiling(TilingMode.WINDOWED, window_px=window, ramp_px=ramp, reason=reason)


def describe_plan(tiling: Tiling, face: Face) -> str:
    """Say in one line how frames are cut."""
    if tiling.mode is TilingMode.WHOLE:
        return "judges a thumbnail of the whole frame, which is never cut"
    grid = f"multiple of {face.multiple_of}"
    if tiling.mode is TilingMode.EXACT:
        return f"halo {tiling.halo_px} px (measured {tiling.halo_measured_px}), {grid}, tiles exact"
    return f"windowed, since {tiling.reason}; window {tiling.window_px} px, {grid}"
