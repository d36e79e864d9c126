"""Photographs and cut-out objects in folders: read, checked, and divided between the splits."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..errors import ArgumentError, EdgerestoreError, SourceError
from ..imaging.arrays import Image
from ..imaging.error_translation import silenced
from ..imaging.image_files import decode_image, pictures_in
from .dataset import PictureEntry, SplitName
from .pictures import Photograph

__all__ = ["TEST_SET", "Found", "collect", "photograph_digest", "pixel_digest"]

TEST_SET: Mapping[str, str] = {
    "a1dcc1cc9cc4be07c3deec37343dc251790af184b71694e1a23fef54a5b16a8e": "Kodak 13",
    "ab93630ac7a316adffdbfb44f75f2d28518a6d7b9fbb767c3819fa183c0e9013": "Kodak 14",
    "92a39115f0d2dfd5c877967999bd7a15cd44cb0d90f887b88686c783024786c9": "Kodak 15",
    "50515ae1767d69f82c1155492c57d38e83fe089a533055a6369512a81584e1a9": "Kodak 16",
    "fe84de721d151a99959121fdb82f996a0f7aac954e1bc2cc245973b214284615": "GOPRO Flower, blurred",
    "3f74e15688ef84a2e2534a65cbfa4aea010c9f2cf5fa88c78c2050beb4d4928e": "GOPRO Flower, sharp",
    "ab58e577ec040d53627ddb33a038fccc954f3226898c5d2a5d440f3987ceb0c3": "lemur of PyMatting",
}
"""Pixel digests of the pictures that published figures are measured on: never trained on."""

_LARGEST_PX = 4_000_000  # beyond it a camera's pixels are no sharper, and memory is finite
_HELD_OUT = 10  # one of so many in validation, and one in test
_OPAQUE = 250

_log = logging.getLogger(__name__)

Keep = Callable[[str, Photograph], None]


def pixel_digest(image: Photograph) -> str:
    """Return the sha256 of a picture's size and pixels, whatever file holds them."""
    height, width = image.shape[:2]
    digest = hashlib.sha256(f"{width}x{height}".encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


def photograph_digest(path: Path) -> str:
    """Return the digest that `collect` knows a photograph's file by.

    Raises
    ------
    SourceError
        When it cannot be read.
    """
    with silenced():
        return pixel_digest(_in_colour(decode_image(path)[0]))


@dataclass(frozen=True)
class Found:
    """Pictures to make pairs of, ordered by digest, and how many were left out.

    Parameters
    ----------
    entries : tuple of PictureEntry
    left_out : int
        Files that cannot be used.
    """

    entries: tuple[PictureEntry, ...]
    left_out: int


def collect(
    option: str,
    folders: Sequence[Path],
    *,
    exclude: Collection[str] = (),
    least_px: int = 1,
    alpha: bool = False,
    keep: Keep,
) -> Found:
    """Read the pictures of folders, and divide them between the splits.

    A picture that is damaged, too small, there twice or transparent where it must not be (or
    opaque where it must not be) is left out, each with a line in the log. The split is by digest:
    neither names nor order nor the seed move a picture from one split to another.

    Parameters
    ----------
    option : str
        Named in messages.
    folders : sequence of Path
    exclude : collection of str
        Stems of files that are not read.
    least_px : int
        Shortest side that a picture may have.
    alpha : bool
        Objects: they must have transparency. Else photographs, which must not.
    keep : callable
        Called with the digest of each picture and its pixels, u8 RGB or RGBA.

    Raises
    ------
    ArgumentError
        For a folder without pictures, fewer than three that can be used, an excluded stem that
        is not there, and pictures of the test set.
    """
    paths = [path for folder in folders for path in pictures_in(option, folder)]
    absent = sorted(set(exclude) - {path.stem for path in paths})
    if absent and not alpha:
        raise ArgumentError(f"--exclude {absent[0]}: no such picture; give its name, no extension")
    _log.info("reading %d files of %s", len(paths), option)
    files: dict[str, Path] = {}
    forbidden: list[Path] = []
    left_out = 0
    for path in paths:
        if path.stem in exclude:
            continue
        try:
            image = _read(path, least_px, alpha=alpha)
            digest = pixel_digest(image)
            if digest in files:
                raise SourceError(f"{path}: is the same picture as {files[digest].name}")
        except EdgerestoreError as error:
            _log.warning("left out: %s", error)
            left_out += 1
            continue
        if digest in TEST_SET:
            forbidden.append(path)
            continue
        files[digest] = path
        keep(digest, _reduced(image))
    if forbidden:
        raise ArgumentError(_of_test_set(option, forbidden))
    if len(files) < len(SplitName):
        what = "objects with transparency" if alpha else f"photographs of {least_px} px and more"
        raise ArgumentError(
            f"{option} {' '.join(map(str, folders))}: {len(files)} {what} to use, of {len(paths)}"
            f" files; {len(SplitName)} are the least, one for each split"
        )
    return Found(_divided(files), left_out)


def _read(path: Path, least_px: int, *, alpha: bool) -> Photograph:
    """Read a picture as u8 RGB, or RGBA."""
    with silenced():
        image = decode_image(path)[0]
    if min(image.shape[:2]) < least_px:
        height, width = image.shape[:2]
        raise SourceError(f"{path}: is {width}x{height}, and {least_px} px a side are the least")
    opaque = image.ndim == 2 or image.shape[2] == 3 or _in_bytes(image[..., 3]).min() >= _OPAQUE
    if alpha == opaque:
        has = "has no transparency" if opaque else "is transparent in places"
        raise SourceError(f"{path}: {has}; objects have it, photographs do not")
    return np.ascontiguousarray(_in_bytes(image)) if alpha else _in_colour(image)


def _in_colour(image: Image) -> Photograph:
    """Return a picture as u8 RGB, without its transparency."""
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)
    return np.ascontiguousarray(_in_bytes(image[..., :3]))


def _in_bytes(image: Image) -> Photograph:
    if image.dtype == np.uint16:
        image = np.rint(image / np.float32(257))
    elif image.dtype == np.float32:
        image = np.rint(image * 255)
    return np.asarray(image, np.uint8)


def _reduced(image: Photograph) -> Photograph:
    """Return a picture of at most four megapixels."""
    scale = math.sqrt(_LARGEST_PX / (image.shape[0] * image.shape[1]))
    if scale >= 1:
        return image
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)


def _divided(files: Mapping[str, Path]) -> tuple[PictureEntry, ...]:
    """Return pictures in the order of their digests, a tenth of them in each held-out split."""
    tenth = max(1, len(files) // _HELD_OUT)
    splits = [SplitName.TEST] * tenth + [SplitName.VALIDATION] * tenth
    splits += [SplitName.TRAIN] * (len(files) - len(splits))
    return tuple(
        PictureEntry(files[digest].name, digest, split)
        for digest, split in zip(sorted(files), splits, strict=True)
    )


def _of_test_set(option: str, paths: Sequence[Path]) -> str:
    names = ", ".join(path.name for path in paths)
    exclude = " ".join(f"--exclude {path.stem}" for path in paths)
    are = "are pictures" if len(paths) > 1 else "is a picture"
    return f"{option}: {names} {are} of the test set, never trained on; add {exclude}"
