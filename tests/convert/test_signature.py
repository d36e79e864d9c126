"""The face: what every graph does around its network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import ModelProto
from torch import Tensor, nn

from edgerestore.bundle.kinds import OutputKind
from edgerestore.bundle.precision import Precision
from edgerestore.convert.graph.ir import read_proto, write_ir
from edgerestore.convert.graph.signature import Signature, attach_signature
from edgerestore.convert.verify import OrtGraph, Reference, torch_network
from edgerestore.errors import ConversionError
from edgerestore.runtimes.openvino.graph import OpenvinoGraph, cpu_floats, read_graph

Graphs = Callable[..., ModelProto]
SIZES = [(16, 24), (13, 9), (1, 1), (2, 31)]


class Halves(nn.Module):
    """Fails on sides that are no multiple of 4; treats channels differently."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.down = nn.Conv2d(channels, 4, 4, 4)
        self.up = nn.Conv2d(4, channels * 16, 1)

    def forward(self, image: Tensor) -> Tensor:
        change: Tensor = nn.functional.pixel_shuffle(self.up(self.down(image)), 4)
        return image + 0.3 * change


class Enlarge(nn.Module):
    def __init__(self, upscale: int) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.conv, self.upscale = nn.Conv2d(3, 3 * upscale**2, 3, padding=1), upscale

    def forward(self, image: Tensor) -> Tensor:
        made: Tensor = nn.functional.pixel_shuffle(self.conv(image), self.upscale)
        return made


def picture(channels: int, height: int, width: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).random((1, channels, height, width), np.float32)


FACES = [
    Signature(3, 3, multiple_of=4, minimum_px=4),
    Signature(3, 3, black=-1.0, multiple_of=4),
    Signature(3, 3, color="bgr", value_range=255.0, multiple_of=4, minimum_px=10),
    Signature(1, 1, color="gray", multiple_of=4),
    Signature(3, 3, value_range=255.0, multiple_of=4, residual=True),
]


@pytest.mark.parametrize("face", FACES, ids=["rgb", "around0", "bgr255", "gray", "residual"])
def test_both_runtimes_keep_the_contract(face: Signature, graph_of: Graphs) -> None:
    network = Halves(face.channels)
    model = attach_signature(graph_of(network, face.channels), face)
    reference = Reference(torch_network(network), face)
    openvino, ort = OpenvinoGraph(read_proto(model)), OrtGraph(model.SerializeToString())
    for height, width in SIZES:
        image = picture(face.channels, height, width)
        for strength in (0.0, 0.5, 1.0, 2.0):
            wanted = reference(image, strength)
            for graph in (openvino, ort):
                made = graph(image, strength)
                assert made.shape == wanted.shape
                np.testing.assert_allclose(made, wanted, atol=2e-6)
                if strength == 0:
                    np.testing.assert_array_equal(made, image)


@pytest.mark.parametrize("upscale", [2, 3, 4])
def test_upscaling_blends_with_a_bicubic_base(upscale: int, graph_of: Graphs) -> None:
    face = Signature(3, 3, upscale=upscale, multiple_of=2)
    network = Enlarge(upscale)
    model = attach_signature(graph_of(network, 3), face)
    reference = Reference(torch_network(network), face)
    openvino, ort = OpenvinoGraph(read_proto(model)), OrtGraph(model.SerializeToString())
    for height, width in SIZES:
        image = picture(3, height, width)
        for strength in (0.0, 0.6, 1.0):
            wanted = reference(image, strength)
            assert wanted.shape == (1, 3, upscale * height, upscale * width)
            np.testing.assert_allclose(openvino(image, strength), wanted, atol=2e-6)
            np.testing.assert_allclose(ort(image, strength), wanted, atol=2e-6)


@pytest.mark.skipif(len(cpu_floats()) == 1, reason="this CPU does not compute in bf16")
def test_the_bicubic_base_stays_in_f32(graph_of: Graphs, tmp_path: Path) -> None:
    face = Signature(3, 3, upscale=4)
    network = Enlarge(4)
    onnx.save(attach_signature(graph_of(network, 3), face), tmp_path / "model.onnx")
    write_ir(tmp_path / "model.onnx", tmp_path / "fp16" / "model.xml", {})
    graph = OpenvinoGraph(read_graph(tmp_path / "fp16" / "model.xml"), Precision.BF16)
    image = picture(3, 23, 31)
    wanted = Reference(torch_network(network), face)(image, 0.0)
    np.testing.assert_allclose(graph(image, 0.0), wanted, atol=2e-6)


def test_strength_may_be_a_map(graph_of: Graphs) -> None:
    face = Signature(3, 3, multiple_of=4)
    graph = OpenvinoGraph(read_proto(attach_signature(graph_of(Halves(3), 3), face)))
    image = picture(3, 13, 10)
    strength = np.zeros((1, 1, 13, 10), np.float32)
    strength[..., 5:] = 1
    made = graph(image, strength)
    np.testing.assert_array_equal(made[..., :5], image[..., :5])
    np.testing.assert_array_equal(made[..., 5:], graph(image, 1.0)[..., 5:])


def test_masks_have_no_base(graph_of: Graphs) -> None:
    network = nn.Sequential(nn.Conv2d(3, 1, 3, padding=1), nn.Sigmoid())
    face = Signature(3, 1, kind=OutputKind.MASK)
    graph = OpenvinoGraph(read_proto(attach_signature(graph_of(network, 3), face)))
    image = picture(3, 9, 7)
    wanted = torch_network(network.eval())(image)
    np.testing.assert_allclose(graph(image), wanted, atol=1e-6)
    np.testing.assert_allclose(graph(image, 0.5), wanted / 2, atol=1e-6)


def test_nothing_of_the_face_is_left_at_a_static_multiple(graph_of: Graphs) -> None:
    model = read_proto(attach_signature(graph_of(Halves(3), 3), Signature(3, 3, multiple_of=4)))
    graph = OpenvinoGraph(model, size=(64, 32))
    kinds = {
        node.get_rt_info()["layerType"].astype(str)
        for node in graph.compiled.get_runtime_model().get_ordered_ops()
    }
    assert not kinds & {"Pad", "ShapeOf", "StridedSlice", "Slice", "Gather", "Concatenation"}


def test_the_faces_nodes_say_so(graph_of: Graphs) -> None:
    model = attach_signature(graph_of(Halves(3), 3), Signature(3, 3, multiple_of=4))
    assert [value.name for value in model.graph.input] == ["image", "strength"]
    assert [value.name for value in model.graph.output] == ["restored"]
    assert {node.name.partition("/")[0] for node in model.graph.node} == {"face", "core"}


def test_a_network_that_fails_says_at_which_size() -> None:
    def picky(image: np.ndarray) -> np.ndarray:
        raise AssertionError("Guard failed: sides above 1\nin ...")

    with pytest.raises(ConversionError, match=r"^the network fails at 5x7: Guard failed: sides"):
        Reference(picky, Signature(3, 3))(np.zeros((1, 3, 5, 7), np.float32))
