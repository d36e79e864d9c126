"""Draw the README's before/after picture: a photograph no network here was trained on.

Run as ``python examples/make_picture.py``; writes ``docs/before_after.jpg``.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from skimage import data

import edgerestore
from edgerestore.imaging.degradations import defocus_kernel
from edgerestore.imaging.metrics import psnr

OUT = Path(__file__).resolve().parent.parent / "docs" / "before_after.jpg"
TOP, LEFT, HEIGHT, WIDTH = 30, 80, 200, 300
ZOOM = 2


def main() -> None:
    """Blur, restore, and lay the crops side by side with their names."""
    clean = np.ascontiguousarray(data.chelsea())
    rng = np.random.default_rng(7)
    blurred = cv2.filter2D(
        clean.astype(np.float32), -1, defocus_kernel(1.8), borderType=cv2.BORDER_REFLECT
    )
    noisy = np.clip(np.rint(blurred + rng.normal(0, 1.0, clean.shape)), 0, 255).astype(np.uint8)
    with edgerestore.load("deblur", precision="fp32") as restorer:
        restored = restorer(noisy)
    panels = {
        f"input, {psnr(noisy, clean):.2f} dB": noisy,
        f"edgerestore, {psnr(restored, clean):.2f} dB": restored,
        "truth": clean,
    }
    strips = []
    for name, image in panels.items():
        crop = image[TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH, ::-1]
        big = cv2.resize(crop, None, fx=ZOOM, fy=ZOOM, interpolation=cv2.INTER_CUBIC)
        bar = np.full((40, big.shape[1], 3), 32, np.uint8)
        cv2.putText(bar, name, (12, 28), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (255,) * 3, 1, cv2.LINE_AA)
        big = np.vstack([bar, big])
        strips.append(big)
    cv2.imwrite(str(OUT), np.hstack(strips), [cv2.IMWRITE_JPEG_QUALITY, 85])


if __name__ == "__main__":
    main()
