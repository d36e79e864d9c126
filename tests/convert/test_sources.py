"""Every kind of source comes out as the same model."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import helper
from torch import Tensor, nn

from edgerestore.bundle.kinds import OutputKind
from edgerestore.convert import convert
from edgerestore.convert.architectures.edge_unet import EdgeUNet
from edgerestore.convert.checkpoint.loaded_model import LoadedModel, load_model
from edgerestore.convert.graph.export import quiet
from edgerestore.convert.graph.ir import read_proto
from edgerestore.convert.graph.onnx_graphs import read_onnx
from edgerestore.convert.graph.signature import Signature, attach_signature
from edgerestore.convert.samples import load_samples
from edgerestore.convert.verify import Reference, measure_parity, ort_network, require_parity
from edgerestore.errors import ArgumentError, CheckpointError, ConversionError, VerificationError
from edgerestore.runtimes.openvino.graph import OpenvinoGraph

IMAGE = np.random.default_rng(3).random((1, 3, 24, 40), np.float32)


def restored(origin: LoadedModel) -> NDArray[np.float32]:
    face = Signature(3, 3, multiple_of=8, residual=origin.core_residual, kind=OutputKind.IMAGE)
    return OpenvinoGraph(read_proto(attach_signature(origin.core, face)))(IMAGE)


@pytest.fixture(scope="module")
def wanted(small_unet: EdgeUNet) -> NDArray[np.float32]:
    with torch.inference_mode():
        made: NDArray[np.float32] = small_unet(torch.from_numpy(IMAGE)).clamp(0, 1).numpy()
    return made


class Scriptable(nn.Module):
    """`EdgeUNet` of three levels without names that are put together, which scripts cannot have."""

    def __init__(self, network: EdgeUNet) -> None:
        super().__init__()
        for name, part in network.named_children():
            self.add_module(name, part)

    def forward(self, image: Tensor) -> Tensor:
        half = self.encode_half(torch.relu(self.down_half(image)))  # type: ignore[operator]
        quarter = self.encode_quarter(torch.relu(self.down_quarter(half)))  # type: ignore[operator]
        eighth = self.encode_eighth(torch.relu(self.down_eighth(quarter)))  # type: ignore[operator]
        quarter = self.decode_quarter(self.up_quarter(eighth) + quarter)  # type: ignore[operator]
        half = self.decode_half(self.up_half(quarter) + half)  # type: ignore[operator]
        correction: Tensor = self.shuffle(self.head(half))  # type: ignore[operator]
        return image + correction


def write_script(network: EdgeUNet, path: Path) -> None:
    with quiet():
        torch.jit.script(Scriptable(network)).save(str(path))


def write_trace(network: EdgeUNet, path: Path) -> None:
    with quiet():
        torch.jit.trace(network, torch.rand(1, 3, 32, 32)).save(str(path))


def write_program(network: EdgeUNet, path: Path) -> None:
    free = torch.export.Dim.DYNAMIC
    with quiet():
        program = torch.export.export(
            network, (torch.rand(1, 3, 32, 48),), dynamic_shapes=({2: free, 3: free},)
        )
        torch.export.save(program, path)


WRITERS = {"script.pt": write_script, "trace.pt": write_trace, "program.pt2": write_program}


@pytest.mark.parametrize("name", WRITERS)
def test_programs_convert_to_the_same_model(
    name: str, small_unet: EdgeUNet, wanted: NDArray[np.float32], tmp_path: Path
) -> None:
    WRITERS[name](small_unet, tmp_path / name)
    origin = load_model(tmp_path / name, None, {}, None, None)
    np.testing.assert_allclose(restored(origin), wanted, atol=1e-6)
    np.testing.assert_allclose(np.clip(origin.network(IMAGE), 0, 1), wanted, atol=1e-6)


def test_onnx_converts_to_the_same_model(
    small_unet: EdgeUNet,
    wanted: NDArray[np.float32],
    graph_of: Callable[..., onnx.ModelProto],
    tmp_path: Path,
) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(graph_of(small_unet, 3), path)
    origin = load_model(path, None, {}, None, None)
    assert not origin.eager
    np.testing.assert_allclose(restored(origin), wanted, atol=1e-6)


def test_residual_of_a_state_dict_is_exported(
    small_checkpoint: Path, wanted: NDArray[np.float32]
) -> None:
    for asked, exported in ((None, True), (False, False)):
        origin = load_model(small_checkpoint, None, {}, asked, None)
        assert origin.core_residual is exported
        np.testing.assert_allclose(restored(origin), wanted, atol=1e-6)


def test_fixed_sizes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "fixed",
        [value("x", 1, [1, 3, 64, 64])],
        [value("y", 1, [1, 3, 64, 64])],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path
    )
    with pytest.raises(ConversionError, match="64x64 pixels only; export it again with dynamic"):
        load_model(path, None, {}, None, None)
    with pytest.raises(ArgumentError, match="brings its own network"):
        load_model(path, "dncnn", {}, None, None)


def write_onnx(
    path: Path, nodes: list[onnx.NodeProto], shape: list[int | str], **constants: object
) -> Path:
    """Write a graph from ``x`` to ``y``, both of one shape."""
    value = helper.make_tensor_value_info
    weights = [
        onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()
    ]
    graph = helper.make_graph(nodes, "g", [value("x", 1, shape)], [value("y", 1, shape)], weights)
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


WEIGHTS = np.full((3, 3, 1, 1), 0.1, np.float32)


@pytest.mark.parametrize("shape", [[1, "h", "w", 3], [1, 64, 64, 3], ["n", "h", "w", 1]])
def test_channels_last_are_told(shape: list[int | str], tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "last.onnx", [helper.make_node("Relu", ["x"], ["y"])], shape)
    with pytest.raises(ConversionError, match=r"channels last, .*--inputs-as-nchw"):
        load_model(path, None, {}, None, None)


def test_a_quantized_onnx_is_told(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    path = write_onnx(
        tmp_path / "qdq.onnx", nodes, [1, 3, "h", "w"], scale=np.float32(0.1), zero=np.uint8(0)
    )
    with pytest.raises(
        CheckpointError, match=r"quantized already \(DequantizeLinear, Q.*; convert"
    ):
        load_model(path, None, {}, None, None)


def test_sizes_in_the_graph_behind_dynamic_axes_are_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    nodes = [
        helper.make_node("MaxPool", ["x"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Resize", ["p", "", "", "size"], ["u"]),
        helper.make_node("Add", ["u", "x"], ["y"]),
    ]
    path = write_onnx(
        tmp_path / "baked.onnx", nodes, [1, 3, "h", "w"], size=np.array([1, 3, 96, 96], np.int64)
    )
    with pytest.raises(ConversionError, match="fails at 64x64: .*exported again with dynamic"):
        convert(path, tmp_path / "bundle")
    assert [file.name for file in tmp_path.iterdir()] == ["baked.onnx"]
    assert capfd.readouterr().err == ""


def test_updates_of_no_element_change_nothing(tmp_path: Path) -> None:
    nodes = [helper.make_node("ScatterND", ["x", "places", "values"], ["y"])]
    path = write_onnx(
        tmp_path / "empty.onnx",
        nodes,
        [1, 3, "h", "w"],
        places=np.zeros((0, 4), np.int64),
        values=np.zeros(0, np.float32),
    )
    origin = load_model(path, None, {}, None, None)
    np.testing.assert_array_equal(
        OpenvinoGraph(read_proto(attach_signature(origin.core, Signature(3, 3))))(IMAGE), IMAGE
    )


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_source_of_nan_is_refused(wrong: float, tmp_path: Path) -> None:
    weights = WEIGHTS.copy()
    weights[1, 2] = wrong
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
    path = write_onnx(tmp_path / "nan.onnx", nodes, [1, 3, "h", "w"], w=weights)
    with pytest.raises(ConversionError, match="makes NaN or infinity of a black image of 64x64"):
        convert(path, tmp_path / "bundle")


def test_parity_of_nan_is_none(tmp_path: Path) -> None:
    """NaN on either side is no agreement, whatever the other sizes say."""
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
    core = onnx.load(write_onnx(tmp_path / "core.onnx", nodes, [1, 3, "h", "w"], w=WEIGHTS))
    face, samples = Signature(3, 3), load_samples(None, 3)
    onnx.save(attach_signature(core, face), tmp_path / "model.onnx")

    def failing(image: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.full_like(image, np.nan)

    with pytest.raises(VerificationError, match="source model returns NaN or infinity at 64x64"):
        measure_parity(Reference(failing, face), tmp_path / "model.onnx", samples)
    nodes.append(helper.make_node("Sqrt", ["y"], ["z"]))  # of negative numbers
    nodes[0].output[0], nodes[1].output[0], nodes[1].input[0] = "z", "y", "z"
    broken = onnx.load(write_onnx(tmp_path / "core.onnx", nodes, [1, 3, "h", "w"], w=-WEIGHTS))
    onnx.save(attach_signature(broken, face), tmp_path / "model.onnx")
    rows = measure_parity(Reference(ort_network(core), face), tmp_path / "model.onnx", samples)
    assert any(np.isnan(row.onnxruntime) for row in rows)
    with pytest.raises(VerificationError, match="ONNX Runtime differs from the source"):
        require_parity(rows)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 9\n", "git lfs pull"),
        (b"<!DOCTYPE html>\n<html><head>", "a web page"),
        (b"\n  <html lang='en'><body>", "a web page"),
    ],
)
@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors", "model.onnx"])
def test_what_a_download_leaves_in_place_of_weights_is_told(
    content: bytes, text: str, name: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=text):
        load_model(tmp_path / name, None, {}, None, None)


def test_truncated_onnx(tmp_path: Path, graph_of: Callable[..., onnx.ModelProto]) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(graph_of(torch.nn.Conv2d(1, 1, 3)).SerializeToString()[:-40])
    with pytest.raises(CheckpointError, match="is damaged or no ONNX model"):
        read_onnx(path)


def test_no_trace_of_the_authors_machine_in_the_graph(small_checkpoint: Path) -> None:
    core = load_model(small_checkpoint, None, {}, None, None).core
    assert b".py" not in core.SerializeToString()


def test_a_program_with_bounded_sides_converts_with_its_least_side(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, dim = tmp_path / "program.pt2", torch.export.Dim
    bounds = {2: dim("height", min=16, max=512), 3: dim("width", min=16, max=512)}
    with quiet():
        network = torch.nn.Conv2d(3, 3, 3, padding=1).eval()
        program = torch.export.export(
            network, (torch.rand(1, 3, 32, 48),), dynamic_shapes=(bounds,)
        )
        torch.export.save(program, path)
    origin = load_model(path, None, {}, None, None)
    assert origin.declared["minimum_px"] == 16
    assert "up to 512 px" in caplog.text
    image = np.random.default_rng(0).random((1, 3, 600, 5), np.float32)
    assert origin.network(image).shape == image.shape


class Pair(nn.Module):
    """Two outputs: an image twice as bright, and half as bright."""

    def __init__(self) -> None:
        super().__init__()
        self.bright, self.dark = nn.Conv2d(3, 3, 1, bias=False), nn.Conv2d(3, 3, 1, bias=False)
        with torch.no_grad():
            for conv, times in ((self.bright, 2.0), (self.dark, 0.5)):
                conv.weight.copy_(times * torch.eye(3)[:, :, None, None])

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return self.bright(image), self.dark(image)


class Named(Pair):
    """The two outputs by name, with limits that are a float and an int."""

    def forward(self, image: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        bright, dark = self.bright(image), self.dark(image)
        return {"bright": bright.clamp(0.0, 9), "dark": torch.clamp(dark, min=0, max=9.0)}


def write_pair(
    path: Path, graph_of: Callable[..., onnx.ModelProto], kind: type[Pair] = Pair
) -> str | None:
    """Write a network of two outputs as a file's name says; return its architecture."""
    network = kind().eval()
    if path.suffix == ".onnx":
        onnx.save(graph_of(network, 3), path)
    elif path.suffix == ".pth":
        torch.save(network.state_dict(), path)
        return f"{__name__}:{kind.__name__}"
    elif path.name == "trace.pt":
        with quiet():
            torch.jit.trace(network, torch.rand(1, 3, 32, 32), strict=False).save(str(path))
    elif path.name == "script.pt":
        with quiet():
            torch.jit.script(network).save(str(path))
    else:
        WRITERS[path.name](network, path)  # type: ignore[arg-type]
    return None


