"""Image files by OpenCV: PNG, JPEG, WebP, BMP and PNM, with the tags that OpenCV leaves out."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np

from ..errors import SinkError, SourceError
from .animations import refuse_animation
from .arrays import Depth, Image
from .image_tags import (
    PNG_TAGS,
    ImageTags,
    add_jpeg_resolution,
    add_png_chunks,
    jpeg_resolution,
    orientation_and_tags,
    png_claims_more,
    png_tags,
    upright,
)

__all__ = ["decode_by_opencv", "encode_by_opencv"]

_logger = logging.getLogger(__name__)

_JPEG_QUALITY = 95
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
_TAGGED = (".png", ".jpg", ".webp")


def decode_by_opencv(raw: bytes, path: Path) -> tuple[Image, ImageTags]:
    """Decode a picture with its tags, refused where it is an animation."""
    refuse_animation(raw, path)
    damaged = f"{path}: is no image that can be read, or is damaged; check the file"
    if raw.startswith(_PNG) and png_claims_more(raw):
        raise SourceError(damaged)
    image, kinds, chunks = cv2.imdecodeWithMetadata(
        np.frombuffer(raw, np.uint8), cv2.IMREAD_UNCHANGED
    )
    if image is None or image.size == 0:
        raise SourceError(damaged)
    code = {3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}.get(image.shape[-1])
    if image.ndim == 3 and code is not None and image.dtype.name in tuple(Depth):
        image = cv2.cvtColor(image, code)
    orientation, tags = orientation_and_tags(np.ravel(kinds).tolist(), chunks)
    if raw.startswith(_PNG):
        dpi, own = png_tags(raw)
        tags = ImageTags(tags.kinds, tags.chunks, dpi, own, PNG_TAGS if own else "")
    elif raw.startswith(_JPEG):
        tags = ImageTags(tags.kinds, tags.chunks, jpeg_resolution(raw))
    return upright(image, orientation), tags


def encode_by_opencv(
    image: Image, tags: ImageTags | None, suffix: str, quality: int | None = None
) -> bytes:
    """Encode a picture with the tags that its format holds; ``suffix`` chooses that."""
    if image.ndim == 3 and image.shape[2] in (3, 4):
        code = cv2.COLOR_RGB2BGR if image.shape[2] == 3 else cv2.COLOR_RGBA2BGRA
        image = cv2.cvtColor(image, code)
        if suffix == ".pgm":
            raise SinkError(".pgm holds grey alone; use .ppm")
    settings: list[int] = []
    if suffix == ".jpg":
        settings = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY if quality is None else quality]
    elif suffix == ".webp" and quality is not None:  # it is lossless without one
        settings = [cv2.IMWRITE_WEBP_QUALITY, quality]
    tags = tags or ImageTags()
    kept = {
        kind: np.frombuffer(chunk, np.uint8)
        for kind, chunk in zip(tags.kinds, tags.chunks, strict=True)
        if suffix in _TAGGED and (suffix == ".png" or kind != cv2.IMAGE_METADATA_CICP)
    }
    done, encoded = cv2.imencodeWithMetadata(
        suffix, image, list(kept), list(kept.values()), settings
    )
    if not done and kept.pop(cv2.IMAGE_METADATA_ICCP, None) is not None:
        _logger.warning("its ICC profile is malformed, and left out of the %s file", suffix)
        done, encoded = cv2.imencodeWithMetadata(
            suffix, image, list(kept), list(kept.values()), settings
        )
    if not done:
        raise SinkError(f"OpenCV cannot write {image.shape} {image.dtype} as {suffix}")
    data = encoded.tobytes()
    if suffix == ".png":
        return add_png_chunks(data, tags)
    return data if suffix != ".jpg" or tags.dpi is None else add_jpeg_resolution(data, tags.dpi)
