"""The restorer: images in, restored images out, at settings that may change at any time."""

from __future__ import annotations

import copy
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Self

import numpy as np

from ..bundle.bundle import Bundle
from ..errors import ArgumentError, InferenceError
from ..extensions import load_target
from ..imaging.arrays import ChannelOrder, Depth, Image, ImageKind, check_image, native
from ..imaging.image_inputs import ImageInput, image_of
from .adjustments import Adjuster, Adjustments, check_tones
from .fixed_attributes import FixedAttributes
from .guard import GuardCounts
from .intensity import IntensityMapping, IntensityRange
from .intensity_mapper import IntensityCounts, IntensityMapper, submit_mapped
from .loader import Loader
from .predictors.protocol import Pending, Predictor, Settings, check_turns
from .strength import Strength, check_scalar, check_strength
from .temporal.reuse import ReuseCounts
from .tiling.tile_count import OnProgress, TileCount

if TYPE_CHECKING:
    from .. import LiveOptions

__all__ = ["Opener", "Restorer"]

Opener = Callable[[str | None, str | None], Predictor]
"""Opens a predictor like the first with another model or precision; None leaves it as it was."""


class Restorer(FixedAttributes):
    """Restores images of any size; made by `load`.

    Holds the settings and drives a `Predictor`. Every method may be called from any thread.
    A context manager: leaving it closes the restorer.

    Parameters
    ----------
    predictor : Predictor
        Closed with the restorer.
    strength : float
        From 0 to 2.
    order : ChannelOrder
        Of the colours of images, in and out.
    intensity_range : IntensityRange, str or pair of numbers
        See `Restorer.intensity_range`.
    opener : callable, optional
        Opens a predictor for `reopened`; by default the loader's.
    loader : Loader, optional
        What the predictor was opened by.

    Attributes
    ----------
    order : ChannelOrder
    loader : Loader or None
    on_guarded : callable or None
        With a guard it is given one line for each tile that fell back to its input, by
        whichever thread asks for a result or submits; it must not submit itself. Settable at
        any time.

    Any other public attribute that is set is an `AttributeError`.
    """

    order: ChannelOrder
    loader: Loader | None
    opener: Opener | None
    on_guarded: Callable[[str], None] | None

    def __init__(
        self,
        predictor: Predictor,
        *,
        strength: float = 1.0,
        order: ChannelOrder = ChannelOrder.RGB,
        intensity_range: IntensityRange | str | tuple[float, float] = "full",
        opener: Opener | None = None,
        loader: Loader | None = None,
    ) -> None:
        self.order, self._steady = order, False
        self.on_guarded = None
        self.loader = loader
        self.opener = opener or (loader.open if loader is not None else None)
        self._predictor = predictor
        self._strength = check_scalar(strength)
        self._adjuster = Adjuster(Adjustments())
        self.intensity_range = intensity_range
        self._refresh_interval = 1
        self._reuse_before, self._guarded_before = ReuseCounts(), GuardCounts()
        self._latest: ImageKind | None = None
        self._closed = False
        self._lock = threading.Lock()  # held while submitting, which may take its time

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{self.where} at {self.precision}"
        name = self.bundle.manifest.name
        return f"<{type(self).__name__} {name}: {state}, strength {self._strength:g}>"

    @property
    def latest(self) -> ImageKind | None:
        """Size, channels and depth of the latest image submitted; None before the first."""
        return self._latest

    @property
    def predictor(self) -> Predictor:
        """The predictor that computes the outcomes; closed with the restorer."""
        return self._predictor

    @property
    def bundle(self) -> Bundle:
        """The bundle that runs; of several models the first."""
        return self._predictor.bundle

    @property
    def device(self) -> str:
        """Name of the device that computes."""
        return self._predictor.device

    @property
    def runtime(self) -> str:
        """Name of the inference library that computes."""
        return self._predictor.runtime

    @property
    def where(self) -> str:
        """Device and runtime, as messages name them: ``CPU (openvino)``."""
        return f"{self.device} ({self.runtime})"

    @property
    def precision(self) -> str:
        """Inference precision."""
        return self._predictor.precision

    @property
    def precision_reason(self) -> str:
        """Why this precision, in half a sentence."""
        return self._predictor.precision_reason

    @property
    def plan(self) -> str:
        """How the latest image was cut into tiles, and why; empty before the first."""
        return self._predictor.plan

    @property
    def depth(self) -> int:
        """How many images in flight keep the device busy."""
        return self._predictor.depth

    @property
    def strength(self) -> float:
        """The strength of the next image submitted without one; settable at any time."""
        return self._strength

    @strength.setter
    def strength(self, strength: float) -> None:
        self._strength = check_scalar(strength)

    @property
    def adjustments(self) -> Adjustments:
        """Tones of the next image submitted; settable at any time.

        Raises
        ------
        ArgumentError
            When the model makes masks, which have no tones.
        """
        return self._adjuster.adjustments

    @adjustments.setter
    def adjustments(self, adjustments: Adjustments) -> None:
        check_tones(adjustments, self.bundle)
        self._adjuster = Adjuster(adjustments)

    @property
    def steady(self) -> bool:
        """Whether images are frames of one stream: tones and masks then change slowly.

        Settable at any time; tones that are estimated start anew with it.
        """
        return self._steady

    @steady.setter
    def steady(self, steady: bool) -> None:
        self._steady = steady
        self._adjuster = Adjuster(self.adjustments)
        self._mapper.forget()

    @property
    def intensity_range(self) -> IntensityRange:
        """Range of values that the network sees as black to white; settable at any time.

        Set it to what `IntensityRange.parse` takes. The outcome has the values of the image, and
        values outside the range pass through and are counted. While `steady` is set, and within
        one `stream`, the first image decides for all. Masks have no range (`ArgumentError`).
        """
        return self._mapper.wanted

    @intensity_range.setter
    def intensity_range(self, wanted: IntensityRange | str | tuple[float, float]) -> None:
        mapper = IntensityMapper(IntensityRange.parse(wanted))
        mapper.check(self.bundle)
        self._mapper = mapper

    @property
    def intensity(self) -> IntensityCounts:
        """Window of intensities of the latest image, and counts of what was mapped."""
        return self._mapper.counts

    @property
    def refresh_interval(self) -> int:
        """In how many frames each pixel is refreshed at least once; settable at any time.

        Above 1 a frame is restored in part: its tiles take turns, and a tile whose turn it is
        not shows its last restored pixels. This costs a fraction of the frame (one over the
        interval) and a halo around it. It is **not exact**: what moves, moves in steps. Models
        that see the frame as a whole refresh all of it once per interval. With the interval
        back at 1, the next frame is inferred whole and exact again. While it is above 1
        results are read-only, and the first frame at a new interval compiles one more shape.

        Raises
        ------
        ArgumentError
            When it is no whole number from 1 to 64, or the predictor restores whole frames
            only (an average of turns).
        """
        return self._refresh_interval

    @refresh_interval.setter
    def refresh_interval(self, interval: int) -> None:
        self._refresh_interval = check_turns(interval, self._predictor)

    cadence = refresh_interval
    """Another name of `refresh_interval`, from before it had that one."""

    @property
    def reuse(self) -> ReuseCounts | None:
        """Counts of what was taken over from frames before; None where nothing ever is."""
        counts = self._predictor.reuse
        if counts is None:
            return None if self._refresh_interval == 1 else self._reuse_before
        return counts + self._reuse_before

    @property
    def guarded(self) -> GuardCounts | None:
        """How many tiles fell back to their input, and why; None without a guard."""
        counts = self._predictor.guarded
        return None if counts is None else counts + self._guarded_before

    def submit(
        self,
        image: ImageInput,
        strength: Strength | None = None,
        *,
        on_progress: OnProgress | None = None,
        series: str = "",
    ) -> Pending:
        """Start restoring an image.

        Blocks while the device has enough to do. Images are worked on in the order of
        submission.

        Parameters
        ----------
        image : ndarray, u8, u16 or finite f32, shape (H, W) or (H, W, C), C in 1, 3, 4
            Where `intensity_range` is ``full``, f32 is in [0, 1]. Read until the outcome is
            there: do not write to it before. The outcome has its dtype, byte order included.
            Also the path of an image file, its bytes, or a PIL picture.
        strength : float or ndarray of shape (H, W), optional
            In [0, 2]; `Restorer.strength` when not given. Read before this returns.
        on_progress : callable, optional
            Called with the tiles done and all, here or by who asks for the result; not where
            parts are taken over. What it raises ends this image. It must not submit itself.
        series : str
            Which series of a stream it belongs to, such as a channel: while `steady` is set, each
            has a range of intensities of its own.

        Returns
        -------
        Pending

        Raises
        ------
        ArgumentError
            On an image or strength that is not usable.
        SourceError
            When a file cannot be read.
        InferenceError
            When the model cannot be compiled for this size, or the restorer is closed.
        """
        count = None if on_progress is None else TileCount(on_progress)
        return self._submit(image, strength, steady=self.steady, count=count, series=series)

    def _submit(
        self,
        image: ImageInput,
        strength: Strength | None,
        *,
        steady: bool,
        count: TileCount | None = None,
        series: str = "",
    ) -> Pending:
        given = image_of(image, self.order)
        self._latest, own = check_image(given), native(given)
        with self._lock:
            mapping = self._mapper.mapping(own, self.bundle, steady=steady, series=series)
            pending = self._start(own, strength, mapping, count)
        back = Pending([pending], lambda: pending.result().astype(given.dtype), note=pending.note)
        return pending if own is given else back

    def _start(
        self,
        image: Image,
        strength: Strength | None,
        mapping: IntensityMapping | None = None,
        count: TileCount | None = None,
    ) -> Pending:
        if self._closed:
            raise InferenceError("the restorer is closed")
        kind, output = check_image(image), self.bundle.manifest.output
        given = self._strength if strength is None else strength
        value = check_strength(given, kind, output.upscale)
        seen = image if mapping is None else mapping.levels(image)
        tone = self._adjuster.tone(seen, self.order, steady=self.steady)
        untouched = isinstance(value, float) and value == 0.0 and tone is None
        if untouched and output.kind.traits.blended and output.upscale == 1:
            if count is not None:
                count.tick()
            return Pending([], image.copy)
        settings = Settings(
            value,
            kind.depth,
            tone,
            self.order,
            self._refresh_interval,
            self.steady,
            self._notify_guarded,
            count,
        )
        if mapping is None:
            return self._predictor.submit(image, kind, settings)
        note = self._mapper.note
        return submit_mapped(self._predictor, mapping, seen, image, settings, note)

    def __call__(
        self,
        image: ImageInput,
        strength: Strength | None = None,
        *,
        on_progress: OnProgress | None = None,
    ) -> Image:
        """Restore an image and wait for it; see `submit`."""
        return self.submit(image, strength, on_progress=on_progress).result()

    def stream(
        self,
        frames: Iterable[ImageInput] | str | os.PathLike[str],
        strength: Strength | None = None,
        *,
        options: LiveOptions | None = None,
    ) -> Iterator[Image]:
        """Restore images one after another, in order, as they are asked for.

        Parameters
        ----------
        frames : iterable of images as `submit` takes them, or str or path
            An iterable is read on the caller's thread, as far ahead as images are in flight
            (`depth`). A text is a source as ``edgerestore run`` takes it: the path of a
            video, ``camera:0``, ``rtsp://...``, ``-``; it is read on a thread of its own, and
            frames of a live one that nobody takes in time are dropped.
        strength : float or ndarray of shape (H, W), optional
            Of every image; `Restorer.strength`, which may be turned meanwhile, when not given.
        options : LiveOptions, optional
            Of a source that is named.

        Yields
        ------
        ndarray
            As `submit` gives it.

        Raises
        ------
        SourceError
            When a source that is named cannot be read; `SourceLostError` when it does not
            come back within its retries.
        """
        if isinstance(frames, (str, os.PathLike)):
            # The one door upward, opened when it is needed.
            stream_images = load_target("edgerestore.streams.image_iterator:stream_images")
            yield from stream_images(self, frames, strength, options)
            return
        flying: deque[Pending] = deque()
        self._mapper.forget()
        for frame in frames:
            flying.append(self._submit(frame, strength, steady=True))
            if len(flying) >= self.depth:
                yield flying.popleft().result()
        while flying:
            yield flying.popleft().result()

    def warm_up(self, kind: ImageKind, timeout: float | None = None) -> None:
        """Compile for images of a kind and infer one, so that the first real one is not late.

        Leaves nothing that a later image could take over.

        Parameters
        ----------
        kind : ImageKind
            As `latest` gives it.
        timeout : float, optional
            Seconds; for ever when not given.

        Raises
        ------
        InferenceError, TimeoutError
        """
        shape = (kind.height, kind.width, *([kind.channels] if kind.channels else []))
        depth = Depth.F32 if self._mapper.maps(kind.depth) else kind.depth
        black = np.zeros(shape, depth.value)
        for _ in range(min(2, self._refresh_interval)):  # the whole image, and a part of it
            with self._lock:
                pending = self._start(black, 1.0)
            pending.result(timeout)
        with self._lock:
            self._predictor.forget()
            self._adjuster = Adjuster(self.adjustments)

    def reopened(self, model: str | None = None, precision: str | None = None) -> Restorer:
        """Open another restorer with these settings; both are then to be closed.

        Parameters
        ----------
        model, precision : str or None
            As `load` takes them; ``None`` is what this one was opened with.

        Raises
        ------
        ArgumentError
            When `load` did not open this one, or a value is not usable.
        BundleError, DeviceError
        """
        if self.opener is None:
            raise ArgumentError("only what load() opened can become another model or precision")
        other = Restorer(
            self.opener(model, precision),
            strength=self._strength,
            order=self.order,
            opener=self.opener,
            loader=self.loader,
        )
        other._mapper = copy.deepcopy(self._mapper)
        try:
            other.steady = self.steady
            other.adjustments, other.refresh_interval = self.adjustments, self.refresh_interval
        except ArgumentError:
            other.close()
            raise
        return other

    def replace(self, other: Restorer) -> None:
        """Exchange the model with that of another restorer, between two images.

        The next image submitted goes to the other's model, at the settings of this restorer;
        images in flight are finished by the model that they were submitted to. Afterwards
        ``other`` holds the replaced model: close it, which waits for those images, unless its
        device does not answer any more. `reuse` and `guarded` count on.

        To switch the model of a running stream without a pause: open another with `reopened`,
        `warm_up` that one for the `latest` kind of image, `replace`, then close it.

        Parameters
        ----------
        other : Restorer
            Not submitted to meanwhile.

        Raises
        ------
        ArgumentError
            When the other model cannot have the settings of this restorer.
        InferenceError
            When this restorer is closed.
        """
        with self._lock:
            if self._closed:
                raise InferenceError("the restorer is closed")
            fresh, present = other._predictor, self._predictor
            check_tones(self.adjustments, fresh.bundle)
            self._mapper.check(fresh.bundle)
            check_turns(self._refresh_interval, fresh)
            self._reuse_before += present.reuse or ReuseCounts()
            self._guarded_before += present.guarded or GuardCounts()
            self._predictor, other._predictor = fresh, present

    def close(self) -> None:
        """Finish what was submitted and free the device. May be called twice."""
        with self._lock:
            self._closed = True
            self._predictor.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _notify_guarded(self, line: str) -> None:
        # By way of this, so that a listener set later hears of images in flight too.
        if self.on_guarded is not None:
            self.on_guarded(line)
