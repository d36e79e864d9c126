"""NVIDIA's cards: what the management library tells, and the queues where there is one."""

from __future__ import annotations

import ctypes
from contextlib import contextmanager

import pytest

from edgerestore.bundle.precision import Precision
from edgerestore.runtimes import nvidia, survey
from edgerestore.runtimes.nvidia import GraphicsCard, graphics_cards, memory_used_bytes
from edgerestore.runtimes.onnxruntime import providers
from edgerestore.runtimes.onnxruntime.runtime import OnnxRuntime
from edgerestore.runtimes.pytorch.runtime import PyTorchRuntime
from edgerestore.testing.runtimes import RuntimeTests


class Library:
    """The management library of a machine with two cards, of which the second does not answer."""

    def nvmlDeviceGetCount_v2(self, count):  # noqa: N802
        count._obj.value = 2
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index, handle):  # noqa: N802
        handle._obj.value = 7
        return index

    def nvmlDeviceGetMemoryInfo(self, handle, memory):  # noqa: N802
        memory._obj.total, memory._obj.used = 8 << 30, 3 << 30
        return 0

    def nvmlDeviceGetName(self, handle, name, most):  # noqa: N802
        ctypes.memmove(name, b"Card 4000\0", 10)
        return 0

    def nvmlDeviceGetCudaComputeCapability(self, handle, major, minor):  # noqa: N802
        major._obj.value, minor._obj.value = 8, 9
        return 0


@pytest.fixture
def cards(monkeypatch):
    @contextmanager
    def library():
        yield Library()

    monkeypatch.setattr(nvidia, "_library", library)


def test_cards_are_told_by_the_driver(cards):
    assert graphics_cards() == [GraphicsCard(0, "Card 4000", 8 << 30, "8.9")]
    assert memory_used_bytes(0) == 3 << 30
    assert memory_used_bytes(1) is None


def test_a_card_without_its_libraries_is_listed_with_the_command(cards, monkeypatch):
    if providers.provider_state("CUDA") is None:
        pytest.skip("this machine has ONNX Runtime for cards")
    (onnx_card, tensorrt) = survey.onnxruntime().devices[1:]
    assert (onnx_card.device, onnx_card.isa) == ("CUDA", "compute capability 8.9")
    for one in (onnx_card, tensorrt):
        assert "is missing: pip install" in (one.fault or "")
    monkeypatch.setattr(survey, "_version", lambda package: "2.13.0+cpu")
    (torch_card,) = survey.pytorch().devices[1:]
    assert "built without CUDA: pip install" in (torch_card.fault or "")
    assert torch_card.memory_bytes == 8 << 30
    monkeypatch.setattr(survey, "_version", lambda package: "2.13.0+cu126")
    (torch_card,) = survey.pytorch().devices[1:]
    assert torch_card.fault is None
    assert Precision.TF32 in torch_card.precisions


def need(runtime):
    if "CUDA" not in runtime.devices():
        pytest.skip(f"{runtime.name} has no CUDA card on this machine")
    return runtime


class TestOnnxRuntimeOnCuda(RuntimeTests):
    @pytest.fixture
    def runtime(self):
        return need(OnnxRuntime())

    @pytest.fixture
    def device(self):
        return "CUDA"


class TestPyTorchOnCuda(RuntimeTests):
    @pytest.fixture
    def runtime(self):
        return need(PyTorchRuntime())

    @pytest.fixture
    def device(self):
        return "CUDA"
