"""Cutting out: a mask as transparency, or the picture before another background."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ...bundle.kinds import OutputKind
from ...errors import ArgumentError, InferenceError, SinkError
from ...imaging.arrays import ChannelOrder, Depth, Image, ImageKind, check_image, rounded
from ...imaging.image_files import decode_image, holds_alpha
from ..guard import GuardCounts
from ..restorer import Restorer
from ..temporal.reuse import ReuseCounts
from .protocol import Pending, Predictor, Settings

__all__ = ["Background", "Cutout", "CutoutPredictor", "SteadyMasks", "cut_out", "parse_background"]

logger = logging.getLogger(__name__)

_NAMED = {"white": (1.0, 1.0, 1.0), "black": (0.0, 0.0, 0.0)}
_LEAST_NEW = 0.2  # share of the new mask where nothing moved at all
_STILL, _MOVED = 4.0, 20.0  # grey levels of 8 bits: below, the place stands still; above, it moved
_BLUR_PX = 5  # sensor noise is no motion


@dataclass(frozen=True)
class Background:
    """Background of a cut-out: a colour, or a picture that covers the frame.

    Parameters
    ----------
    color : (float, float, float)
        RGB in [0, 1].
    picture : ndarray or None
        RGB of any depth and size; scaled to cover the frame, its middle kept.
    """

    color: tuple[float, float, float] = (1.0, 1.0, 1.0)
    picture: Image | None = None

    def behind(self, height: int, width: int) -> NDArray[np.float32]:
        """Return it as f32 RGB ``[H, W, 3]`` in [0, 1]."""
        if self.picture is None:
            return np.full((height, width, 3), self.color, np.float32)
        scale = max(height / self.picture.shape[0], width / self.picture.shape[1])
        size = tuple(
            max(least, round(side * scale))
            for side, least in zip(self.picture.shape[1::-1], (width, height), strict=True)
        )
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        covering = np.asarray(cv2.resize(_unit(self.picture), size, interpolation=way))
        top, left = (covering.shape[0] - height) // 2, (covering.shape[1] - width) // 2
        cut = covering[top : top + height, left : left + width]
        return np.ascontiguousarray(np.clip(cut, 0, 1))


def parse_background(text: str) -> Background | None:
    """Read ``none``, ``white``, ``black``, ``#rrggbb`` or the path of a picture.

    Returns
    -------
    Background or None
        None for a transparent one.

    Raises
    ------
    ArgumentError
        When it is no colour and no file.
    SourceError
        When the picture cannot be read.
    """
    if text == "none":
        return None
    if text in _NAMED:
        return Background(_NAMED[text])
    if re.fullmatch(r"#[0-9a-fA-F]{6}", text):
        red, green, blue = (int(text[at : at + 2], 16) / 255 for at in (1, 3, 5))
        return Background((red, green, blue))
    path = Path(text)
    if text.startswith("#") or not path.exists():
        raise ArgumentError(
            f"background {text}: is no file; use none, white, black, #rrggbb or a picture"
        )
    picture, _ = decode_image(path)
    if picture.ndim == 2:
        picture = np.repeat(picture[..., None], 3, axis=2)
    return Background(picture=picture[..., :3])


def cut_out(
    restorer: Restorer, background: str | None, *, mask_only: bool, outputs: Sequence[Path]
) -> Restorer:
    """Return a cut-out of a restorer whose model makes masks; any other restorer as it is.

    Parameters
    ----------
    restorer : Restorer
    background : str or None
        As `parse_background` takes it. None is transparent where every output keeps that,
        else white.
    mask_only : bool
    outputs : sequence of Path
        The files to be written. Where the background had to be chosen, that is logged.

    Returns
    -------
    Restorer
        Closed with the one that was given.

    Raises
    ------
    ArgumentError
        When the model makes no masks and a background or the mask was asked for.
    SinkError
        When transparency was asked for and an output does not keep it.
    """
    manifest = restorer.bundle.manifest
    if manifest.output.kind is not OutputKind.MASK:
        if background is not None or mask_only:
            raise ArgumentError(
                f"{manifest.name} makes no masks; a background needs a model that cuts out"
            )
        return restorer
    opaque = [path for path in outputs if not holds_alpha(path)]
    if background is None and opaque and not mask_only:
        logger.warning("%s keeps no transparency: the background becomes white", opaque[0].name)
        background = "white"
    if background == "none" and opaque and not mask_only:
        raise SinkError(
            f"{opaque[0]}: keeps no transparency; write .png, or give --background a colour"
        )
    behind = parse_background(background or "none")
    return Cutout(restorer, behind, mask_only=mask_only)


class Cutout(Restorer):
    """Restorer that applies the masks of a model to the pictures.

    What is returned has the image's dtype and size: RGBA for a transparent background, RGB
    before another one, grey ``(H, W)`` for the mask alone. `steady` smooths the masks of a
    stream's frames over time. At strength 0 the picture stays whole, at 1 what the mask is 0
    on is gone.

    Parameters
    ----------
    masks : Restorer
        Of a bundle whose output is a mask. Its model is this one's from now on: closed with
        it, and used through one of the two at a time.
    background : Background or None
        None makes the rest transparent.
    mask_only : bool
        Return the mask itself.

    Raises
    ------
    ArgumentError
        When the model makes no masks.
    """

    def __init__(
        self, masks: Restorer, background: Background | None = None, *, mask_only: bool = False
    ) -> None:
        def opened(model: str | None, precision: str | None) -> Predictor:
            assert masks.opener is not None  # noqa: S101 - there is an opener only with it
            fresh = masks.opener(model, precision)
            try:
                return CutoutPredictor(fresh, background, mask_only=mask_only)
            except ArgumentError:
                fresh.close()
                raise

        super().__init__(
            CutoutPredictor(masks.predictor, background, mask_only=mask_only),
            strength=masks.strength,
            order=masks.order,
            opener=None if masks.opener is None else opened,
            loader=masks.loader,
        )
        self.refresh_interval = masks.refresh_interval


class CutoutPredictor:
    """`Predictor` that composes pictures from the masks of another one; see `Cutout`.

    Parameters
    ----------
    masks : Predictor
        Closed with this one.
    background : Background or None
    mask_only : bool

    Raises
    ------
    ArgumentError
        When the model makes no masks.
    """

    def __init__(
        self, masks: Predictor, background: Background | None = None, *, mask_only: bool = False
    ) -> None:
        self.bundle = masks.bundle
        if self.bundle.manifest.output.kind is not OutputKind.MASK:
            raise ArgumentError(
                f"{self.bundle.manifest.name} makes no masks; a background needs a model that does"
            )
        self.device, self.runtime, self.precision = masks.device, masks.runtime, masks.precision
        self.precision_reason, self.partial = masks.precision_reason, masks.partial
        self._masks, self._background, self._mask_only = masks, background, mask_only
        self._over_time = SteadyMasks()
        self._behind: tuple[ChannelOrder, NDArray[np.float32]] | None = None

    @property
    def plan(self) -> str:
        """How the latest image was cut into tiles for the mask model."""
        return self._masks.plan

    @property
    def depth(self) -> int:
        """How many images in flight keep the mask model busy."""
        return self._masks.depth

    @property
    def reuse(self) -> ReuseCounts | None:
        """Counts of what was taken over of the masks."""
        return self._masks.reuse

    @property
    def guarded(self) -> GuardCounts | None:
        """How many tiles of masks the guard replaced."""
        return self._masks.guarded

    def submit(self, image: Image, kind: ImageKind, settings: Settings) -> Pending:
        """Start cutting out of an image; see `Predictor.submit`."""
        colours = np.ascontiguousarray(image[..., :3] if kind.channels == 4 else image)
        full = replace(settings, strength=1.0)
        pending = self._masks.submit(colours, check_image(colours), full)

        def own() -> NDArray[np.float32]:
            made = pending.result()
            return _unit(made if made.ndim == 2 else made[..., 0])

        mask: Callable[[], NDArray[np.float32]] = own
        if settings.steady:
            mask = self._over_time.follow(colours, own)

        def cut() -> Image:
            alpha = 1 - np.asarray(settings.strength, np.float32) * (1 - mask())
            return self._composed(image, np.clip(alpha, 0, 1), settings)

        return Pending([pending], cut)

    def forget(self) -> None:
        """Infer all of the next mask, and smooth it with none before."""
        self._masks.forget()
        self._over_time = SteadyMasks()

    def close(self) -> None:
        """Close the mask model."""
        self._masks.close()

    def _composed(self, image: Image, alpha: NDArray[np.float32], settings: Settings) -> Image:
        if self._mask_only:
            return rounded(alpha, settings.depth)
        colours = _as_rgb(image)
        if image.ndim == 3 and image.shape[2] == 4:
            alpha = alpha * _unit(image[..., 3])
        if self._background is None:
            if Depth(colours.dtype.name) is not settings.depth:
                colours = rounded(_unit(colours), settings.depth)
            return np.dstack([colours, rounded(alpha, settings.depth)])
        kept = self._behind
        if kept is None or kept[0] is not settings.order or kept[1].shape[:2] != alpha.shape:
            behind = self._background.behind(*alpha.shape)
            if settings.order is ChannelOrder.BGR:
                behind = np.ascontiguousarray(behind[..., ::-1])
            self._behind = kept = (settings.order, behind)
        behind, front = kept[1], _unit(colours)
        return rounded(behind + alpha[..., None] * (front - behind), settings.depth)


def _as_rgb(image: Image) -> Image:
    if image.ndim == 2:
        return np.repeat(image[..., None], 3, axis=2)
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image[..., :3]


def _unit(image: Image) -> NDArray[np.float32]:
    """Return samples of any depth as f32 in [0, 1]."""
    peak = Depth(image.dtype.name).peak
    values = image.astype(np.float32)
    return values if peak == 1.0 else values / np.float32(peak)


@dataclass(frozen=True)
class _State:
    mask: NDArray[np.float32]
    calm: NDArray[np.uint8]


class _Link:
    """Smoothed mask of one frame, computed once, from that of the frame before."""

    def __init__(self, previous: _Link | None, make: Callable[[_State | None], _State]) -> None:
        self._previous: _Link | None = previous
        self._make: Callable[[_State | None], _State] | None = make
        self._state: _State | None = None
        self._error: InferenceError | None = None
        self._lock = threading.Lock()

    def state(self) -> _State:
        with self._lock:
            if self._make is not None:
                before = None
                with suppress(InferenceError):  # one lost frame is one lost frame
                    before = self._previous.state() if self._previous is not None else None
                try:
                    self._state = self._make(before)
                except InferenceError as error:
                    self._error = error
                # The chain must not keep every frame of a stream alive.
                self._previous = self._make = None
            if self._error is not None:
                raise self._error
            assert self._state is not None  # noqa: S101 - for the type checker
            return self._state


class SteadyMasks:
    """A temporal filter over the masks of a stream, in the order of submission.

    Where a pixel's colour is as in the frame before, the mask moves a fifth of the way
    from the frame before's to the new one; where the picture moved, the new one counts. A
    frame of another size starts anew.
    """

    def __init__(self) -> None:
        self._latest: _Link | None = None

    def follow(
        self, image: Image, mask: Callable[[], NDArray[np.float32]]
    ) -> Callable[[], NDArray[np.float32]]:
        """Take the next frame, and return what gives its smoothed mask.

        Parameters
        ----------
        image : ndarray, shape (H, W) or (H, W, C)
            Read when the mask is asked for.
        mask : callable
            Gives the frame's own mask, f32 ``[H, W]`` in [0, 1].
        """

        def make(before: _State | None) -> _State:
            return _smoothed(before, _State(mask(), _calmed(image)))

        self._latest = link = _Link(self._latest, make)
        return lambda: link.state().mask


def _smoothed(before: _State | None, now: _State) -> _State:
    if before is None or before.calm.shape != now.calm.shape:
        return now
    moved = cv2.absdiff(now.calm, before.calm)
    # Of the colours the one that changed most: a red coat may be as bright as the wall.
    most = moved.max(axis=2) if moved.ndim == 3 else moved
    share = np.clip((most.astype(np.float32) - _STILL) / (_MOVED - _STILL), _LEAST_NEW, 1)
    return _State(before.mask + share * (now.mask - before.mask), now.calm)


def _calmed(image: Image) -> NDArray[np.uint8]:
    """Return an image in 8 bits with its noise averaged away."""
    if image.dtype != np.uint8:
        peak = Depth(image.dtype.name).peak
        image = np.rint(np.clip(image, 0, peak) * (255 / peak)).astype(np.uint8)
    return np.asarray(cv2.blur(image, (_BLUR_PX, _BLUR_PX)), np.uint8)
