"""OpenVINO: CPU, integrated GPU, NPU and its AUTO, MULTI and HETERO devices."""

from __future__ import annotations

import functools
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as ops
from openvino.preprocess import PrePostProcessor

from ..bundle import Bundle
from ..errors import DeviceError, InferenceError
from ..pixels import ChannelOrder, Depth, Image
from .cache import cache_folder
from .protocol import Precision, QueueSpec

__all__ = ["OpenVinoQueue", "OpenVinoRuntime"]

_VARIANTS = {"fp32": "fp32", "bf16": "fp16", "fp16": "fp16", "int8": "int8"}
_ELEMENT_TYPES = {Depth.U8: ov.Type.u8, Depth.U16: ov.Type.u16, Depth.F32: ov.Type.f32}
_COMPOSITE = ("AUTO", "MULTI", "HETERO", "BATCH")


@functools.cache
def _core() -> ov.Core:
    # One core for the process: each holds plugins, thread pools and device contexts.
    return ov.Core()


@contextmanager
def _translated(doing: str) -> Iterator[None]:
    """The one door where the library's errors become ours."""
    try:
        yield
    except RuntimeError as error:
        raise InferenceError(f"{doing}: {_gist(error)}") from error


def _gist(error: Exception) -> str:
    """Return the last telling line of a message that carries source positions."""
    lines = [line.strip() for line in str(error).splitlines()]
    telling = [x for x in lines if x and not re.match(r"(Exception from|Check '.*' failed) ?", x)]
    return telling[-1] if telling else type(error).__name__


class OpenVinoRuntime:
    """`Runtime` over OpenVINO."""

    def devices(self) -> list[str]:
        """Return the devices present, and ``AUTO``."""
        return [*_core().available_devices, "AUTO"]

    def describe(self, device: str) -> str:
        """Return the device's own full name."""
        if device.partition(":")[0] in _COMPOSITE:
            return "chooses among the devices present"
        return str(_core().get_property(device, "FULL_DEVICE_NAME"))

    def precisions(self, device: str) -> list[Precision]:
        """Return what a device computes natively, its native half first where it has one."""
        with _translated(f"asking {device} what it can do"):
            can = _core().get_property(self._present(device)[0], "OPTIMIZATION_CAPABILITIES")
        halves = [half for half in ("bf16", "fp16") if half.upper() in can]
        full = ["int8"] if "INT8" in can else []
        return [*halves, "fp32", *full]

    def load(
        self, bundle: Bundle, device: str, precision: Precision, *, live: bool = False
    ) -> OpenVinoModel:
        """See `Runtime.load`."""
        present, narrowed = self._present(device)
        native = self.precisions(device)
        if precision not in native:
            raise DeviceError(f"{present} has no {precision}, only {', '.join(native)}")
        return OpenVinoModel(bundle, narrowed, precision, live=live)

    def _present(self, device: str) -> tuple[str, str]:
        """Return a present device behind ``device``, and ``device`` without absent ones.

        Only AUTO and MULTI may do with fewer than were named; the rest raise with a list.
        """
        here = _core().available_devices
        kind, _, listed = device.partition(":")
        if kind not in _COMPOSITE:
            wanted = [device]
        elif listed:
            wanted = [name.split("(")[0].strip() for name in listed.split(",")]
        else:
            wanted = list(here)
        found = [w for w in wanted if w in here or any(h.split(".")[0] == w for h in here)]
        missing = [name for name in wanted if name not in found]
        if not found or (missing and kind not in ("AUTO", "MULTI")):
            raise DeviceError(
                f"device {missing[0]} is not here; devices: {', '.join(self.devices())}"
            )
        return found[0], f"{kind}:{','.join(found)}" if missing else device


