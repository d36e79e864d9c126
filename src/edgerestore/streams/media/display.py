"""Display of pictures: their rotation, and as 8 bit RGB."""

from __future__ import annotations

from typing import Any

import av
import cv2
import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import Interpolation

from ...errors import ArgumentError, SinkError
from ...imaging.arrays import Depth, Image, check_image, rounded

__all__ = [
    "captions_of",
    "check_showable",
    "display_matrix",
    "eight_bit_rgb",
    "fitted",
    "letterboxed",
]


_CAPTIONS_PX = 18, 10  # no film has this size


def _unnamed(kind: type[SideDataType], number: int) -> SideDataType:
    """Return a member for a kind of side data that FFmpeg has and PyAV has no name for."""
    member: Any = object.__new__(kind)
    member._name_, member._value_ = f"AV_FRAME_DATA_{number}", number
    return member  # type: ignore[no-any-return]


# PyAV (18.1) raises ValueError on all side data of a picture with one such kind, as EXIF is.
SideDataType._missing_ = classmethod(_unnamed)  # type: ignore[assignment]


def display_matrix(picture: av.VideoFrame) -> tuple[int, ...] | None:
    """Return how a decoded picture is turned for display; see `VideoInfo`."""
    # PyAV's own types have the keys of this mapping wrong.
    found: Any = picture.side_data
    for data in found:
        if data.type is SideDataType.DISPLAYMATRIX:
            return tuple(int(value) for value in np.frombuffer(bytes(data), np.int32))
    return None


def captions_of(picture: av.VideoFrame) -> av.VideoFrame | None:
    """Return a small copy that brings a decoded picture's closed captions (EIA-608, CEA-708).

    PyAV cannot attach side data to a picture, but a scaled picture keeps what it has. None where
    there are no captions.
    """
    found: Any = picture.side_data
    if not any(data.type is SideDataType.A53_CC for data in found):
        return None
    width, height = _CAPTIONS_PX
    return picture.reformat(width, height, "yuv420p", interpolation=Interpolation.POINT)


def check_showable(image: Image) -> None:
    """Refuse what is no picture, by a `SinkError`."""
    try:
        check_image(image)
    except ArgumentError as error:
        raise SinkError(f"cannot be shown: {error}") from error


def eight_bit_rgb(image: Image) -> Image:
    """Return a picture as a screen shows it.

    Parameters
    ----------
    image : ndarray, u8, u16 or f32, shape (H, W) or (H, W, C), C in 1, 3, 4
        In f32, what is outside [0, 1] is clipped and NaN is black.

    Returns
    -------
    ndarray, u8, shape (H, W, 3), C-contiguous
        Grey in all three channels; what is transparent lies over white. It may be the image
        itself.
    """
    levels = _eight_bit(image)
    if levels.ndim == 2 or levels.shape[2] == 1:
        return np.asarray(cv2.cvtColor(levels, cv2.COLOR_GRAY2RGB))
    if levels.shape[2] == 4:
        return _over_white(levels)
    return np.ascontiguousarray(levels)


def fitted(image: Image, width: int, height: int) -> Image:
    """Return a picture, smaller where it does not fit; its proportions stay.

    Parameters
    ----------
    image : ndarray, shape (H, W) or (H, W, C)
    width, height : int
        Pixels to fit into.
    """
    scale = min(1.0, width / image.shape[1], height / image.shape[0])
    if scale == 1.0:
        return image
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def letterboxed(image: Image, width: int, height: int, stretch: float = 1.0) -> Image:
    """Return a picture of a size: scaled with its proportions, black beside or above it.

    Parameters
    ----------
    image : ndarray, shape (H, W) or (H, W, C)
    width, height : int
        Pixels of the outcome.
    stretch : float
        Width of a pixel of the picture over that of the outcome.
    """
    own_height, own_width = image.shape[0], image.shape[1] * stretch
    scale = min(width / own_width, height / own_height)
    inner = max(1, round(own_width * scale)), max(1, round(own_height * scale))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    boxed = np.zeros((height, width, *image.shape[2:]), image.dtype)
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    place = boxed[top : top + inner[1], left : left + inner[0]]
    place[...] = cv2.resize(image, inner, interpolation=way).reshape(place.shape)
    return boxed


def _eight_bit(image: Image) -> Image:
    if image.dtype == np.uint8:
        return image
    if image.dtype == np.uint16:
        return np.asarray(cv2.convertScaleAbs(image, alpha=1 / 257))
    return rounded(np.nan_to_num(image, nan=0.0), Depth.U8)


def _over_white(image: Image) -> Image:
    alpha = image[..., 3:].astype(np.uint16)
    blended = image[..., :3] * alpha + (255 - alpha) * np.uint16(255)
    return ((blended + 127) // 255).astype(np.uint8)
