"""Image files: a registry of formats, each read and written with depth, profile and orientation."""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import cv2
import numpy as np

from ..errors import ArgumentError, SinkError, SourceError
from ..extensions import extension, extension_names
from .arrays import Image
from .error_translation import translated

__all__ = [
    "FORMATS",
    "FORMAT_GROUP",
    "ImageFormat",
    "ImageTags",
    "check_format",
    "decode_image",
    "encode_image",
    "files_in",
    "holds_alpha",
    "image_format",
    "image_suffixes",
    "pictures_in",
]

FORMAT_GROUP = "edgerestore.image_formats"
"""Entry points of image formats; each is named like its suffix, without the dot."""

_JPEG_QUALITY = 95
_EXIF_ORIENTATION = 0x0112
_DTYPES = ("uint8", "uint16", "float32")


@dataclass(frozen=True, eq=False)
class ImageTags:
    """Tags of an image file, as its raw chunks.

    Parameters
    ----------
    kinds : tuple of int
        OpenCV's ``IMAGE_METADATA_*`` numbers, one for each chunk.
    chunks : tuple of bytes
        EXIF (its orientation set to upright), ICC profile, XMP.
    """

    kinds: tuple[int, ...] = ()
    chunks: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class ImageFormat:
    """Row of the registry of image formats; what an entry point of `FORMAT_GROUP` refers to.

    Parameters
    ----------
    dtypes : tuple of str
        Sample types that it holds: ``uint8``, ``uint16``, ``float32``.
    alpha : bool
        It holds transparency.
    decode : callable
        Given the file's bytes and its path (for messages); returns an image of shape (H, W),
        (H, W, 3) or (H, W, 4), RGB order, upright, and its `ImageTags`. May raise what the
        format's library raises, if `error_translation` knows it, else a `SourceError`.
    encode : callable
        Given an image of one of ``dtypes``, of shape (H, W) or (H, W, C), C in 1, 3, 4, RGB
        order, and its tags or None; returns the file's bytes.
    """

    dtypes: tuple[str, ...]
    alpha: bool
    decode: Callable[[bytes, Path], tuple[Image, ImageTags]]
    encode: Callable[[Image, ImageTags | None], bytes]


def image_suffixes() -> frozenset[str]:
    """Return the extensions, in lower case with their dot, of files that are read and written."""
    return frozenset(FORMATS) | _other_suffixes()


def image_format(path: Path) -> ImageFormat | None:
    """Return the format of a file, by its extension; ``None`` where that is no image's.

    Raises
    ------
    ArgumentError
        When an entry point cannot be loaded.
    """
    suffix = path.suffix.lower()
    if suffix in FORMATS or suffix not in _other_suffixes():
        return FORMATS.get(suffix)
    found: ImageFormat | None = extension(FORMAT_GROUP, suffix[1:])
    return found


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
    known = image_format(path)
    with translated(SourceError, path):
        raw = path.read_bytes()
        if not raw:
            raise SourceError(f"{path}: is empty; check the file")
        # What has another extension may be an image all the same.
        image, tags = (known.decode if known is not None else _decode)(raw, path)
    _check_samples(image, path)
    return image, tags


def encode_image(image: Image, tags: ImageTags | None, path: Path) -> bytes:
    """Return the bytes of an image file.

    Parameters
    ----------
    image : ndarray, u8, u16 or f32, shape (H, W) or (H, W, C), C in 1, 3, 4, RGB order
    tags : ImageTags or None
    path : Path
        Its extension chooses the format; nothing is written there.

    Raises
    ------
    SinkError
        As `check_format`, and when the format's library fails.
    """
    with translated(SinkError, path):
        return check_format(path, image).encode(image, tags)


def check_format(path: Path, image: Image | None = None) -> ImageFormat:
    """Return the format of a file to be written, refused where it cannot hold an image.

    Raises
    ------
    SinkError
        For an unknown extension, too many bits, or alpha that would be dropped.
    """
    suffix, found = path.suffix.lower(), image_format(path)
    if found is None:
        raise SinkError(
            f"{path}: {suffix or 'no extension'} is no image format here;"
            f" use one of {' '.join(sorted(image_suffixes()))}"
        )
    if image is not None and image.dtype.name not in found.dtypes:
        raise SinkError(f"{path}: {suffix} cannot hold {image.dtype} samples; use .tif")
    if image is not None and image.ndim == 3 and image.shape[2] == 4 and not found.alpha:
        raise SinkError(f"{path}: {suffix} cannot hold transparency; use .png")
    return found


