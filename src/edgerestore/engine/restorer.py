"""The engine's face: images in, restored images out, at a strength that may change any time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self

from ..bundle import Bundle
from ..errors import ArgumentError
from ..manifest import OutputKind
from ..pixels import ChannelOrder, Image
from .adjustments import Adjuster, Adjustments
from .pending import Pending
from .strength import Strength, check_scalar

__all__ = ["Restorer"]


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
        self.plan = ""
        self._strength = check_scalar(strength)
        self._order, self._steady = order, False
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
        if not adjustments.neutral and manifest.output.kind is not OutputKind.IMAGE:
            raise ArgumentError(f"{manifest.name} makes masks, whose tones are not adjusted")
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

    @property
    def _returns_input(self) -> bool:
        """Whether strength 0 is the image itself."""
        output = self.bundle.manifest.output
        return output.kind is OutputKind.IMAGE and output.upscale == 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
