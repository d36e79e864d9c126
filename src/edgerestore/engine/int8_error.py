"""INT8 judged on the image at hand: samples finer than bytes may show errors that bytes hide."""

from __future__ import annotations

import math

import numpy as np

from ..bundle.bundle import Bundle
from ..bundle.manifest import Manifest
from ..imaging.arrays import ChannelOrder, Depth, Image, round_up, rounded
from ..runtimes.protocol import Model, QueueSpec
from .tiling.executor import Work, submit_grid
from .tiling.grid import Grid

__all__ = ["int8_budget_db", "int8_loss_db"]

_SIDE_PX = 256
_DENOISE = "denoise"
_MOST_DB = 0.03  # an estimate at one place, so that no more than 0.05 is lost elsewhere
_GAIN_DB = 10.0  # where it was not measured: the more, the stricter
_LEAST_GAIN_DB = 1.0


def int8_budget_db(manifest: Manifest) -> float:
    """Return what a bundle's INT8 may lose, by estimate, on samples finer than bytes."""
    stated = manifest.variants["int8"].quality.get("budget_db")
    return min(float(stated), _MOST_DB) if isinstance(stated, (int, float)) else _MOST_DB


def int8_loss_db(
    bundle: Bundle, int8: Model, rival: Model, plane: Image, order: ChannelOrder
) -> float:
    """Estimate the PSNR that INT8 loses on an image whose truth is not known, on its middle.

    Of a model that takes off noise: its float outcome stands for the truth, gets the noise back
    that was taken off, in another order, and is restored again by both (a bootstrap). Of any
    other: INT8's error is set against the error that the float model leaves. Where a restorer
    gains G dB, and its change and that error are uncorrelated, that is the energy of the change
    over 10^(G/10) - 1; G is the largest gain that the bundle's figures state.

    Parameters
    ----------
    bundle : Bundle
        Of a model that restores images.
    int8, rival : Model
    plane : ndarray, u16 or f32, shape (H, W, C)
        As the model is shown it.
    order : ChannelOrder
        Of its channels.

    Returns
    -------
    float
        Infinity where the float model is exact, which nothing can be set against.
    """
    manifest, depth = bundle.manifest, Depth(plane.dtype.name)
    top, left = (max(0, side - _SIDE_PX) // 2 for side in plane.shape[:2])
    given = np.array(plane[top : top + _SIDE_PX, left : left + _SIDE_PX], order="C")
    by_float = _inferred(manifest, rival, given, order, 1.0)
    if manifest.task == _DENOISE:
        noise = given.astype(np.float32) / np.float32(depth.peak) - by_float
        moved = np.random.default_rng(0).permutation(noise.reshape(-1, noise.shape[2]))
        truth, given = by_float, rounded((by_float + moved.reshape(noise.shape)).clip(0, 1), depth)
        by_float = _inferred(manifest, rival, given, order, 1.0)
        by_int8 = _inferred(manifest, int8, given, order, 1.0)
        left_over, lost = _error(by_float, truth), _error(by_int8, truth)
        return 10 * math.log10(lost / left_over) if left_over and lost else math.inf
    untouched = _inferred(manifest, rival, given, order, 0.0)
    left_over = _error(by_float, untouched) / (10 ** (_gain_db(manifest) / 10) - 1)
    own = _error(_inferred(manifest, int8, given, order, 1.0), by_float)
    return 10 * math.log10(1 + own / left_over) if left_over else math.inf


def _error(one: Image, other: Image) -> float:
    return float(np.mean((one - other) ** 2))


def _gain_db(manifest: Manifest) -> float:
    gains = [
        one.value - one.before
        for one in manifest.scores
        if one.metric == "PSNR" and one.before is not None
    ]
    return max([_LEAST_GAIN_DB, *gains]) if gains else _GAIN_DB


def _inferred(
    manifest: Manifest, model: Model, plane: Image, order: ChannelOrder, strength: float
) -> Image:
    multiple, output = manifest.input.multiple_of, manifest.output
    height, width = plane.shape[:2]
    grid = Grid.plan(
        height, width, max(height, width), halo=0, multiple=multiple, upscale=output.upscale
    )
    shape = round_up(grid.tile_height, multiple), round_up(grid.tile_width, multiple)
    queue = model.open_queue(QueueSpec(*shape, Depth(plane.dtype.name), order, Depth.F32), 1)
    try:
        work = Work(strength, output.channels, output.upscale, Depth.F32)
        completions, gather = submit_grid(queue, grid, plane, work)
        for completion in completions:
            completion.result()
        return gather()
    finally:
        queue.close()
