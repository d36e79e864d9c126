"""ONNX Runtime: CPU, CUDA and TensorRT, each the only provider of its sessions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from ...bundle.bundle import Bundle
from ...bundle.precision import Precision
from ...errors import DeviceError, InferenceError, first_line
from ..device_errors import device_error_kind
from ..limits import usable_threads
from ..machine import cpu_info
from ..nvidia import graphics_cards, memory_used_bytes
from ..openvino.finished import FinishedGraphs
from ..protocol import DEFAULT_TUNING, QueueSpec, Tuning, check_precision, check_tuning
from ..worker_queue import WorkerQueue
from .model import finished_onnx
from .providers import PROVIDERS, provider_state, quiet_stdout

__all__ = ["OnnxRuntime", "OnnxRuntimeModel"]

_PATIENCE_S = 60.0
_REQUESTS = 2  # one computes while the next waits, so no core waits for Python

_LIBRARY_ERRORS: tuple[type[Exception], ...] = (RuntimeError, ValueError, TypeError)


class OnnxRuntime:
    """`Runtime` over ONNX Runtime."""

    name = "onnxruntime"

    def devices(self) -> list[str]:
        """Return ``CPU``, and ``CUDA`` and ``TENSORRT`` with each card where they can be loaded."""
        found = ["CPU"]
        cards = graphics_cards()
        for kind in ("CUDA", "TENSORRT"):
            if cards and provider_state(kind) is None:
                found += [kind, *(f"{kind}:{card.index}" for card in cards if card.index)]
        return found

    def describe(self, device: str) -> str:
        """Return the processor's or the card's name."""
        kind, _, index = device.partition(":")
        if kind == "CPU":
            return str(cpu_info())
        card = graphics_cards()[int(index or 0)]
        return f"{card.name}, compute capability {card.compute_capability}"

    def precisions(self, device: str) -> list[Precision]:
        """Return what is computed natively; halves only on cards, where they are not emulated."""
        kind = self._kind(device)
        if kind == "CPU":
            return [Precision.FP32, Precision.INT8]
        return [Precision.FP16, Precision.FP32, Precision.TF32]

    def load(
        self,
        bundle: Bundle,
        device: str,
        precision: Precision,
        *,
        live: bool = False,
        tuning: Tuning = DEFAULT_TUNING,
    ) -> OnnxRuntimeModel:
        """See `Runtime.load`."""
        checked = check_precision(precision, self.precisions(device), device)
        return OnnxRuntimeModel(bundle, device, checked, live=live, tuning=tuning)

    def _kind(self, device: str) -> str:
        kind, _, index = device.partition(":")
        if device in self.devices() or (kind in self.devices() and index == "0"):
            return kind
        reason = provider_state(kind) if kind in PROVIDERS and kind != "CPU" else None
        why = f" ({reason})" if reason else ""
        raise DeviceError(f"device {device} is not here{why}; devices: {', '.join(self.devices())}")


class OnnxRuntimeModel:
    """`Model` over ONNX Runtime.

    Parameters
    ----------
    bundle : Bundle
    device : str
    precision : Precision
    live : bool
    tuning : Tuning
    """

    runtime = "onnxruntime"

    def __init__(
        self, bundle: Bundle, device: str, precision: Precision, *, live: bool, tuning: Tuning
    ) -> None:
        self.device, self.precision = device, precision
        check_tuning(tuning, self.tunables(), f"onnxruntime on {device}")
        self._bundle, self._live, self._tuning = bundle, live, tuning
        self._graphs = FinishedGraphs(bundle, precision)

    def tunables(self) -> Mapping[str, tuple[int | bool, ...]]:
        """See `Model.tunables`."""
        requests = {"requests": (_REQUESTS, 1, 3)}
        if self.device != "CPU":
            return {**requests, "graphs": (False, True)}
        most = usable_threads()
        return {
            "threads": tuple(dict.fromkeys((most, max(1, most // 2), 1))),
            "pinning": (True, False),
            **requests,
        }

    def open_queue(self, spec: QueueSpec, requests: int | None = None) -> WorkerQueue:
        """Compile for one shape; see `Model.open_queue`."""
        output, half = self._bundle.manifest.output, self.precision is Precision.FP16
        recorded = bool(self._tuning.graphs)
        proto = finished_onnx(self._graphs.finished(spec), half=half, free_strength=not recorded)
        return WorkerQueue(
            partial(_Session, proto, self.device, self.precision, self._tuning),
            spec,
            (self._bundle.manifest.input.channels, output.channels),
            output.upscale,
            requests or self._tuning.requests or _REQUESTS,
            name=f"ONNX Runtime on {self.device}",
            patience_s=_PATIENCE_S if self._live else None,
        )


class _Session:
    """`Executor` over one session, its inputs and output bound to the caller's memory."""

    slots = 1

    def __init__(self, proto: bytes, device: str, precision: Precision, tuning: Tuning) -> None:
        kind, _, index = device.partition(":")
        before = memory_used_bytes(int(index or 0)) if kind != "CPU" else None
        with quiet_stdout(kind):
            self._session = _session(proto, kind, int(index or 0), precision, tuning)
        self._binding = self._session.io_binding()
        output = self._session.get_outputs()[0]
        self._shape = tuple(output.shape)
        self._dtype = _DTYPES[output.type]
        self._own: NDArray[Any] | None = None
        self._names = [port.name for port in self._session.get_inputs()]
        # With recorded launches every input keeps its shape, so a number fills a map.
        self._strength_shape = tuple(self._session.get_inputs()[1].shape)
        self.memory_bytes: int | None = None
        if kind != "CPU":
            self._warm_up()  # memory is taken at the first inference: here it can be told in time
        if before is not None:
            self.memory_bytes = max(0, (memory_used_bytes(int(index or 0)) or 0) - before)

    def start(self, inputs: Sequence[NDArray[Any]], output: NDArray[Any] | None) -> NDArray[Any]:
        """See `Executor.start`."""
        if output is None:
            if self._own is None:
                self._own = np.empty(self._shape, self._dtype)
            output = self._own
        bound = list(inputs)
        if all(isinstance(side, int) for side in self._strength_shape):
            bound[1] = np.ascontiguousarray(np.broadcast_to(inputs[1], self._strength_shape))
        for name, values in zip(self._names, bound, strict=True):
            self._binding.bind_cpu_input(name, values)
        self._binding.bind_output(
            "restored", "cpu", 0, output.dtype.type, list(output.shape), output.ctypes.data
        )
        try:
            self._session.run_with_iobinding(self._binding)
        except _LIBRARY_ERRORS as error:
            raise _told("inference", error) from error
        return output

    def _warm_up(self) -> None:
        inputs = []
        for port in self._session.get_inputs():
            shape = [side if isinstance(side, int) else 1 for side in port.shape]
            inputs.append(np.zeros(shape, _DTYPES[port.type]))
        self.start(inputs, None)

    def finish(self, started: NDArray[Any]) -> NDArray[Any]:
        """See `Executor.finish`."""
        return started

    def close(self) -> None:
        """See `Executor.close`."""
        self._binding.clear_binding_inputs()
        self._binding.clear_binding_outputs()
        del self._binding, self._session


