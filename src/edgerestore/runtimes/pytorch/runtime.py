"""PyTorch: the CPU as the reference, and CUDA."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...bundle.bundle import Bundle
from ...bundle.precision import Precision
from ...errors import ConversionError, DeviceError, InferenceError
from ..limits import usable_threads
from ..machine import cpu_info
from ..openvino.finished import FinishedGraphs
from ..openvino.graph import float_graph
from ..protocol import DEFAULT_TUNING, QueueSpec, Tuning, check_precision, check_tuning
from ..worker_queue import Executor, WorkerQueue
from .graph import StaticGraph

__all__ = ["PyTorchModel", "PyTorchRuntime"]

_PATIENCE_S = 60.0
_CPU_REQUESTS = 2  # one computes while the next waits
_CUDA_REQUESTS = 3  # copied in, computed, copied out
_HALVES = {Precision.FP16: torch.float16, Precision.BF16: torch.bfloat16}


class PyTorchRuntime:
    """`Runtime` over PyTorch."""

    name = "pytorch"

    def devices(self) -> list[str]:
        """Return ``CPU``, and ``CUDA`` with each further card."""
        cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
        return ["CPU", *(["CUDA"] if cards else []), *(f"CUDA:{i}" for i in range(1, cards))]

    def describe(self, device: str) -> str:
        """Return the processor's or the card's name."""
        if device == "CPU":
            return str(cpu_info())
        found = torch.cuda.get_device_properties(_torch_device(device))
        return f"{found.name}, compute capability {found.major}.{found.minor}"

    def precisions(self, device: str) -> list[Precision]:
        """Return f32 for the CPU, whose place is that of the reference; all floats for a card."""
        self._require(device)
        if device == "CPU":
            return [Precision.FP32]
        native = torch.cuda.get_device_properties(_torch_device(device)).major >= 8
        newer = [Precision.BF16] if native else []
        return [Precision.FP16, *newer, Precision.FP32, *([Precision.TF32] if native else [])]

    def load(
        self,
        bundle: Bundle,
        device: str,
        precision: Precision,
        *,
        live: bool = False,
        tuning: Tuning = DEFAULT_TUNING,
    ) -> PyTorchModel:
        """See `Runtime.load`."""
        checked = check_precision(precision, self.precisions(device), device)
        return PyTorchModel(bundle, device, checked, live=live, tuning=tuning)

    def _require(self, device: str) -> None:
        here = self.devices()
        if device not in here and not (device == "CUDA:0" and "CUDA" in here):
            raise DeviceError(f"device {device} is not here; devices: {', '.join(here)}")


class PyTorchModel:
    """`Model` over PyTorch.

    Parameters
    ----------
    bundle : Bundle
    device : str
    precision : Precision
    live : bool
    tuning : Tuning
    """

    runtime = "pytorch"

    def __init__(
        self, bundle: Bundle, device: str, precision: Precision, *, live: bool, tuning: Tuning
    ) -> None:
        self.device, self.precision = device, precision
        check_tuning(tuning, self.tunables(), f"pytorch on {device}")
        self._bundle, self._live, self._tuning = bundle, live, tuning
        self._graphs = FinishedGraphs(bundle, precision)

    def tunables(self) -> Mapping[str, tuple[int | bool, ...]]:
        """See `Model.tunables`."""
        if self.device != "CPU":
            return {"requests": (_CUDA_REQUESTS, 2, 4), "graphs": (True, False)}
        most = usable_threads()
        threads = tuple(dict.fromkeys((most, max(1, most // 2), 1)))
        return {"threads": threads, "requests": (_CPU_REQUESTS, 1, 3)}

    def open_queue(self, spec: QueueSpec, requests: int | None = None) -> WorkerQueue:
        """Prepare for one shape; see `Model.open_queue`."""
        model = float_graph(self._graphs.finished(spec))
        shapes = {
            "image": tuple(model.input("image").shape),
            "strength": tuple(model.input("strength").shape),
            "output": tuple(model.output(0).shape),
        }
        try:
            last = model.output(0).get_node().input_value(0)
            graph = StaticGraph(model, last, _HALVES.get(self.precision))
        except ConversionError as error:
            raise InferenceError(str(error)) from error
        usual = _CPU_REQUESTS if self.device == "CPU" else _CUDA_REQUESTS
        count = requests or self._tuning.requests or usual
        output = self._bundle.manifest.output
        return WorkerQueue(
            self._executor(graph, spec, shapes, count),
            spec,
            (self._bundle.manifest.input.channels, output.channels),
            output.upscale,
            count,
            name=f"PyTorch on {self.device}",
            patience_s=_PATIENCE_S if self._live else None,
        )

    def _executor(
        self,
        graph: StaticGraph,
        spec: QueueSpec,
        shapes: dict[str, tuple[int, ...]],
        slots: int,
    ) -> Callable[[], Executor]:
        if self.device == "CPU":
            return lambda: _CpuExecutor(graph, self._tuning.threads or usable_threads())

        def on_card() -> Executor:
            from .cuda import CudaExecutor

            _state_precision(self.precision)
            recorded = self._tuning.graphs is not False
            device = _torch_device(self.device)
            return CudaExecutor(graph, spec, shapes, device, slots, recorded=recorded)

        return on_card


class _CpuExecutor:
    """`Executor` on the CPU: f32 as IEEE defines it, deterministic."""

    slots = 1
    memory_bytes: int | None = None

    def __init__(self, graph: StaticGraph, threads: int) -> None:
        self._graph = graph
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        _state_precision(Precision.FP32)

    def start(self, inputs: Sequence[NDArray[Any]], output: NDArray[Any] | None) -> NDArray[Any]:
        """See `Executor.start`."""
        # Nothing is written into the inputs: some of them may be read-only.
        tensors = [torch.from_numpy(_writeable(values)) for values in inputs]
        with torch.inference_mode():
            made: NDArray[Any] = self._graph(tensors).contiguous().numpy()
        if output is None:
            return made
        np.copyto(output, made)
        return output

    def finish(self, started: NDArray[Any]) -> NDArray[Any]:
        """See `Executor.finish`."""
        return started

    def close(self) -> None:
        """See `Executor.close`."""


def _writeable(values: NDArray[Any]) -> NDArray[Any]:
    return values if values.flags.writeable else values.copy()


def _state_precision(precision: Precision) -> None:
    """State what f32 is, of the whole process, as PyTorch has it; and choose kernels once."""
    backends: Any = torch.backends
    # By cuDNN's older switch: once its newer one was set, PyTorch's exporter fails in this process.
    backends.cudnn.allow_tf32 = precision is Precision.TF32
    backends.cuda.matmul.fp32_precision = "tf32" if precision is Precision.TF32 else "ieee"
    for backend in (backends.mkldnn.conv, backends.mkldnn.matmul):
        backend.fp32_precision = "ieee"
    backends.cudnn.benchmark = False
    backends.cudnn.deterministic = True


def _torch_device(device: str) -> torch.device:
    return torch.device("cuda", int(device.partition(":")[2] or 0))
