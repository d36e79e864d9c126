"""Image files to arrays and back: depth, channels, orientation and colour profile kept."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..errors import SinkError, SourceError
from .arrays import Image
from .library_errors import translated

__all__ = [
    "IMAGE_SUFFIXES",
    "ImageTags",
    "check_format",
    "decode_image",
    "encode_image",
    "holds_alpha",
]

# What each format holds: sample types, and whether alpha.
_HOLDS: dict[str, tuple[tuple[str, ...], bool]] = {
    ".png": (("uint8", "uint16"), True),
    ".jpg": (("uint8",), False),
    ".jpeg": (("uint8",), False),
    ".tif": (("uint8", "uint16", "float32"), True),
    ".tiff": (("uint8", "uint16", "float32"), True),
    ".bmp": (("uint8",), True),
    ".webp": (("uint8",), True),
}
_JPEG_QUALITY = 95

IMAGE_SUFFIXES = frozenset(_HOLDS)
"""Extensions, in lower case, of the image files that are read and written."""

_EXIF_ORIENTATION = 0x0112


@dataclass(frozen=True, eq=False)
class ImageTags:
    """What an image file says besides its pixels, as its raw chunks.

    Parameters
    ----------
    kinds : tuple of int
        OpenCV's ``IMAGE_METADATA_*`` numbers, one for each chunk.
    chunks : tuple of bytes
        EXIF (its orientation set to upright), ICC profile, XMP.
    """

    kinds: tuple[int, ...] = ()
    chunks: tuple[bytes, ...] = ()


def decode_image(path: Path) -> tuple[Image, ImageTags]:
    """Read an image file.

    Returns
    -------
    image : ndarray, u8, u16 or f32, shape (H, W), (H, W, 3) or (H, W, 4), RGB order
        Upright: an EXIF orientation is applied to the pixels.
    tags : ImageTags
        EXIF with its orientation set to upright, ICC profile, XMP.

    Raises
    ------
    SourceError
        When the file is missing, empty, no image, or holds samples of another kind or
        several pages.
    """
    with translated(SourceError, path):
        raw = path.read_bytes()
        if not raw:
            raise SourceError(f"{path}: is empty; check the file")
        buffer = np.frombuffer(raw, np.uint8)
        decoded = cv2.imdecodeWithMetadata(buffer, cv2.IMREAD_UNCHANGED)
        pages = cv2.imcount(str(path)) if path.suffix.lower() in (".tif", ".tiff") else 1
    image, kinds, chunks = decoded
    if image is None or image.size == 0:
        raise SourceError(f"{path}: is no image that can be read, or is damaged; check the file")
    if pages > 1:
        raise SourceError(
            f"{path}: holds {pages} pages, of which one would be kept; split it first"
        )
    _check_samples(image, path)
    orientation, tags = _split_orientation(kinds, chunks)
    if image.ndim == 3:
        code = {3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}.get(image.shape[2])
        if code is None:
            raise SourceError(f"{path}: has {image.shape[2]} channels; convert it to 1, 3 or 4")
        image = cv2.cvtColor(image, code)
    return _upright(image, orientation), tags


def encode_image(image: Image, tags: ImageTags | None, suffix: str) -> bytes:
    """Return the bytes of an image file.

    Parameters
    ----------
    image : ndarray, u8, u16 or f32, shape (H, W) or (H, W, C), C in 1, 3, 4, RGB order
    tags : ImageTags or None
    suffix : str
        The extension, which chooses the format.
    """
    suffix = suffix.lower()
    if image.ndim == 3 and image.shape[2] in (3, 4):
        code = cv2.COLOR_RGB2BGR if image.shape[2] == 3 else cv2.COLOR_RGBA2BGRA
        image = cv2.cvtColor(image, code)
    settings = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY] if suffix in (".jpg", ".jpeg") else []
    if tags is not None and tags.kinds and suffix in (".png", ".jpg", ".jpeg", ".webp"):
        chunks = [np.frombuffer(chunk, np.uint8) for chunk in tags.chunks]
        done, encoded = cv2.imencodeWithMetadata(suffix, image, list(tags.kinds), chunks, settings)
    else:
        done, encoded = cv2.imencode(suffix, image, settings)
    if not done:
        raise SinkError(f"OpenCV cannot write {image.shape} {image.dtype} as {suffix}")
    return encoded.tobytes()


def check_format(path: Path, image: Image) -> None:
    """Refuse an extension that cannot hold an image.

    Raises
    ------
    SinkError
        For an unknown extension, too many bits, or alpha that would be dropped.
    """
    suffix = path.suffix.lower()
    if suffix not in _HOLDS:
        raise SinkError(
            f"{path}: {suffix or 'no extension'} is no image format here;"
            f" use one of {' '.join(sorted(_HOLDS))}"
        )
    dtypes, alpha = _HOLDS[suffix]
    if image.dtype.name not in dtypes:
        raise SinkError(f"{path}: {suffix} cannot hold {image.dtype} samples; use .tif")
    if image.ndim == 3 and image.shape[2] == 4 and not alpha:
        raise SinkError(f"{path}: {suffix} cannot hold transparency; use .png")


def holds_alpha(path: Path) -> bool:
    """Return whether files of this extension keep transparency."""
    return _HOLDS.get(path.suffix.lower(), ((), False))[1]


def _check_samples(image: Image, path: Path) -> None:
    if image.dtype.name not in ("uint8", "uint16", "float32"):
        raise SourceError(
            f"{path}: holds {image.dtype} samples; convert it to uint8, uint16 or float32"
        )
    if image.dtype == np.float32 and not (image.min() >= 0 and image.max() <= 1):
        raise SourceError(
            f"{path}: holds values from {image.min():g} to {image.max():g}; scale it to 0 to 1"
        )


def _upright(image: Image, orientation: int) -> Image:
    """Apply an EXIF orientation, 1 to 8."""
    if orientation in (5, 6, 7, 8):
        image = np.swapaxes(image, 0, 1)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)


def _split_orientation(kinds: object, chunks: object) -> tuple[int, ImageTags]:
    orientation = 1
    kept_kinds: list[int] = []
    kept: list[bytes] = []
    for kind, chunk in zip(np.ravel(kinds).tolist(), chunks, strict=False):  # type: ignore[call-overload]
        data = np.asarray(chunk).tobytes()
        if kind == cv2.IMAGE_METADATA_EXIF:
            orientation, data = _take_orientation(data)
        kept_kinds.append(int(kind))
        kept.append(data)
    return orientation, ImageTags(tuple(kept_kinds), tuple(kept))


def _take_orientation(exif: bytes) -> tuple[int, bytes]:
    """Return the orientation of an EXIF block, and the block saying upright.

    Anything malformed counts as upright and is left as it is: EXIF is a TIFF header, and
    the entry looked for is in its first directory.
    """
    start = 6 if exif.startswith(b"Exif\0\0") else 0
    order = {b"II": "<", b"MM": ">"}.get(exif[start : start + 2])
    if order is None:
        return 1, exif
    try:
        (offset,) = struct.unpack_from(order + "I", exif, start + 4)
        (count,) = struct.unpack_from(order + "H", exif, start + offset)
        for index in range(count):
            entry = start + offset + 2 + 12 * index
            tag, _, _, value = struct.unpack_from(order + "HHIH", exif, entry)
            if tag == _EXIF_ORIENTATION and 1 <= value <= 8:
                upright = bytearray(exif)
                struct.pack_into(order + "H", upright, entry + 8, 1)
                return value, bytes(upright)
    except struct.error:
        return 1, exif
    return 1, exif
