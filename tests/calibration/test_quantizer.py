"""INT8 weights that no CPU can overflow: the bound, what it costs, and the arithmetic itself."""

from __future__ import annotations

import numpy as np
import openvino
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from openvino import opset13 as ops

from edgerestore.calibration.quantizer import quantize_weights, round_weights, safe_scales

Weights = NDArray[np.float32]

WEIGHTS = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 5), st.integers(1, 9), st.just(3), st.just(3)),
    elements=st.floats(-4, 4, width=32),
)


def worst_pair(integers: NDArray[np.int8]) -> int:
    """Return the largest 16-bit sum that full activations could make of two neighbours."""
    wide = integers.astype(np.int64)
    if wide.shape[1] % 2:
        wide = np.concatenate([wide, np.zeros_like(wide[:, :1])], axis=1)
    first, second = wide[:, ::2], wide[:, 1::2]
    high = 255 * (np.maximum(first, 0) + np.maximum(second, 0))
    low = 255 * (np.minimum(first, 0) + np.minimum(second, 0))
    return int(max(high.max(), -low.min()))


@given(weights=WEIGHTS)
def test_no_pair_passes_16_bits(weights: Weights) -> None:
    integers, scales = quantize_weights(weights)
    assert worst_pair(integers) <= 32767
    assert np.abs(integers.astype(int)).max() <= 127
    assert (scales > 0).all()


@given(weights=WEIGHTS)
def test_no_step_is_coarser_than_the_usual_remedy(weights: Weights) -> None:
    """Halving the range of all weights costs a whole bit; this never costs more."""
    _, scales = quantize_weights(weights)
    _, full = round_weights(weights)
    used = np.abs(weights).reshape(len(weights), -1).max(axis=1) > 0
    assert (scales[used] >= full[used] * 0.999).all()
    assert (scales[used] <= full[used] * 127 / 64 * 1.02).all()


@given(weights=WEIGHTS)
def test_rounding_is_by_half_a_step_at_most(weights: Weights) -> None:
    for integers, scales in (quantize_weights(weights), round_weights(weights)):
        steps = scales[:, None, None, None]
        assert (np.abs(weights - integers * steps) <= steps * 0.5001).all()


def test_neighbours_of_the_other_sign_share_the_range() -> None:
    """One neighbour's products lower what the other one's raise: nothing is lost."""
    weights = np.array([[1.0, -1.0, 0.5, -0.5]], np.float32).reshape(1, 4, 1, 1)
    assert safe_scales(weights)[0] == pytest.approx(1 / 127)
    same_sign = np.abs(weights)
    assert safe_scales(same_sign)[0] == pytest.approx(2 / 128)


def convolved(image: Weights, integers: NDArray[np.int8], scales: Weights) -> Weights:
    """Run one INT8 convolution on this CPU."""
    entry = ops.parameter(list(image.shape), openvino.Type.f32)
    zero, one = np.float32(0), np.float32(1)
    rounded = ops.fake_quantize(entry, zero, one, zero, one, 256)
    stored = ops.convert(ops.constant(integers), "f32")
    scaled = ops.multiply(stored, ops.constant(scales.reshape(-1, 1, 1, 1)))
    made = ops.convolution(rounded, scaled, [1, 1], [0, 0], [0, 0], [1, 1])
    core = openvino.Core()
    model = core.compile_model(
        openvino.Model([made], [entry]), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    kinds = [node.get_rt_info()["runtimePrecision"].astype(str) for node in _convolutions(model)]
    assert kinds == ["u8"], "the convolution did not run in INT8: this test would prove nothing"
    outcome: Weights = model(image)[0]
    return outcome


def _convolutions(model: openvino.CompiledModel) -> list[openvino.Node]:
    nodes = model.get_runtime_model().get_ordered_ops()
    return [node for node in nodes if node.get_rt_info()["layerType"].astype(str) == "Convolution"]


def test_a_white_picture_does_not_overflow_this_cpu() -> None:
    rng = np.random.default_rng(0)
    weights = rng.uniform(0.5, 1, (32, 32, 3, 3)).astype(np.float32)
    weights[16:] *= rng.choice([-1, 1], (16, 32, 3, 3))
    integers, scales = quantize_weights(weights)
    image = np.ones((1, 32, 16, 16), np.float32)
    made = convolved(image, integers, scales)
    wanted = integers.astype(np.float64).sum(axis=(1, 2, 3)) * scales
    np.testing.assert_allclose(made[0, :, 5, 5], wanted, rtol=1e-4)
