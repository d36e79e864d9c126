"""Experiments on a converted graph: how far it really sees, and whether tiles make the whole."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import openvino
from numpy.typing import NDArray

from ..runtimes.openvino.graph import OpenvinoGraph
from .samples import Samples

__all__ = ["measure_halo", "tiled_difference", "windowed_difference"]

_LARGEST_PHASES = 8
_LOUD = 8.0  # far beyond any picture: what sees the change at all shows it


def measure_halo(core: openvino.Model, halo_px: int, multiple_of: int, minimum_px: int) -> int:
    """Change lines of the input and return the farthest distance at which the output changed.

    Parameters
    ----------
    core : openvino.Model
        Without a face, whose clamp would hide changes.
    halo_px, multiple_of, minimum_px : int
        What the graph claims; they only decide how large the trial is.

    Returns
    -------
    int
        Input pixels.
    """
    long = _up(2 * halo_px + 32 + 4 * multiple_of, max(multiple_of, 8))
    short = _up(max(minimum_px, 16), multiple_of)
    farthest = 0
    for along in (2, 3):
        shape = [1, core.input(0).partial_shape[1].get_length(), short, short]
        shape[along] = long
        fixed = core.clone()
        fixed.reshape(shape)
        compiled = openvino.Core().compile_model(fixed, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        farthest = max(farthest, _reach(compiled, shape, along, multiple_of))
    return farthest


def _reach(compiled: openvino.CompiledModel, shape: list[int], along: int, multiple_of: int) -> int:
    rng = np.random.default_rng(0)
    image = rng.uniform(-1, 1, shape).astype(np.float32)
    before = np.array(compiled(image)[0])
    upscale = before.shape[along] // shape[along]
    middle = shape[along] // 2 // multiple_of * multiple_of
    farthest = 0
    phases = np.unique(np.linspace(0, multiple_of - 1, _LARGEST_PHASES, dtype=int))
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


def tiled_difference(
    model: openvino.Model, samples: Samples, halo_px: int, multiple_of: int, upscale: int
) -> tuple[float, str]:
    """Restore a picture whole and in tiles, and return the largest difference.

    Tiles start on the grid and all have one shape; the last ones move inward, so that true
    borders stay true borders. What is kept of each is what it read less the halo, rounded
    up to the grid.

    Returns
    -------
    float, str
        The difference, in [0, 1] units, and the sizes it was found at.
    """
    margin = _up(halo_px, multiple_of)
    tile = _up(2 * margin + max(64, 2 * multiple_of), multiple_of)
    height, width = (_up(int(tile * share), multiple_of) for share in (1.6, 1.3))
    image = samples.crop(0, height, width)
    whole = OpenvinoGraph(model, "f32", (height, width))(image)
    part = OpenvinoGraph(model, "f32", (tile, tile))
    worst = 0.0
    for top, keep_y in _cuts(height, tile, margin):
        for left, keep_x in _cuts(width, tile, margin):
            made = part(np.ascontiguousarray(image[:, :, top : top + tile, left : left + tile]))
            there = np.s_[:, :, _times(keep_y, upscale), _times(keep_x, upscale)]
            inside = np.s_[
                :,
                :,
                _times(slice(keep_y.start - top, keep_y.stop - top), upscale),
                _times(slice(keep_x.start - left, keep_x.stop - left), upscale),
            ]
            worst = max(worst, float(np.abs(whole[there] - made[inside]).max()))
    return worst, f"{width}x{height} in tiles of {tile}x{tile}, {margin} px of margin"


def _cuts(side: int, tile: int, margin: int) -> Iterator[tuple[int, slice]]:
    """Yield each tile's origin and the part of the frame it is kept for."""
    origin = 0
    while True:
        last = origin + tile >= side
        origin = min(origin, side - tile)
        kept = slice(
            0 if origin == 0 else origin + margin, side if last else origin + tile - margin
        )
        yield origin, kept
        if last:
            return
        origin += tile - 2 * margin


def windowed_difference(
    model: openvino.Model, samples: Samples, window_px: int, ramp_px: int, upscale: int
) -> tuple[float, str]:
    """Restore a picture whole and in windows blended over ramps; return the largest difference.

    Returns
    -------
    float, str
        The difference, in [0, 1] units, and the sizes it was found at.
    """
    height = width = window_px + window_px // 2
    image = samples.crop(0, height, width)
    whole = OpenvinoGraph(model)(image)
    part = OpenvinoGraph(model, "f32", (window_px, window_px))
    total, weights = np.zeros_like(whole), np.zeros_like(whole)
    ramp = _ramp(window_px * upscale, ramp_px * upscale)
    for top in (0, height - window_px):
        for left in (0, width - window_px):
            read = image[:, :, top : top + window_px, left : left + window_px]
            made = part(np.ascontiguousarray(read))
            place = np.s_[
                :,
                :,
                top * upscale : (top + window_px) * upscale,
                left * upscale : (left + window_px) * upscale,
            ]
            total[place] += made * ramp
            weights[place] += ramp
    difference = float(np.abs(total / weights - whole).max())
    return difference, f"{width}x{height} in windows of {window_px}, ramps of {ramp_px} px"


def _ramp(side: int, ramp: int) -> NDArray[np.float32]:
    """Return weights of a window: one inside, raised cosines to almost nothing at the rim."""
    distance = np.minimum(np.arange(side), np.arange(side)[::-1]) + 0.5
    line = 0.5 - 0.5 * np.cos(np.pi * np.minimum(1, distance / max(1, ramp)))
    weights: NDArray[np.float32] = np.outer(line, line).astype(np.float32)
    return weights


def _times(cut: slice, factor: int) -> slice:
    return slice(cut.start * factor, cut.stop * factor)


def _up(value: int, multiple: int) -> int:
    return math.ceil(value / multiple) * multiple
