"""Experiments on a graph: the sides it takes, how far it sees, whether tiles make the whole."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import openvino

from ..errors import ConversionError
from ..imaging.arrays import round_up
from ..runtimes.openvino.graph import last_line
from .reference import NetworkFunction

__all__ = ["find_sides", "measure_halo"]

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
        Without a face.
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
    """Says whether a network takes a size: core and author's model run, and agree."""

    def __init__(
        self, core: openvino.Model, network: NetworkFunction, upscale: int, *, comparable: bool
    ) -> None:
        self._channels = core.input(0).partial_shape[1].get_length()
        hint = {"INFERENCE_PRECISION_HINT": "f32"}
        try:
            self._core = openvino.Core().compile_model(core, "CPU", hint)
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
    long = round_up(2 * halo_px + 32 + 4 * multiple_of, max(multiple_of, 8))
    short = round_up(max(minimum_px, 16), multiple_of)
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
