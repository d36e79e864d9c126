"""Training data: photographs, and seeded pairs of degraded and clean crops."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import SourceError
from ..imaging.degradations import DegradationModel, degrade

__all__ = ["CropPairs", "load_photographs", "skimage_photographs"]

_ENDINGS = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"}
_MARGIN_PX = 16  # the widest kernel's reach: blur sees real pixels beyond the crop
_HALVED_SHARE = 0.3  # crops taken from a reduced picture, which is sharper per pixel

Photograph = NDArray[np.uint8]


def load_photographs(folder: Path, exclude: Sequence[str] = ()) -> list[Photograph]:
    """Read a folder's photographs as RGB u8, in the order of their names.

    Raises
    ------
    SourceError
        When the folder holds none, or one cannot be read.
    """
    paths = sorted(p for p in folder.glob("*") if p.suffix.lower() in _ENDINGS)
    chosen = [p for p in paths if p.stem not in exclude]
    if not chosen:
        raise SourceError(f"{folder}: no photographs to train on")
    photographs: list[Photograph] = []
    for path in chosen:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None:
            raise SourceError(f"{path}: cannot be read as an image")
        photographs.append(np.ascontiguousarray(image[..., ::-1], np.uint8))
    return photographs


def skimage_photographs(names: Sequence[str]) -> list[Photograph]:
    """Return photographs of ``skimage.data`` (public domain), as RGB u8."""
    from skimage import data

    photographs = []
    for name in names:
        image = np.asarray(getattr(data, name)())
        if image.ndim == 2:
            image = np.repeat(image[..., None], 3, axis=2)
        photographs.append(np.ascontiguousarray(image[..., :3]))
    return photographs


class CropPairs(Dataset[tuple[Tensor, Tensor]]):
    """Dataset of degraded and clean crops; pair ``i`` depends on the seed and ``i`` alone.

    So the number of workers changes nothing, and a resumed run ends as an uninterrupted one.

    Parameters
    ----------
    photographs : sequence of ndarray, u8, shape (H, W, 3)
    degradation : DegradationModel
    crop_px : int
        Side of a crop.
    count : int
        Number of pairs.
    seed : int
    """

    def __init__(
        self,
        photographs: Sequence[Photograph],
        degradation: DegradationModel,
        *,
        crop_px: int,
        count: int,
        seed: int,
    ) -> None:
        side = crop_px + 2 * _MARGIN_PX
        small = [p.shape[:2] for p in photographs if min(p.shape[:2]) < side]
        if small:
            raise SourceError(f"a photograph of {small[0]} is smaller than a crop of {side}")
        self._full = list(photographs)
        self._reduced = [
            cv2.resize(p, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)
            for p in photographs
            if min(p.shape[:2]) * 0.6 >= side
        ]
        self._degradation, self._crop_px = degradation, crop_px
        self._count, self._seed = count, seed
        areas = np.array([p.shape[0] * p.shape[1] for p in self._full], np.float64)
        self._shares = areas / areas.sum()

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng([self._seed, index])
        clean = self._crop(rng)
        blurred, _ = degrade(clean, self._degradation, rng)
        inner = slice(_MARGIN_PX, -_MARGIN_PX)
        pair = (blurred[inner, inner].astype(np.float32) / 255, clean[inner, inner])
        degraded, target = (
            torch.from_numpy(np.ascontiguousarray(p.transpose(2, 0, 1))) for p in pair
        )
        return degraded, target

    def _crop(self, rng: np.random.Generator) -> NDArray[np.float32]:
        if self._reduced and rng.random() < _HALVED_SHARE:
            photograph = self._reduced[int(rng.integers(len(self._reduced)))]
        else:
            photograph = self._full[int(rng.choice(len(self._full), p=self._shares))]
        side = self._crop_px + 2 * _MARGIN_PX
        top = int(rng.integers(photograph.shape[0] - side + 1))
        left = int(rng.integers(photograph.shape[1] - side + 1))
        crop = photograph[top : top + side, left : left + side]
        crop = np.rot90(crop, int(rng.integers(4)))
        if rng.random() < 0.5:
            crop = crop[:, ::-1]
        scaled = np.ascontiguousarray(crop).astype(np.float32) / 255
        # Exposure and white balance vary; blur does not care, the network should not.
        gain = rng.uniform(0.75, 1.15) * rng.uniform(0.95, 1.05, 3)
        return np.clip(scaled * gain.astype(np.float32), 0, 1)
