"""What the preview window shows: original and restored side by side, and a line of text."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from ...imaging.arrays import Image
from .display_image import eight_bit_rgb, fitted

__all__ = ["compose", "large_enough", "placeholder", "write_banner", "write_help", "write_line"]

_LARGEST_PX = (1920, 1080)  # more than that no preview needs, and drawing it would cost frames
_TEXT_HEIGHT_PX = 360  # below, text is too coarse once the window enlarges it
_LINE = (255, 255, 255)
_SHADOW = (0, 0, 0)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def compose(original: Image | None, restored: Image, split: float | None) -> Image:
    """Return a picture with the original to the left of a line and the restored to its right.

    Parameters
    ----------
    original : ndarray or None, u8, u16 or f32, shape (H, W) or (H, W, C), RGB order
        Scaled to the restored picture's size where it has another.
    restored : ndarray, u8, u16 or f32, shape (H', W') or (H', W', C)
    split : float or None
        Where the line stands, as a fraction of the width; ``None`` shows the restored alone.

    Returns
    -------
    ndarray, u8, shape (H'', W'', 3), BGR order
        A copy, no larger than 1920 x 1080.
    """
    restored = fitted(restored, *_LARGEST_PX)
    height, width = restored.shape[:2]
    if original is None or split is None:
        return _bgr(restored)
    column = round(min(max(split, 0.0), 1.0) * width)
    if original.shape[:2] != (height, width):
        smaller = original.shape[0] > height
        way = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
        original = np.asarray(cv2.resize(original, (width, height), interpolation=way))
    shown = np.empty((height, width, 3), np.uint8)
    if column > 0:
        shown[:, :column] = _bgr(original[:, :column])
    if column < width:
        shown[:, column:] = _bgr(restored[:, column:])
    thick = max(1, width // 640)
    shown[:, max(0, column - thick) : column + 2 * thick] = _SHADOW
    shown[:, column : column + thick] = _LINE
    return shown


def large_enough(shown: Image) -> Image:
    """Return a small picture enlarged by a whole number, pixels as squares, to be written on."""
    height, width = shown.shape[:2]
    times = min(-(-_TEXT_HEIGHT_PX // height), _LARGEST_PX[0] // width)
    if times <= 1:
        return shown
    size = (width * times, height * times)
    return np.asarray(cv2.resize(shown, size, interpolation=cv2.INTER_NEAREST))


def placeholder() -> Image:
    """Return what is shown before the first frame."""
    return np.full((360, 640, 3), 32, np.uint8)


def write_line(shown: Image, text: str) -> None:
    """Write a line of text into the lower left corner."""
    scale = _scale(shown)
    _write(shown, text, (round(12 * scale), shown.shape[0] - round(12 * scale)), scale)


def write_banner(shown: Image, text: str) -> None:
    """Write a word into the middle of the upper part; the picture stays to be looked at."""
    scale = 2 * _scale(shown)
    (width, height), _ = cv2.getTextSize(text, _FONT, 0.5 * scale, max(1, round(scale)))
    _write(shown, text, ((shown.shape[1] - width) // 2, shown.shape[0] // 5 + height), scale)


def write_help(shown: Image, lines: Sequence[tuple[str, str]]) -> None:
    """Write the keys and what they do over a darkened picture."""
    shown //= 3
    # All lines fit, whatever the proportions.
    scale = min(_scale(shown), shown.shape[0] / (22 * (len(lines) + 2)), shown.shape[1] / 460)
    for row, (key, meaning) in enumerate(lines, 1):
        height = round(22 * scale * (row + 0.5))
        _write(shown, key, (round(16 * scale), height), scale)
        _write(shown, meaning, (round(140 * scale), height), scale)


def _scale(shown: Image) -> float:
    """Return how large text is drawn: 1 on a picture of 480 lines."""
    return float(max(0.5, min(shown.shape[0] / 480, shown.shape[1] / 640)))


def _write(shown: Image, text: str, place: tuple[int, int], scale: float) -> None:
    """Write text in white on a darkened strip, to be read over any picture."""
    thick = max(1, round(scale))
    (width, height), below = cv2.getTextSize(text, _FONT, 0.5 * scale, thick)
    left, base = place
    margin = round(4 * scale)
    strip = shown[
        max(0, base - height - margin) : base + below + margin,
        max(0, left - margin) : left + width + margin,
    ]
    strip //= 3
    cv2.putText(shown, text, place, _FONT, 0.5 * scale, _LINE, thick, cv2.LINE_AA)


def _bgr(image: Image) -> Image:
    return np.asarray(cv2.cvtColor(eight_bit_rgb(image), cv2.COLOR_RGB2BGR))
