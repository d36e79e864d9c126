"""HEIC and AVIF pictures by Pillow and pillow-heif, which come with the extra ``heic``."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from ..errors import SinkError, SourceError, first_line
from .animations import refuse_animation
from .arrays import Image
from .image_tags import ImageTags, orientation_and_tags

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["HEIF_KEEPS", "decode_avif", "decode_heic", "encode_avif"]

HEIF_KEEPS = frozenset(["EXIF", "ICC profile", "XMP"])
"""What files written here keep."""

_logger = logging.getLogger(__name__)

_QUALITY = 95
_DEEP = 0x40  # high_bitdepth of the AV1 configuration, two bytes into it


def decode_heic(raw: bytes, path: Path) -> tuple[Image, ImageTags]:
    """Decode the main picture of a HEIC file; 10 and 12 bits become 16."""
    import pillow_heif

    try:
        file = pillow_heif.open_heif(io.BytesIO(raw), convert_hdr_to_8bit=False)
        image = np.asarray(file)
    except (ValueError, SyntaxError, EOFError, OSError, RuntimeError) as error:
        raise _damaged(path, error) from error
    _tell_pictures(path, len(file))
    return image, _tags(file.info)  # libheif has turned it upright


def decode_avif(raw: bytes, path: Path) -> tuple[Image, ImageTags]:
    """Decode an AVIF picture, of several tiles too."""
    from PIL import Image as Pillow
    from PIL import ImageOps

    refuse_animation(raw, path)
    try:
        with Pillow.open(io.BytesIO(raw), formats=["AVIF"]) as file:
            info = _named(file.info)
            info["exif"] = file.getexif().tobytes() if "exif" in info else None
            image = np.asarray(ImageOps.exif_transpose(file))
    except (ValueError, SyntaxError, EOFError, OSError, RuntimeError) as error:
        raise _damaged(path, error) from error
    at = raw.find(b"av1C")
    if at >= 0 and raw[at + 6 : at + 7] and raw[at + 6] & _DEEP:
        _logger.warning("%s: holds more than 8 bits, of which 8 are read", path)
    return image, _tags(info)


def encode_avif(image: Image, tags: ImageTags | None, quality: int | None = None) -> bytes:
    """Encode an AVIF picture."""
    from PIL import Image as Pillow

    tags = tags or ImageTags()
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[..., 0]
    settings: dict[str, Any] = {
        "exif": tags.chunk(cv2.IMAGE_METADATA_EXIF),
        "icc_profile": tags.chunk(cv2.IMAGE_METADATA_ICCP),
        "xmp": tags.chunk(cv2.IMAGE_METADATA_XMP),
    }
    written = io.BytesIO()
    try:
        Pillow.fromarray(image).save(
            written,
            "AVIF",
            quality=_QUALITY if quality is None else quality,
            **{name: value for name, value in settings.items() if value},
        )
    except (ValueError, OSError) as error:
        raise SinkError(f"Pillow cannot write it as .avif ({first_line(error)})") from error
    return written.getvalue()


def _named(info: Mapping[Any, Any]) -> dict[str, Any]:
    return {name: value for name, value in info.items() if isinstance(name, str)}


def _damaged(path: Path, error: BaseException) -> SourceError:
    return SourceError(
        f"{path}: is no image that can be read, or is damaged ({first_line(error)}); check the file"
    )


def _tell_pictures(path: Path, count: int) -> None:
    if count > 1:
        _logger.warning("%s: holds %d pictures, of which the main one is restored", path, count)


def _tags(info: dict[str, Any]) -> ImageTags:
    found = {
        cv2.IMAGE_METADATA_EXIF: info.get("exif"),
        cv2.IMAGE_METADATA_ICCP: info.get("icc_profile"),
        cv2.IMAGE_METADATA_XMP: info.get("xmp"),
    }
    kept = {kind: np.frombuffer(data, np.uint8) for kind, data in found.items() if data}
    return orientation_and_tags(kept, kept.values())[1]
