"""Output guard: a tile whose outcome is no restoration of its input shows the input instead.

A restoration changes edges and texture; averaged over a block, colours stay as they were.
Numeric failures do not: OpenVINO's graph ends in a clamp that turns NaN into black and
overflows into black or white, in floats as in bytes. All of them show in block averages of the
outcome against those of the input.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, astuple, dataclass
from enum import StrEnum
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..bundle.manifest import Manifest, TilingMode
from ..imaging.arrays import Depth, Image, rounded

__all__ = ["Cause", "Guard", "GuardCounts"]

_FINE_HALVINGS, _COARSE_HALVINGS = 3, 2  # blocks of 8 px, and of 8 * 4 px
_SPOT = 0.25  # how far a fine block that is all black or white may be from its input
_DRIFT = 0.1  # how far a coarse block's mean may be: the default model stays below 0.02
_AT_END = 0.5 / 255
_RETOUCHING = "retouch"  # models for which other colours are the task


class Cause(StrEnum):
    """Reason for showing the input of a tile; named as in `GuardCounts`."""

    NOT_FINITE = "not_finite"
    CLIPPED = "clipped"
    DRIFT = "drift"


@dataclass(frozen=True)
class GuardCounts:
    """Counts of tiles validated and of tiles that fell back to their input, by cause.

    Parameters
    ----------
    tiles : int
        Validated.
    not_finite : int
        Held NaN or infinity.
    clipped : int
        Were black or white where their input was not: NaN or a blow-up behind a clamp.
    drift : int
        Had other colours than their input over a wide area.
    """

    tiles: int = 0
    not_finite: int = 0
    clipped: int = 0
    drift: int = 0

    def __add__(self, other: GuardCounts) -> GuardCounts:
        """Return both together."""
        return GuardCounts(*map(sum, zip(astuple(self), astuple(other), strict=True)))

    @property
    def fallen_back(self) -> int:
        """All that fell back."""
        return self.not_finite + self.clipped + self.drift

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


class Guard:
    """Output validator: replaces a tile's outcome by its input where their colours differ.

    Of a model that makes masks, or whose task is to change colours, only numbers that are not
    finite count. Every method may be called from any thread.

    Parameters
    ----------
    manifest : Manifest
    """

    def __init__(self, manifest: Manifest) -> None:
        self._name = manifest.name
        self._keeps_colours = (
            manifest.output.kind.traits.blended
            and manifest.tiling.mode is not TilingMode.WHOLE
            and manifest.task != _RETOUCHING
        )
        self._tiles = 0
        self._causes: Counter[str] = Counter()
        self._lock = threading.Lock()

    @property
    def counts(self) -> GuardCounts:
        """Counts so far."""
        with self._lock:
            return GuardCounts(self._tiles, **self._causes)

    def validate(
        self,
        outcome: Image,
        source: Image,
        upscale: int,
        tone: NDArray[np.float32] | None,
        strength: float,
        notify: Callable[[str], None] | None = None,
    ) -> None:
        """Check one tile's outcome and replace it in place where it is not usable.

        Parameters
        ----------
        outcome : ndarray, shape (h * upscale, w * upscale, C')
        source : ndarray, shape (h, w, C)
            The same place of the plane that went in.
        upscale : int
        tone : ndarray, f32, shape (2, C'), or None
            Gain and offset that the outcome has and the source has not.
        strength : float
            The highest of any of its pixels.
        notify : callable or None
            Takes one line where the outcome was replaced.
        """
        cause = self._cause(outcome, source, upscale, tone, max(1.0, strength))
        with self._lock:
            self._tiles += 1
            if cause is not None:
                self._causes[cause] += 1
        if cause is None:
            return
        outcome[...] = _base(source, outcome, tone)
        if notify is not None:
            size = f"{outcome.shape[1]}x{outcome.shape[0]}"
            notify(f"{self._name}: a tile of {size} fell back to its input: {cause}")

    def _cause(
        self,
        outcome: Image,
        source: Image,
        upscale: int,
        tone: NDArray[np.float32] | None,
        strength: float,
    ) -> Cause | None:
        floats = outcome.dtype == np.float32
        compared = self._keeps_colours and outcome.shape[2] == source.shape[2]
        if not (floats or compared):
            return None
        size = (outcome.shape[1] // upscale, outcome.shape[0] // upscale)
        shrunk = outcome if upscale == 1 else _resized(outcome, size, cv2.INTER_AREA)
        made = _block_means(shrunk)
        if not np.isfinite(made).all():
            return Cause.NOT_FINITE
        if not compared:
            return None
        # Pixel by pixel, as the graph does it: it clips each, and not their mean.
        wanted = _block_means(source if tone is None else _toned(source, tone))
        limit = strength * (1.0 if tone is None else max(1.0, float(tone[0].max())))
        apart = made - wanted
        at_end = (made < _AT_END) | (made > 1 - _AT_END)
        if bool((at_end & (np.abs(apart) > _SPOT * limit)).any()):
            return Cause.CLIPPED
        wide = np.abs(_halved(apart, _COARSE_HALVINGS))
        return Cause.DRIFT if float(wide.max()) > _DRIFT * limit else None


def _block_means(image: Image) -> NDArray[np.float32]:
    """Return the means of blocks of 8 x 8 pixels, f32 in [0, 1], shape (h, w, C)."""
    means = _halved(image, _FINE_HALVINGS).astype(np.float32)
    return means / np.float32(Depth(image.dtype.name).peak)


def _halved(image: Image, times: int) -> Image:
    """Average pairs of rows and of columns; a last odd one is doubled, not left out."""
    for _ in range(times):
        height, width = image.shape[:2]
        if height % 2 or width % 2:
            odd, channels = (height % 2, width % 2), image.shape[2]
            image = np.asarray(
                cv2.copyMakeBorder(image, 0, odd[0], 0, odd[1], borderType=cv2.BORDER_REPLICATE)
            ).reshape(height + odd[0], width + odd[1], channels)
        # Between four pixels the linear way is their mean, and the faster one in floats.
        image = _resized(image, (-(-width // 2), -(-height // 2)), cv2.INTER_LINEAR)
    return image


def _toned(image: Image, tone: NDArray[np.float32]) -> Image:
    """Return an image with a tone, of its own dtype."""
    depth = Depth(image.dtype.name)
    if depth is Depth.U8:
        levels = np.arange(256, dtype=np.float32)[:, None] / 255 * tone[0] + tone[1]
        table = rounded(np.clip(levels, 0, 1), depth)
        looked_up = cv2.LUT(image, table[None])
        return np.asarray(looked_up, np.uint8).reshape(image.shape)
    values = image.astype(np.float32) / np.float32(depth.peak)
    return rounded(np.clip(values * tone[0] + tone[1], 0, 1), depth)


def _base(source: Image, outcome: Image, tone: NDArray[np.float32] | None) -> Image:
    """Return the input as it would look at strength 0, of the outcome's size and dtype."""
    height, width, channels = outcome.shape
    if channels != source.shape[2]:
        # A mask has no input to fall back to: nothing is cut out.
        return np.full_like(outcome, Depth(outcome.dtype.name).peak)
    image = source
    if source.shape[:2] != (height, width):
        image = _resized(source, (width, height), cv2.INTER_CUBIC)
    if tone is not None:
        image = _toned(image, tone)
    if image.dtype == outcome.dtype:
        return image
    values = image.astype(np.float32) / np.float32(Depth(image.dtype.name).peak)
    return rounded(values, Depth(outcome.dtype.name))


def _resized(image: Image, size: tuple[int, int], way: int) -> Image:
    """Resize to (width, height); OpenCV drops the axis of a single channel, this does not."""
    resized = np.asarray(cv2.resize(image, size, interpolation=way))
    return resized.reshape(size[1], size[0], image.shape[2])
