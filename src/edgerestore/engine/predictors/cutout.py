"""Cutting out: a mask as transparency, or the picture before another background."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ...bundle.kinds import OutputKind
from ...errors import ArgumentError, SinkError
from ...imaging.arrays import ChannelOrder, Depth, Image, check_image, rounded
from ...imaging.image_files import decode_image, holds_alpha
from ..guard import GuardCounts
from ..pending import Pending
from ..restorer import Restorer
from ..strength import Strength, check_map, check_scalar
from ..temporal.counts import ReuseCounts
from .steady_masks import SteadyMasks

__all__ = ["Background", "Cutout", "cut_out", "parse_background"]

_NAMED = {"white": (1.0, 1.0, 1.0), "black": (0.0, 0.0, 0.0)}


@dataclass(frozen=True)
class Background:
    """What stands behind what was cut out: a colour, or a picture that covers the frame.

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
    restorer: Restorer,
    background: str | None,
    *,
    mask_only: bool,
    outputs: Sequence[Path],
    notice: Callable[[str], None],
) -> Restorer:
    """Make of a mask model what a person expects of it; any other model is left alone.

    Parameters
    ----------
    restorer : Restorer
    background : str or None
        As `parse_background` takes it. None is transparent where every output keeps that,
        else white.
    mask_only : bool
    outputs : sequence of Path
        The files to be written.
    notice : callable
        Takes one line where the background had to be chosen.

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
        notice(f"{opaque[0].name} keeps no transparency: the background becomes white")
        background = "white"
    if background == "none" and opaque and not mask_only:
        raise SinkError(
            f"{opaque[0]}: keeps no transparency; write .png, or give --background a colour"
        )
    behind = parse_background(background or "none")
    return Cutout(restorer, behind, mask_only=mask_only)


class Cutout(Restorer):
    """A mask model whose outcome is applied to the picture.

    What is returned has the image's dtype and size: RGBA for a transparent background, RGB
    before another one, grey ``(H, W)`` for the mask alone. `steady` smooths the masks of a
    stream's frames over time. At strength 0 the picture stays
    whole, at 1 what the mask is 0 on is gone.

    Parameters
    ----------
    masks : Restorer
        Of a bundle whose output is a mask; closed with this one.
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
        self,
        masks: Restorer,
        background: Background | None = None,
        *,
        mask_only: bool = False,
    ) -> None:
        if masks.bundle.manifest.output.kind is not OutputKind.MASK:
            raise ArgumentError(
                f"{masks.bundle.manifest.name} makes no masks; a background needs a model that does"
            )
        super().__init__(masks.bundle, masks.device, masks.precision, masks.strength, masks.order)
        self.precision_reason = masks.precision_reason
        self._masks, self._background, self._mask_only = masks, background, mask_only
        masks.on_guarded = self._tell_guarded
        self._over_time = SteadyMasks()
        self._behind: NDArray[np.float32] | None = None

    @property
    def depth(self) -> int:
        """As many as the mask model."""
        return self._masks.depth

    @property
    def reuse(self) -> ReuseCounts | None:
        """What was taken over of the masks."""
        return self._masks.reuse

    @property
    def guarded(self) -> GuardCounts | None:
        """What the mask model's guard saw."""
        return self._masks.guarded

    @property
    def cadence(self) -> int:
        """In how many frames each pixel of the masks is refreshed; see `Restorer.cadence`."""
        return self._masks.cadence

    @cadence.setter
    def cadence(self, cadence: int) -> None:
        self._masks.cadence = cadence

    def submit(self, image: Image, strength: Strength | None = None) -> Pending:
        """Start cutting out of an image; see `Restorer.submit`."""
        kind = check_image(image)
        asked: float | NDArray[np.float32]
        if isinstance(strength, np.ndarray) and strength.ndim:
            asked = check_map(strength, kind.height, kind.width, 1)
        else:
            asked = self.strength if strength is None else check_scalar(strength)
        colours = image[..., :3] if kind.channels == 4 else image
        pending = self._masks.submit(np.ascontiguousarray(colours), 1.0)
        self.plan = self._masks.plan

        def own() -> NDArray[np.float32]:
            made = pending.result()
            return _unit(made if made.ndim == 2 else made[..., 0])

        mask: Callable[[], NDArray[np.float32]] = own
        if self.steady:
            mask = self._over_time.follow(colours, own)

        def cut() -> Image:
            alpha = 1 - np.asarray(asked, np.float32) * (1 - mask())
            return self._composed(image, np.clip(alpha, 0, 1), kind.depth)

        return Pending([pending], cut)

    def reopened(self, model: str | None = None, precision: str | None = None) -> Restorer:
        """Open another mask model before the same background; see `Restorer.reopened`."""
        masks = self._masks.reopened(model, precision)
        try:
            other = Cutout(masks, self._background, mask_only=self._mask_only)
        except ArgumentError:
            masks.close()
            raise
        other.strength = self.strength
        return other

    def close(self) -> None:
        """Close the mask model."""
        self._masks.close()

    def _composed(self, image: Image, alpha: NDArray[np.float32], depth: Depth) -> Image:
        if self._mask_only:
            return rounded(alpha, depth)
        colours = _as_rgb(image)
        if image.ndim == 3 and image.shape[2] == 4:
            alpha = alpha * _unit(image[..., 3])
        if self._background is None:
            return np.dstack([colours, rounded(alpha, depth)])
        behind = self._behind
        if behind is None or behind.shape[:2] != alpha.shape:
            behind = self._background.behind(*alpha.shape)
            if self.order is ChannelOrder.BGR:
                behind = np.ascontiguousarray(behind[..., ::-1])
            self._behind = behind
        front = _unit(colours)
        return rounded(behind + alpha[..., None] * (front - behind), depth)


def _as_rgb(image: Image) -> Image:
    if image.ndim == 2:
        return np.repeat(image[..., None], 3, axis=2)
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image[..., :3]


def _unit(image: Image) -> NDArray[np.float32]:
    """Return samples of any depth as f32 in [0, 1]."""
    peak = Depth(image.dtype.name).peak
    values = image.astype(np.float32)
    return values if peak == 1.0 else values / np.float32(peak)
