"""Proof that tiles equal the whole on this machine, made once where a model is first cut.

Conversion proves it where a bundle is made. OpenVINO chooses kernels by instruction set, version
and shape, so it is proven again, briefly, on every machine that cuts frames: some tiles of a frame
of noise are compared, bit by bit, with the frame restored whole. The outcome is kept in the cache,
so that it is asked for once per bundle, device, precision, instruction set and version.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from msgspec import Meta

from ...bundle.bundle import Bundle
from ...bundle.manifest import Manifest
from ...errors import OutOfDeviceMemoryError
from ...imaging.arrays import ChannelOrder, Depth, round_up
from ...runtimes.cache import measured
from ...runtimes.machine import cpu_info, tool_versions
from ...runtimes.protocol import Model, QueueSpec
from ..cancellation import check_cancelled
from .executor import Work, submit_patches
from .grid import Grid, smallest_tile

__all__ = ["CANONICAL_PX", "Exactness", "exactness_here", "known_to_be_exact"]

_logger = logging.getLogger(__name__)

CANONICAL_PX = 512
"""Side of the one tile that serves every frame where tiles are not exact."""

_FRAME_PX = (400, 640)  # as many pixels as the largest frames that run whole without a question
_LARGER_PX = 64  # by how much its tiles are larger than the smallest
_MOST_TILES = 4
_FEWEST_STEPS = 5  # of the grid in a tile: layers of fewer elements are added up in another order
_SWITCHES = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")  # by which a CPU is made another one

_EXACT: ContextVar[bool] = ContextVar("known to be exact", default=False)


@dataclass(frozen=True)
class Exactness:
    """Largest difference of tiles from the whole on this machine, in [0, 1] units."""

    difference: Annotated[float, Meta(ge=0)]

    def __bool__(self) -> bool:
        """Return whether tiles are the whole, bit by bit."""
        return self.difference == 0

    def __str__(self) -> str:
        """Return what a plan says."""
        if self:
            return "tiles are the whole here"
        return f"not exact here, where tiles differ from the whole by {self.difference:.1g}"


@contextmanager
def known_to_be_exact() -> Iterator[None]:
    """Ask for no proof on the calling thread, for who makes it himself."""
    before = _EXACT.set(True)
    try:
        yield
    finally:
        _EXACT.reset(before)


def exactness_here(bundle: Bundle, model: Model) -> Exactness:
    """Return whether a model's tiles are the whole on this machine, from the cache or proven now.

    Parameters
    ----------
    bundle : Bundle
        Whose tiles are exact by its manifest.
    model : Model

    A device whose memory holds no frame to compare tiles with is told, and conversion's proof is
    relied on.

    Raises
    ------
    InferenceError
        When the model cannot be compiled or run.
    """
    if _EXACT.get():
        return Exactness(0.0)
    try:
        return _measured(bundle, model)
    except OutOfDeviceMemoryError:
        _logger.warning(
            "%s: the memory of %s holds no frame to compare tiles with; that they are the whole"
            " rests on the proof at conversion",
            *(bundle.manifest.name, model.device),
        )
        return Exactness(0.0)


def _measured(bundle: Bundle, model: Model) -> Exactness:
    switched = "".join(f", {os.environ[name]}" for name in _SWITCHES if name in os.environ)
    return measured(
        "exactness",
        f"{bundle.digest(model.precision.stored)}-{model.runtime}-{model.device}-{model.precision}",
        f"{cpu_info()}, {tool_versions()}{switched}",
        lambda: _proven(bundle.manifest, model),
        Exactness,
    )


def _proven(manifest: Manifest, model: Model) -> Exactness:
    halo, multiple = manifest.tiling.halo_px, manifest.input.multiple_of
    upscale, channels = manifest.output.upscale, manifest.input.channels
    least = max(smallest_tile(halo, multiple), manifest.input.minimum_px, _FEWEST_STEPS * multiple)
    side = round_up(least + _LARGER_PX, multiple)
    height, width = (max(round_up(px // upscale, multiple), side + multiple) for px in _FRAME_PX)
    order = ChannelOrder.GRAY if channels == 1 else ChannelOrder.RGB
    grid = Grid.plan(height, width, side, halo=halo, multiple=multiple, upscale=upscale)
    frame = np.random.default_rng(0).random((height, width, channels), np.float32)
    whole = np.empty((height * upscale, width * upscale, manifest.output.channels), np.float32)
    spec = QueueSpec(height, width, Depth.F32, order)
    check_cancelled()
    queue = model.open_queue(spec, 1)
    try:
        queue.submit(frame, 1.0, whole).result()
    finally:
        queue.close()
    check_cancelled()
    work = Work(1.0, manifest.output.channels, upscale, Depth.F32)
    chosen = np.unique(np.linspace(0, len(grid.tiles) - 1, _MOST_TILES, dtype=int))
    queue = model.open_queue(QueueSpec(grid.tile_height, grid.tile_width, Depth.F32, order), 1)
    try:
        tiles = [grid.tiles[place] for place in chosen]
        completions, patches = submit_patches(queue, tiles, frame, work)
        for completion in completions:
            completion.result()
        found = 0.0
        for (top, left, rows, columns), patch in patches():
            apart = np.abs(patch - whole[top : top + rows, left : left + columns]).max()
            # What is no number differs by more than any.
            found = max(found, 1.0 if np.isnan(apart) else float(apart))
    finally:
        queue.close()
    if found:
        _logger.debug("%s: tiles differ from the whole by %g", manifest.name, found)
    return Exactness(found)
