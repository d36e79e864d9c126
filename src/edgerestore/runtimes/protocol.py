"""Protocols between the engine and the inference libraries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..bundle.bundle import Bundle
from ..bundle.precision import Precision
from ..errors import ArgumentError, DeviceError
from ..imaging.arrays import ChannelOrder, Depth, Image

__all__ = [
    "DEFAULT_TUNING",
    "Completion",
    "InferQueue",
    "Model",
    "QueueSpec",
    "Runtime",
    "Tuning",
    "check_precision",
    "check_tuning",
]


@dataclass(frozen=True)
class QueueSpec:
    """Static shape and pixel format of an infer queue.

    Parameters
    ----------
    height, width : int
        Sides of a submitted image in pixels. Any size: the graph pads to its multiple.
    depth : Depth
        Sample type in and out.
    order : ChannelOrder
        Channel order in and out; ``GRAY`` for one-channel models.
    output_depth : Depth or None
        Sample type out where it differs from ``depth``.
    toned : bool
        Submissions bring a tone, which is applied before the outcome is rounded.
    """

    height: int
    width: int
    depth: Depth
    order: ChannelOrder
    output_depth: Depth | None = None
    toned: bool = False


@dataclass(frozen=True)
class Tuning:
    """Settings that change a model's speed and nothing of its outcome; None is the runtime's own.

    Parameters
    ----------
    threads : int or None
        Threads that one inference, or all of them, may use on the CPU.
    streams : int or None
        Inferences that a CPU runs at a time.
    requests : int or None
        Submissions in flight.
    pinning : bool or None
        Threads stay on their cores.
    graphs : bool or None
        A GPU's launches are recorded once and replayed.
    """

    threads: int | None = None
    streams: int | None = None
    requests: int | None = None
    pinning: bool | None = None
    graphs: bool | None = None

    def __post_init__(self) -> None:
        """Check the values at the door."""
        for field in fields(self):
            value = getattr(self, field.name)
            flag = field.name in ("pinning", "graphs")
            if value is None or (flag and isinstance(value, bool)):
                continue
            if flag or isinstance(value, bool) or not isinstance(value, int) or value < 1:
                expected = "True or False" if flag else "a whole number above 0"
                raise ArgumentError(f"tuning: {field.name} is {expected}, got {value!r}")

    @property
    def stated(self) -> dict[str, int | bool]:
        """The settings that are not the runtime's own, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


DEFAULT_TUNING = Tuning()
"""Nothing said: the runtime's own settings."""


def check_precision(precision: str, native: Sequence[Precision], device: str) -> Precision:
    """Return a precision of a device, by its name.

    Raises
    ------
    DeviceError
        When the device has it not; names those that it has.
    """
    if precision not in native:
        raise DeviceError(f"{device} has no {precision}, only {', '.join(native)}")
    return Precision(precision)


def check_tuning(tuning: Tuning, tunables: Mapping[str, object], where: str) -> None:
    """Refuse settings that a model does not obey.

    Raises
    ------
    ArgumentError
        Names those that it does.
    """
    for name in tuning.stated:
        if name not in tunables:
            has = ", ".join(tunables) or "nothing"
            raise ArgumentError(f"tuning: {where} has no {name} to set, only {has}")


class Completion(Protocol):
    """Pending work: one submission to a queue that may still run, or what waits for several."""

    def done(self) -> bool:
        """Return whether `result` would not block. Never blocks, never raises."""

    def result(self, timeout: float | None = None) -> object:
        """Wait until the destination holds the outcome.

        May be called from any thread, any number of times. An error of this very
        submission is raised here, each time, as an `InferenceError`. `TimeoutError` after
        ``timeout`` seconds (``None``: for ever).
        """


class InferQueue(Protocol):
    """A ring of infer requests of one static shape.

    Order: completions become done in any order; the engine waits for them in its own.
    Blocking: `submit` returns at once while a request is free, else it waits for the
    oldest submission; of a model loaded as live for a minute at most, then it raises
    `NoAnswerError`. Threads: `submit` may be called from several threads. Loss of the device:
    everything in flight and every later submission raises `DeviceLostError`, and ``lost`` is
    true; a new queue opens the device anew.

    Attributes
    ----------
    memory_bytes : int or None
        What the queue takes of a memory that is the device's own; None where it is the process's.
    """

    spec: QueueSpec
    requests: int
    memory_bytes: int | None

    def submit(
        self,
        image: Image,
        strength: float | NDArray[np.float32],
        destination: Image,
        *,
        read: tuple[int, int] = (0, 0),
        keep: tuple[int, int] = (0, 0),
        tone: NDArray[np.float32] | None = None,
    ) -> Completion:
        """Start one inference on a tile of a frame.

        Parameters
        ----------
        image : ndarray, shape (H, W, C), C-contiguous and writable
            The frame that the tile is read from, without a copy where the runtime can.
            Read until the completion is done; not to be written meanwhile.
        strength : float or ndarray, f32, shape (H * upscale, W * upscale), C-contiguous
            One number, or a map of the whole frame; likewise read until done.
        destination : ndarray, shape (h, w, C')
            Written before the completion is done, and nowhere outside ``h x w``.
        read : (int, int)
            Top and left corner of the tile in ``image``, input pixels.
        keep : (int, int)
            Top and left corner, in the tile's output pixels, of the part that goes to
            ``destination``.
        tone : ndarray, f32, shape (2, C'), or None
            Gain and offset for each outcome channel, on levels in [0, 1], in the queue's
            channel order; there if and only if the queue is `toned`.
        """

    @property
    def lost(self) -> bool:
        """Whether the device went away; the queue is of no use then."""

    def close(self) -> None:
        """Wait for what is running, then free the requests. Later submits raise."""


class Model(Protocol):
    """A bundle on a device at a precision; opens queues of any shape.

    Attributes
    ----------
    runtime : str
        Name of the `Runtime` that loaded it.
    device : str
        As it was given to `Runtime.load`, without absent ones of an ``AUTO`` list.
    precision : Precision
    """

    runtime: str
    device: str
    precision: Precision

    def open_queue(self, spec: QueueSpec, requests: int | None = None) -> InferQueue:
        """Compile for one shape. ``requests`` defaults to what keeps the device busy.

        Raises
        ------
        InferenceError
            Where it cannot be compiled; names the operation where one is to blame.
        OutOfDeviceMemoryError
            Where the device's memory does not hold it.
        """

    def tunables(self) -> Mapping[str, tuple[int | bool, ...]]:
        """Return the settings of `Tuning` that the model obeys here, each with values to try.

        The first value is what the model takes when nothing is said.
        """


class Runtime(Protocol):
    """One inference library.

    Attributes
    ----------
    name : str
        As ``--runtime`` takes it.
    """

    name: str

    def devices(self) -> list[str]:
        """Return the names of the devices present, as `load` takes them."""

    def describe(self, device: str) -> str:
        """Return the full name of a device, for messages."""

    def precisions(self, device: str) -> list[Precision]:
        """Return what a device computes natively, the default first."""

    def load(
        self,
        bundle: Bundle,
        device: str,
        precision: Precision,
        *,
        live: bool = False,
        tuning: Tuning = DEFAULT_TUNING,
    ) -> Model:
        """Read a bundle's graph for a device.

        Parameters
        ----------
        live : bool
            Favour the latency of one image over the throughput of many.
        tuning : Tuning

        Raises
        ------
        DeviceError
            When the device is absent (the message lists what is there) or lacks the
            precision.
        ArgumentError
            When the model does not obey a setting of ``tuning``.
        """