_DTYPES = {
    "tensor(uint8)": np.uint8,
    "tensor(uint16)": np.uint16,
    "tensor(float)": np.float32,
}


def _session(
    proto: bytes, kind: str, index: int, precision: Precision, tuning: Tuning
) -> onnxruntime.InferenceSession:
    """Open a session that runs on its provider alone, or raise."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what matters is raised
    options.inter_op_num_threads = 1
    options.intra_op_num_threads = tuning.threads or usable_threads()
    if tuning.pinning is False:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if "VNNI" not in cpu_info().isa:
        # Sums of pairs saturate in 16 bits there, unless a slower kernel is taken. The weights are
        # safe for pairs of neighbouring channels; which pairs are added is the library's affair.
        options.add_session_config_entry("session.x64quantprecision", "1")
    provider, settings = PROVIDERS[kind], dict[str, str]()
    if kind != "CPU":
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        settings["device_id"] = str(index)
    if kind == "CUDA":
        settings |= {
            "use_tf32": str(int(precision is Precision.TF32)),
            "cudnn_conv_algo_search": "DEFAULT",
            "enable_cuda_graph": str(int(bool(tuning.graphs))),
        }
    if kind == "TENSORRT":
        settings |= {
            "trt_fp16_enable": str(int(precision is Precision.FP16)),
            "trt_cuda_graph_enable": str(int(bool(tuning.graphs))),
        }
    try:
        session = onnxruntime.InferenceSession(
            proto, options, providers=[(provider, settings)], enable_fallback=0
        )
        session.disable_fallback()
    except _LIBRARY_ERRORS as error:
        raise _told(f"compiling on {kind}", error) from error
    if session.get_providers()[0] != provider:
        raise InferenceError(
            f"ONNX Runtime {version('onnxruntime')} runs on {session.get_providers()[0]}, not on"
            f" {provider}: its library cannot be loaded"
        )
    return session


def _told(doing: str, error: Exception) -> InferenceError:
    return device_error_kind(error)(f"{doing}: ONNX Runtime: {first_line(error)}")
