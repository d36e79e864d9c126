"""What is measured on: moving photographs, made on the fly, the same bytes every time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from skimage import data

__all__ = ["canvas", "moving_frames", "photograph", "write_clip"]

Picture = NDArray[np.uint8]

_NAMES = ("coffee", "astronaut", "rocket", "chelsea", "retina", "hubble_deep_field")
_PATCH = (300, 450)
_RATE = 30


def photograph(path: Path) -> Picture:
    """Read a file as RGB."""
    image = cv2.imread(str(path))
    assert image is not None, path
    return np.ascontiguousarray(image[..., ::-1], np.uint8)


def canvas(height: int, width: int) -> Picture:
    """Lay photographs of the public domain side by side at their own resolution."""
    patches = []
    for name in _NAMES:
        picture = np.asarray(getattr(data, name)())[..., :3]
        top, left = ((side - part) // 2 for side, part in zip(picture.shape, _PATCH, strict=False))
        patches.append(picture[top : top + _PATCH[0], left : left + _PATCH[1]])
    rows, columns = (-(-side // part) for side, part in zip((height, width), _PATCH, strict=True))
    grid = [
        np.concatenate([patches[(2 * r + c) % len(patches)] for c in range(columns)], axis=1)
        for r in range(rows)
    ]
    whole = np.concatenate(grid, axis=0)[:height, :width]
    return np.ascontiguousarray(whole, np.uint8)


def moving_frames(height: int, width: int, count: int, seed: int = 7) -> Iterator[Picture]:
    """Pan and turn over the canvas by hand, a second picture crossing it, with sensor noise."""
    margin = 96
    scene = canvas(height + 2 * margin, width + 2 * margin)
    crossing = np.ascontiguousarray(data.coffee()[::2, ::2])
    tall, wide = crossing.shape[:2]
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 1.5, (height, width, 3)).astype(np.float32)
    for index in range(count):
        time_s = index / _RATE
        angle = 0.6 * np.sin(0.9 * time_s)
        move = cv2.getRotationMatrix2D((width / 2 + margin, height / 2 + margin), angle, 1.0)
        move[0, 2] += 48 * np.sin(1.3 * time_s) - margin
        move[1, 2] += 36 * np.sin(1.9 * time_s + 1) - margin
        frame = cv2.warpAffine(scene, move, (width, height), flags=cv2.INTER_LINEAR)
        left = (index * 5) % (width - wide)
        frame[height - tall - 20 : height - 20, left : left + wide] = crossing
        # One field of noise, shifted anew each frame: drawing it each time takes longer
        # than everything else here.
        shaken = np.roll(noise, rng.integers(0, (height, width)), axis=(0, 1))
        yield np.clip(np.rint(frame + shaken), 0, 255).astype(np.uint8)


def write_clip(path: Path, height: int, width: int, count: int, crf: int = 18) -> Path:
    """Encode moving frames as H.264, 30 a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=_RATE, options={"crf": str(crf), "preset": "veryfast"}
        )
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in moving_frames(height, width, count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return path
