"""Protocol between a restorer, which holds the settings, and a predictor, which computes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ...bundle.bundle import Bundle
from ...errors import ArgumentError
from ...imaging.arrays import ChannelOrder, Depth, Image, ImageKind
from ...runtimes.protocol import Completion
from ..adjustments import Tone
from ..guard import GuardCounts
from ..temporal.cover import check_refresh_interval
from ..temporal.reuse import ReuseCounts
from ..tiling.tile_count import TileCount

__all__ = ["Pending", "Predictor", "Settings", "check_turns"]


class Pending:
    """An image that is being restored; any thread may wait for it, any number of times.

    Parameters
    ----------
    completions : sequence of Completion
        What has to be there first.
    merge : callable
        Makes the image of it; called once, by the first thread that asks.
    note : str
        What else was done to the image, in a line of ASCII for its file.
    """

    def __init__(
        self, completions: Sequence[Completion], merge: Callable[[], Image], *, note: str = ""
    ) -> None:
        self.note = note
        self._completions = list(completions)
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


@dataclass(frozen=True)
class Settings:
    """Settings of one submission.

    Parameters
    ----------
    strength : float, or ndarray f32 of shape (H * upscale, W * upscale)
        In [0, 2], checked; a map is never the caller's array.
    depth : Depth
        Sample type of the outcome. ``F32`` asks for one that was rounded nowhere.
    tone : Tone or None
        Gain and offset of each channel; None leaves the tones as they are.
    order : ChannelOrder
        Of the colours of the image and of the outcome.
    refresh_interval : int
        In how many frames each pixel is refreshed at least once; 1 restores every frame.
    steady : bool
        The image is a frame of a stream: what is estimated per frame changes slowly.
    on_guarded : callable or None
        Takes one line for each tile that the guard replaced, on the thread that asks for a
        result or submits.
    count : TileCount or None
        Of the tiles of the image; not where a part of it may be taken over.
    """

    strength: float | NDArray[np.float32] = 1.0
    depth: Depth = Depth.U8
    tone: Tone | None = None
    order: ChannelOrder = ChannelOrder.RGB
    refresh_interval: int = 1
    steady: bool = False
    on_guarded: Callable[[str], None] | None = None
    count: TileCount | None = None


class Predictor(Protocol):
    """Computes the outcomes of a `Restorer`: a model, an ensemble, or a cut-out.

    Order: images are worked on in the order of submission. Threads: `submit` is called by one
    thread at a time, `Pending.result` by any. Ownership: a predictor owns its models and
    frees them in `close`.

    Attributes
    ----------
    bundle : Bundle
        The one that runs; of several models the first.
    device, runtime, precision : str
        Of several models joined by ``+``.
    precision_reason : str
        Why this precision, in half a sentence.
    partial : bool
        Whether a refresh interval above 1 is possible.
    """

    bundle: Bundle
    device: str
    runtime: str
    precision: str
    precision_reason: str
    partial: bool

    @property
    def plan(self) -> str:
        """How the latest image was cut into tiles, and why; empty before the first."""

    @property
    def depth(self) -> int:
        """How many images in flight keep the device busy."""

    @property
    def reuse(self) -> ReuseCounts | None:
        """Counts of what was taken over from frames before; None where nothing ever is."""

    @property
    def guarded(self) -> GuardCounts | None:
        """How many tiles the guard replaced, by cause; None without a guard."""

    def submit(self, image: Image, kind: ImageKind, settings: Settings) -> Pending:
        """Start restoring an image.

        Blocks while the device has enough to do.

        Parameters
        ----------
        image : ndarray
            Read until the outcome is there.
        kind : ImageKind
            Of the image, as `check_image` found it.
        settings : Settings
            ``refresh_interval`` is 1 unless the predictor is `partial`.

        Raises
        ------
        InferenceError
            When the model cannot be compiled for this size, or the predictor is closed.
        """

    def forget(self) -> None:
        """Take nothing over from the images before; called like `submit`."""

    def close(self) -> None:
        """Finish what was submitted and free the device. May be called twice."""


def check_turns(interval: int, predictor: Predictor) -> int:
    """Check a refresh interval for a predictor, and return it.

    Raises
    ------
    ArgumentError
        When it is no whole number from 1 to 64, or above 1 where frames are restored whole.
    """
    if check_refresh_interval(interval) != 1 and not predictor.partial:
        raise ArgumentError(
            f"{predictor.bundle.manifest.name}: an average of turns restores whole frames:"
            " the refresh interval (cadence) is 1"
        )
    return interval
