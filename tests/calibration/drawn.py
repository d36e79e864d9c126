"""Pictures written with OpenCV alone, and what became of them as calibration data."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
from numpy.typing import NDArray

from edgerestore.calibration.dataset import CalibrationData, Crop, load_calibration
from edgerestore.imaging.degradations import Degradation

DOWN = Degradation("downscale", upscale=2)
ORIGIN = re.compile(r"(?P<picture>(?P<file>.+?)(?: frame \d+)?) at (?P<x>\d+),(?P<y>\d+)")


def load(paths: Path | Sequence[Path], **options: Any) -> CalibrationData:
    """Read calibration data; by default colour crops of 32 pixels, of pictures as they are."""
    usual: dict[str, Any] = {"channels": 3, "degradation": Degradation("none"), "crop_px": 32}
    return load_calibration([paths] if isinstance(paths, Path) else paths, **(usual | options))


def save(path: Path, image: NDArray[Any]) -> Path:
    """Write RGB or grey pixels with OpenCV alone."""
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    assert cv2.imwrite(str(path), image)
    return path


def places_of(found: Sequence[Crop]) -> list[tuple[str, str, int, int]]:
    """Return each crop's picture, its file, left and top."""
    places = []
    for crop in found:
        match = ORIGIN.fullmatch(crop.origin)
        assert match is not None, crop.origin
        places.append((match["picture"], match["file"], int(match["x"]), int(match["y"])))
    return places


def pixels_of(found: Sequence[Crop], crop_px: int) -> set[tuple[str, int, int]]:
    """Return every pixel that crops cover in some frame of a file."""
    return {
        (file, x + dx, y + dy)
        for _, file, x, y in places_of(found)
        for dx in range(crop_px)
        for dy in range(crop_px)
    }
