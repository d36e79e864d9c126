"""The graph that fine-tuning trains: in PyTorch it computes what it computes in OpenVINO."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import openvino
import pytest
import torch
from openvino import opset8
from openvino import opset13 as ops

from edgerestore.calibration.qat.torch_graph import TorchGraph
from edgerestore.errors import ConversionError
from edgerestore.runtimes.openvino.graph import OpenvinoGraph

from .graphs import NETWORKS, constant, faced, numbers

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("name", list(NETWORKS))
def test_torch_computes_what_openvino_computes(
    name: str, graph_of: Callable[[str], openvino.Model]
) -> None:
    model = graph_of(name)
    size, channels = (40, 56), model.input("image").partial_shape[1].get_length()
    images = np.random.default_rng(1).random((2, channels, *size), np.float32)
    reference = OpenvinoGraph(model, size=size)
    wanted = np.concatenate([reference(image[None], 0.7) for image in images])
    assert np.mean((wanted > 0) & (wanted < 1)) > 0.5
    graph = TorchGraph(model, size)
    with torch.no_grad():
        made = graph(torch.from_numpy(images), strength=0.7).numpy()
    assert np.abs(made - wanted).max() < 1e-4


def test_a_size_that_needs_padding(graph_of: Callable[[str], openvino.Model]) -> None:
    model = graph_of("edge_unet")
    image = np.random.default_rng(1).random((1, 3, 21, 27), np.float32)
    with torch.no_grad():
        made = TorchGraph(model, (21, 27))(torch.from_numpy(image)).numpy()
    assert np.abs(made - OpenvinoGraph(model, size=(21, 27))(image)).max() < 1e-4


def resized(x: openvino.Node, mode: str, size: tuple[int, int], **how: str) -> openvino.Node:
    return ops.interpolate(x, numbers(*size), mode, "sizes", axes=numbers(2, 3), **how)


# Each takes [1, 4, 12, 10] and returns 4 dimensions with one image in front.
OPERATIONS: dict[str, Callable[[openvino.Node], openvino.Node]] = {
    "uneven padding": lambda x: ops.convolution(
        x, constant(3, 4, 3, 3), [2, 1], [0, 1], [1, 2], [1, 2]
    ),
    "same upper": lambda x: ops.convolution(
        x, constant(3, 4, 4, 4), [1, 1], [0, 0], [0, 0], [1, 1], "same_upper"
    ),
    "groups": lambda x: ops.group_convolution(
        x, constant(2, 3, 2, 3, 3), [1, 1], [1, 1], [1, 1], [1, 1]
    ),
    "transposed": lambda x: ops.convolution_backprop_data(
        x, constant(4, 3, 4, 4), [2, 2], pads_begin=[1, 1], pads_end=[1, 1]
    ),
    "transposed further": lambda x: ops.convolution_backprop_data(
        x, constant(4, 3, 3, 3), [2, 2], pads_begin=[1, 0], pads_end=[1, 1], output_padding=[1, 1]
    ),
    "product": lambda x: ops.matmul(x, constant(6, 10), False, True),
    "slope per channel": lambda x: ops.prelu(x, constant(4)),
    "one slope": lambda x: ops.prelu(x, constant(1)),
    "clamp": lambda x: ops.clamp(x, 0.2, 0.7),
    "swish": lambda x: ops.swish(x),
    "gelu": lambda x: ops.gelu(x, "tanh"),
    "hswish": lambda x: ops.hswish(x),
    "elu": lambda x: ops.elu(ops.subtract(x, constant(1)), 0.7),
    "tanh": lambda x: ops.tanh(x),
    "power": lambda x: ops.power(x, ops.constant(np.float32(1.5))),
    "root": lambda x: ops.sqrt(x),
    "split": lambda x: ops.concat(
        list(reversed(ops.split(x, ops.constant(1), 2).outputs())), 1
    ),
    "uneven split": lambda x: ops.concat(
        list(reversed(ops.variadic_split(x, ops.constant(1), numbers(1, 3)).outputs())), 1
    ),
    "strided slice": lambda x: ops.strided_slice(
        x, numbers(0, 1, 0, 2), numbers(0, 3, 0, -1), numbers(1, 1, 1, 2), *[[1, 0, 1, 0]] * 2
    ),
    "slice": lambda x: opset8.slice(
        x, numbers(1, -8), numbers(9, 99), numbers(3, 1), numbers(2, 3)
    ),
    "gather": lambda x: ops.gather(x, numbers(2, 0, -1), ops.constant(1)),
    "depth first": lambda x: ops.depth_to_space(x, "depth_first", 2),
    "blocks first": lambda x: ops.depth_to_space(
        ops.concat([x, ops.negative(x)], 1), "blocks_first", 2
    ),
    "linear": lambda x: resized(x, "linear_onnx", (30, 7)),
    "linear to the corners": lambda x: resized(
        x, "linear_onnx", (30, 7), coordinate_transformation_mode="align_corners"
    ),
    "cubic": lambda x: resized(x, "cubic", (48, 40)),
    "nearest": lambda x: resized(x, "nearest", (30, 7)),
    "nearest from the corner": lambda x: resized(
        x, "nearest", (30, 7), coordinate_transformation_mode="asymmetric", nearest_mode="floor"
    ),
    "resized by scales": lambda x: ops.interpolate(
        x, ops.constant(np.array([2, 3], np.float32)), "cubic", "scales", axes=numbers(2, 3)
    ),
    "largest": lambda x: ops.add(
        ops.max_pool(x, [2, 2], [1, 1], [1, 0], [0, 1], [3, 3]).output(0), constant(1)
    ),
    "largest, rounded up": lambda x: ops.add(
        ops.max_pool(x, [2, 2], [1, 1], [0, 0], [0, 0], [3, 3], "ceil").output(0), constant(1)
    ),
    "mean of a window": lambda x: ops.avg_pool(x, [2, 2], [1, 1], [1, 1], [3, 3], True),
    "mean": lambda x: ops.multiply(x, ops.reduce_mean(x, numbers(2, 3), True)),
    "sum, then unsqueezed": lambda x: ops.unsqueeze(ops.reduce_sum(x, numbers(2)), numbers(2)),
    "zeros around": lambda x: ops.pad(x, numbers(0, 1, 1, 2), numbers(0, 0, 3, 1), "constant"),
    "mirrored": lambda x: ops.pad(x, numbers(0, 0, 1, 2), numbers(0, 0, 3, 1), "reflect"),
    "edges": lambda x: ops.pad(x, numbers(0, 0, 1, 2), numbers(0, 0, 3, 1), "edge"),
    "reshaped": lambda x: ops.reshape(
        ops.transpose(ops.reshape(x, numbers(1, 2, 2, -1), False), numbers(0, 2, 1, 3)),
        numbers(1, 4, 12, 10), False,
    ),
    "broadcast": lambda x: ops.broadcast(
        ops.reduce_max(x, numbers(3), True), numbers(1, 4, 12, 5)
    ),
    "quantizer of 16 levels": lambda x: ops.fake_quantize(
        x, *(ops.constant(np.float32(bound)) for bound in (0.1, 0.8, -1.0, 2.0)), 16
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(OPERATIONS))
def test_operations(name: str) -> None:
    model = faced(OPERATIONS[name])
    images = np.random.default_rng(2).random((2, 4, 12, 10), np.float32)
    reference = OpenvinoGraph(model, size=(12, 10))
    wanted = np.concatenate([reference(image[None]) for image in images])
    graph = TorchGraph(model, (12, 10))
    stacked = torch.from_numpy(images)
    with torch.no_grad():
        together, alone = graph(stacked), torch.cat([graph(one[None]) for one in stacked])
    assert np.abs(together.numpy() - wanted).max() < 1e-5
    assert torch.equal(together, alone) or (together - alone).abs().max() < 1e-6


def test_what_mixes_images_is_run_one_by_one() -> None:
    def whiten(x: openvino.Node) -> openvino.Node:
        return ops.multiply(x, ops.reduce_mean(x, numbers(0, 2, 3), True))

    images = torch.rand(2, 4, 12, 10, generator=torch.Generator().manual_seed(0))
    graph = TorchGraph(faced(whiten), (12, 10))
    alone = torch.cat([graph(image[None]) for image in images])
    assert torch.equal(graph(images), alone)


def test_an_unknown_operation_is_named() -> None:
    def unknown(x: openvino.Node) -> openvino.Node:
        node = ops.cos(x)
        node.set_friendly_name("core/turn")
        return node

    with pytest.raises(ConversionError, match="PyTorch: cannot run core/turn of type Cos"):
        TorchGraph(faced(unknown), (12, 10))


def test_an_unknown_form_of_an_operation_is_named() -> None:
    def backwards(x: openvino.Node) -> openvino.Node:
        node = opset8.slice(x, numbers(9), numbers(0), numbers(-1), numbers(2))
        node.set_friendly_name("core/turn")
        return node

    with pytest.raises(ConversionError, match="core/turn of type Slice"):
        TorchGraph(faced(backwards), (12, 10))


def test_without_the_clamp_there_is_more() -> None:
    model = faced(lambda x: ops.clamp(ops.add(x, constant(1, 4, 1, 1)), 0.0, 0.5))
    (result,) = model.get_results()
    node = result.input_value(0).get_node()
    result.input(0).replace_source_output(
        ops.minimum(node, ops.constant(np.float32(0.4))).output(0)
    )
    images = torch.rand(1, 4, 12, 10, generator=torch.Generator().manual_seed(0))
    assert TorchGraph(model, (12, 10))(images).max() <= 0.4
    assert TorchGraph(model, (12, 10), clamped=False)(images).max() > 0.4
