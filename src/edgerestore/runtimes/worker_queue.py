"""The infer queue of libraries that compute synchronously: one worker thread behind a ring."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import DeviceLostError, InferenceError, NoAnswerError, first_line
from ..imaging.arrays import Image
from .device_errors import device_error_kind
from .protocol import QueueSpec

__all__ = ["Executor", "WorkerCompletion", "WorkerQueue"]


class Executor(Protocol):
    """Computation of one static shape, called by one thread at a time.

    Order: `finish` is called once for each `start`, in the same order. Up to ``slots`` are
    started before the first is finished; with one slot, what `start` returns is finished
    before the next is started.
    """

    slots: int
    memory_bytes: int | None

    def start(self, inputs: Sequence[NDArray[Any]], output: NDArray[Any] | None) -> Any:
        """Begin one inference.

        Parameters
        ----------
        inputs : sequence of ndarray
            Image [1, H, W, C], strength [1, 1, 1, 1] or [1, 1, H', W'] and, where the queue is
            toned, tone [1, 2, C']: C-contiguous, and alive until it is finished.
        output : ndarray or None
            C-contiguous memory [1, H', W', C'] for the outcome, where the caller has such.
        """

    def finish(self, started: Any) -> NDArray[Any]:
        """Wait for an inference; return its outcome, ``output`` itself where that was given.

        It is read before the next `start` of the same slot.
        """

    def close(self) -> None:
        """Free what it holds."""


@dataclass
class _Job:
    """A submission on its way through the worker."""

    inputs: list[NDArray[Any]]
    output: NDArray[Any] | None
    destination: Image
    keep: tuple[int, int]
    completion: WorkerCompletion


class WorkerCompletion:
    """`Completion` of one submission."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._error: InferenceError | None = None

    def done(self) -> bool:
        """Return whether `result` would not block."""
        return self._event.is_set()

    def result(self, timeout: float | None = None) -> None:
        """Wait for the outcome; see `Completion.result`."""
        if not self._event.wait(timeout):
            raise TimeoutError(f"no result within {timeout} s")
        if self._error is not None:
            raise self._error

    def wait(self, timeout: float | None) -> bool:
        """Wait for the end, whatever it is."""
        return self._event.wait(timeout)

    def end(self, error: InferenceError | None = None) -> None:
        """Note the end."""
        self._error = error
        self._event.set()


class WorkerQueue:
    """`InferQueue` of one thread that computes what was submitted, in order.

    Parameters
    ----------
    make : callable
        Makes the executor; called on the worker thread, which is the only one that uses it.
    spec : QueueSpec
    channels : (int, int)
        Of the image in and out.
    upscale : int
    requests : int
    name : str
        Of the library, for messages.
    patience_s : float or None
        How long `submit` waits for the oldest submission before it raises `NoAnswerError`.

    Raises
    ------
    InferenceError
        Where the executor cannot be made.
    """

    def __init__(
        self,
        make: Callable[[], Executor],
        spec: QueueSpec,
        channels: tuple[int, int],
        upscale: int,
        requests: int,
        *,
        name: str,
        patience_s: float | None = None,
    ) -> None:
        self.spec, self.requests = spec, requests
        self.memory_bytes: int | None = None
        self.lost = False
        self._channels, self._upscale, self._name = channels, upscale, name
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._running: deque[WorkerCompletion] = deque()
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._closed = False
        made = WorkerCompletion()
        self._thread = threading.Thread(
            target=self._work, args=(make, made), name=f"edgerestore {name}", daemon=True
        )
        self._thread.start()
        made.result()

    def submit(
        self,
        image: Image,
        strength: float | NDArray[np.float32],
        destination: Image,
        *,
        read: tuple[int, int] = (0, 0),
        keep: tuple[int, int] = (0, 0),
        tone: NDArray[np.float32] | None = None,
    ) -> WorkerCompletion:
        """Start one inference; see `InferQueue.submit`."""
        with self._lock:
            if self._closed:
                raise InferenceError("the infer queue is closed")
            if self.lost:
                raise DeviceLostError(f"{self._name}: the device was lost; load the model again")
            while self._running and self._running[0].done():
                self._running.popleft()
            if len(self._running) >= self.requests:
                if not self._running[0].wait(self._patience_s):
                    raise NoAnswerError(f"the device has not answered for {self._patience_s:g} s")
                self._running.popleft()
            inputs = [self._image_tile(image, read), self._strength_tile(strength, read)]
            if (tone is not None) != self.spec.toned:
                raise InferenceError("a tone comes with each submission of a toned queue, only")
            if tone is not None:
                inputs.append(np.require(tone, np.float32, "C")[None])
            output = self._direct(destination, keep)
            completion = WorkerCompletion()
            self._running.append(completion)
            self._jobs.put(_Job(inputs, output, destination, keep, completion))
            return completion

    def close(self) -> None:
        """Wait for what is running and free the device; one that hangs is left to itself."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._jobs.put(None)
        self._thread.join(self._patience_s)

    def _image_tile(self, image: Image, read: tuple[int, int]) -> NDArray[Any]:
        height, width = self.spec.height, self.spec.width
        tile = image[read[0] : read[0] + height, read[1] : read[1] + width]
        wanted = (height, width, self._channels[0])
        if tile.shape != wanted or tile.dtype != np.dtype(self.spec.depth.value):
            raise InferenceError(f"submitting a tile: {tile.dtype} {tile.shape}, needs {wanted}")
        return np.ascontiguousarray(tile)[None]

    def _strength_tile(
        self, strength: float | NDArray[np.float32], read: tuple[int, int]
    ) -> NDArray[np.float32]:
        if isinstance(strength, (int, float)):
            return np.full((1, 1, 1, 1), strength, np.float32)
        rows, columns = (
            slice(start * self._upscale, (start + length) * self._upscale)
            for start, length in zip(read, (self.spec.height, self.spec.width), strict=True)
        )
        return np.ascontiguousarray(strength[rows, columns], np.float32)[None, None]

    def _direct(self, destination: Image, keep: tuple[int, int]) -> NDArray[Any] | None:
        """Return the destination's memory where it takes a whole outcome as it is computed."""
        sides = (self.spec.height * self._upscale, self.spec.width * self._upscale)
        depth = self.spec.output_depth or self.spec.depth
        if keep[0] + destination.shape[0] > sides[0] or keep[1] + destination.shape[1] > sides[1]:
            raise InferenceError(f"submitting a tile: its outcome has no {destination.shape}")
        whole = destination.shape == (*sides, self._channels[1])
        if whole and destination.flags.c_contiguous and destination.dtype == depth.value:
            return destination[None]
        return None

    def _work(self, make: Callable[[], Executor], made: WorkerCompletion) -> None:
        try:
            executor = make()
        except Exception as error:
            made.end(self._translated("compiling", error))
            return
        self.memory_bytes = executor.memory_bytes
        made.end()
        started: deque[tuple[_Job, Any]] = deque()
        while True:
            # What was started is finished once nothing else can be started.
            if started and (len(started) >= executor.slots or self._jobs.empty()):
                self._finish(executor, *started.popleft())
                continue
            job = self._jobs.get()
            if job is None:
                break
            self._start(executor, job, started)
        while started:
            self._finish(executor, *started.popleft())
        executor.close()

    def _start(self, executor: Executor, job: _Job, started: deque[tuple[_Job, Any]]) -> None:
        if self.lost:
            job.completion.end(DeviceLostError(f"{self._name}: the device was lost"))
            return
        try:
            started.append((job, executor.start(job.inputs, job.output)))
        except Exception as error:
            self._fail(job, error)

    def _finish(self, executor: Executor, job: _Job, begun: Any) -> None:
        try:
            made = executor.finish(begun)
            if job.output is None:
                (top, left), (height, width) = job.keep, job.destination.shape[:2]
                np.copyto(job.destination, made[0, top : top + height, left : left + width])
        except Exception as error:
            self._fail(job, error)
        else:
            job.completion.end()

    def _fail(self, job: _Job, error: Exception) -> None:
        told = self._translated("inference", error)
        self.lost = self.lost or isinstance(told, DeviceLostError)
        job.completion.end(told)

    def _translated(self, doing: str, error: Exception) -> InferenceError:
        if isinstance(error, InferenceError):
            return error
        made = device_error_kind(error)(f"{doing} with {self._name}: {first_line(error)}")
        made.__cause__ = error
        return made