def holds_alpha(path: Path) -> bool:
    """Return whether files of this extension keep transparency."""
    found = image_format(path)
    return found is not None and found.alpha


@cache
def _other_suffixes() -> frozenset[str]:
    return frozenset(f".{name}" for name in extension_names(FORMAT_GROUP))


def _decode(raw: bytes, path: Path, *, paged: bool = False) -> tuple[Image, ImageTags]:
    """Decode by OpenCV."""
    decoded = cv2.imdecodeWithMetadata(np.frombuffer(raw, np.uint8), cv2.IMREAD_UNCHANGED)
    pages = cv2.imcount(str(path)) if paged else 1
    image, kinds, chunks = decoded
    if image is None or image.size == 0:
        raise SourceError(f"{path}: is no image that can be read, or is damaged; check the file")
    if pages > 1:
        raise SourceError(
            f"{path}: holds {pages} pages, of which one would be kept; split it first"
        )
    code = {3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}.get(image.shape[-1])
    if image.ndim == 3 and code is not None and image.dtype.name in _DTYPES:
        image = cv2.cvtColor(image, code)
    orientation, tags = _split_orientation(kinds, chunks)
    return _upright(image, orientation), tags


def _encode(image: Image, tags: ImageTags | None, suffix: str, *, tagged: bool = True) -> bytes:
    """Encode by OpenCV."""
    if image.ndim == 3 and image.shape[2] in (3, 4):
        code = cv2.COLOR_RGB2BGR if image.shape[2] == 3 else cv2.COLOR_RGBA2BGRA
        image = cv2.cvtColor(image, code)
    settings = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY] if suffix == ".jpg" else []
    if tagged and tags is not None and tags.kinds:
        chunks = [np.frombuffer(chunk, np.uint8) for chunk in tags.chunks]
        done, encoded = cv2.imencodeWithMetadata(suffix, image, list(tags.kinds), chunks, settings)
    else:
        done, encoded = cv2.imencode(suffix, image, settings)
    if not done:
        raise SinkError(f"OpenCV cannot write {image.shape} {image.dtype} as {suffix}")
    return encoded.tobytes()


def _check_samples(image: Image, path: Path) -> None:
    if image.dtype.name not in _DTYPES:
        raise SourceError(
            f"{path}: holds {image.dtype} samples; convert it to uint8, uint16 or float32"
        )
    if image.dtype == np.float32 and not (image.min() >= 0 and image.max() <= 1):
        raise SourceError(
            f"{path}: holds values from {image.min():g} to {image.max():g}; scale it to 0 to 1"
        )
    if image.ndim == 3 and image.shape[2] not in (3, 4):
        raise SourceError(f"{path}: has {image.shape[2]} channels; convert it to 1, 3 or 4")


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


def _by_opencv(
    suffix: str, dtypes: tuple[str, ...], *, alpha: bool, tagged: bool = False
) -> ImageFormat:
    return ImageFormat(
        dtypes,
        alpha,
        partial(_decode, paged=suffix == ".tif"),
        partial(_encode, suffix=suffix, tagged=tagged),
    )


_JPEG = _by_opencv(".jpg", _DTYPES[:1], alpha=False, tagged=True)
_TIFF = _by_opencv(".tif", _DTYPES, alpha=True)

FORMATS = {
    ".png": _by_opencv(".png", _DTYPES[:2], alpha=True, tagged=True),
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".bmp": _by_opencv(".bmp", _DTYPES[:1], alpha=True),
    ".webp": _by_opencv(".webp", _DTYPES[:1], alpha=True, tagged=True),
}
"""Registry of image formats by extension."""


def files_in(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """Return the files directly inside a folder with one of these suffixes, by name.

    Hidden files are left out.

    Raises
    ------
    SourceError
        When the folder cannot be read.
    """
    with translated(SourceError, folder):
        return sorted(
            path
            for path in folder.iterdir()
            if path.suffix.lower() in suffixes and path.name[0] != "." and path.is_file()
        )


def pictures_in(option: str, folder: Path) -> list[Path]:
    """Return the pictures directly inside a folder, by name; hidden files are left out.

    Parameters
    ----------
    option : str
        Named in errors.
    folder : Path

    Raises
    ------
    ArgumentError
        When it is not a folder, or has no picture.
    """
    if not folder.is_dir():
        raise ArgumentError(f"{option} {folder}: no such folder; check the path")
    files = files_in(folder, image_suffixes())
    if not files:
        raise ArgumentError(
            f"{option} {folder}: holds no picture; these are: {' '.join(sorted(image_suffixes()))}"
        )
    return files
