"""Shift network: a converted shift estimator, asked square by square along the overlap."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..bundle.bundle import Bundle, stored_graphs
from ..bundle.kinds import OutputKind
from ..bundle.precision import Precision
from ..errors import ArgumentError
from ..imaging.arrays import Image
from .correlation import Search, masked_correlation

__all__ = ["ShiftNetwork", "trimmed_mean"]

_TRIMMED = 3  # off each end
_NEAR_PX = 3.0  # how far around its answer the pixels are searched
_DARK, _BRIGHT = 0.5, 99.5  # percentiles that a network sees as black and white

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def trimmed_mean(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the mean of values without the three largest and the three smallest of each axis.

    Parameters
    ----------
    values : ndarray, shape (N, 2)
        Six or fewer have their median.
    """
    if len(values) <= 2 * _TRIMMED:
        return np.asarray(np.median(values, axis=0), np.float64)
    return np.asarray(np.sort(values, axis=0)[_TRIMMED:-_TRIMMED].mean(axis=0), np.float64)


class ShiftNetwork:
    """Shift estimator of a bundle, as one of the estimators of a pair.

    The planned overlap is cut into squares of the network's side, of which what is left over is
    dropped; their answers are put together by a trimmed mean and by a median. Near either the
    correlation of the pixels decides, so that the network chooses the peak and never the shift.

    Parameters
    ----------
    run : callable
        Given tiles, f32 [1, 2, side, side] in [0, 1]; returns (dx, dy), f32 [1, 2]: what lies at
        (x, y) in the first lies at (x + dx, y + dy) in the second.
    side_px : int
    """

    def __init__(self, run: Run, side_px: int) -> None:
        self._run, self._side = run, side_px

    @classmethod
    def open(cls, name_or_folder: str | os.PathLike[str]) -> ShiftNetwork:
        """Load a bundle of kind ``shift`` on the CPU, in f32.

        Raises
        ------
        ArgumentError
            When the bundle is of another kind.
        BundleError
            When it is missing or damaged.
        """
        from ..runtimes.openvino.graph import read_graph, shared_core, translated

        bundle = Bundle.find(name_or_folder)
        manifest = bundle.manifest
        if manifest.output.kind is not OutputKind.SHIFT:
            raise ArgumentError(
                f"{manifest.name} {manifest.output.kind.traits.does}; --shift-model takes a bundle"
                " that estimates shifts"
            )
        bundle.verify()
        path = next(iter(stored_graphs(bundle.folder).values()))
        with translated(f"compiling {manifest.name}"):
            hint = {"INFERENCE_PRECISION_HINT": Precision.FP32.hint}
            compiled = shared_core().compile_model(read_graph(path), "CPU", hint)

        def run(tiles: NDArray[np.float32]) -> NDArray[np.float32]:
            # A request of its own: pairs are measured by several threads.
            found: NDArray[np.float32] = compiled.create_infer_request().infer({"image": tiles})[
                "shift"
            ]
            return found

        return cls(run, manifest.input.minimum_px)

    def answers(self, first: Image, second: Image, search: Search) -> NDArray[np.float64]:
        """Return what each square of the planned overlap says of the shift, shape (N, 2)."""
        overlap = search.overlap(search.x, search.y)
        one, other = overlap.crops(first, second)
        side, found = self._side, []
        low, high = np.percentile(np.concatenate([one.ravel(), other.ravel()]), (_DARK, _BRIGHT))
        if min(one.shape) < side or high <= low:
            return np.zeros((0, 2))
        for top in range(0, one.shape[0] - side + 1, side):
            for left in range(0, one.shape[1] - side + 1, side):
                part = np.s_[top : top + side, left : left + side]
                tiles = np.stack([one[part], other[part]])[None]
                seen = np.clip((tiles - low) / (high - low), 0, 1).astype(np.float32)
                found.append(self._run(seen).reshape(2))
        # Content that lies farther right in the second means an origin farther left.
        return np.array([search.x, search.y]) - np.asarray(found, np.float64)

    def __call__(self, first: Image, second: Image, search: Search) -> NDArray[np.float32]:
        """Return the correlation near the network's answers, f32, shape `Search.shape`."""
        answers = self.answers(first, second, search)
        if not len(answers):
            return np.zeros(search.shape, np.float32)
        x = search.x - search.limit_x + np.arange(search.shape[1])
        y = search.y - search.limit_y + np.arange(search.shape[0])
        near = np.zeros(search.shape, bool)
        for dx, dy in (trimmed_mean(answers), np.median(answers, axis=0)):
            near |= np.hypot.outer(y - dy, x - dx) <= _NEAR_PX
        return np.where(near, masked_correlation(first, second, search), 0).astype(np.float32)
