"""INT8 judged on the image at hand: samples finer than bytes may show errors that bytes hide."""

from __future__ import annotations

import math

import numpy as np

from ..bundle.bundle import Bundle
from ..bundle.manifest import Manifest
from ..imaging.arrays import ChannelOrder, Depth, Image, round_up
from ..runtimes.protocol import Model, QueueSpec
from .tiling.executor import Work, submit_grid
from .tiling.grid import Grid

__all__ = ["int8_budget_db", "int8_loss_db"]

_SIDE_PX = 256
_BUDGET_DB = 0.1  # of bundles that state none
_GAIN_DB = 10.0  # of bundles whose gain was not measured: the more, the stricter
_LEAST_GAIN_DB = 1.0


def int8_budget_db(manifest: Manifest) -> float:
    """Return what a bundle's INT8 may lose against its float model."""
    stated = manifest.variants["int8"].quality.get("budget_db")
    return float(stated) if isinstance(stated, (int, float)) else _BUDGET_DB


def int8_loss_db(
    bundle: Bundle, int8: Model, rival: Model, plane: Image, order: ChannelOrder
) -> float:
    """Estimate the PSNR that INT8 loses on an image whose truth is not known.

    INT8's error is measured, on the middle of the image. What it is compared with, the error that
    the float model leaves, is estimated: of a restorer that gains G dB, whose change and remaining
    error are uncorrelated, the remaining error is the energy of the change over 10^(G/10) - 1. G
    is the largest gain that the bundle's figures state.

    Parameters
    ----------
    bundle : Bundle
        Of a model that restores images.
    int8, rival : Model
    plane : ndarray, u16 or f32, shape (H, W, C)
        As the model is shown it.
    order : ChannelOrder
        Of its channels.
    """
    manifest = bundle.manifest
    top, left = (max(0, side - _SIDE_PX) // 2 for side in plane.shape[:2])
    middle = np.array(plane[top : top + _SIDE_PX, left : left + _SIDE_PX], order="C")
    by_int8, by_float = (_inferred(manifest, model, middle, order, 1.0) for model in (int8, rival))
    untouched = _inferred(manifest, rival, middle, order, 0.0)
    change = float(np.mean((by_float - untouched) ** 2))
    if not change:
        return math.inf
    left_over = change / (10 ** (_gain_db(manifest) / 10) - 1)
    return 10 * math.log10(1 + float(np.mean((by_int8 - by_float) ** 2)) / left_over)


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