@pytest.mark.parametrize("name", ["own.pth", "trace.pt", "program.pt2", "own.onnx"])
def test_one_of_several_outputs_is_chosen(
    name: str, graph_of: Callable[..., onnx.ModelProto], tmp_path: Path
) -> None:
    path = tmp_path / name
    own = write_pair(path, graph_of)
    with pytest.raises(ConversionError, match=r"has 2 outputs \(0: .*--network-output N"):
        load_model(path, own, {}, None, None)
    with pytest.raises(ArgumentError, match=r"--network-output 2: there are 2"):
        load_model(path, own, {}, None, None, network_output=2)
    for number, times in enumerate((2.0, 0.5)):
        origin = load_model(path, own, {}, None, None, network_output=number)
        np.testing.assert_allclose(restored(origin), (times * IMAGE).clip(0, 1), atol=1e-6)
        np.testing.assert_allclose(origin.network(IMAGE), times * IMAGE, atol=1e-6)


@pytest.mark.parametrize("name", ["own.pth", "trace.pt", "script.pt", "program.pt2"])
def test_one_of_several_named_outputs_is_chosen(
    name: str, graph_of: Callable[..., onnx.ModelProto], tmp_path: Path
) -> None:
    own = write_pair(tmp_path / name, graph_of, Named)
    with pytest.raises(ConversionError, match=r"has 2 outputs \(0: .*--network-output N"):
        load_model(tmp_path / name, own, {}, None, None)
    origin = load_model(tmp_path / name, own, {}, None, None, network_output=1)
    np.testing.assert_allclose(restored(origin), 0.5 * IMAGE, atol=1e-6)
    np.testing.assert_allclose(origin.network(IMAGE), 0.5 * IMAGE, atol=1e-6)


