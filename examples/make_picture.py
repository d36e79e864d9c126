"""Draw the README's picture: what each model makes of a photograph that no network here has seen.

Run as ``python examples/make_picture.py``; writes ``docs/before_after.jpg``. The photographs come
with scikit-image and are in the public domain.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage import data

import edgerestore
from edgerestore.imaging.arrays import Depth, rounded
from edgerestore.imaging.degradations import Degradation
from edgerestore.imaging.metrics import psnr

OUT = Path(__file__).resolve().parent.parent / "docs" / "before_after.jpg"
HEIGHT, WIDTH = 240, 400
BAR, GAP = 34, 6
COLUMNS = 2

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Panel:
    """Photograph, what is done to it, and where the crop that is shown begins."""

    model: str
    photograph: str
    degradation: str
    fault: str
    top: int
    left: int


PANELS = (
    Panel("deblur", "chelsea", "defocus:1.8", "out of focus", 30, 30),
    Panel("denoise", "astronaut", "noise:25", "noise", 20, 60),
    Panel("denoise-gray", "camera", "poisson:60", "few photons", 40, 20),
    Panel("dejpeg", "rocket", "jpeg:12", "JPEG of quality 12", 150, 140),
)


def drawn(panel: Panel) -> Image:
    """Return a crop, the left half as given and the right half restored, under a line of text."""
    clean = np.atleast_3d(getattr(data, panel.photograph)())
    kind = Degradation.parse(panel.degradation, upscale=1)
    with edgerestore.load(panel.model) as restorer:
        given = rounded(
            kind.apply(clean.astype(np.float32) / 255, np.random.default_rng(7)), Depth.U8
        )
        made = np.asarray(restorer(given), np.uint8)
    label = f"{panel.model}: {panel.fault}, {psnr(given, clean):.1f} to {psnr(made, clean):.1f} dB"
    part = np.s_[panel.top : panel.top + HEIGHT, panel.left : panel.left + WIDTH]
    crop = np.hstack([given[part][:, : WIDTH // 2], made[part][:, WIDTH // 2 :]])
    crop = np.broadcast_to(crop, (*crop.shape[:2], 3)).copy()
    crop[:, WIDTH // 2 - 1 : WIDTH // 2 + 1] = 255
    bar = np.full((BAR, WIDTH, 3), 32, np.uint8)
    cv2.putText(bar, label, (8, 23), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
    framed = np.vstack([bar, crop])
    return cv2.copyMakeBorder(framed, 0, GAP, 0, GAP, cv2.BORDER_CONSTANT, value=(255,) * 3)


def main() -> None:
    """Lay the panels out in rows."""
    made = [drawn(panel) for panel in PANELS]
    rows = [np.hstack(made[at : at + COLUMNS]) for at in range(0, len(made), COLUMNS)]
    cv2.imwrite(str(OUT), np.vstack(rows)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])


if __name__ == "__main__":
    main()
