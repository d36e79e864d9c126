"""Finished ONNX models: INT8 and half precision; and what is told of a broken installation."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper

from edgerestore.bundle.bundle import Bundle, model_names
from edgerestore.bundle.precision import Precision
from edgerestore.cli.app import run_command_line
from edgerestore.errors import DeviceError, InferenceError, MissingExtraError
from edgerestore.imaging.arrays import ChannelOrder, Depth
from edgerestore.imaging.metrics import psnr
from edgerestore.runtimes import open_runtime, runtime_table
from edgerestore.runtimes.onnxruntime import providers
from edgerestore.runtimes.onnxruntime.model import finished_onnx
from edgerestore.runtimes.openvino.finished import FinishedGraphs
from edgerestore.runtimes.protocol import QueueSpec

QUANTIZED = [n for n in model_names() if "int8" in Bundle.find(n).manifest.variants]


def spec_of(bundle, side=96):
    grey = bundle.manifest.input.channels == 1
    return QueueSpec(side, side, Depth.U8, ChannelOrder.GRAY if grey else ChannelOrder.RGB)


def restored(runtime, bundle, precision, image):
    queue = open_runtime(runtime).load(bundle, "CPU", precision).open_queue(spec_of(bundle), 1)
    outcome = np.zeros_like(image)
    queue.submit(image, 1.0, outcome).result()
    queue.close()
    return outcome


@pytest.mark.parametrize("name", QUANTIZED)
def test_int8_is_as_close_to_the_float_model_as_openvinos(name, picture):
    bundle = Bundle.find(name)
    image = picture(96, 96, bundle.manifest.input.channels)
    floats = restored("openvino", bundle, Precision.FP32, image)
    theirs, ours = (
        psnr(floats, restored(runtime, bundle, Precision.INT8, image))
        for runtime in ("openvino", "onnxruntime")
    )
    assert ours > theirs - 0.3


@pytest.mark.parametrize("name", QUANTIZED)
def test_int8_weights_are_those_of_the_bundle_and_cannot_saturate(name):
    bundle = Bundle.find(name)
    proto = onnx.load_from_string(
        finished_onnx(FinishedGraphs(bundle, Precision.INT8).finished(spec_of(bundle)))
    )
    kinds = [node.op_type for node in proto.graph.node]
    assert kinds.count("QuantizeLinear") > 0
    weights = [
        numpy_helper.to_array(one)
        for one in proto.graph.initializer
        if one.data_type == TensorProto.INT8 and len(one.dims) == 4
    ]
    assert len(weights) >= kinds.count("Conv") - 3, "few layers stay in float"
    for values in weights:
        even = values[:, : values.shape[1] // 2 * 2].astype(int)
        for signed in (even.clip(0), (-even).clip(0)):
            pairs = signed[:, ::2] + signed[:, 1::2]
            assert pairs.max(initial=0) <= 128  # 255 * 128 is within 16 bits


def test_half_precision_leaves_what_is_marked_in_f32(picture):
    bundle = Bundle.find("sr-x4")
    spec = QueueSpec(48, 48, Depth.U8, ChannelOrder.RGB)
    graph = FinishedGraphs(bundle, Precision.FP16).finished(spec)
    proto = onnx.shape_inference.infer_shapes(
        onnx.load_from_string(finished_onnx(graph, half=True))
    )
    halves = {
        value.name
        for value in proto.graph.value_info
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16
    }
    convolutions = [node for node in proto.graph.node if node.op_type == "Conv"]
    inside = [node.output[0] in halves for node in convolutions]
    assert inside.count(False) == 2, "the base of a model that enlarges stays in f32"
    assert inside.count(True) > 10
    for kind in ("Round", "Clip"):
        ends = [node.output[0] for node in proto.graph.node if node.op_type == kind]
        assert ends
        assert not halves & set(ends)
    image = picture(48, 48)
    wanted = np.zeros((192, 192, 3), np.uint8)
    queue = open_runtime("openvino").load(bundle, "CPU", Precision.FP32).open_queue(spec, 1)
    queue.submit(image, 1.0, wanted).result()
    queue.close()
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (made,) = session.run(None, {"image": image[None], "strength": np.ones((1, 1, 1, 1), "f4")})
    assert np.abs(made[0].astype(int) - wanted).max() <= 2


def test_an_operation_without_an_equivalent_is_named():
    from openvino import Model, opset13

    image = opset13.parameter([1, 8, 8, 3], np.float32, name="image")
    image.output(0).set_names({"image"})
    turned = opset13.cos(image)
    turned.set_friendly_name("core/turned")
    result = opset13.result(turned)
    result.output(0).set_names({"restored"})
    with pytest.raises(InferenceError, match="cannot run core/turned of type Cos"):
        finished_onnx(Model([result], [image], "wrong"))


# Broken installations


@pytest.fixture
def broken(monkeypatch, tmp_path):
    """Lay an installation of ONNX Runtime out by builds and by files."""

    def lay(*builds, files=()):
        folder = tmp_path / "onnxruntime"
        for name in files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
        monkeypatch.setattr(providers, "_installed", lambda name: name in builds)
        monkeypatch.setattr(providers, "_folder", lambda: folder if files else None)

    return lay


WHOLE = ("__init__.py", "capi/onnxruntime_pybind11_state.so")


@pytest.mark.parametrize(
    ("builds", "files", "told"),
    [
        (("onnxruntime", "onnxruntime-gpu"), WHOLE, "break each other: pip uninstall -y onnxr"),
        ((), (), r"not installed: pip install 'edgerestore\[onnx\]'"),
        (("onnxruntime",), (), "half removed: pip install --force-reinstall onnxruntime"),
        (("onnxruntime",), ("__init__.py",), "onnxruntime_pybind11_state.so is missing: pip"),
    ],
)
def test_broken_installations_are_told_with_the_repair(broken, capsys, builds, files, told):
    broken(*builds, files=files)
    with pytest.raises(MissingExtraError, match=told) as caught:
        open_runtime("onnxruntime")
    assert "\n" not in str(caught.value)
    (facts,) = [one for one in runtime_table() if one.runtime == "onnxruntime"]
    assert facts.fault
    assert not facts.devices
    assert run_command_line(["devices"]) == 0
    assert facts.fault in capsys.readouterr().out


def test_a_provider_without_its_library_is_no_device(capfd):
    """`get_available_providers` may list it, and sessions would run on the CPU in silence."""
    runtime = open_runtime("onnxruntime")
    for device in ("CUDA", "TENSORRT"):
        if device in runtime.devices():
            pytest.skip("this machine has a card")
        with pytest.raises(DeviceError, match=rf"{device} is not here \(lib.*missing.*CPU"):
            runtime.load(Bundle.find("deblur"), device, Precision.FP32)
    assert capfd.readouterr().out == ""


EDGE = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "onnx", "onnxruntime"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocked())
from edgerestore.runtimes import survey
from edgerestore.runtimes.onnxruntime import providers
survey._version = lambda package: None if package == "torch" else "1"
providers._installed, providers._folder = lambda name: False, lambda: None
from edgerestore.cli.app import run_command_line
raise SystemExit(run_command_line(sys.argv[1:]))
"""


