"""The pictures of an evaluation, read and checked: what a model gets, and what it should give."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..bundle.kinds import OutputKind
from ..errors import SourceError
from ..imaging.arrays import Depth, Image, rounded
from ..imaging.bicubic import resized
from ..imaging.degradations import Degradation
from ..imaging.image_files import decode_image
from ..imaging.library_errors import silenced
from .pairing import FilePair
from .scores import LEAST_PX, Fractions, as_fractions

__all__ = ["Material", "Sample"]


@dataclass(frozen=True, eq=False)
class Sample:
    """A picture as a model gets it, and its truth.

    Parameters
    ----------
    name : str
    given : ndarray, u8, u16 or f32, shape (H, W) or (H, W, 3)
    target : ndarray, f64, shape (H * upscale, W * upscale, C)
    """

    name: str
    given: Image
    target: Fractions

    def enlarged(self) -> Fractions:
        """Return the input at the target's size, rounded to its own depth."""
        height, width = self.target.shape[:2]
        if self.given.shape[:2] == (height, width):
            return as_fractions(self.given)
        large = resized(as_fractions(self.given).astype(np.float32), height, width)
        return as_fractions(rounded(np.clip(large, 0, 1), Depth(self.given.dtype.name)))


@dataclass(frozen=True)
class Material:
    """Reads pairs; the same pair is the same pixels each time.

    Parameters
    ----------
    pairs : sequence of FilePair
    kind : OutputKind
        What the models give.
    upscale : int
        How many times they enlarge.
    border_px : int
        What is cut from each side before measuring, so that what is left can be checked.
    degradation : Degradation or None
        What targets are given to make the inputs; None where there are files.
    seed : int
        Of the degradation's chance, with the file's stem: a picture's degradation does not
        depend on which others there are.
    """

    pairs: Sequence[FilePair]
    kind: OutputKind
    upscale: int
    border_px: int
    degradation: Degradation | None
    seed: int

    def check(self) -> None:
        """Read every file once, so that a wrong one is found before hours of work.

        Raises
        ------
        SourceError
            For a file that cannot be read or does not fit its partner.
        """
        for pair in self.pairs:
            self._read(pair)

    def sample(self, pair: FilePair) -> Sample:
        """Read a pair.

        Raises
        ------
        SourceError
            For a file that cannot be read or does not fit its partner.
        """
        given, truth = self._read(pair)
        if given is None:
            given = self._spoilt(pair, truth)
        return Sample(pair.name, given, as_fractions(truth))

    def _read(self, pair: FilePair) -> tuple[Image | None, Image]:
        truth = _decoded(pair.target)
        truth = _mask(pair.target, truth) if self.kind is OutputKind.MASK else _colours(truth)
        given = None if pair.given is None else _colours(_decoded(pair.given))
        height, width = truth.shape[:2]
        if given is None:
            # An enlarged picture's side is a multiple of the scale, so the truth's is too.
            height, width = (side // self.upscale * self.upscale for side in (height, width))
            truth = truth[:height, :width]
        elif given.shape[0] * self.upscale != height or given.shape[1] * self.upscale != width:
            raise SourceError(self._wrong_size(pair, given, truth))
        left = min(height, width) - 2 * self.border_px
        if left < LEAST_PX[self.kind]:
            least = LEAST_PX[self.kind]
            raise SourceError(
                f"{pair.target}: {width}x{height} leaves less than {least}x{least} to measure"
                f" with a border of {self.border_px} px cut off; leave it out or lower --border"
            )
        return given, truth

    def _wrong_size(self, pair: FilePair, given: Image, truth: Image) -> str:
        (height, width), (rows, columns) = given.shape[:2], truth.shape[:2]
        wanted = f"{width * self.upscale}x{height * self.upscale}"
        how = f", {self.upscale} times the input's" if self.upscale > 1 else ""
        return (
            f"{pair.target}: is {columns}x{rows}, and its input {pair.given} is {width}x{height};"
            f" expected {wanted}{how}"
        )

    def _spoilt(self, pair: FilePair, truth: Image) -> Image:
        assert self.degradation is not None  # noqa: S101 - there is a degradation where there is no input
        if self.degradation.kind == "none":
            return np.ascontiguousarray(truth)
        depth = Depth(truth.dtype.name)
        clean = as_fractions(truth).astype(np.float32)
        digest = hashlib.sha256(pair.target.stem.encode("utf-8", "surrogateescape")).digest()
        rng = np.random.default_rng([self.seed, int.from_bytes(digest[:8], "little")])
        made = rounded(self.degradation.apply(clean, rng), depth)
        return made[..., 0] if truth.ndim == 2 else made


def _decoded(path: Path) -> Image:
    with silenced():
        return decode_image(path)[0]


def _colours(image: Image) -> Image:
    """Return a picture without its transparency."""
    return np.ascontiguousarray(image[..., :3]) if image.ndim == 3 else image


def _mask(path: Path, image: Image) -> Image:
    """Return the mask that a file holds: its alpha channel, or itself where it is grey."""
    if image.ndim == 2:
        return image
    if image.shape[2] == 4:
        return np.ascontiguousarray(image[..., 3])
    if not (image == image[..., :1]).all():
        raise SourceError(f"{path}: is no mask: it has colours and no alpha; use a grey picture")
    return np.ascontiguousarray(image[..., 0])
