"""One bundle on one device, restoring images of any size."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from ...bundle.bundle import Bundle
from ...bundle.manifest import TilingMode
from ...errors import OutOfDeviceMemoryError
from ...imaging.arrays import ChannelOrder, Depth, Image, ImageKind, round_up
from ...runtimes.protocol import InferQueue, Model, QueueSpec
from ..adjustments import Tone
from ..guard import Guard, GuardCounts
from ..int8_error import int8_budget_db, int8_loss_db
from ..temporal.cover import Canvas, shapes_for
from ..temporal.reuse import FramePlan, ReuseCounts, TemporalReuse
from ..tiling.exactness import CANONICAL_PX, exactness_here
from ..tiling.executor import InferQueues, Work, submit_grid
from ..tiling.grid import Grid, smallest_tile
from ..tiling.tile_size import TileChooser
from ..tiling.windows import WindowGrid
from .protocol import Pending, Settings

__all__ = ["ChannelPlan", "ModelPredictor", "with_alpha"]

logger = logging.getLogger(__name__)

_QUEUES_KEPT = 3  # compiled shapes kept for folders of pictures of several sizes
_PARTIAL_QUEUES_KEPT = 6  # of parts of frames: two for changes, and those of some intervals


class ModelPredictor:
    """`Predictor` over one model on a device.

    Results are exact: the same image gives the same bytes, tiled or whole, and whatever was
    taken over from the frame before, unless a threshold or a refresh interval allows more. Where
    the machine computes tiles and wholes by kernels that add in another order (`exactness_here`),
    one tile serves every frame, nothing is taken over, and `plan` says so.

    Parameters
    ----------
    bundle : Bundle
    model : Model
    chooser : TileChooser
    reuse_static : float or None
        Levels of 8 bits that do not count as a change; what did not change is taken over, and
        results are read-only. None compares nothing.
    guard : bool
        Validate the outcome of each tile; see `Guard`.
    precision_reason : str
        Why the model runs in its precision.
    rival : callable or None
        Opens the float model that takes the place of INT8 if the first image of 16 bits or floats
        shows INT8 over its budget. None keeps the precision.
    """

    def __init__(
        self,
        bundle: Bundle,
        model: Model,
        chooser: TileChooser,
        *,
        reuse_static: float | None = None,
        guard: bool = False,
        precision_reason: str = "",
        rival: Callable[[], Model] | None = None,
    ) -> None:
        self.bundle, self.plan, self.partial = bundle, "", True
        self.device, self.runtime = model.device, model.runtime
        self.precision = str(model.precision)
        self.precision_reason = precision_reason
        self._model, self._chooser, self._rival = model, chooser, rival
        manifest = bundle.manifest
        self._input, self._output, self._tiling = manifest.input, manifest.output, manifest.tiling
        self._reuse = TemporalReuse(reuse_static)
        self._guard = Guard(bundle.manifest) if guard else None
        self._queues = InferQueues(model, _QUEUES_KEPT)
        self._partial_queues = InferQueues(model, _PARTIAL_QUEUES_KEPT)
        self._grids: OrderedDict[tuple[int, int], Grid | WindowGrid] = OrderedDict()

    @property
    def depth(self) -> int:
        """How many images in flight keep the device busy."""
        queue = self._queues.latest
        return queue.requests if queue else 2

    @property
    def reuse(self) -> ReuseCounts | None:
        """Counts of what was taken over so far; None where nothing ever was or will be."""
        return self._reuse.counts

    @property
    def guarded(self) -> GuardCounts | None:
        """How many tiles the guard replaced, by cause; None without a guard."""
        return self._guard.counts if self._guard else None

    def submit(self, image: Image, kind: ImageKind, settings: Settings) -> Pending:
        """Start restoring an image; see `Predictor.submit`.

        Where the device's memory does not hold the tiles, smaller ones are taken from then on.
        """
        while True:
            try:
                return self._submit(image, kind, settings)
            except OutOfDeviceMemoryError as error:
                self._take_smaller_tiles(kind, error)

    def _take_smaller_tiles(self, kind: ImageKind, error: OutOfDeviceMemoryError) -> None:
        grid = self._grids.get((kind.height, kind.width))
        if not isinstance(grid, Grid) or self._tiling.mode is not TilingMode.EXACT:
            raise error
        side = max(grid.tile_height, grid.tile_width)
        smaller = self._chooser.shrink(self.bundle, self._model, side)
        if smaller is None:
            raise error
        logger.warning("%s; tiles of %d px are taken instead of %d", error, smaller, side)
        self._queues.free()
        self._partial_queues.free()
        self._grids.clear()
        self._reuse.forget()

    def _submit(self, image: Image, kind: ImageKind, settings: Settings) -> Pending:
        channels = ChannelPlan(kind, self._input.channels, settings.order)
        planes = channels.split(image)
        if self._rival is not None and kind.depth is not Depth.U8:
            self._judge_int8(planes[0], channels.queue_order)
        grid = self._grid(kind, channels)
        tone, made = settings.tone, settings.depth
        # Windows are faded in f32 and rounded once, afterwards.
        depth = Depth.F32 if isinstance(grid, WindowGrid) else made
        shape = self._rounded_up((grid.tile_height, grid.tile_width))
        spec = QueueSpec(*shape, kind.depth, channels.queue_order, depth, toned=tone is not None)
        works = [self._work(settings, place) for place in range(len(planes))]
        if self._reuse.compares or settings.refresh_interval > 1:
            key = (kind, channels.queue_order, made, tone)
            plan = self._frame_plan(spec, grid)
            outcomes = self._reuse.start(planes, works, plan, key, settings.refresh_interval)

            def merge_fixed() -> Image:
                merged = channels.merge([outcome.result() for outcome in outcomes], image)
                merged.flags.writeable = False
                return merged

            return Pending(outcomes, merge_fixed)
        self._reuse.forget()
        queue = self._queues.get(spec)
        if settings.count is not None:
            tiles = grid.windows if isinstance(grid, WindowGrid) else grid.tiles
            settings.count.expect(len(planes) * len(tiles))
            works = [replace(work, count=settings.count) for work in works]
        submitted = [
            submit_grid(queue, grid, plane, work) for plane, work in zip(planes, works, strict=True)
        ]

        def merge() -> Image:
            return channels.merge([gather() for _, gather in submitted], image)

        return Pending([one for each, _ in submitted for one in each], merge)

    def forget(self) -> None:
        """Infer all of the next image."""
        self._reuse.forget()

    def close(self) -> None:
        """Finish what was submitted and free the device. May be called twice."""
        self._rival = None
        self._queues.close()
        self._partial_queues.close()

    def _judge_int8(self, plane: Image, order: ChannelOrder) -> None:
        """Keep INT8 on samples finer than bytes, or replace it by its rival for good."""
        manifest = self.bundle.manifest
        if not manifest.output.kind.traits.blended:
            self._rival = None
        if self._rival is None or plane.min() == plane.max():
            return  # one value tells nothing
        rival, self._rival = self._rival(), None
        loss_db = int8_loss_db(self.bundle, self._model, rival, plane, order)
        allowed_db = int8_budget_db(manifest)
        measured = f"about {loss_db:.2g} dB on these samples, of {allowed_db:g} dB allowed"
        if loss_db <= allowed_db:
            self.precision_reason += f"; int8 loses {measured}"
            return
        self.precision = str(rival.precision)
        self.precision_reason = f"int8 loses {measured}"
        logger.info("%s runs at %s: %s", manifest.name, self.precision, self.precision_reason)
        self._queues.close()
        self._partial_queues.close()
        self._model, self._queues = rival, InferQueues(rival, _QUEUES_KEPT)
        self._partial_queues = InferQueues(rival, _PARTIAL_QUEUES_KEPT)
        self._grids.clear()
        self._reuse.forget()

    def _rounded_up(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Return the shape of the queue for a tile; see `tiling.executor`."""
        multiple = self._input.multiple_of
        return round_up(shape[0], multiple), round_up(shape[1], multiple)

    def _work(self, settings: Settings, place: int) -> Work:
        output, tone = self._output, settings.tone
        own = None if tone is None else _for_plane(tone, settings.order, output.channels, place)
        return Work(
            settings.strength,
            output.channels,
            output.upscale,
            settings.depth,
            own,
            self._guard,
            settings.on_guarded,
        )

    def _frame_plan(self, spec: QueueSpec, grid: Grid | WindowGrid) -> FramePlan:
        """Return what a frame that may be taken over in part is inferred with."""
        queue = self._queues.get(spec)

        def partial_queue(shape: tuple[int, int]) -> InferQueue:
            height, width = self._rounded_up(shape)
            return self._partial_queues.get(replace(spec, height=height, width=width))

        if self._tiling.mode is not TilingMode.EXACT:
            return FramePlan(queue, grid, None, (), partial_queue)
        halo, multiple = self._tiling.halo_px, self._input.multiple_of
        canvas = Canvas(grid.height, grid.width, halo, multiple, self._output.upscale)
        shapes = tuple(shapes_for(canvas)) if self._reuse.compares else ()
        for shape in shapes:
            partial_queue(shape)  # compiled with the first frame, not at the first small change
        return FramePlan(queue, grid, canvas, shapes, partial_queue)

    def _grid(self, kind: ImageKind, channels: ChannelPlan) -> Grid | WindowGrid:
        size = (kind.height, kind.width)
        if size not in self._grids:
            if len(self._grids) >= _QUEUES_KEPT:
                self._grids.popitem(last=False)
            self._grids[size] = self._planned(kind, channels)
        return self._grids[size]

    def _planned(self, kind: ImageKind, channels: ChannelPlan) -> Grid | WindowGrid:
        tiling, size = self._tiling, (kind.height, kind.width)
        multiple, upscale = self._input.multiple_of, self._output.upscale
        if tiling.mode is TilingMode.WINDOWED:
            window, ramp = self._chooser.asked or tiling.window_px, tiling.ramp_px
            assert window is not None and ramp is not None  # noqa: PT018, S101 - manifest's check
            grid = WindowGrid.plan(*size, window, ramp=ramp, multiple=multiple, upscale=upscale)
            self.plan = (
                f"{len(grid.windows)} windows of {grid.tile_width}x{grid.tile_height}, not exact:"
                f" {tiling.reason}"
            )
            return grid
        if tiling.mode is TilingMode.WHOLE:
            self.plan = f"{kind.width}x{kind.height} whole: the model sees all of it at once"
            return Grid.plan(*size, max(size), halo=0, multiple=multiple, upscale=upscale)
        side, self.plan = self._chooser.choose(self.bundle, self._model, kind, channels.queue_order)
        cut = partial(Grid.plan, *size, halo=tiling.halo_px, multiple=multiple, upscale=upscale)
        tiles = cut(side)
        # Larger frames are cut or not by speed and memory: what decides must not show in them.
        asks = len(tiles.tiles) > 1 or max(size) > CANONICAL_PX or self._reuse.compares
        if not asks or (here := exactness_here(self.bundle, self._model)):
            return tiles
        if self._chooser.asked is None:
            side = max(CANONICAL_PX, smallest_tile(tiling.halo_px, multiple))
            self.plan = f"tiles of {side} px for every frame"
        self.plan += f"; {here}, so nothing is taken over between frames"
        self._reuse = TemporalReuse(None)
        return cut(side)