def edge(*arguments):
    command = [sys.executable, "-c", EDGE, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_an_edge_install_runs_and_names_the_extras(tmp_path, picture):
    import cv2

    source = tmp_path / "in.png"
    cv2.imwrite(str(source), picture(32, 48))
    for runtime, extra in (("pytorch", "torch"), ("onnxruntime", "onnx")):
        done = edge("run", source, "-o", tmp_path / "out.png", "--runtime", runtime)
        assert done.returncode == 2
        assert f"pip install 'edgerestore[{extra}]'" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    done = edge("run", source, "-o", tmp_path / "out.png")
    assert done.returncode == 0, done.stderr
    assert "CPU (openvino)" in done.stderr
    done = edge("devices")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("is not installed: pip install") == 2


def test_devices_are_listed_in_a_second_of_processor_time():
    code = (
        "import resource, sys\n"
        "from edgerestore.cli.app import run_command_line\n"
        "code = run_command_line(['devices'])\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "assert not {'torch', 'onnx', 'onnxruntime'} & set(sys.modules)\n"
        "print(used.ru_utime + used.ru_stime, file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stderr.splitlines()[-1]) < 2  # idle it is 0.8; the machine may be shared


@pytest.mark.parametrize("runtime", ["onnxruntime", "pytorch"])
def test_a_picture_on_the_command_line(runtime, tmp_path, picture, capfd):
    import cv2

    source, out = tmp_path / "in.png", tmp_path / "out.png"
    cv2.imwrite(str(source), picture(40, 56))
    more = ["--runtime", runtime, "--precision", "fp32", "--overwrite"]
    assert run_command_line(["run", str(source), "-o", str(out), *more]) == 0
    assert f"deblur on CPU ({runtime}) at fp32" in capfd.readouterr().err
    ours = np.asarray(cv2.imread(str(out)))
    more[1] = "openvino"
    assert run_command_line(["run", str(source), "-o", str(out), *more]) == 0
    assert np.abs(ours.astype(int) - np.asarray(cv2.imread(str(out)))).max() <= 1