def test_an_output_that_there_is_not_is_told(small_unet: EdgeUNet, tmp_path: Path) -> None:
    torch.save(small_unet.state_dict(), tmp_path / "one.pth")
    with pytest.raises(ArgumentError, match="--network-output 1: the network has one output, 0"):
        load_model(tmp_path / "one.pth", None, {}, None, None, network_output=1)


class Marker:
    """Leaves a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    "member",
    [
        "data/constants/opaque_obj_0",
        "data/constants/custom_obj_0",
        "data/aotinductor/model/model.so",
        "data/aotinductor/model/model.wrapper_metadata.json",
        "data/weights/weight_0.py",
        "code/run.py",
    ],
)
def test_a_program_that_brings_code_is_refused_before_it_is_read(
    member: str, small_unet: EdgeUNet, tmp_path: Path
) -> None:
    path, ran = tmp_path / "program.pt2", tmp_path / "ran"
    write_program(small_unet, path)
    hostile = tmp_path / "hostile.pt2"
    config = {"opaque": {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True}}
    with ZipFile(path) as clean, ZipFile(hostile, "w") as archive:
        root = clean.namelist()[0].split("/")[0]
        for name in clean.namelist():
            data = clean.read(name)
            if name.endswith("model_constants_config.json"):
                data = json.dumps({"config": config}).encode()
            archive.writestr(name, data)
        archive.writestr(f"{root}/{member}", pickle.dumps(Marker(ran)))
    with pytest.raises(CheckpointError, match=rf"holds '{root}/{member}', which may be code"):
        load_model(hostile, None, {}, None, None)
    assert not ran.exists()


def test_a_program_whose_sides_are_multiples_of_a_dimension_is_refused(tmp_path: Path) -> None:
    path, dim = tmp_path / "program.pt2", torch.export.Dim
    sides = {2: 8 * dim("rows", min=2, max=64), 3: 8 * dim("columns", min=2, max=64)}
    with quiet():
        network = torch.nn.Conv2d(3, 3, 3, padding=1).eval()
        program = torch.export.export(network, (torch.rand(1, 3, 32, 48),), dynamic_shapes=(sides,))
        torch.export.save(program, path)
    with pytest.raises(ConversionError, match=r"as in 8\*Dim.*Dim\.DYNAMIC"):
        load_model(path, None, {}, None, None)
