"""The engine's face: images in, restored images out, at a strength that may change any time."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from types import TracebackType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..bundle import Bundle
from ..errors import ArgumentError, InferenceError
from ..manifest import OutputKind, TilingMode
from ..pixels import ChannelOrder, Depth, Image, ImageKind, check_image
from ..runtimes import runtime_for
from ..runtimes.protocol import Completion, InferQueue, Model, QueueSpec
from .channels import ChannelPlan
from .precision import choose_precision
from .precision_speed import int8_pace
from .strength import Strength, check_map, check_scalar
from .tiles.submission import submit_tiles, submit_windows
from .tiles.tile_size import TileChooser
from .tiles.tiling import Grid
from .tiles.windowing import WindowGrid

__all__ = ["Pending", "Restorer", "load"]

_QUEUES_KEPT = 3  # compiled shapes kept for folders of pictures of several sizes


def load(
    model: str | os.PathLike[str] = "deblur",
    *,
    device: str = "CPU",
    precision: str = "auto",
    tile: int | Literal["auto"] = "auto",
    strength: float = 1.0,
    color: str = "rgb",
    live: bool = False,
    memory_mb: int | None = None,
) -> Restorer:
    """Open a model for use.

    Parameters
    ----------
    model : str or path
        A name that ``edgerestore models`` lists, or a bundle's folder.
    device : str
        As OpenVINO spells it: ``CPU``, ``GPU``, ``NPU``, ``AUTO``, ``AUTO:GPU,CPU``, ...
    precision : str
        ``auto``, ``fp32``, ``bf16``, ``fp16`` or ``int8``. ``auto`` takes INT8 where the
        bundle has it within its quality budget and the device runs it faster, else the
        device's native half, else f32; `Restorer.precision_reason` says why.
    tile : int or ``auto``
        Side of a tile in pixels. ``auto`` chooses by memory and measured speed.
    strength : float
        From 0 (the input) over 1 (the model) to 2.
    color : str
        ``rgb`` or ``bgr``: the order of colour channels, in and out.
    live : bool
        Favour the latency of one image over the throughput of many.
    memory_mb : int, optional
        What the tiles in flight may take, in MiB; 512 or a quarter of what is free,
        whichever is less, when not given.

    Returns
    -------
    Restorer
        A context manager; close it to free the device.

    Raises
    ------
    BundleError, DeviceError, ArgumentError
        Where the model, the device, or a value is not usable.
    """
    try:
        order = ChannelOrder(color)
    except ValueError:
        order = ChannelOrder.GRAY
    if order is ChannelOrder.GRAY:
        raise ArgumentError(f"color is rgb or bgr, got {color!r}")
    bundle = Bundle.find(model)
    if bundle.manifest.output.kind is OutputKind.SHIFT:
        raise ArgumentError(f"{bundle.manifest.name} estimates shifts and restores no images")
    runtime = runtime_for(device)
    chosen = choose_precision(
        precision,
        bundle.manifest,
        runtime.precisions(device),
        partial(int8_pace, bundle, runtime, device),
    )
    opened = runtime.load(bundle, device, chosen.precision, live=live)
    restorer = Restorer(
        bundle, opened, TileChooser(tile, memory_mb), strength=strength, order=order
    )
    restorer.precision_reason = chosen.reason
    return restorer


class Restorer:
    """A model on a device, ready for images of any size; made by `load`.

    Every method may be called from any thread. Results are exact: the same image gives
    the same bytes, tiled or whole.
    """

    def __init__(
        self,
        bundle: Bundle,
        model: Model,
        chooser: TileChooser,
        *,
        strength: float = 1.0,
        order: ChannelOrder = ChannelOrder.RGB,
    ) -> None:
        self.bundle = bundle
        self.device, self.precision = model.device, model.precision
        self.precision_reason = ""
        self.plan = ""
        self._model, self._chooser, self._order = model, chooser, order
        self._strength = check_scalar(strength)
        self._queues: OrderedDict[QueueSpec, InferQueue] = OrderedDict()
        self._grids: OrderedDict[tuple[int, int], Grid | WindowGrid] = OrderedDict()
        self._closed = False
        self._lock = threading.Lock()

    @property
    def strength(self) -> float:
        """The strength of the next image submitted without one; settable at any time."""
        return self._strength

    @strength.setter
    def strength(self, strength: float) -> None:
        self._strength = check_scalar(strength)

    @property
    def depth(self) -> int:
        """How many images are worth having in flight to keep the device busy."""
        queue = next(reversed(self._queues.values()), None)
        return queue.requests if queue else 2

    def submit(self, image: Image, strength: Strength | None = None) -> Pending:
        """Start restoring an image.

        Blocks while the device has enough to do. Images are worked on in the order of
        submission.

        Parameters
        ----------
        image : ndarray, u8, u16 or f32 in [0, 1], shape (H, W) or (H, W, C), C in 1, 3, 4
            Read until the outcome is there: do not write to it before.
        strength : float or ndarray of shape (H, W), optional
            In [0, 2]; `Restorer.strength` when not given. Read before this returns.

        Returns
        -------
        Pending

        Raises
        ------
        ArgumentError
            On an image or strength that is not usable.
        InferenceError
            When the model cannot be compiled for this size, or the restorer is closed.
        """
        kind = check_image(image)
        upscale = self.bundle.manifest.output.upscale
        value: float | NDArray[np.float32]
        if isinstance(strength, np.ndarray) and strength.ndim:
            value = check_map(strength, kind.height, kind.width, upscale)
        else:
            value = self._strength if strength is None else check_scalar(strength)
        with self._lock:
            if self._closed:
                raise InferenceError("the restorer is closed")
            if isinstance(value, float) and value == 0.0 and self._returns_input:
                return Pending([], lambda: image.copy())
            return self._start(image, kind, value)

    def __call__(self, image: Image, strength: Strength | None = None) -> Image:
        """Restore an image and wait for it; see `submit`."""
        return self.submit(image, strength).result()

    def stream(self, frames: Iterable[Image], strength: Strength | None = None) -> Iterator[Image]:
        """Restore images one after another, in order, as they are asked for.

        A few are in flight at a time (`depth`), so the iterable is read that far ahead.
        """
        flying: deque[Pending] = deque()
        for frame in frames:
            flying.append(self.submit(frame, strength))
            if len(flying) >= self.depth:
                yield flying.popleft().result()
        while flying:
            yield flying.popleft().result()

    def close(self) -> None:
        """Finish what was submitted and free the device. May be called twice."""
        with self._lock:
            self._closed = True
            while self._queues:
                self._queues.popitem()[1].close()

    def __enter__(self) -> Restorer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def _returns_input(self) -> bool:
        output = self.bundle.manifest.output
        return output.kind is OutputKind.IMAGE and output.upscale == 1

    def _start(
        self, image: Image, kind: ImageKind, strength: float | NDArray[np.float32]
    ) -> Pending:
        output = self.bundle.manifest.output
        plan = ChannelPlan(kind, self.bundle.manifest.input.channels, self._order)
        grid = self._grid(kind, plan)
        # Windows are faded in f32 and rounded once, afterwards.
        depth = Depth.F32 if isinstance(grid, WindowGrid) else kind.depth
        shape = (grid.tile_height, grid.tile_width)
        queue = self._queue(QueueSpec(*shape, kind.depth, plan.queue_order, depth))
        submitted = []
        for plane in plan.split(image):
            work = (plane, strength, output.channels, output.upscale)
            if isinstance(grid, WindowGrid):
                submitted.append(submit_windows(queue, grid, *work))
            else:
                submitted.append(submit_tiles(queue, grid, *work))

        def merge() -> Image:
            return plan.merge([gather() for _, gather in submitted], image, output.upscale)

        return Pending([one for each, _ in submitted for one in each], merge)

    def _grid(self, kind: ImageKind, plan: ChannelPlan) -> Grid | WindowGrid:
        size = (kind.height, kind.width)
        if size not in self._grids:
            if len(self._grids) >= _QUEUES_KEPT:
                self._grids.popitem(last=False)
            self._grids[size] = self._planned(kind, plan)
        return self._grids[size]

    def _planned(self, kind: ImageKind, plan: ChannelPlan) -> Grid | WindowGrid:
        manifest = self.bundle.manifest
        tiling, size = manifest.tiling, (kind.height, kind.width)
        multiple, upscale = manifest.input.multiple_of, manifest.output.upscale
        if tiling.mode is TilingMode.WINDOWED:
            window, ramp = self._chooser.asked or tiling.window_px, tiling.ramp_px
            assert window is not None and ramp is not None  # noqa: PT018, S101 - manifest's check
            grid = WindowGrid.plan(*size, window, ramp=ramp, multiple=multiple, upscale=upscale)
            self.plan = (
                f"{len(grid.windows)} windows of {grid.tile_width}x{grid.tile_height}, not exact:"
                f" {tiling.reason}"
            )
            return grid
        side, self.plan = self._chooser.choose(self.bundle, self._model, kind, plan.queue_order)
        return Grid.plan(*size, side, halo=tiling.halo_px, multiple=multiple, upscale=upscale)

    def _queue(self, spec: QueueSpec) -> InferQueue:
        if spec in self._queues:
            self._queues.move_to_end(spec)
        else:
            if len(self._queues) >= _QUEUES_KEPT:
                self._queues.popitem(last=False)[1].close()
            self._queues[spec] = self._model.open_queue(spec)
        return self._queues[spec]


class Pending:
    """An image on its way; its result may be asked for by any thread, any number of times."""

    def __init__(self, completions: list[Completion], merge: Callable[[], Image]) -> None:
        self._completions = completions
        self._merge: Callable[[], Image] | None = merge
        self._image: Image | None = None
        self._lock = threading.Lock()

    def done(self) -> bool:
        """Return whether `result` would not block."""
        return all(completion.done() for completion in self._completions)

    def result(self, timeout: float | None = None) -> Image:
        """Wait for the restored image.

        Parameters
        ----------
        timeout : float, optional
            Seconds; for ever when not given.

        Returns
        -------
        ndarray
            Of the dtype and rank of the image that was submitted.

        Raises
        ------
        InferenceError
            When this image's inference failed.
        TimeoutError
            When it is not there in time; ask again later.
        """
        for completion in self._completions:
            completion.result(timeout)
        with self._lock:
            if self._image is None and self._merge is not None:
                self._image = self._merge()
                self._completions, self._merge = [], None
            assert self._image is not None  # noqa: S101 - for the type checker
            return self._image
