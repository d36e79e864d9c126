"""Dataset of an evaluation: pairs of input and target files, decoded and checked."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..bundle.kinds import OutputKind
from ..errors import SourceError
from ..imaging.arrays import Depth, Image, rounded
from ..imaging.bicubic import resized
from ..imaging.degradations import Degradation
from ..imaging.error_translation import silenced
from ..imaging.image_files import decode_image, pictures_in
from .scores import SCORING, Fractions, as_fractions, without_alpha

__all__ = ["Dataset", "FilePair", "Sample", "find_pairs"]

_logger = logging.getLogger(__name__)

_SCALE_IN_NAME = re.compile(r"(.+?)[-_]?x[2-9]", re.IGNORECASE)
"""Stem of a reduced picture in the usual datasets: ``babyx4`` beside ``baby``."""


@dataclass(frozen=True)
class FilePair:
    """A target file and its input file.

    Parameters
    ----------
    target : Path
    given : Path or None
        None where the input is made from the target.
    """

    target: Path
    given: Path | None = None


@dataclass(frozen=True, eq=False)
class Sample:
    """Decoded input and target.

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
class Dataset:
    """Pairs of files, read one at a time; the same pair gives the same pixels each time.

    Parameters
    ----------
    pairs : sequence of FilePair
    kind : OutputKind
        Output of the models.
    upscale : int
        Scale of the models.
    border_px : int
        Pixels cut from each side before measuring; pictures must be larger.
    degradation : Degradation or None
        Makes inputs from targets; None where inputs are files.
    seed : int
        Seeds the degradation together with the file's stem: a picture's degradation does
        not depend on the other pictures.
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
        cut = [pair.target.name for pair in self.pairs if self._cut(*self._read(pair))]
        if cut:
            more = f" and {len(cut) - 1} more" if len(cut) > 1 else ""
            _logger.info(
                "%s%s: cut at the right and the bottom, where pictures and %d times their inputs"
                " do not end together",
                *(cut[0], more, self.upscale),
            )

    def sample(self, pair: FilePair) -> Sample:
        """Read a pair.

        Raises
        ------
        SourceError
            For a file that cannot be read or does not fit its partner.
        """
        given, truth = self._read(pair)
        if given is None:
            given = self._degraded(pair, truth)
        else:
            # Inputs were rounded down to whole pixels, or up as MATLAB's imresize does.
            sides = zip(given.shape[:2], truth.shape[:2], strict=True)
            height, width = (min(side, longer // self.upscale) for side, longer in sides)
            given = np.ascontiguousarray(given[:height, :width])
            truth = truth[: height * self.upscale, : width * self.upscale]
        return Sample(pair.target.name, given, as_fractions(truth))

    def _read(self, pair: FilePair) -> tuple[Image | None, Image]:
        scoring = SCORING[self.kind]
        truth = scoring.target(pair.target, _decoded(pair.target))
        given = None if pair.given is None else without_alpha(pair.given, _decoded(pair.given))
        height, width = truth.shape[:2]
        if given is None:
            # An enlarged picture's side is a multiple of the scale, so the truth's is too.
            height, width = (side // self.upscale * self.upscale for side in (height, width))
            truth = truth[:height, :width]
        elif not self._fits(given, truth):
            raise SourceError(self._wrong_size(pair, given, truth))
        left = min(height, width) - 2 * self.border_px
        if left < (least := scoring.least_px):
            raise SourceError(
                f"{pair.target}: {width}x{height} leaves less than {least}x{least} to measure"
                f" with a border of {self.border_px} px cut off; leave it out or lower --border"
            )
        return given, truth

    def _fits(self, given: Image, truth: Image) -> bool:
        """Return whether a target is as large as restored, but for less than the scale."""
        left = (truth.shape[axis] - given.shape[axis] * self.upscale for axis in (0, 1))
        return all(abs(pixels) < self.upscale for pixels in left)

    def _cut(self, given: Image | None, truth: Image) -> bool:
        return given is not None and any(
            truth.shape[axis] != given.shape[axis] * self.upscale for axis in (0, 1)
        )

    def _wrong_size(self, pair: FilePair, given: Image, truth: Image) -> str:
        (height, width), (rows, columns) = given.shape[:2], truth.shape[:2]
        wanted = f"{width * self.upscale}x{height * self.upscale}"
        how = f", {self.upscale} times the input's" if self.upscale > 1 else ""
        return (
            f"{pair.target}: is {columns}x{rows}, and its input {pair.given} is {width}x{height};"
            f" expected {wanted}{how}"
        )

    def _degraded(self, pair: FilePair, truth: Image) -> Image:
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


def find_pairs(targets: Path, inputs: Path | None) -> list[FilePair]:
    """Pair the pictures of two folders.

    Parameters
    ----------
    targets : Path
        Folder of ground truth.
    inputs : Path or None
        Folder of inputs, a file for each target, with the same stem, or that and the scale
        (``babyx4`` for ``baby``); None leaves inputs out.

    Returns
    -------
    list of FilePair
        By name.

    Raises
    ------
    ArgumentError
        For a path that is not a folder, or a folder without pictures.
    SourceError
        For a file without its partner, or two files of one stem.
    """
    truth = _by_stem("--targets", targets)
    if inputs is None:
        return [FilePair(path) for path in truth.values()]
    given = _without_scale(_by_stem("--inputs", inputs), truth)
    _check_partners(given, truth, "target", targets)
    _check_partners(truth, given, "input", inputs)
    return [FilePair(path, given[stem]) for stem, path in truth.items()]


def _by_stem(option: str, folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in pictures_in(option, folder):
        other = found.setdefault(path.stem, path)
        if other is not path:
            raise SourceError(f"{path}: has the same stem as {other.name}; keep one of them")
    return found


def _without_scale(given: dict[str, Path], truth: dict[str, Path]) -> dict[str, Path]:
    """Name inputs by their targets: those of the same stem, then those with the scale in theirs."""
    found: dict[str, Path] = {}
    for stem, path in sorted(given.items(), key=lambda one: one[0] not in truth):
        match = _SCALE_IN_NAME.fullmatch(stem)
        named = match[1] if stem not in truth and match and match[1] in truth else stem
        other = found.setdefault(named, path)
        if other is not path:
            raise SourceError(
                f"{path}: is an input of {truth[named].name}, and so is {other.name}; keep one"
            )
    return found


def _check_partners(
    these: dict[str, Path], others: dict[str, Path], wanted: str, folder: Path
) -> None:
    alone = [path for stem, path in these.items() if stem not in others]
    if alone:
        more = f", nor have {len(alone) - 1} others" if len(alone) > 1 else ""
        raise SourceError(
            f"{alone[0]}: has no {wanted} named {alone[0].stem}.* in {folder}{more}"
            f" ({len(these)} files there, {len(others)} here); files are paired by stem"
        )
