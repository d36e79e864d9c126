"""Benchmark of INT8 candidates against the float precisions of this CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ..bundle.precision import Precision
from ..imaging.arrays import round_up
from ..runtimes.machine import interleaved_milliseconds
from ..runtimes.openvino.graph import OpenvinoGraph, cpu_floats, read_graph
from .candidates import Built
from .operations import Operation

__all__ = ["time_variants", "timing_size"]

# Height and width of the frames that models are timed at: the largest within the limit below.
_FRAMES = ((720, 1280), (360, 640), (180, 320))
_MOST_MACS = 25_000_000_000


def timing_size(
    macs_at: Callable[[int, int], Sequence[Operation]], multiple_of: int
) -> tuple[int, int]:
    """Return the height and width of the frame to time a model at.

    Parameters
    ----------
    macs_at : callable
        Takes a height and a width and lists the operations with their costs.
    multiple_of : int
        The sides are raised to it.
    """
    for height, width in _FRAMES:
        size = round_up(height, multiple_of), round_up(width, multiple_of)
        if sum(operation.macs for operation in macs_at(*size)) <= _MOST_MACS:
            break
    return size


def time_variants(
    floats: Mapping[str, Path], candidates: Sequence[Built], size: tuple[int, int], rest: Precision
) -> dict[str, float]:
    """Time float and INT8 forms of a model, interleaved.

    Parameters
    ----------
    floats : mapping of str to Path
        ``fp32`` and, where the network may run in halves, ``fp16`` graphs.
    candidates : sequence of Built
    size : (int, int)
        Height and width of the frame.
    rest : Precision
        Of a candidate's float operations: bf16 or fp32.

    Returns
    -------
    dict of str to float
        Median milliseconds: of ``f32``, of ``bf16`` where CPU and network have it, and of each
        candidate by its label.
    """
    graphs = {
        precision.hint: OpenvinoGraph(read_graph(floats[precision.stored]), precision, size)
        for precision in cpu_floats()
        if precision.stored in floats
    }
    for built in candidates:
        graph = OpenvinoGraph(read_graph(built.path), rest, size)
        graphs[built.candidate.label] = graph
    channels = int(read_graph(floats["fp32"]).input("image").partial_shape[1].get_length())
    image = np.random.default_rng(0).random((1, channels, *size), np.float32)
    return interleaved_milliseconds({name: partial(g, image) for name, g in graphs.items()})
