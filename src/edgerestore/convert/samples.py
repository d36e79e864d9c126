"""Sample pictures for the verification of a converted model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError
from ..imaging.arrays import Planes, luma, pixels_of, planes_of
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
        drawn = [to_planes(_scene(seed), channels) for seed in range(_DRAWN)]
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


def _scene(seed: int, side: int = 640) -> NDArray[np.float32]:
    """Draw discs and polygons over a gradient, with texture, soft edges and sensor noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
    canvas = np.stack([0.35 + 0.4 * y, 0.45 + 0.2 * x, 0.7 - 0.4 * y], -1).astype(np.float32)
    for _ in range(40):
        color = rng.uniform(0.05, 0.95, 3)
        middle, size = rng.integers(0, side, 2), int(rng.integers(12, 120))
        if rng.random() < 0.5:
            cv2.circle(canvas, middle.tolist(), size, color.tolist(), -1, cv2.LINE_AA)
        else:
            corners = (middle + rng.integers(-size, size, (5, 2))).astype(np.int32)
            cv2.fillPoly(canvas, [corners], color.tolist(), cv2.LINE_AA)
    for _ in range(12):
        start, end = rng.integers(0, side, (2, 2)).tolist()
        shade = rng.uniform(0, 1, 3).tolist()
        cv2.line(canvas, start, end, shade, int(rng.integers(1, 4)), cv2.LINE_AA)
    texture = cv2.GaussianBlur(rng.normal(0, 0.5, (side, side, 1)).astype(np.float32), (0, 0), 1.5)
    canvas += texture.reshape(side, side, 1) * (x[..., None] > 0.5)
    canvas = np.asarray(cv2.GaussianBlur(canvas, (0, 0), 0.6), np.float32)
    noisy = canvas + rng.normal(0, 2 / 255, canvas.shape).astype(np.float32)
    return np.clip(noisy, 0, 1).astype(np.float32)
