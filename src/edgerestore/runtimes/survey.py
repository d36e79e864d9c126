"""What is there of each runtime, found out cheaply: packages, devices, and why one is missing.

Of ONNX Runtime and PyTorch nothing is imported: their metadata, the driver's management library
and device files answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from ..bundle.precision import Precision
from .limits import available_memory_bytes, usable_threads
from .machine import cpu_info
from .nvidia import GraphicsCard, graphics_cards

__all__ = ["DeviceFacts", "RuntimeFacts", "Survey", "onnxruntime", "openvino", "pytorch"]


@dataclass(frozen=True)
class DeviceFacts:
    """One device of a runtime.

    Parameters
    ----------
    device : str
        As ``--device`` takes it.
    name : str
    precisions : tuple of Precision
        What it computes natively, the default first.
    isa : str or None
        Instruction sets of a processor, or compute capability of a card.
    memory_bytes : int or None
        Of a card, all of it; of the processor, what this process can still have.
    fault : str or None
        Why it cannot be used, and the command that changes that.
    """

    device: str
    name: str
    precisions: tuple[Precision, ...] = ()
    isa: str | None = None
    memory_bytes: int | None = None
    fault: str | None = None


@dataclass(frozen=True)
class RuntimeFacts:
    """One runtime: its version and devices, or why it cannot be used."""

    runtime: str
    version: str | None
    fault: str | None
    devices: tuple[DeviceFacts, ...] = ()


Survey = Callable[[], RuntimeFacts]
"""Tells what is there of one runtime."""


def openvino() -> RuntimeFacts:
    """Return the facts of OpenVINO, whose plug-ins know their devices."""
    if _version("openvino") is None:
        return RuntimeFacts("openvino", None, _absent("edgerestore"))
    from .openvino.runtime import OpenVinoRuntime

    runtime = OpenVinoRuntime()
    devices = []
    for device in runtime.devices():
        facts = DeviceFacts(device, runtime.describe(device), tuple(runtime.precisions(device)))
        if device == "CPU":
            facts = replace(_cpu(facts.precisions), name=facts.name)
        devices.append(facts)
    listed = {device.partition(".")[0] for device in runtime.devices()}
    devices += [fault for fault in _without_driver() if fault.device not in listed]
    return RuntimeFacts("openvino", _version("openvino"), None, tuple(devices))


def onnxruntime() -> RuntimeFacts:
    """Return the facts of ONNX Runtime."""
    from .onnxruntime.providers import install_fault, provider_state

    found = _version("onnxruntime") or _version("onnxruntime-gpu")
    fault = install_fault()
    if fault is not None:
        return RuntimeFacts("onnxruntime", found, fault)
    floats = (Precision.FP16, Precision.FP32, Precision.TF32)
    devices = [_cpu((Precision.FP32, Precision.INT8))]
    for kind in ("CUDA", "TENSORRT"):
        state = provider_state(kind)
        devices += [replace(_card(kind, card, floats), fault=state) for card in graphics_cards()]
    return RuntimeFacts("onnxruntime", found, None, tuple(devices))


def pytorch() -> RuntimeFacts:
    """Return the facts of PyTorch."""
    found = _version("torch")
    if found is None or find_spec("torch") is None:
        return RuntimeFacts("pytorch", None, _absent("edgerestore[torch]"))
    devices = [_cpu((Precision.FP32,))]
    # The build is in the version: +cpu, +cu126; wheels of PyPI for Linux have CUDA and say nothing.
    built = "+cpu" not in found
    fault = (
        None if built else "this PyTorch is built without CUDA: pip install --force-reinstall torch"
    )
    for card in graphics_cards():
        newer = float(card.compute_capability) >= 8
        halves = (Precision.FP16, *([Precision.BF16] if newer else []))
        floats = (*halves, Precision.FP32, *([Precision.TF32] if newer else []))
        devices.append(replace(_card("CUDA", card, floats), fault=fault))
    return RuntimeFacts("pytorch", found, None, tuple(devices))


def _cpu(precisions: tuple[Precision, ...]) -> DeviceFacts:
    cpu = cpu_info()
    isa = f"{cpu.isa}; {usable_threads()} of {cpu.cores} threads"
    return DeviceFacts("CPU", cpu.name, precisions, isa, available_memory_bytes())


def _card(kind: str, card: GraphicsCard, precisions: tuple[Precision, ...]) -> DeviceFacts:
    device = f"{kind}:{card.index}" if card.index else kind
    isa = f"compute capability {card.compute_capability}"
    return DeviceFacts(device, card.name, precisions, isa, card.memory_bytes)


def _without_driver() -> list[DeviceFacts]:
    """Return devices of Intel that the kernel has and OpenVINO lacks."""
    found = []
    if any(_vendor(node) == "0x8086" for node in Path("/sys/class/drm").glob("renderD*")):
        why = "its driver is missing: apt-get install intel-opencl-icd"
        found.append(DeviceFacts("GPU", "Intel graphics", fault=why))
    if Path("/dev/accel").is_dir() and list(Path("/dev/accel").iterdir()):
        why = "its driver is missing: install intel-level-zero-npu of Intel's linux-npu-driver"
        found.append(DeviceFacts("NPU", "neural processing unit", fault=why))
    return found


def _vendor(node: Path) -> str:
    try:
        return (node / "device/vendor").read_text().strip()
    except OSError:
        return ""


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _absent(package: str) -> str:
    return f"is not installed: pip install '{package}'"
