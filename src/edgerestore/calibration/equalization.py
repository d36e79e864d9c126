"""Equalization: each input channel of a convolution is rounded over its own range.

One range serves all channels of a quantized tensor, so a channel that uses a tenth of it has a
tenth of the levels. Here a channel is divided by the part of the range that it uses before it is
rounded, and the convolution's weights for it are multiplied by that. The products stay the same,
and quiet channels keep their levels. It costs nothing: the quantizer takes a range per channel
anyway, and the convolution still sees one step.

After Nagel, van Baalen, Blankevoort, Welling, "Data-Free Quantization Through Weight Equalization
and Bias Correction", ICCV 2019, and Xiao, Lin, Seznec, Wu, Demouth, Han, "SmoothQuant", ICML 2023;
with the division in the quantizer it needs no layer before it to take it up.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import opset13 as ops

__all__ = ["equalize"]

_ROOM = 1.25  # beyond what a channel showed on the crops: other pictures may show more
_LEAST = 1 / 16  # of the tensor's range; noise of narrower channels would not be seen


def equalize(
    quantized: openvino.Model,
    ranges: Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]],
    excluded: Collection[str] = (),
) -> dict[str, NDArray[np.float32]]:
    """Give quantizers that convolutions alone read a range per channel.

    Parameters
    ----------
    quantized : openvino.Model
        Changed in place. The weights are not: they have to be multiplied by the result.
    ranges : mapping of str to (ndarray, ndarray)
        Least and largest input of each convolution, by channel.
    excluded : collection of str
        Quantizers that stay as they are.

    Returns
    -------
    dict of str to ndarray, f32, shape (C,)
        Part of the range that each input channel is rounded over, by convolution.
    """
    shares = {}
    for node in quantized.get_ordered_ops():
        if node.get_type_name() != "FakeQuantize" or node.get_friendly_name() in excluded:
            continue
        readers = list(node.output(0).get_target_inputs())
        names = [reader.get_node().get_friendly_name() for reader in readers]
        if not names or not all(name in ranges for name in names):
            continue
        bounds = [node.input_value(port).get_node() for port in (1, 2)]
        low, high = (float(np.ravel(bound.get_data())[0]) for bound in bounds)
        if any(np.size(bound.get_data()) != 1 for bound in bounds) or not low <= 0 < high:
            continue
        least, largest = ranges[names[0]]
        used = np.maximum(largest / high, least / low if low < 0 else 0)
        share = np.clip(_ROOM * used, _LEAST, 1).astype(np.float32)
        for port, bound in ((1, low), (2, high)):
            made = ops.constant(share.reshape(1, -1, 1, 1) * np.float32(bound))
            node.input(port).replace_source_output(made.output(0))
        shares.update(dict.fromkeys(names, share))
    return shares
