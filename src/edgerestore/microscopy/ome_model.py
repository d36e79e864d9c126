"""OME model of an image file, as its XML states it: sizes, units, channels and where planes lie."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import MissingExtraError, SourceError, first_line
from ..extensions import install_command

if TYPE_CHECKING:
    from ome_types import OME
    from ome_types.model import Pixels

__all__ = ["LENGTHS", "TIMES", "OmeImage", "ome_images", "pages_of", "parse_ome", "scaled_ome"]

LENGTHS = {
    "m": "meter",
    "dm": "decimeter",
    "cm": "centimeter",
    "mm": "millimeter",
    "µm": "micrometer",
    "nm": "nanometer",
    "pm": "picometer",
    "Å": "angstrom",
    "km": "kilometer",
    "in": "inch",
    "ft": "foot",
    "yd": "yard",
    "mi": "mile",
}
"""Unit of length in OME-XML -> its name in OME-Zarr; others have none."""
TIMES = {"s": "second", "ms": "millisecond", "µs": "microsecond", "ns": "nanosecond"}
TIMES |= {"min": "minute", "h": "hour", "d": "day"}


@dataclass(frozen=True)
class OmeImage:
    """What the model says of one image.

    Parameters
    ----------
    name : str
    sizes : dict of str to int
        By axis: x, y, z, c, t.
    pixel : dict of str to float
    units : dict of str to str
        As OME-Zarr names them.
    channels : tuple of str
        Their names; empty where none has one.
    colors : tuple of str or None
        As ``RRGGBB``.
    """

    name: str
    sizes: dict[str, int]
    pixel: dict[str, float]
    units: dict[str, str]
    channels: tuple[str, ...]
    colors: tuple[str | None, ...]


def parse_ome(xml: str, where: Path) -> OME:
    """Return the model.

    Raises
    ------
    MissingExtraError
        When ome-types is not installed.
    SourceError
        When it is none.
    """
    try:
        import ome_types
    except ImportError as error:
        raise MissingExtraError(
            f"{where}: its OME-XML needs ome-types: {install_command('microscopy')}"
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on older schemas, which it updates
            return ome_types.from_xml(xml)
    except Exception as error:  # of a text that is not well formed it raises nearly anything
        raise SourceError(
            f"{where}: its OME-XML cannot be read ({first_line(error, 120)}); correct it"
        ) from error


def ome_images(xml: str, where: Path) -> list[OmeImage]:
    """Return what the model says of each image.

    Raises
    ------
    MissingExtraError, SourceError
        As `parse_ome`.
    """
    return [_image(one.name or "", one.pixels) for one in parse_ome(xml, where).images]


def _image(name: str, pixels: Pixels) -> OmeImage:
    pixel: dict[str, float] = {}
    units: dict[str, str] = {}
    for axis in "xyz":
        value = getattr(pixels, f"physical_size_{axis}")
        if value is not None:
            pixel[axis] = float(value)
            unit = LENGTHS.get(_text(getattr(pixels, f"physical_size_{axis}_unit")))
            units |= {axis: unit} if unit else {}
    if pixels.time_increment is not None:
        pixel["t"] = float(pixels.time_increment)
        unit = TIMES.get(_text(pixels.time_increment_unit))
        units |= {"t": unit} if unit else {}
    names = tuple(one.name or "" for one in pixels.channels)
    return OmeImage(
        name,
        {axis: int(getattr(pixels, f"size_{axis}")) for axis in "xyzct"},
        pixel,
        units,
        names if any(names) else (),
        tuple(_color(one.color) for one in pixels.channels),
    )


def _text(unit: Any) -> str:
    return str(getattr(unit, "value", unit)).replace("\u03bc", "\u00b5")


def _color(color: Any) -> str | None:
    if color is None:
        return None
    red, green, blue = color.as_rgb_tuple(alpha=False)
    return f"{red:02X}{green:02X}{blue:02X}"


def pages_of(xml: str, image: int, where: Path) -> list[tuple[int, int, int]] | None:
    """Return the (t, c, z) of each page of an image, in the order of pages.

    None where the model does not say it of all planes of one file; who writes then has
    `scaled_ome` say it anew.
    """
    pixels = parse_ome(xml, where).images[image].pixels
    total = pixels.size_t * pixels.size_c * pixels.size_z
    order = pixels.dimension_order.value.lower()[2:]
    sizes = {axis: int(getattr(pixels, f"size_{axis}")) for axis in order}
    found: dict[int, tuple[int, int, int]] = {}
    following = 0
    for block in pixels.tiff_data_blocks:
        if block.uuid is not None and block.uuid.file_name:
            return None
        given = {"t": block.first_t or 0, "c": block.first_c or 0, "z": block.first_z or 0}
        start = block.ifd if block.ifd is not None else following
        flat, stride = 0, 1
        for axis in order:
            flat += given[axis] * stride
            stride *= sizes[axis]
        count = block.plane_count
        if count is None:
            count = total - flat if block.ifd is None else 1
        for at in range(count):
            rest, place = flat + at, {}
            for axis in order:
                rest, place[axis] = divmod(rest, sizes[axis])
            if rest:
                return None
            found[start + at] = (place["t"], place["c"], place["z"])
        following = start + count
    places = [found[at] for at in sorted(found)]
    if len(places) != total or len(set(places)) != total or sorted(found) != list(range(total)):
        return None
    return places


def scaled_ome(xml: str, where: Path, upscale: int = 1, *, pages: str | None = None) -> str:
    """Return the model of what is written: sizes times the upscale, pixels that much smaller.

    Parameters
    ----------
    xml : str
    where : Path
    upscale : int
    pages : str, optional
        State that pages come in this order of dimensions, one image after another.
    """
    model = parse_ome(xml, where)
    from ome_types.model import Pixels_DimensionOrder, TiffData

    ifd = 0
    for image in model.images:
        pixels = image.pixels
        pixels.size_x, pixels.size_y = pixels.size_x * upscale, pixels.size_y * upscale
        for name in ("physical_size_x", "physical_size_y"):
            value = getattr(pixels, name)
            if value is not None:
                setattr(pixels, name, value / upscale)
        if pages is not None:
            pixels.dimension_order = Pixels_DimensionOrder(pages)
            total = pixels.size_t * pixels.size_c * pixels.size_z
            samples = pixels.channels[0].samples_per_pixel or 1 if pixels.channels else 1
            pixels.metadata_only = None
            pixels.tiff_data_blocks = [TiffData(ifd=ifd, plane_count=total // samples)]
            ifd += total // samples
    return model.to_xml()