def _for_plane(tone: Tone, order: ChannelOrder, channels: int, place: int) -> NDArray[np.float32]:
    """Return a tone as a queue takes it; grey models see one channel of the host's at a time."""
    values = np.array([tone.gain, tone.offset], np.float32)
    if order is ChannelOrder.BGR:
        values = values[:, ::-1]
    return np.ascontiguousarray(values[:, place : place + 1] if channels == 1 else values)


def with_alpha(colours: Image, alpha: Image) -> Image:
    """Put alpha beside restored colours, interpolated bicubically where they were enlarged.

    Parameters
    ----------
    colours : ndarray, shape (H', W', C)
    alpha : ndarray, shape (H, W)
    """
    height, width = colours.shape[:2]
    if alpha.shape != (height, width):
        alpha = np.asarray(cv2.resize(alpha, (width, height), interpolation=cv2.INTER_CUBIC))
    return np.dstack([colours, alpha])


@dataclass(frozen=True)
class ChannelPlan:
    """Mapping of one kind of picture to a model's channels and back.

    A colour model sees a grey picture three times over, and its outcome's luma is kept. A
    grey model sees each colour channel as a picture of its own. Alpha goes around.
    """

    kind: ImageKind
    model_channels: int
    order: ChannelOrder

    @property
    def queue_order(self) -> ChannelOrder:
        """The channel order of the runtime's queues."""
        return ChannelOrder.GRAY if self.model_channels == 1 else self.order

    def split(self, image: Image) -> list[Image]:
        """Return the planes to submit: shape (H, W, model channels), C-contiguous, writable.

        A plane is the image itself where nothing has to change.
        """
        colour = image[..., None] if self.kind.channels == 0 else image[..., : self._colours]
        if self.model_channels == 1:
            planes = [colour[..., i : i + 1] for i in range(colour.shape[2])]
        elif colour.shape[2] == 1:
            planes = [np.repeat(colour, self.model_channels, axis=2)]
        else:
            planes = [colour]
        return [np.require(plane, requirements=("C", "W")) for plane in planes]

    def merge(self, outcomes: list[Image], image: Image) -> Image:
        """Return the restored picture, of the input's rank, channels and dtype.

        Parameters
        ----------
        outcomes : list of ndarray, shape (H', W', C')
            One for each plane of `split`.
        image : ndarray
            The input; its alpha is carried over.
        """
        restored = outcomes[0] if len(outcomes) == 1 else np.concatenate(outcomes, axis=2)
        if self._colours == 1 and restored.shape[2] == 3:
            code = cv2.COLOR_BGR2GRAY if self.order is ChannelOrder.BGR else cv2.COLOR_RGB2GRAY
            restored = cv2.cvtColor(restored, code)[..., None]
        if self.kind.channels == 0:
            return restored[..., 0] if restored.shape[2] == 1 else restored
        if self.kind.channels == 4:
            return with_alpha(restored, image[..., 3])
        return restored

    @property
    def _colours(self) -> int:
        return {0: 1, 4: 3}.get(self.kind.channels, self.kind.channels)
