"""The infer queue over OpenVINO: a ring of requests on memory that callers own."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from ...errors import DeviceLostError, InferenceError, NoAnswerError
from ...imaging.arrays import Image
from ..protocol import QueueSpec
from .graph import translated

__all__ = ["OpenVinoCompletion", "OpenVinoQueue"]


_SLICE_MS = 200

# Requests whose device hangs: letting go of one waits for it as well.
_HUNG: list[_Slot] = []


class OpenVinoQueue:
    """`InferQueue` over a ring of infer requests.

    The ring is first in, first out: a submission takes the request of the oldest one and,
    if that is still running, first finishes it. No callback threads exist, so an error
    surfaces in `result` of the submission it belongs to and nowhere else.

    Parameters
    ----------
    compiled : openvino.CompiledModel
    spec : QueueSpec
    requests : int
    patience_s : float or None
        How long `submit` waits for the oldest submission before it raises `NoAnswerError`.
    """

    def __init__(
        self,
        compiled: ov.CompiledModel,
        spec: QueueSpec,
        requests: int,
        *,
        patience_s: float | None = None,
    ) -> None:
        self.spec, self.requests = spec, requests
        # OpenVINO tells it of graphics cards alone, and of all models together.
        self.memory_bytes: int | None = None
        self._patience_s = patience_s
        self.compiled = compiled
        with translated("creating infer requests"):
            self._slots = [_Slot(compiled) for _ in range(requests)]
        self._output_shape = tuple(compiled.output(0).shape)[1:]
        self._strength_shape = tuple(compiled.input(1).shape)[2:]
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
        tone: NDArray[np.float32] | None = None,
    ) -> OpenVinoCompletion:
        """Start one inference; see `InferQueue.submit`."""
        with self._lock:
            if self._closed:
                raise InferenceError("the infer queue is closed")
            if self.lost:
                raise DeviceLostError("the device was lost; load the model again")
            slot = self._slots[self._next]
            if not slot.finish(self._patience_s):
                raise NoAnswerError(f"the device has not answered for {self._patience_s:g} s")
            self._next = (self._next + 1) % self.requests
            with translated("submitting a tile"):
                whole = keep == (0, 0) and destination.shape == self._output_shape
                direct = whole and destination.flags.c_contiguous
                output = _shared(destination) if direct else slot.scratch
                inputs = [self._image_tile(image, read), self._strength_tile(strength, read)]
                if tone is not None:
                    inputs.append(_shared(np.require(tone, np.float32, "C")))
                for place, shared in enumerate(inputs):
                    slot.request.set_input_tensor(place, shared.tensor)
                slot.request.set_output_tensor(0, output.tensor)
                completion = OpenVinoCompletion(
                    slot, (*inputs, output), None if direct else (destination, keep)
                )
                slot.request.start_async()
            slot.running = completion
            return completion

    @property
    def lost(self) -> bool:
        """Whether the device went away."""
        return any(slot.lost for slot in self._slots)

    def close(self) -> None:
        """Wait for what is running and free the requests.

        Requests that do not answer within the patience are left to the device: nothing that
        waits for them would ever end.
        """
        with self._lock:
            self._closed = True
            if not all(slot.finish(self._patience_s) for slot in self._slots):
                _HUNG.extend(self._slots)
            self._slots, self._scalar = [], None

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
        self.lost = False
        self._output = compiled.output(0)
        self._scratch: _Shared | None = None

    @property
    def scratch(self) -> _Shared:
        """Output memory for tiles of which a part is kept; made when first needed."""
        if self._scratch is None:
            self._scratch = _Shared(ov.Tensor(self._output.element_type, self._output.shape))
        return self._scratch

    def finish(self, timeout: float | None = None) -> bool:
        """Bring the running submission to its end, so that the request is free."""
        if self.running is not None and not self.running.finish(timeout):
            return False
        self.running = None
        return True


class OpenVinoCompletion:
    """`Completion` of one infer request."""

    def __init__(
        self, slot: _Slot, memory: tuple[_Shared, ...], copy: tuple[Image, tuple[int, int]] | None
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
                with translated("inference"):
                    if timeout is None:
                        # In slices: Ctrl-C is only seen between them.
                        while not slot.request.wait_for(_SLICE_MS):
                            pass
                    elif not slot.request.wait_for(int(timeout * 1000)):
                        return False
                if self._copy is not None:
                    destination, (top, left) = self._copy
                    height, width = destination.shape[:2]
                    output = slot.scratch.tensor.data[0]
                    np.copyto(destination, output[top : top + height, left : left + width])
            except InferenceError as error:
                self._error = error
                slot.lost = slot.lost or isinstance(error, DeviceLostError)
            self._slot = self._copy = None
            self._memory = ()
            return True
