"""The engine's face: images in, restored images out, at a strength that may change any time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ..bundle.bundle import Bundle
from ..errors import ArgumentError
from ..imaging.arrays import ChannelOrder, Image
from .adjustments import Adjuster, Adjustments
from .guard import GuardCounts
from .pending import Pending
from .strength import Strength, check_scalar
from .temporal.cadence import check_cadence
from .temporal.counts import ReuseCounts

if TYPE_CHECKING:
    from ..streams.options import LiveOptions

__all__ = ["Again", "Restorer"]


Again = Callable[[str | None, str | None, float], "Restorer"]
"""Opens a restorer like another one, with a model, a precision, and at a strength."""


class Restorer(ABC):
    """Something that restores images of any size; made by `load`.

    Every method may be called from any thread.

    Parameters
    ----------
    bundle : Bundle
        What is run; of several models the first.
    device, precision : str
        Where and in which numbers.
    strength : float
    order : ChannelOrder
        Of the colours of images, in and out.

    Attributes
    ----------
    precision_reason, plan : str
        Why that precision, and how the latest image was cut, for people.
    on_guarded : callable or None
        With a guard it is given one line for each tile that fell back to its input, by
        whichever thread asks for a result or submits; it must not submit itself. Settable at
        any time.
    """

    def __init__(
        self,
        bundle: Bundle,
        device: str,
        precision: str,
        strength: float,
        order: ChannelOrder = ChannelOrder.RGB,
    ) -> None:
        self.bundle = bundle
        self.device, self.precision = device, precision
        self.precision_reason = ""
        self.again: Again | None = None
        self.plan = ""
        self._strength = check_scalar(strength)
        self._order, self._steady = order, False
        self.on_guarded: Callable[[str], None] | None = None
        self._adjuster = Adjuster(Adjustments(), order, steady=False)

    @property
    def order(self) -> ChannelOrder:
        """How the colours of images are ordered, in and out."""
        return self._order

    @property
    def adjustments(self) -> Adjustments:
        """Of the next image submitted; settable at any time.

        Raises
        ------
        ArgumentError
            When the model makes masks, which have no tones.
        """
        return self._adjuster.adjustments

    @adjustments.setter
    def adjustments(self, adjustments: Adjustments) -> None:
        manifest = self.bundle.manifest
        traits = manifest.output.kind.traits
        if not adjustments.neutral and not traits.toned:
            raise ArgumentError(f"{manifest.name} {traits.does}, whose tones are not adjusted")
        self._adjuster = Adjuster(adjustments, self._order, steady=self._steady)

    @property
    def steady(self) -> bool:
        """Whether images are frames of one stream, where what is judged changes slowly."""
        return self._steady

    @steady.setter
    def steady(self, steady: bool) -> None:
        self._steady = steady
        self._adjuster = Adjuster(self._adjuster.adjustments, self._order, steady=steady)

    @property
    def strength(self) -> float:
        """The strength of the next image submitted without one; settable at any time."""
        return self._strength

    @strength.setter
    def strength(self, strength: float) -> None:
        self._strength = check_scalar(strength)

    @property
    def reuse(self) -> ReuseCounts | None:
        """What was taken over from the frame before, so far; None where nothing ever is."""
        return None

    @property
    def guarded(self) -> GuardCounts | None:
        """How many tiles fell back to their input, and why; None without a guard."""
        return None

    @property
    def cadence(self) -> int:
        """In how many frames each pixel is refreshed at least once; settable at any time.

        Above 1 a frame is restored in part: its tiles take turns, and a tile whose turn it is
        not shows its last restored pixels. This costs a ``cadence``-th of the frame and a halo
        around it. It is **not exact**: what moves, moves in steps. Models that see the frame
        as a whole refresh all of it in every ``cadence``-th frame. With the cadence back at 1,
        the next frame is inferred whole and exact again. While it is above 1 results are
        read-only, and the first frame at a new cadence compiles one more shape.

        Raises
        ------
        ArgumentError
            When it is no whole number from 1 to 64, or this kind of restorer has no such thing.
        """
        return 1

    @cadence.setter
    def cadence(self, cadence: int) -> None:
        if check_cadence(cadence) != 1:
            raise ArgumentError(f"{type(self).__name__} restores every frame: cadence is 1")

    def reopened(self, model: str | None = None, precision: str | None = None) -> Restorer:
        """Open another one like this, at its strength; both are then to be closed.

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
        if self.again is None:
            raise ArgumentError("only what load() opened can become another model or precision")
        return self.again(model, precision, self.strength)

    @property
    @abstractmethod
    def depth(self) -> int:
        """How many images are worth having in flight to keep the device busy."""

    @abstractmethod
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

    @abstractmethod
    def close(self) -> None:
        """Finish what was submitted and free the device. May be called twice."""

    def __call__(self, image: Image, strength: Strength | None = None) -> Image:
        """Restore an image and wait for it; see `submit`."""
        return self.submit(image, strength).result()

    def stream(
        self,
        frames: Iterable[Image] | str,
        strength: Strength | None = None,
        *,
        options: LiveOptions | None = None,
    ) -> Iterator[Image]:
        """Restore images one after another, in order, as they are asked for.

        Parameters
        ----------
        frames : iterable of ndarray, or str
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
        if isinstance(frames, str):
            from ..streams.session import stream_images

            yield from stream_images(self, frames, strength, options)
            return
        flying: deque[Pending] = deque()
        for frame in frames:
            flying.append(self.submit(frame, strength))
            if len(flying) >= self.depth:
                yield flying.popleft().result()
        while flying:
            yield flying.popleft().result()

    def _tell_guarded(self, line: str) -> None:
        if self.on_guarded is not None:
            self.on_guarded(line)

    @property
    def _returns_input(self) -> bool:
        """Whether strength 0 is the image itself."""
        output = self.bundle.manifest.output
        return output.kind.traits.blended and output.upscale == 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
