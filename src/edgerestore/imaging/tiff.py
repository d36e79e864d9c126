"""TIFF files by tifffile; by OpenCV where the compression is one that only OpenCV decodes here."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from ..errors import SourceError, first_line
from ..extensions import install_command
from .arrays import Depth, Image
from .error_translation import held_back
from .image_tags import HISTORY, RESOLUTION, TIFF_TAGS, ImageTags, upright

if TYPE_CHECKING:
    from pathlib import Path

    from tifffile import TiffFile, TiffFrame, TiffPage

__all__ = ["HISTORY_TAG", "TIFF_KEEPS", "decode_tiff", "encode_tiff", "refuse_circle"]

TIFF_KEEPS = frozenset(["ICC profile", "XMP", RESOLUTION, TIFF_TAGS, HISTORY])

_ICC, _XMP, _ORIENTATION = 34675, 700, 274
HISTORY_TAG = 37395  # ImageHistory of TIFF/EP
# Description, maker, model, software, date, artist, host, copyright, history.
_TEXTS = (270, 271, 272, 305, 306, 315, 316, 33432, HISTORY_TAG)
# Names as tifffile spells them.
_GREY, _COLOUR = ("MINISBLACK", "MINISWHITE"), ("RGB",)
_BY_OPENCV = ("PALETTE", "YCBCR")
_OPENCV_DECODES = frozenset(
    (
        *("NONE", "LZW", "JPEG", "DEFLATE", "ADOBE_DEFLATE", "PACKBITS"),
        *("CCITTRLE", "CCITTFAX3", "CCITTFAX4"),
    )
)
_ASSOCIATED = 1
_DEFLATE_LEVEL = 3  # half the time of 6, and a few percent more bytes


def decode_tiff(raw: bytes, path: Path) -> tuple[Image, ImageTags]:
    """Decode a TIFF of one page.

    Returns
    -------
    image : ndarray, shape (H, W), (H, W, 3) or (H, W, 4), RGB order
        Upright; transparency is straight, whichever way the file holds it; grey with
        transparency becomes RGBA; 10, 12 and 14 bits are stretched to 16.
    tags : ImageTags

    Raises
    ------
    SourceError
        When it is damaged, has several pages, other colours than grey and RGB, or a
        compression that nothing here decodes.
    """
    import tifffile

    try:
        with held_back("tifffile") as remarks, tifffile.TiffFile(io.BytesIO(raw)) as file:
            refuse_circle(file, path)
            pages = [page for page in map(_whole, file.pages) if not page.is_reduced]
            # tifffile goes on without the pages behind a damaged place.
            if any("page offset" in one for one in remarks):
                raise SourceError(f"{path}: its pages are damaged or cut off ({remarks[0]})")
            if len(pages) > 1:
                raise SourceError(
                    f"{path}: holds {len(pages)} pages, of which one would be kept; restore it into"
                    " another .tif, which gets all"
                )
            page = file.pages.first
            image = _pixels(page, raw, path)
            return upright(image, _number(page, _ORIENTATION, 1)), _tags(page)
    except SourceError:
        raise
    except Exception as error:  # of a damaged file tifffile raises nearly anything
        said = f"{type(error).__name__}: {first_line(error)}"
        raise SourceError(f"{path}: its TIFF cannot be read ({said}); check the file") from error


def refuse_circle(file: TiffFile, path: Path) -> None:
    """Refuse directories of pages that run in a circle, which tifffile follows for hours.

    Raises
    ------
    SourceError
    """
    form, handle, seen = file.tiff, file.filehandle, set[int]()
    offset = int(file.pages.first.offset)
    while offset:
        if offset in seen:
            raise SourceError(f"{path}: its pages run in a circle; check the file")
        seen.add(offset)
        handle.seek(offset)
        count = handle.read(form.tagnosize)
        if len(count) < form.tagnosize:  # cut off, which tifffile tells
            return
        tags = struct.unpack(form.tagnoformat, count)[0]
        handle.seek(offset + form.tagnosize + tags * form.tagsize)
        following = handle.read(form.offsetsize)
        if len(following) < form.offsetsize:
            return
        offset = int(struct.unpack(form.offsetformat, following)[0])


def _whole(page: TiffPage | TiffFrame) -> TiffPage:
    """Return a page with all its tags."""
    return page.aspage()


def _pixels(page: TiffPage, raw: bytes, path: Path) -> Image:
    photometric = getattr(page.photometric, "name", str(page.photometric))
    if photometric not in (*_GREY, *_COLOUR, *_BY_OPENCV):
        raise SourceError(f"{path}: holds {photometric} colours; convert it to RGB first")
    extra = page.samplesperpixel - (1 if photometric in (*_GREY, "PALETTE") else 3)
    if extra not in (0, 1):
        raise SourceError(f"{path}: has {page.samplesperpixel} channels; convert it to 1, 3 or 4")
    if photometric in _BY_OPENCV or page.bitspersample < 8:
        return _by_opencv(page, raw, path)  # as 8 bits, in RGB or grey
    try:
        image: Image = page.asarray()
    except (ValueError, ImportError) as error:  # some decoders come with a newer Python, too
        if isinstance(error, ValueError) and "imagecodecs" not in str(error):
            raise
        image = _by_opencv(page, raw, path)
    else:
        if page.planarconfig == 2 and page.samplesperpixel > 1:
            image = np.moveaxis(image, 0, -1)
        image = _full_range(image, page.bitspersample)
        if photometric == "MINISWHITE" and image.dtype.name in ("uint8", "uint16"):
            image = np.invert(image)
    # Some writers leave out what the fourth sample is, and mean straight.
    associated = bool(extra) and _ASSOCIATED in page.extrasamples
    return _straight(image, associated=associated) if extra else image


def _full_range(image: Image, bits: int) -> Image:
    if image.dtype == np.float16:
        return image.astype(np.float32)
    if image.dtype == np.uint16 and 8 < bits < 16:
        return (image << (16 - bits)) | (image >> (2 * bits - 16))
    return image


def _straight(image: Image, *, associated: bool) -> Image:
    """Return RGBA whose colours are not multiplied by alpha."""
    if image.shape[2] == 2:
        image = image[..., [0, 0, 0, 1]]
    if not associated or image.dtype.name not in tuple(Depth):
        return image
    depth = Depth(image.dtype.name)
    alpha = image[..., 3:].astype(np.float64) / depth.peak
    colours = image[..., :3] / np.where(alpha > 0, alpha, 1)
    limited = np.minimum(colours, depth.peak)
    image = image.copy()
    image[..., :3] = limited if depth is Depth.F32 else np.rint(limited)
    return image


def _by_opencv(page: TiffPage, raw: bytes, path: Path) -> Image:
    """Decode what OpenCV decodes right: samples side by side, no grey with transparency."""
    compression = getattr(page.compression, "name", str(page.compression))
    several = page.samplesperpixel > 1
    if (
        compression not in _OPENCV_DECODES
        or (page.planarconfig == 2 and several)
        or page.samplesperpixel == 2
    ):
        raise SourceError(
            f"{path}: its {compression} compression needs imagecodecs: {install_command('tiff')}"
        )
    data = np.frombuffer(raw, np.uint8)
    alpha = page.tags.get("ExtraSamples")
    if alpha is not None and page.samplesperpixel == 4:
        # OpenCV multiplies colours by a straight alpha; said to be multiplied, they stay.
        data = data.copy()
        order = "little" if page.parent.byteorder == "<" else "big"
        data[alpha.valueoffset : alpha.valueoffset + 2] = list(
            _ASSOCIATED.to_bytes(2, order)  # type: ignore[arg-type]
        )
    image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise SourceError(f"{path}: its TIFF cannot be read; check the file")
    code = {3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}.get(image.shape[-1])
    return image if image.ndim == 2 or code is None else cv2.cvtColor(image, code)


def _number(page: TiffPage, code: int, default: int) -> int:
    tag = page.tags.get(code)
    return tag.value if tag is not None and isinstance(tag.value, int) else default


def _tags(page: TiffPage) -> ImageTags:
    kinds: dict[int, bytes] = {}
    for code, kind in ((_ICC, cv2.IMAGE_METADATA_ICCP), (_XMP, cv2.IMAGE_METADATA_XMP)):
        tag = page.tags.get(code)
        if tag is not None and isinstance(tag.value, bytes):
            kinds[kind] = tag.value
    texts = [(code, page.tags.get(code)) for code in _TEXTS]
    own = tuple(
        (code, 2, 0, tag.value, True)
        for code, tag in texts
        if tag is not None and isinstance(tag.value, str)
    )
    return ImageTags(
        tuple(kinds), tuple(kinds.values()), _resolution(page), own, TIFF_TAGS if own else ""
    )


def _resolution(page: TiffPage) -> tuple[float, float] | None:
    scale = {2: 1.0, 3: 2.54}.get(_number(page, 296, 2))
    values = [page.tags.get(code) for code in (282, 283)]
    if scale is None or any(tag is None for tag in values):
        return None
    (x_over, x_under), (y_over, y_under) = (tag.value for tag in values if tag is not None)
    if not (x_over and x_under and y_over and y_under):
        return None
    return x_over / x_under * scale, y_over / y_under * scale


def encode_tiff(image: Image, tags: ImageTags | None) -> bytes:
    """Encode a TIFF: deflated, transparency straight, with its profile, resolution and texts."""
    import tifffile

    tags = tags or ImageTags()
    channels = image.shape[2] if image.ndim == 3 else 1
    if image.ndim == 3 and channels == 1:
        image = image[..., 0]
    extra: list[Any] = list(tags.own) if tags.own_name == TIFF_TAGS else []
    if tags.history:
        before = [str(one[3]) for one in extra if one[0] == HISTORY_TAG]
        extra = [one for one in extra if one[0] != HISTORY_TAG]
        extra.append((HISTORY_TAG, 2, 0, "\n".join([*before, tags.history]), True))
    xmp = tags.chunk(cv2.IMAGE_METADATA_XMP)
    if xmp is not None:
        extra.append((_XMP, 1, len(xmp), xmp, True))
    written = io.BytesIO()
    tifffile.imwrite(
        written,
        image,
        bigtiff=image.nbytes > 2**32 - 2**25,
        photometric="minisblack" if channels == 1 else "rgb",
        extrasamples=["unassalpha"] if channels == 4 else None,
        compression="zlib",
        compressionargs={"level": _DEFLATE_LEVEL},
        predictor=image.dtype != np.float32,
        iccprofile=tags.chunk(cv2.IMAGE_METADATA_ICCP),
        resolution=tags.dpi,
        resolutionunit="INCH" if tags.dpi else None,
        metadata=None,
        software=False,
        extratags=extra,
    )
    return written.getvalue()
