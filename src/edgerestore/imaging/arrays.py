"""Images in memory: dtypes, peaks, channel orders, and the check at the door."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, counted

__all__ = [
    "LUMA",
    "ChannelOrder",
    "Depth",
    "Image",
    "ImageKind",
    "Planes",
    "check_image",
    "luma",
    "native",
    "not_finite",
    "out_of_range",
    "pixels_of",
    "planes_of",
    "round_up",
    "rounded",
]

Image = NDArray[Any]
"""An array of shape (H, W) or (H, W, C), C in 1, 3, 4, of a `Depth`'s dtype."""

Planes = NDArray[np.float32]
"""A picture as graphs take it: f32 [1, C, H, W] in [0, 1], RGB or grey."""


LUMA = (0.299, 0.587, 0.114)
"""BT.601 weights of R, G and B in luma."""


class Depth(StrEnum):
    """The sample types that go in and come out, named as NumPy names them."""

    U8 = "uint8"
    U16 = "uint16"
    F32 = "float32"

    @property
    def peak(self) -> float:
        """The value that stands for white: 255, 65535 or 1.0."""
        return {Depth.U8: 255.0, Depth.U16: 65535.0, Depth.F32: 1.0}[self]

    @property
    def bytes(self) -> int:
        """Bytes of one sample."""
        return np.dtype(self.value).itemsize


class ChannelOrder(StrEnum):
    """How the channels of a picture in memory are ordered."""

    RGB = "rgb"
    BGR = "bgr"
    GRAY = "gray"


@dataclass(frozen=True)
class ImageKind:
    """Kind of an image: its sides, its channels (0 for a plain (H, W)), its depth."""

    height: int
    width: int
    channels: int
    depth: Depth


def round_up(value: int, multiple: int) -> int:
    """Return the least multiple of ``multiple`` that is not below ``value``."""
    return -(-value // multiple) * multiple


def luma(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return BT.601 luma, f32 (H, W), of an RGB picture, f32 (H, W, 3)."""
    weighted: NDArray[np.float32] = image @ np.array(LUMA, np.float32)
    return weighted


def rounded(values: NDArray[np.float32], depth: Depth) -> Image:
    """Return f32 values in [0, 1] as samples of a type, rounded once; f32 as they are."""
    if depth is Depth.F32:
        return values
    levels: Image = np.rint(np.clip(values, 0, 1) * np.float32(depth.peak)).astype(depth.value)
    return levels


def planes_of(image: NDArray[np.floating[Any]]) -> Planes:
    """Return a picture (H, W, C) in [0, 1] as graphs take it."""
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32)


def pixels_of(planes: Planes) -> NDArray[np.float32]:
    """Return the picture f32 (H, W, C) of f32 [1, C, H, W]."""
    return np.ascontiguousarray(planes[0].transpose(1, 2, 0))


def check_image(image: object) -> ImageKind:
    """Check an image at the door.

    Parameters
    ----------
    image : ndarray, u8, u16 or f32 of either byte order, shape (H, W) or (H, W, C), C in 1, 3, 4

    Returns
    -------
    ImageKind

    Raises
    ------
    ArgumentError
        On anything else, naming what came and what is taken.
    """
    if not isinstance(image, np.ndarray):
        raise ArgumentError(f"an image is a NumPy array, got {type(image).__name__}")
    try:
        depth = Depth(image.dtype.name)
    except ValueError:
        raise ArgumentError(
            f"image dtype {image.dtype} is not taken; use uint8, uint16 or float32 in [0, 1]"
        ) from None
    if image.ndim == 2:
        channels = 0
    elif image.ndim == 3 and image.shape[2] in (1, 3, 4):
        channels = image.shape[2]
    else:
        raise ArgumentError(
            f"image shape {image.shape} is not taken; use (H, W) or (H, W, C) with C 1, 3 or 4"
        )
    if 0 in image.shape:
        raise ArgumentError(f"image shape {image.shape} holds no pixels")
    return ImageKind(image.shape[0], image.shape[1], channels, depth)


def native(image: Image) -> Image:
    """Return an image in the byte order of this machine: itself, or a copy."""
    return image if image.dtype.isnative else image.astype(image.dtype.newbyteorder("="))


def out_of_range(image: Image) -> str:
    """Return what is wrong with the values of a float image outside [0, 1] or NaN; else nothing."""
    if image.dtype != np.float32:
        return ""
    low, high = image.min(), image.max()
    if low >= 0 and high <= 1:  # NaN fails this too
        return ""
    return not_finite(image) or f"holds values from {low:g} to {high:g}; scale it to 0 to 1"


def not_finite(image: Image, origin: tuple[int, int] = (0, 0)) -> str:
    """Return where a float image holds NaN or infinity; nothing where it does not.

    Parameters
    ----------
    image : ndarray
    origin : tuple of int
        Row and column of its first pixel, where it is a part of another one.
    """
    # The extremes show it, in a tenth of the time of looking at each value.
    if image.dtype != np.float32 or np.isfinite(image.min() - image.max()):
        return ""
    places = np.argwhere(~np.isfinite(image))
    if not len(places):
        return ""
    row, column = places[0][:2] + origin
    return (
        f"holds NaN or infinity in {counted(len(places), 'value')}, the first"
        f" ({image[tuple(places[0])]:g}) at row {row}, column {column}; replace them"
    )
