"""Cost of a network, read off its graph: parameters and multiply-adds."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from onnx import ModelProto, TensorProto

from ...bundle.manifest import Manifest
from ...calibration.operations import SIGNATURE_PREFIX, operations_of
from ...runtimes.openvino.graph import float_graph, read_graph

if TYPE_CHECKING:
    from torch import nn

__all__ = ["count_gmac", "count_network_gmac", "count_parameters"]

_FRAME = (720, 1280)
_PROBE_PX = 256  # a multiple of what networks down-scale by
_DIGITS = 4


def count_parameters(model: ModelProto) -> int | None:
    """Return how many numbers the weights of a bundle's graph hold; None where it has none."""
    return (
        sum(
            math.prod(weights.dims)
            for weights in model.graph.initializer
            if weights.data_type == TensorProto.FLOAT
            and not weights.name.startswith(SIGNATURE_PREFIX)
        )
        or None
    )


def count_gmac(manifest: Manifest, graph: Path) -> float | None:
    """Return the multiply-adds of a frame of 1280x720, in billions.

    Counted are products with stored weights: convolutions and matrices.

    Parameters
    ----------
    manifest : Manifest
    graph : Path
        A float graph of the bundle.

    Returns
    -------
    float or None
        None where frames cannot be run, the graph does not take that size, or nothing counts.
    """
    if manifest.refusal:
        return None
    try:
        operations = operations_of(float_graph(read_graph(graph)), *_FRAME)
    except RuntimeError:
        return None
    gmac = sum(operation.macs for operation in operations) / 1e9
    return float(f"{gmac:.{_DIGITS}g}") or None


def count_network_gmac(network: nn.Module, channels: int) -> float:
    """Return the same of a network before its conversion, where its work grows with the pixels.

    Parameters
    ----------
    network : nn.Module
        Takes f32 ``[N, C, H, W]``, on the CPU.
    channels : int
        Of the image.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(torch.zeros(1, channels, _PROBE_PX, _PROBE_PX))
    share = math.prod(_FRAME) / _PROBE_PX**2
    gmac = counter.get_total_flops() / 2 * share / 1e9  # a flop of the counter is half of one
    return float(f"{gmac:.{_DIGITS}g}")
