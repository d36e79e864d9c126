"""Sample pictures for the verification of a converted model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError
from ..imaging.arrays import Planes, luma, pixels_of, planes_of
from ..imaging.scenes import drawn_scene
from ..imaging.stated_size import check_pixels

__all__ = ["Samples", "load_samples", "to_planes"]

_SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"}
_MOST = 6
_DRAWN = 3


@dataclass(frozen=True)
class Samples:
    """Sample pictures with the model's channels, and their names.

    Parameters
    ----------
    images : list of ndarray, f32 [1, C, H, W] in [0, 1]
    names : list of str
    synthetic : bool
        Drawn here, since no pictures were given.
    """

    images: list[Planes]
    names: list[str]
    synthetic: bool

    def interleaved(self) -> list[NDArray[np.float32]]:
        """Return the pictures as f32 (H, W, C), as a restorer takes them."""
        return [pixels_of(image) for image in self.images]

    def crop(self, index: int, height: int, width: int) -> Planes:
        """Cut the middle of a picture, mirroring one that is too small."""
        image = self.images[index % len(self.images)]
        short = [max(0, height - image.shape[2]), max(0, width - image.shape[3])]
        image = np.pad(image, ((0, 0), (0, 0), (0, short[0]), (0, short[1])), mode="symmetric")
        top, left = (image.shape[2] - height) // 2, (image.shape[3] - width) // 2
        return np.ascontiguousarray(image[:, :, top : top + height, left : left + width])


def load_samples(path: Path | None, channels: int) -> Samples:
    """Read up to six pictures from a folder, or draw some.

    Parameters
    ----------
    path : Path or None
        A folder, or one picture; None draws seeded scenes of edges, texture and noise.
    channels : int
        1 or 3.

    Raises
    ------
    ArgumentError
        When there is nothing to read.
    """
    if path is None:
        drawn = [to_planes(drawn_scene(seed), channels) for seed in range(_DRAWN)]
        return Samples(drawn, [f"drawn scene {seed}" for seed in range(_DRAWN)], synthetic=True)
    if not path.exists():
        raise ArgumentError(f"--samples {path}: no such file or folder")
    files = [path] if path.is_file() else sorted(path.iterdir())
    files = [file for file in files if file.suffix.lower() in _SUFFIXES]
    if not files:
        raise ArgumentError(f"--samples {path}: holds no pictures ({', '.join(sorted(_SUFFIXES))})")
    step = max(1, len(files) // _MOST)
    chosen = files[::step][:_MOST]
    return Samples(
        [to_planes(_read(file), channels) for file in chosen],
        [file.name for file in chosen],
        synthetic=False,
    )


def _read(file: Path) -> NDArray[np.float32]:
    check_pixels(file.read_bytes(), f"--samples {file}")
    image = cv2.imread(str(file), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    if image is None:
        raise ArgumentError(f"--samples {file}: is no picture that can be read")
    peak = {"uint8": 255.0, "uint16": 65535.0}.get(image.dtype.name, 1.0)
    scaled: NDArray[np.float32] = image[..., ::-1].astype(np.float32) / np.float32(peak)
    return scaled


def to_planes(image: NDArray[np.float32], channels: int) -> Planes:
    """Turn RGB f32 [H, W, 3] into f32 [1, C, H, W]."""
    return planes_of(luma(image)[..., None] if channels == 1 else image)
