"""ONNX Runtime and PyTorch pass the runtimes' conformance tests."""

import pytest

from edgerestore.bundle.bundle import Bundle
from edgerestore.bundle.precision import Precision
from edgerestore.imaging.arrays import ChannelOrder, Depth
from edgerestore.runtimes.onnxruntime.runtime import OnnxRuntime
from edgerestore.runtimes.onnxruntime.runtime import _Session as Session
from edgerestore.runtimes.protocol import QueueSpec
from edgerestore.runtimes.pytorch.runtime import PyTorchRuntime
from edgerestore.runtimes.pytorch.runtime import _CpuExecutor as CpuExecutor
from edgerestore.testing.runtimes import RuntimeTests


@pytest.fixture
def fault_of(monkeypatch):
    """Let the n-th inference of an executor's class fail."""

    def injector(executor, kind=RuntimeError, says="injected"):
        def inject(queue, n):
            begin, counted = executor.start, []

            def start(self, inputs, output):
                counted.append(1)
                if len(counted) == n:
                    raise kind(says)
                return begin(self, inputs, output)

            monkeypatch.setattr(executor, "start", start)

        return inject

    return injector


class TestOnnxRuntimeOnCpu(RuntimeTests):
    @pytest.fixture
    def runtime(self):
        return OnnxRuntime()

    @pytest.fixture
    def fault(self, fault_of):
        return fault_of(Session)


class TestPyTorchOnCpu(RuntimeTests):
    @pytest.fixture
    def runtime(self):
        return PyTorchRuntime()

    @pytest.fixture
    def fault(self, fault_of):
        return fault_of(CpuExecutor)


def test_what_pytorch_is_told_of_precision_keeps_its_exporter_running():
    import torch

    model = PyTorchRuntime().load(Bundle.find("deblur"), "CPU", Precision.FP32)
    model.open_queue(QueueSpec(32, 32, Depth.U8, ChannelOrder.RGB)).close()
    torch.export.export(torch.nn.Conv2d(3, 3, 3), (torch.zeros(1, 3, 8, 8),))