class OpenVinoModel:
    """`Model` over OpenVINO."""

    def __init__(self, bundle: Bundle, device: str, precision: Precision, *, live: bool) -> None:
        self.device, self.precision = device, precision
        self._bundle, self._live = bundle, live
        variant = _VARIANTS[precision]
        graph = bundle.variant_files(variant)[0]
        with _translated(f"reading {graph}"):
            self._model = _core().read_model(graph)

    def open_queue(self, spec: QueueSpec, requests: int | None = None) -> OpenVinoQueue:
        """Compile for one shape; see `Model.open_queue`."""
        doing = f"compiling {self._bundle.manifest.name} for {spec.width}x{spec.height}"
        with _translated(f"{doing} on {self.device}"):
            model = attach_pixels(self._model.clone(), spec, self._bundle)
            compiled = _core().compile_model(model, self.device, self._settings())
            best = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        # One beyond what runs at a time is always queued, so no core waits for Python.
        count = requests or (best if self._live else best + 1)
        return OpenVinoQueue(compiled, spec, count)

    def _settings(self) -> dict[str, object]:
        settings: dict[str, object] = {
            "PERFORMANCE_HINT": "LATENCY" if self._live else "THROUGHPUT",
            "CACHE_DIR": str(cache_folder("openvino")),
        }
        # CPUs with bf16 would compute f32 models in bf16 unless told otherwise.
        hints = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
        if self.precision in hints:
            settings["INFERENCE_PRECISION_HINT"] = hints[self.precision]
        threads = os.environ.get("OMP_NUM_THREADS", "")
        if threads.isdigit() and int(threads) > 0 and self.device == "CPU":
            settings["INFERENCE_NUM_THREADS"] = int(threads)
        return settings


def attach_pixels(model: ov.Model, spec: QueueSpec, bundle: Bundle) -> ov.Model:
    """Fix a graph's shape and put the conversion from and to bytes inside it.

    Parameters
    ----------
    model : openvino.Model
        With the bundle's face; changed in place.
    spec : QueueSpec
    bundle : Bundle

    Returns
    -------
    openvino.Model
        Inputs ``image`` [1, H, W, C] of ``spec.depth`` and ``strength`` [1, 1, H', W'] f32;
        output ``restored`` [1, H', W', C'].
    """
    manifest = bundle.manifest
    upscale = manifest.output.upscale
    model.reshape(
        {
            "image": [1, manifest.input.channels, spec.height, spec.width],
            # A full-size map always: measured no slower than one number, and a stream may
            # change from a number to a map without a second compiled model.
            "strength": [1, 1, spec.height * upscale, spec.width * upscale],
        }
    )
    swap = spec.order is ChannelOrder.BGR
    process = PrePostProcessor(model)
    image = process.input("image")
    image.tensor().set_element_type(_ELEMENT_TYPES[spec.depth]).set_layout(ov.Layout("NHWC"))
    image.model().set_layout(ov.Layout("NCHW"))
    # The layout first: bytes are a quarter of the traffic of floats.
    steps = image.preprocess().convert_layout(ov.Layout("NCHW")).convert_element_type(ov.Type.f32)
    if swap:
        steps.reverse_channels()
    if spec.depth.peak != 1.0:
        steps.scale(spec.depth.peak)
    model = process.build()
    restored = model.output(0).node.input_value(0)
    if swap and manifest.output.channels == 3:
        restored = ops.gather(restored, np.array([2, 1, 0]), np.array(1)).output(0)
    depth = spec.output_depth or spec.depth
    if depth.peak != 1.0:
        scaled = ops.multiply(restored, np.float32(depth.peak))
        whole = ops.round(scaled, "half_to_even")
        restored = ops.convert(whole, _ELEMENT_TYPES[depth].get_type_name()).output(0)
    result = ops.result(ops.transpose(restored, np.array([0, 2, 3, 1])))
    result.output(0).set_names({"restored"})
    return ov.Model([result], model.get_parameters(), manifest.name)


