"""OpenVINO passes the runtimes' conformance tests."""

import locale
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import openvino as ov
import pytest

from edgerestore.bundle.bundle import Bundle
from edgerestore.bundle.precision import Precision
from edgerestore.errors import DeviceError, InferenceError, NoAnswerError
from edgerestore.imaging.arrays import ChannelOrder, Depth
from edgerestore.runtimes.openvino.queue import OpenVinoQueue
from edgerestore.runtimes.openvino.runtime import OpenVinoRuntime
from edgerestore.runtimes.protocol import QueueSpec
from edgerestore.testing.runtimes import RuntimeTests


class Failing:
    """An infer request of which the n-th inference fails, once it has ended."""

    def __init__(self, request, counted, n):
        self._request, self._counted, self._n, self._fails = request, counted, n, False

    def __getattr__(self, name):
        return getattr(self._request, name)

    def start_async(self):
        self._counted.append(self)
        self._fails = len(self._counted) == self._n
        self._request.start_async()

    def wait_for(self, timeout):
        over = self._request.wait_for(timeout)
        if over and self._fails:
            raise RuntimeError("injected")
        return over


class TestOpenVinoOnCpu(RuntimeTests):
    @pytest.fixture
    def runtime(self):
        return OpenVinoRuntime()

    @pytest.fixture
    def fault(self):
        def inject(queue, n):
            counted: list[Failing] = []
            for slot in queue._slots:
                slot.request = Failing(slot.request, counted, n)

        return inject


def test_auto_falls_back_to_what_is_here():
    runtime = OpenVinoRuntime()
    bundle = Bundle.find("deblur")
    for device in ("AUTO", "AUTO:GPU,CPU"):
        model = runtime.load(bundle, device, Precision.FP32)
        spec = QueueSpec(64, 64, Depth.U8, ChannelOrder.RGB)
        model.open_queue(spec, 1).close()
    with pytest.raises(DeviceError, match="GPU is not here"):
        runtime.load(bundle, "HETERO:GPU,CPU", Precision.FP32)


def test_f32_is_computed_in_f32_even_where_the_cpu_prefers_bf16():
    model = OpenVinoRuntime().load(Bundle.find("deblur"), "CPU", Precision.FP32)
    queue = model.open_queue(QueueSpec(64, 64, Depth.U8, ChannelOrder.RGB), 1)
    assert queue.compiled.get_property("INFERENCE_PRECISION_HINT") == ov.Type.f32
    queue.close()


def test_compiling_on_several_threads_leaves_the_locale_alone(monkeypatch, tmp_path):
    """Python chooses the encoding of files by it."""
    monkeypatch.setenv("EDGERESTORE_CACHE", str(tmp_path))
    model = OpenVinoRuntime().load(Bundle.find("deblur"), "CPU", Precision.FP32, live=True)
    before = locale.setlocale(locale.LC_ALL)

    def work(width):
        for height in range(16, 64, 8):
            spec = QueueSpec(height, width, Depth.U8, ChannelOrder.RGB)
            model.open_queue(spec, 1).close()

    threads = [threading.Thread(target=work, args=(width,)) for width in (16, 24, 32, 40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert locale.setlocale(locale.LC_ALL) == before


def test_a_device_that_takes_too_long_is_not_waited_for_for_ever():
    model = OpenVinoRuntime().load(Bundle.find("deblur"), "CPU", Precision.FP32, live=True)
    slow = model.open_queue(QueueSpec(768, 1024, Depth.U8, ChannelOrder.RGB), 1)
    queue = OpenVinoQueue(slow.compiled, slow.spec, 1, patience_s=0.001)
    image = np.zeros((768, 1024, 3), np.uint8)
    first = queue.submit(image, 1.0, np.empty_like(image))
    with pytest.raises(NoAnswerError, match="has not answered"):
        queue.submit(image, 1.0, np.empty_like(image))
    first.result()
    queue.submit(image, 1.0, np.empty_like(image)).result()
    queue.close()
    slow.close()


def test_the_thread_count_of_the_environment_is_honoured(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    model = OpenVinoRuntime().load(Bundle.find("deblur"), "CPU", Precision.FP32)
    queue = model.open_queue(QueueSpec(64, 64, Depth.U8, ChannelOrder.RGB), 1)
    assert queue.compiled.get_property("INFERENCE_NUM_THREADS") == 1
    queue.close()


def test_compiled_models_are_kept_in_the_cache_that_was_named(monkeypatch, tmp_path):
    monkeypatch.setenv("EDGERESTORE_CACHE", str(tmp_path))
    model = OpenVinoRuntime().load(Bundle.find("deblur"), "CPU", Precision.FP32)
    model.open_queue(QueueSpec(64, 64, Depth.U8, ChannelOrder.RGB), 1).close()
    assert list((tmp_path / "openvino").iterdir())


def test_a_cache_that_cannot_be_written_is_no_obstacle(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("EDGERESTORE_CACHE", str(tmp_path / "file"))
    model = OpenVinoRuntime().load(Bundle.find("deblur"), "CPU", Precision.FP32)
    model.open_queue(QueueSpec(64, 64, Depth.U8, ChannelOrder.RGB), 1).close()


def test_a_graph_that_cannot_be_read_is_one_line(tmp_path):
    import shutil

    from edgerestore.bundle.bundle import file_info
    from edgerestore.bundle.manifest import Manifest, Variant

    shipped = Bundle.find("deblur")
    folder = tmp_path / "bundle"
    shutil.copytree(shipped.folder, folder)
    graph = shipped.variant_files("fp32")[0]
    (folder / graph.relative_to(shipped.folder)).write_bytes(b"not a graph" * 20)
    name = str(graph.relative_to(shipped.folder))
    manifest = shipped.manifest
    manifest.variants["fp32"] = Variant({name: file_info(folder / name)})
    (folder / "bundle.json").write_text(manifest.to_json())
    assert Manifest.from_json((folder / "bundle.json").read_text())
    with pytest.raises(InferenceError) as caught:
        OpenVinoRuntime().load(Bundle.find(folder), "CPU", Precision.FP32)
    assert "\n" not in str(caught.value)
    assert os.fspath(folder) in str(caught.value)


def test_an_interrupt_after_a_model_was_dropped_is_no_crash():
    code = """
import os, signal, threading, time
from edgerestore.bundle.bundle import Bundle
from edgerestore.runtimes.openvino.graph import OpenvinoGraph, read_graph
graphs = [OpenvinoGraph(read_graph(Bundle.find("deblur").variant_files("fp32")[0]))]
thread = threading.Thread(target=graphs.clear)
thread.start()
thread.join()
os.kill(os.getpid(), signal.SIGINT)
time.sleep(10)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == -signal.SIGINT, done.stderr
    assert "KeyboardInterrupt" in done.stderr
