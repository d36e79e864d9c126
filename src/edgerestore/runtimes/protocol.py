"""Protocols between the engine and the inference libraries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..bundle.bundle import Bundle
from ..bundle.precision import Precision
from ..imaging.arrays import ChannelOrder, Depth, Image

__all__ = ["Completion", "InferQueue", "Model", "QueueSpec", "Runtime"]


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
    `NoAnswerError`. Threads: `submit` may be called from several threads.
    """

    spec: QueueSpec
    requests: int

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
        """Compile for one shape. ``requests`` defaults to what keeps the device busy."""


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

    def load(self, bundle: Bundle, device: str, precision: Precision, *, live: bool) -> Model:
        """Read a bundle's graph for a device.

        Parameters
        ----------
        live : bool
            Favour the latency of one image over the throughput of many.

        Raises
        ------
        DeviceError
            When the device is absent (the message lists what is there) or lacks the
            precision.
        """