class OpenVinoQueue:
    """`InferQueue` over a ring of infer requests.

    The ring is first in, first out: a submission takes the request of the oldest one and,
    if that is still running, first finishes it. No callback threads exist, so an error
    surfaces in `result` of the submission it belongs to and nowhere else.
    """

    def __init__(self, compiled: ov.CompiledModel, spec: QueueSpec, requests: int) -> None:
        self.spec, self.requests = spec, requests
        self.compiled = compiled
        with _translated("creating infer requests"):
            self._slots = [_Slot(compiled) for _ in range(requests)]
        shape = list(compiled.output(0).shape)
        self._output_shape = (shape[1], shape[2], shape[3])
        strength = list(compiled.input(1).shape)
        self._strength_shape = (strength[2], strength[3])
        self._next = 0
        self._closed = False
        self._lock = threading.Lock()
        self._scalar: tuple[float, _Shared] | None = None

    def submit(
        self,
        image: Image,
        strength: float | NDArray[np.float32],
        destination: Image,
        *,
        read: tuple[int, int] = (0, 0),
        keep: tuple[int, int] = (0, 0),
    ) -> OpenVinoCompletion:
        """Start one inference; see `InferQueue.submit`."""
        with self._lock:
            if self._closed:
                raise InferenceError("the infer queue is closed")
            slot = self._slots[self._next]
            self._next = (self._next + 1) % self.requests
            slot.finish()
            with _translated("submitting a tile"):
                whole = keep == (0, 0) and destination.shape == self._output_shape
                direct = whole and destination.flags.c_contiguous
                output = _shared(destination) if direct else slot.scratch
                inputs = self._image_tile(image, read), self._strength_tile(strength, read)
                slot.request.set_input_tensor(0, inputs[0].tensor)
                slot.request.set_input_tensor(1, inputs[1].tensor)
                slot.request.set_output_tensor(0, output.tensor)
                completion = OpenVinoCompletion(
                    slot, (*inputs, output), None if direct else (destination, keep)
                )
                slot.request.start_async()
            slot.running = completion
            return completion

    def close(self) -> None:
        """Wait for what is running and free the requests."""
        with self._lock:
            self._closed = True
            for slot in self._slots:
                slot.finish()
            self._slots.clear()
            self._scalar = None

    def _image_tile(self, image: Image, read: tuple[int, int]) -> _Shared:
        height, width = self.spec.height, self.spec.width
        if image.shape[:2] == (height, width):
            return _shared(image)
        # A tile is copied out, though OpenVINO takes strided views: the CPU plugin copies
        # those too, and into the memory of an earlier, dense input of the same request
        # (2026.4), which may long be somebody else's.
        top, left = read
        return _shared(np.ascontiguousarray(image[top : top + height, left : left + width]))

    def _strength_tile(
        self, strength: float | NDArray[np.float32], read: tuple[int, int]
    ) -> _Shared:
        height, width = self._strength_shape
        if isinstance(strength, float):
            if self._scalar is None or self._scalar[0] != strength:
                filled = np.full((1, height, width), strength, np.float32)
                self._scalar = (strength, _shared(filled))
            return self._scalar[1]
        upscale = height // self.spec.height
        top, left = read[0] * upscale, read[1] * upscale
        tile = strength[top : top + height, left : left + width]
        return _shared(np.ascontiguousarray(tile)[None])


@dataclass(frozen=True)
class _Shared:
    """A tensor over NumPy's memory; OpenVINO holds no reference to it, so this does."""

    tensor: ov.Tensor
    memory: Image | None = None


def _shared(array: Image) -> _Shared:
    return _Shared(ov.Tensor(array[None], shared_memory=True), array)


class _Slot:
    """One infer request, its own output memory, and the submission it works on."""

    def __init__(self, compiled: ov.CompiledModel) -> None:
        self.request = compiled.create_infer_request()
        self.running: OpenVinoCompletion | None = None
        self._output = compiled.output(0)
        self._scratch: _Shared | None = None

    @property
    def scratch(self) -> _Shared:
        """Output memory for tiles of which a part is kept; made when first needed."""
        if self._scratch is None:
            self._scratch = _Shared(ov.Tensor(self._output.element_type, self._output.shape))
        return self._scratch

    def finish(self) -> None:
        """Bring the running submission to its end, so that the request is free."""
        if self.running is not None:
            self.running.finish()
            self.running = None


class OpenVinoCompletion:
    """`Completion` of one infer request."""

    def __init__(
        self,
        slot: _Slot,
        memory: tuple[_Shared, ...],
        copy: tuple[Image, tuple[int, int]] | None,
    ) -> None:
        self._slot: _Slot | None = slot
        self._memory = memory  # must outlive the inference
        self._copy = copy
        self._error: InferenceError | None = None
        self._lock = threading.Lock()

    def done(self) -> bool:
        """Return whether `result` would not block."""
        slot = self._slot
        if slot is None:
            return True
        try:
            return bool(slot.request.wait_for(0))
        except RuntimeError:
            return True  # it failed; `result` says how

    def result(self, timeout: float | None = None) -> None:
        """Wait for the outcome; see `Completion.result`."""
        if not self.finish(timeout):
            raise TimeoutError(f"no result within {timeout} s")
        if self._error is not None:
            raise self._error

    def finish(self, timeout: float | None = None) -> bool:
        """Wait and copy the kept part, once; keep an error for `result`."""
        with self._lock:
            slot = self._slot
            if slot is None:
                return True
            try:
                with _translated("inference"):
                    if timeout is None:
                        slot.request.wait()
                    elif not slot.request.wait_for(int(timeout * 1000)):
                        return False
                if self._copy is not None:
                    destination, (top, left) = self._copy
                    height, width = destination.shape[:2]
                    output = slot.scratch.tensor.data[0]
                    np.copyto(destination, output[top : top + height, left : left + width])
            except InferenceError as error:
                self._error = error
            self._slot = self._copy = None
            self._memory = ()
            return True
