"""One bundle on one device, restoring images of any size."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ...bundle.bundle import Bundle
from ...bundle.manifest import TilingMode
from ...errors import InferenceError
from ...imaging.arrays import ChannelOrder, Depth, Image, ImageKind, check_image, round_up
from ...runtimes.protocol import InferQueue, Model, QueueSpec
from ..adjustments import Tone
from ..channels import ChannelPlan
from ..guard import Guard, GuardCounts
from ..pending import Pending
from ..restorer import Restorer
from ..strength import Strength, check_map, check_scalar
from ..temporal.counts import ReuseCounts
from ..temporal.cover import Canvas, shapes_for
from ..temporal.reuser import Reuser
from ..temporal.track import Means
from ..tiling.executor import Work, submit_grid
from ..tiling.grid import Grid
from ..tiling.queues import Queues
from ..tiling.tile_size import TileChooser
from ..tiling.windows import WindowGrid

__all__ = ["ModelRestorer"]

_QUEUES_KEPT = 3  # compiled shapes kept for folders of pictures of several sizes
_PATCH_QUEUES_KEPT = 6  # of parts of frames: two for what changed, and those of some cadences


class ModelRestorer(Restorer):
    """A model on a device; made by `load`.

    Results are exact: the same image gives the same bytes, tiled or whole, and whatever was
    taken over from the frame before, unless a threshold or a cadence allows more.

    Parameters
    ----------
    bundle : Bundle
    model : Model
    chooser : TileChooser
    strength : float
    order : ChannelOrder
    reuse_static : float or None
        Levels of 8 bits that do not count as a change; what did not change is taken over, and
        results are read-only. None compares nothing.
    guard : bool
        Look at what each tile became, and put its input where it is no picture.
    """

    def __init__(
        self,
        bundle: Bundle,
        model: Model,
        chooser: TileChooser,
        *,
        strength: float = 1.0,
        order: ChannelOrder = ChannelOrder.RGB,
        reuse_static: float | None = None,
        guard: bool = False,
    ) -> None:
        super().__init__(bundle, model.device, model.precision, strength, order)
        self._model, self._chooser = model, chooser
        self._reuser = Reuser(reuse_static)
        self._guard = Guard(bundle.manifest, self._tell_guarded) if guard else None
        self._queues = Queues(model, _QUEUES_KEPT)
        self._patch_queues = Queues(model, _PATCH_QUEUES_KEPT)
        self._grids: OrderedDict[tuple[int, int], Grid | WindowGrid] = OrderedDict()
        self._closed = False
        self._lock = threading.Lock()

    @property
    def depth(self) -> int:
        """How many images are worth having in flight to keep the device busy."""
        queue = self._queues.latest
        return queue.requests if queue else 2

    @property
    def reuse(self) -> ReuseCounts | None:
        """What was taken over so far; None where nothing ever is."""
        return self._reuser.counts

    @property
    def guarded(self) -> GuardCounts | None:
        """How many tiles fell back to their input, and why; None without a guard."""
        return self._guard.counts if self._guard else None

    @property
    def cadence(self) -> int:
        """In how many frames each pixel is refreshed; see `Restorer.cadence`."""
        return self._reuser.cadence

    @cadence.setter
    def cadence(self, cadence: int) -> None:
        with self._lock:
            self._reuser.cadence = cadence

    def submit(self, image: Image, strength: Strength | None = None) -> Pending:
        """Start restoring an image; see `Restorer.submit`."""
        check_image(image)
        return self.submit_at(image, strength, None, self._adjuster.tone(image))

    def submit_at(
        self,
        image: Image,
        strength: Strength | None,
        depth: Depth | None,
        tone: Tone | None,
    ) -> Pending:
        """Start restoring an image into another sample type, with tones that were judged.

        Parameters
        ----------
        image, strength
            As `Restorer.submit` takes them.
        depth : Depth or None
            ``F32`` for an outcome that was rounded nowhere; None for the image's own.
        tone : Tone or None
            None leaves the tones as they are.
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
            untouched = isinstance(value, float) and value == 0.0 and tone is None
            if untouched and self._returns_input and depth is None:
                return Pending([], image.copy)
            return self._start(image, kind, value, depth or kind.depth, tone)

    def close(self) -> None:
        """Finish what was submitted and free the device. May be called twice."""
        with self._lock:
            self._closed = True
            self._queues.close()
            self._patch_queues.close()

    def _start(
        self,
        image: Image,
        kind: ImageKind,
        strength: float | NDArray[np.float32],
        made: Depth,
        tone: Tone | None,
    ) -> Pending:
        plan = ChannelPlan(kind, self.bundle.manifest.input.channels, self._order)
        grid = self._grid(kind, plan)
        # Windows are faded in f32 and rounded once, afterwards.
        depth = Depth.F32 if isinstance(grid, WindowGrid) else made
        shape = self._rounded_up((grid.tile_height, grid.tile_width))
        spec = QueueSpec(*shape, kind.depth, plan.queue_order, depth, toned=tone is not None)
        planes = plan.split(image)
        works = [self._work(strength, made, tone, place) for place in range(len(planes))]
        if self._reuser.active:
            settings = (kind, plan.queue_order, made, tone)
            outcomes = self._reuser.start(planes, works, self._means(spec, grid), settings)

            def merge_fixed() -> Image:
                merged = plan.merge([outcome.result() for outcome in outcomes], image)
                merged.flags.writeable = False
                return merged

            return Pending(outcomes, merge_fixed)
        self._reuser.forget()
        queue = self._queues.get(spec)
        submitted = [
            submit_grid(queue, grid, plane, work) for plane, work in zip(planes, works, strict=True)
        ]

        def merge() -> Image:
            return plan.merge([gather() for _, gather in submitted], image)

        return Pending([one for each, _ in submitted for one in each], merge)

    def _rounded_up(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Return the shape of the queue for a tile; see `tiles.submission`."""
        multiple = self.bundle.manifest.input.multiple_of
        return round_up(shape[0], multiple), round_up(shape[1], multiple)

    def _work(
        self, strength: float | NDArray[np.float32], made: Depth, tone: Tone | None, place: int
    ) -> Work:
        output = self.bundle.manifest.output
        own = None if tone is None else _for_plane(tone, self._order, output.channels, place)
        return Work(strength, output.channels, output.upscale, made, own, self._guard)

    def _means(self, spec: QueueSpec, grid: Grid | WindowGrid) -> Means:
        """Return what a frame that may be taken over in part is inferred with."""
        manifest = self.bundle.manifest
        tiling, queue = manifest.tiling, self._queues.get(spec)

        def patch_queue(shape: tuple[int, int]) -> InferQueue:
            height, width = self._rounded_up(shape)
            return self._patch_queues.get(replace(spec, height=height, width=width))

        if tiling.mode is not TilingMode.EXACT:
            return Means(queue, grid, None, (), patch_queue)
        multiple, upscale = manifest.input.multiple_of, manifest.output.upscale
        canvas = Canvas(grid.height, grid.width, tiling.halo_px, multiple, upscale)
        shapes = tuple(shapes_for(canvas)) if self._reuser.compares else ()
        for shape in shapes:
            patch_queue(shape)  # compiled with the first frame, not at the first small change
        return Means(queue, grid, canvas, shapes, patch_queue)

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
        if tiling.mode is TilingMode.WHOLE:
            self.plan = f"{kind.width}x{kind.height} whole: the model judges all of it at once"
            return Grid.plan(*size, max(size), halo=0, multiple=multiple, upscale=upscale)
        side, self.plan = self._chooser.choose(self.bundle, self._model, kind, plan.queue_order)
        return Grid.plan(*size, side, halo=tiling.halo_px, multiple=multiple, upscale=upscale)


def _for_plane(tone: Tone, order: ChannelOrder, channels: int, place: int) -> NDArray[np.float32]:
    """Return a tone as a queue takes it; grey models see one channel of the host's at a time."""
    values = np.array([tone.gain, tone.offset], np.float32)
    if order is ChannelOrder.BGR:
        values = values[:, ::-1]
    return np.ascontiguousarray(values[:, place : place + 1] if channels == 1 else values)
