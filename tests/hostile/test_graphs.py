"""ONNX graphs of all kinds, most of which are none: they are planned, or refused in one line."""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import strategies as st
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from edgerestore.bundle.manifest import TilingMode
from edgerestore.convert.checkpoint.loaded_model import load_model
from edgerestore.convert.kinds.images import _receptive_field
from edgerestore.convert.plan import plan_signature, plan_tiling
from edgerestore.errors import EdgerestoreError

from .fuzz import fuzz

OPERATIONS = (
    "Conv", "Relu", "MaxPool", "AveragePool", "GlobalAveragePool", "InstanceNormalization",
    "Softmax", "Transpose", "Reshape", "ConvTranspose", "Resize", "Pad", "Slice", "Concat", "Add",
    "Mul", "ReduceMean", "SpaceToDepth", "DepthToSpace", "Loop", "If", "NonZero", "TopK", "Cast",
    "Gather", "Shape", "Clip", "Unsqueeze", "QuantizeLinear", "LSTM",
)  # fmt: skip


def whole() -> onnx.ModelProto:
    """Return a network with strides, pooling, padding, slices, a pixel shuffle and a resize."""
    value, node = helper.make_tensor_value_info, helper.make_node
    weights = np.linspace(-0.1, 0.1, 8 * 3 * 9, dtype=np.float32).reshape(8, 3, 3, 3)
    constants = {
        "first": weights,
        "last": np.resize(weights, (12, 8, 3, 3)),
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        "from": np.array([1, 1]),
        "to": np.array([-1, -1]),
        "axes": np.array([2, 3]),
        "scales": np.ones(4, np.float32),
    }
    nodes = [
        node("Conv", ["image", "first"], ["a"], pads=[1] * 4, strides=[2, 2]),
        node("LeakyRelu", ["a"], ["b"], alpha=0.1),
        node("MaxPool", ["b"], ["c"], kernel_shape=[3, 3], pads=[1] * 4),
        node("Pad", ["c", "pads"], ["d"], mode="edge"),
        node("Slice", ["d", "from", "to", "axes"], ["e"]),
        node("Conv", ["e", "last"], ["f"], pads=[1] * 4, dilations=[1, 1]),
        node("DepthToSpace", ["f"], ["g"], blocksize=2, mode="CRD"),
        node("Resize", ["g", "", "scales"], ["restored"], mode="nearest"),
    ]
    ends = [value(n, TensorProto.FLOAT, [1, 3, "h", "w"]) for n in ("image", "restored")]
    stored = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "graph", ends[:1], ends[1:], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def changed(seed: int) -> bytes:
    """Change up to three things of the network that a file could say otherwise."""
    model, chance = whole(), random.Random(seed)
    graph = model.graph
    for _ in range(chance.randint(1, 3)):
        node, tensor = chance.choice(graph.node), chance.choice(graph.initializer)
        match chance.randrange(8):
            case 0:
                node.op_type = chance.choice(OPERATIONS)
            case 1 if node.attribute:
                change_attribute(chance.choice(node.attribute), chance)
            case 2 if node.attribute:
                del node.attribute[chance.randrange(len(node.attribute))]
            case 3:
                node.input[chance.randrange(len(node.input))] = chance.choice(
                    ["image", "f", "", "x"]
                )
            case 4:
                tensor.dims[chance.randrange(len(tensor.dims))] = chance.choice([0, 1, 100, 2**40])
            case 5:
                tensor.raw_data = bytes(chance.choice([0, 127, 255]) for _ in tensor.raw_data)
            case 6:
                side = graph.input[0].type.tensor_type.shape.dim[chance.randrange(4)]
                side.dim_value = chance.choice([0, 1, 3, 64])
            case _:
                graph.node.append(node)
    return bytes(model.SerializeToString())


def change_attribute(attribute: AttributeProto, chance: random.Random) -> None:
    wrong = chance.choice([0, -1, 3, 100, 2**31, -(2**62)])
    if attribute.ints:
        attribute.ints[chance.randrange(len(attribute.ints))] = wrong
    elif attribute.type == AttributeProto.INT:
        attribute.i = wrong
    elif attribute.type == AttributeProto.FLOAT:
        attribute.f = chance.choice([float("nan"), float("inf"), -1e38])
    else:
        attribute.s = chance.choice([b"cubic", b"reflect", b""])


def plan(path: Path) -> None:
    loaded, field = _receptive_field(load_model(path, None, {}, None, None))
    plan_tiling(loaded, field, plan_signature(loaded, field, None, None).upscale)


def test_the_whole_network_is_planned(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(whole(), path)
    plan(path)


def test_shapes_that_depend_on_the_picture_are_no_reason_to_fail(tmp_path: Path) -> None:
    model, path = whole(), tmp_path / "model.onnx"
    found = helper.make_node("NonZero", ["f"], ["places"])
    model.graph.node.insert(6, found)
    model.graph.node.insert(7, helper.make_node("ReduceMax", ["places"], ["most"], keepdims=0))
    model.graph.node.insert(8, helper.make_node("Cast", ["most"], ["number"], to=1))
    model.graph.node.insert(9, helper.make_node("Add", ["f", "number"], ["moved"]))
    model.graph.node[10].input[0] = "moved"
    onnx.save(model, path)
    _, field = _receptive_field(load_model(path, None, {}, None, None))
    assert field.mode is TilingMode.WINDOWED
    assert "depends on the picture" in field.reason


def test_fuzz_graphs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.onnx"

    def target(content: bytes) -> None:
        path.write_bytes(content)
        with suppress(EdgerestoreError):
            plan(path)
        assert list(tmp_path.iterdir()) == [path]

    fuzz(st.integers(0, 1 << 32).map(changed), target)
