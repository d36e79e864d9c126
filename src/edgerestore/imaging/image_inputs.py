"""Images as programs hand them in: arrays, paths, bytes of a file, PIL pictures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..errors import ArgumentError
from .arrays import ChannelOrder, Image
from .image_files import decode_bytes, decode_image

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

__all__ = ["ImageInput", "image_of"]

ImageInput: TypeAlias = "Image | str | os.PathLike[str] | bytes | PilImage"
"""An array, the path of an image file, its bytes, or a PIL picture."""

# Modes whose samples are the picture; the others are converted.
_AS_THEY_ARE = ("L", "RGB", "RGBA", "I;16", "F")
_WITH_ALPHA = ("LA", "La", "PA", "RGBa")


def image_of(given: Any, order: ChannelOrder) -> Image:
    """Return an image as an array.

    Parameters
    ----------
    given : ndarray, str, path, bytes or PIL picture
        An array is returned as it is. Files and PIL pictures are turned upright, as their EXIF
        says.
    order : ChannelOrder
        Of the channels of what is returned for a file or PIL picture.

    Raises
    ------
    SourceError
        When a file cannot be read.
    ArgumentError
        On anything else.
    """
    if isinstance(given, np.ndarray):
        return given
    if isinstance(given, (str, os.PathLike)):
        image = decode_image(Path(given), any_range=True)[0]
    elif isinstance(given, (bytes, bytearray, memoryview)):
        image = decode_bytes(bytes(given), Path("bytes"), any_range=True)[0]
    elif type(given).__module__.partition(".")[0] == "PIL":
        image = _of_pil(given)
    else:
        raise ArgumentError(
            "an image is a NumPy array, a path, the bytes of a file or a PIL picture,"
            f" got {type(given).__name__}"
        )
    if order is ChannelOrder.BGR and image.ndim == 3:
        image = np.ascontiguousarray(image[..., [2, 1, 0, 3][: image.shape[2]]])
    return image


def _of_pil(picture: PilImage) -> Image:
    from PIL import ImageOps

    picture = ImageOps.exif_transpose(picture)
    if picture.mode == "1":
        picture = picture.convert("L")
    elif picture.mode in _WITH_ALPHA or "transparency" in picture.info:
        picture = picture.convert("RGBA")
    elif picture.mode not in _AS_THEY_ARE and not picture.mode.startswith("I"):
        picture = picture.convert("RGB")
    return np.array(picture)
