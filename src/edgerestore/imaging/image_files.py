"""Image files: a registry of formats, each read and written with depth, profile and orientation."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path

from ..errors import ArgumentError, SinkError, SourceError
from ..extensions import extension, extension_names, install_command
from .animations import (
    ANIMATED,
    HEAD_BYTES,
    Picture,
    claims_animation,
    count_pictures,
    decode_animation,
)
from .arrays import Image, not_finite, out_of_range
from .error_translation import translated
from .heif import HEIF_KEEPS, decode_avif, decode_heic, encode_avif
from .image_tags import HISTORY, PNG_TAGS, RESOLUTION, ImageTags
from .opencv_files import decode_by_opencv, encode_by_opencv
from .stated_size import MAX_PIXELS, check_pixels, stated_size
from .tiff import TIFF_KEEPS, decode_tiff, encode_tiff

__all__ = [
    "FORMATS",
    "FORMAT_GROUP",
    "NOT_READ",
    "ImageFormat",
    "ImageTags",
    "check_format",
    "check_readable",
    "decode_bytes",
    "decode_image",
    "decode_pictures",
    "encode_image",
    "files_in",
    "holds_alpha",
    "holds_picture",
    "image_format",
    "image_suffixes",
    "is_animation",
    "pictures_in",
    "written_name",
]

_logger = logging.getLogger(__name__)

FORMAT_GROUP = "edgerestore.image_formats"
"""Entry points of image formats; each is named like its suffix, without the dot."""

_ANIMATED = 6  # times the pixels of one picture: 4 GiB by default
_DTYPES = ("uint8", "uint16", "float32")
_EMBEDDED = frozenset(["EXIF", "XMP", "ICC profile"])


@dataclass(frozen=True)
class ImageFormat:
    """Row of the registry of image formats; what an entry point of `FORMAT_GROUP` refers to.

    Parameters
    ----------
    dtypes : tuple of str
        Sample types that are written: ``uint8``, ``uint16``, ``float32``; empty where it is
        only read.
    alpha : bool
        It holds transparency.
    decode : callable
        Given the file's bytes and its path (for messages); returns an image of shape (H, W),
        (H, W, 3) or (H, W, 4), RGB order, upright, and its `ImageTags`. May raise what the
        format's library raises, if `error_translation` knows it, else a `SourceError`.
    encode : callable
        Given an image of one of ``dtypes``, of shape (H, W) or (H, W, C), C in 1, 3, 4, RGB
        order, and its tags or None; returns the file's bytes. Where ``lossy``, also given
        ``quality``, 1 to 100 or None.
    lossy : bool
        It has a quality.
    keeps : frozenset of str
        The `ImageTags.names` that it holds; what else a picture has is left out, and said.
    module, extra : str
        What decodes it, where that is an extra of ours.
    """

    dtypes: tuple[str, ...]
    alpha: bool
    decode: Callable[[bytes, Path], tuple[Image, ImageTags]]
    encode: Callable[..., bytes]
    lossy: bool = False
    keeps: frozenset[str] = frozenset()
    module: str = ""
    extra: str = ""


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


def check_readable(path: Path, suffix: str = "") -> None:
    """Refuse a picture whose format is known and not read here.

    Parameters
    ----------
    path : Path
    suffix : str
        Of its format, where its content tells that; by default its own.

    Raises
    ------
    SourceError
        Says what to do: convert it, or install what reads it.
    """
    suffix = suffix or path.suffix.lower()
    if suffix in NOT_READ:
        raise SourceError(f"{path}: {NOT_READ[suffix]}")
    found = image_format(Path(f"a{suffix}"))
    if found is not None and found.module and find_spec(found.module) is None:
        raise SourceError(f"{path}: {suffix} needs {found.module}: {install_command(found.extra)}")


def holds_picture(path: Path) -> bool:
    """Return whether a file is a picture by its content, whatever its name says."""
    with translated(SourceError, path), path.open("rb") as file:
        head = file.read(32)
        if head.startswith(b"\xff\xd8"):  # not a row of them, which is a video
            return b"\xff\xd9\xff\xd8" not in head + file.read()
    return head.startswith(b"\x89PNG") or bool(_suffix_of(head)) or head[8:12] == b"WEBP"


def decode_image(
    path: Path, *, any_range: bool = False, max_pixels: int | None = MAX_PIXELS
) -> tuple[Image, ImageTags]:
    """Read an image file.

    Parameters
    ----------
    path : Path
    any_range : bool
        Floats may lie outside [0, 1].
    max_pixels : int or None
        A picture whose header states more is refused before it is decoded; ``None`` reads any.

    Returns
    -------
    image : ndarray, u8, u16 or f32, shape (H, W), (H, W, 3) or (H, W, 4), RGB order
        Upright: an EXIF orientation is applied to the pixels.
    tags : ImageTags
        EXIF with its orientation set to upright, ICC profile, XMP, resolution.

    Raises
    ------
    SourceError
        When the file is missing, empty, no image, or holds samples of another kind,
        several pages or an animation (`decode_pictures` reads that).
    """
    check_readable(path)
    with translated(SourceError, path):
        raw = path.read_bytes()
    return decode_bytes(raw, path, any_range=any_range, max_pixels=max_pixels)


def decode_pictures(
    path: Path, *, any_range: bool = False, max_pixels: int | None = MAX_PIXELS
) -> tuple[list[Picture], ImageTags]:
    """Read an image file, or an animation; as `decode_image`.

    Returns
    -------
    pictures : list of Picture
        One, shown for no time, of all but an animation.
    tags : ImageTags
    """
    check_readable(path)
    with translated(SourceError, path):
        raw = path.read_bytes()
    check_pixels(raw, path, max_pixels)
    count = count_pictures(raw)
    if count > 1:
        width, height = stated_size(raw)
        if max_pixels is not None and count * width * height > _ANIMATED * max_pixels:
            raise SourceError(
                f"{path}: is an animation of {count} pictures of {width} x {height}, all of which"
                " are held in memory; convert it to a video first, or allow more (--max-pixels)"
            )
        return decode_animation(raw, path)
    image, tags = decode_bytes(raw, path, any_range=any_range, max_pixels=max_pixels)
    return [Picture(image, 0)], tags


def is_animation(path: Path) -> bool:
    """Return whether a file is an animation of one of the formats of pictures."""
    if path.suffix.lower() not in ANIMATED:
        return False
    with translated(SourceError, path):
        with path.open("rb") as file:
            claims = claims_animation(file.read(HEAD_BYTES))
        return claims and count_pictures(path.read_bytes()) > 1


def decode_bytes(
    raw: bytes, path: Path, *, any_range: bool = False, max_pixels: int | None = MAX_PIXELS
) -> tuple[Image, ImageTags]:
    """Decode the bytes of an image file; as `decode_image`.

    Parameters
    ----------
    raw : bytes
    path : Path
        For messages. Its extension counts where the content does not tell the format.
    any_range : bool
        Floats may lie outside [0, 1].
    max_pixels : int or None
        A picture whose header states more is refused before it is decoded; ``None`` reads any.
    """
    if not raw:
        raise SourceError(f"{path}: is empty; check the file")
    check_pixels(raw, path, max_pixels)
    suffix = _suffix_of(raw)
    known = FORMATS[suffix] if suffix else image_format(path)
    if suffix:
        check_readable(path, suffix)
    with translated(SourceError, path):
        # What has another extension may be an image all the same.
        image, tags = (known.decode if known is not None else decode_by_opencv)(raw, path)
    _check_samples(image, path, any_range=any_range)
    return image, tags


def encode_image(
    image: Image, tags: ImageTags | None, path: Path, quality: int | None = None
) -> bytes:
    """Return the bytes of an image file; tags that the format does not hold are logged.

    Parameters
    ----------
    image : ndarray, u8, u16 or f32, shape (H, W) or (H, W, C), C in 1, 3, 4, RGB order
    tags : ImageTags or None
    path : Path
        Its extension chooses the format; nothing is written there.
    quality : int, optional
        From 1 to 100, of formats that have one.

    Raises
    ------
    SinkError
        As `check_format`, and when the format's library fails.
    """
    with translated(SinkError, path):
        found = check_format(path, image)
        lost = [name for name in (tags.names if tags else []) if name not in found.keeps]
        if lost and path.suffix.lower() in FORMATS:
            _logger.warning(
                "%s: %s cannot hold %s; left out", path, path.suffix.lower(), ", ".join(lost)
            )
        try:
            return found.encode(image, tags, **({"quality": quality} if found.lossy else {}))
        except SinkError as error:
            raise SinkError(f"{path}: {error}") from error


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
    if not found.dtypes:
        raise SinkError(f"{path}: {suffix} is only read; use .png, .jpg or .tif")
    if image is not None and image.dtype.name not in found.dtypes:
        raise SinkError(f"{path}: {suffix} cannot hold {image.dtype} samples; use .tif")
    if image is not None and image.ndim == 3 and image.shape[2] == 4 and not found.alpha:
        raise SinkError(f"{path}: {suffix} cannot hold transparency; use .png")
    return found


def written_name(path: Path) -> str:
    """Return the name of a restored picture in a folder; its own where it can be written."""
    found = image_format(path)
    return path.name if found is None or found.dtypes else f"{path.name}.png"


def holds_alpha(path: Path) -> bool:
    """Return whether files of this extension keep transparency."""
    found = image_format(path)
    return found is not None and found.alpha


@cache
def _other_suffixes() -> frozenset[str]:
    return frozenset(f".{name}" for name in extension_names(FORMAT_GROUP))


def _suffix_of(raw: bytes) -> str:
    """Return the extension of what has a decoder of its own, by its content; else nothing."""
    if raw[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return ".tif"
    brand = raw[8:12] if raw[4:8] == b"ftyp" else b""
    if brand in (b"heic", b"heim", b"heis", b"heix", b"mif1", b"mif2"):
        return ".heic"
    if brand in (b"avif", b"avis"):
        return ".avif"
    return ""


def _check_samples(image: Image, path: Path, *, any_range: bool) -> None:
    if image.dtype.name not in _DTYPES:
        raise SourceError(
            f"{path}: holds {image.dtype} samples; convert it to uint8, uint16 or float32"
        )
    if wrong := not_finite(image) if any_range else out_of_range(image):
        raise SourceError(f"{path}: {wrong}")
    if image.ndim == 3 and image.shape[2] not in (3, 4):
        raise SourceError(f"{path}: has {image.shape[2]} channels; convert it to 1, 3 or 4")


def _only_read(_image: Image, _tags: ImageTags | None) -> bytes:
    raise SinkError("is only read")


def _by_opencv(
    suffix: str,
    dtypes: tuple[str, ...],
    *,
    alpha: bool = False,
    lossy: bool = False,
    keeps: frozenset[str] = frozenset(),
) -> ImageFormat:
    encode = partial(encode_by_opencv, suffix=suffix)
    return ImageFormat(dtypes, alpha, decode_by_opencv, encode, lossy, keeps)


_JPEG = _by_opencv(".jpg", _DTYPES[:1], lossy=True, keeps=_EMBEDDED | {RESOLUTION})
_TIFF = ImageFormat(_DTYPES, True, decode_tiff, encode_tiff, keeps=TIFF_KEEPS)
_BMP = _by_opencv(".bmp", _DTYPES[:1], alpha=True)
_PNM = _by_opencv(".pnm", _DTYPES[:2])
_HEIC = ImageFormat(
    (), True, decode_heic, _only_read, keeps=HEIF_KEEPS, module="pillow_heif", extra="heic"
)

_PNG = _by_opencv(
    ".png",
    _DTYPES[:2],
    alpha=True,
    keeps=_EMBEDDED | {"cICP colours", RESOLUTION, PNG_TAGS, HISTORY},
)

FORMATS = {
    ".png": _PNG,
    ".apng": _PNG,
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".jpe": _JPEG,
    ".jfif": _JPEG,
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".bmp": _BMP,
    ".dib": _BMP,
    ".webp": _by_opencv(".webp", _DTYPES[:1], alpha=True, lossy=True, keeps=_EMBEDDED),
    ".ppm": _PNM,
    ".pgm": _by_opencv(".pgm", _DTYPES[:2]),
    ".pnm": _PNM,
    ".avif": ImageFormat(
        _DTYPES[:1], True, decode_avif, encode_avif, True, HEIF_KEEPS, "PIL", "heic"
    ),
    ".heic": _HEIC,
    ".heif": _HEIC,
}
"""Registry of image formats by extension."""

_LIGHT = "holds light of any strength; convert it to a .tif of floats from 0 to 1 first"
_RAW = "is a camera's raw file; develop it to .tif or .png first"
_OTHER = "is a picture of a format that is not read; convert it to .png or .tif first"

NOT_READ: dict[str, str] = {
    **dict.fromkeys((".exr", ".hdr", ".pic", ".pfm", ".rgbe"), _LIGHT),
    **dict.fromkeys(
        (".arw", ".cr2", ".cr3", ".dng", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".srw"),
        _RAW,
    ),
    **dict.fromkeys(
        (
            *(".dds", ".dpx", ".eps", ".ico", ".j2k", ".jls", ".jp2", ".jxl", ".pam", ".pbm"),
            *(".pcx", ".psd", ".qoi", ".ras", ".sgi", ".svg", ".tga", ".wmf", ".xbm", ".xcf"),
            ".xpm",
        ),
        _OTHER,
    ),
}
"""Extensions of pictures that are not read -> what to do, by which they are refused."""


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
