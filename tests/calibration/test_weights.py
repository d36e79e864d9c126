"""INT8 weights: no CPU overflows on them, what that costs, and errors that cancel each other."""

from __future__ import annotations

import numpy as np
import openvino
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from openvino import opset13 as ops
from torch.nn.functional import conv2d

from edgerestore.calibration.inputs import measure_inputs
from edgerestore.calibration.weights import (
    compensated,
    quantize_weights,
    round_channels,
    round_weights,
    safe_scales,
)

from .graphs import constant, faced

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


def products(patches: Weights) -> NDArray[np.float64]:
    """Return the products of inputs (n, K) under one kernel with each other."""
    wide = patches.astype(np.float64)
    return (wide.T @ wide)[None, None]


def smooth_patches(channels: int, count: int = 4000, seed: int = 0) -> Weights:
    """Return 3x3 patches (n, channels * 9) as pictures have them: neighbours are much alike."""
    rng = np.random.default_rng(seed)
    level = rng.gamma(2.0, 0.5, (count, 1, 1)) * rng.uniform(0.5, 1.5, (1, channels, 1))
    grain = rng.normal(0, 0.1, (count, channels, 9))
    return (level + grain).reshape(count, -1).astype(np.float32)


@given(weights=WEIGHTS)
def test_compensated_weights_cannot_overflow_either(weights: Weights) -> None:
    inputs = smooth_patches(weights.shape[1], 200)
    integers, steps = compensated(weights, products(inputs), grouped=False, safe=True)
    assert worst_pair(integers) <= 32767
    assert np.abs(integers.astype(int)).max() <= 127
    assert (steps > 0).all()


@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize("brightness", [1.0, 0.1])
def test_errors_of_rounding_cancel(safe: bool, brightness: float) -> None:
    """On unseen inputs, bright or dark: a fifth of the noise of rounding to the nearest."""
    weights = np.random.default_rng(3).normal(0, 0.1, (24, 16, 3, 3)).astype(np.float32)
    seen, unseen = smooth_patches(16), brightness * smooth_patches(16, seed=1)
    integers, steps = compensated(weights, products(seen), grouped=False, safe=safe)
    nearest = round_channels(quantize_weights if safe else round_weights, weights)

    def noise(integers: NDArray[np.int8], steps: Weights) -> float:
        lost = (weights - integers * steps).reshape(len(weights), -1)
        return float(np.square(unseen @ lost.T).mean())

    assert noise(integers, steps) < 0.2 * noise(*nearest)


@pytest.mark.parametrize(
    ("shape", "gap"),
    [((5, 4, 3, 3), 1), ((5, 4, 3, 3), 2), ((2, 3, 2, 3, 3), 1), ((5, 4, 1, 1), 1)],
)
def test_inputs_are_measured_as_the_convolution_reads_them(
    shape: tuple[int, ...], gap: int
) -> None:
    """For any weights the products give the power of the output, also with groups and gaps."""
    images = [np.random.default_rng(seed).random((1, 4, 20, 24), np.float32) for seed in (0, 1)]
    grouped = len(shape) == 5
    make = ops.group_convolution if grouped else ops.convolution
    pads, gaps = [gap * (shape[-1] // 2)] * 2, [gap, gap]
    model = faced(lambda x: make(x, constant(*shape), [1, 1], pads, pads, gaps))
    (found,) = measure_inputs(model, images).values()
    weights = np.random.default_rng(7).normal(0, 1, shape)
    rows = weights.reshape(shape[0] if grouped else 1, shape[-4], -1)
    power = np.einsum("goi,gij,goj->go", rows, found.products[:, 0], rows).reshape(-1)
    kernels = torch.from_numpy(weights.reshape(-1, *shape[-3:]))
    windows = [torch.from_numpy(image[:, :, 2:18, 4:20]).double() for image in images]
    made = [conv2d(window, kernels, dilation=gap, groups=len(rows)) for window in windows]
    wanted = sum(np.square(one.numpy()).sum(axis=(0, 2, 3)) for one in made)
    np.testing.assert_allclose(power, wanted, rtol=1e-4)
    np.testing.assert_array_equal(found.low, [image[0].min(axis=(1, 2)) for image in images])
