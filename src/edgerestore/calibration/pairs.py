"""Pairs of an input and its ground truth: by a degradation, from target files, or none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import SourceError
from ..imaging.degradations import Degradation
from .pictures import PictureFile, read_pictures

__all__ = ["Pair", "PairReader"]

Image = NDArray[np.float32]
Planes = NDArray[np.float32]

_MARGIN_PX = 16  # real pixels that a degradation sees beyond a crop; farther than any blur reaches


@dataclass(frozen=True, eq=False)
class Pair:
    """A picture, and its degraded twin where that is given.

    Parameters
    ----------
    name : str
        ``01.png``, ``clip.mp4 frame 12``.
    finest : ndarray, f32, shape (H, W, C)
        The truth, or the picture alone where there is none; in [0, 1].
    given : ndarray, f32, shape (h, w, C), or None
        What the model gets, in [0, 1]; None where the degradation has to make it.
    """

    name: str
    finest: Image
    given: Image | None


@dataclass(frozen=True)
class PairReader:
    """Reads files as pairs, and cuts crops out of them.

    Parameters
    ----------
    channels, upscale : int
        Of the model.
    degradation : Degradation
        What clean pictures are given; of no effect with targets.
    crop_px : int
        Side of a crop of the model's input.
    targets : mapping of str to Path, or None
        The truth of each picture, by the stem of its name.
    """

    channels: int
    upscale: int
    degradation: Degradation
    crop_px: int
    targets: Mapping[str, Path] | None

    @property
    def has_truth(self) -> bool:
        """Whether there is truth: all files have it, or none."""
        return self.targets is not None or self.degradation.kind != "none"

    @property
    def scale(self) -> int:
        """Pixels of `Pair.finest` along each of the model's input."""
        return self.upscale if self.has_truth else 1

    def read(self, file: PictureFile) -> Iterator[Pair]:
        """Read the pairs of a file: one, or a video's few.

        Raises
        ------
        SourceError
            When the file is of no use. The message is the reason, without the file; what
            stands before a parenthesis is the same for all files with that reason.
        """
        for which, image in _read(file.path, self.channels, "unreadable"):
            height, width = image.shape[:2]
            side = self.crop_px if self.targets is not None else self.crop_px * self.scale
            if min(height, width) < side:
                raise SourceError(f"smaller than {side}x{side} ({width}x{height})")
            name = f"{file.name}{which}"
            if self.targets is not None:
                yield Pair(name, self._target(file, height, width), image)
            elif self.has_truth:
                rows, columns = (length // self.scale * self.scale for length in (height, width))
                yield Pair(name, image[:rows, :columns], None)
            else:
                yield Pair(name, image, image)

    def cut(
        self, pair: Pair, x: int, y: int, rng: np.random.Generator
    ) -> tuple[Planes, Planes | None]:
        """Cut a crop.

        Parameters
        ----------
        pair : Pair
        x, y : int
            Left and top, in pixels of the model's input.
        rng : numpy.random.Generator
            The degradation's chance: each crop has a blur and a noise of its own.

        Returns
        -------
        image : ndarray, f32, shape (1, C, crop_px, crop_px)
        truth : ndarray, f32, shape (1, C, crop_px * upscale, crop_px * upscale), or None
        """
        side, scale = self.crop_px, self.scale
        if pair.given is not None:
            image = pair.given[y : y + side, x : x + side]
        else:
            left, top = max(0, x - _MARGIN_PX), max(0, y - _MARGIN_PX)
            right, bottom = x + side + _MARGIN_PX, y + side + _MARGIN_PX
            around = pair.finest[top * scale : bottom * scale, left * scale : right * scale]
            spoilt = self.degradation.apply(np.ascontiguousarray(around), rng)
            image = spoilt[y - top : y - top + side, x - left : x - left + side]
        if not self.has_truth:
            return _planes(image), None
        truth = pair.finest[y * scale : (y + side) * scale, x * scale : (x + side) * scale]
        return _planes(image), _planes(truth)

    def _target(self, file: PictureFile, height: int, width: int) -> Image:
        path = (self.targets or {}).get(file.path.stem)
        if file.is_video or path is None:
            raise SourceError("without a target")
        ((_, target),) = _read(path, self.channels, "with an unreadable target")
        wanted = height * self.upscale, width * self.upscale
        if target.shape[:2] != wanted:
            raise SourceError(
                f"with a target of another size than {self.upscale} times its own"
                f" ({target.shape[1]}x{target.shape[0]} for {width}x{height})"
            )
        return target


def _read(path: Path, channels: int, failure: str) -> Iterator[tuple[str, Image]]:
    try:
        yield from read_pictures(path, channels)
    except SourceError as error:
        reason = str(error).removeprefix(f"{path}: ").partition(";")[0]
        raise SourceError(f"{failure} ({reason})") from error


def _planes(image: Image) -> Planes:
    planes: Planes = np.ascontiguousarray(image.transpose(2, 0, 1)[None])
    return planes
