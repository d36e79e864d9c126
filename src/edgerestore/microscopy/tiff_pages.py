"""Pages of an OME-TIFF that is made of an OME-Zarr: their order, and the model that names it."""

from __future__ import annotations

import logging
from typing import Any

from ..errors import SourceError
from .ome_model import LENGTHS, TIMES, ome_images, pages_of, scaled_ome
from .planes import Plane, VolumeImage
from .zarr_planes import ZarrPlanes

__all__ = ["ome_pages"]

_logger = logging.getLogger(__name__)

_TYPES = {"uint8": "uint8", "uint16": "uint16", "float32": "float"}


def ome_pages(given: ZarrPlanes, upscale: int) -> tuple[list[Plane], str]:
    """Return the planes in the order of pages, and the OME model that says so.

    The model beside the images is kept, with the order that it states; where there is none, or
    it is of other sizes, one is made of the metadata of the store.
    """
    images, xml = given.images(), given.ome_xml()
    if xml is not None:
        if [_sizes(one) for one in images] == [one.sizes for one in ome_images(xml, given.path)]:
            return _stated(given, images, xml, upscale)
        _logger.warning("%s: its OME-XML is of other images; made anew", given.path)
    return _made(images, given, upscale)


def _sizes(image: VolumeImage) -> dict[str, int]:
    sizes = dict(zip(image.axes, image.sizes, strict=True))
    first = image.planes[0]
    return {"x": first.width, "y": first.height, **{axis: sizes.get(axis, 1) for axis in "zct"}}


def _stated(
    given: ZarrPlanes, images: list[VolumeImage], xml: str, upscale: int
) -> tuple[list[Plane], str]:
    order: list[Plane] = []
    kept = len(images) == 1
    for number, image in enumerate(images):
        places = pages_of(xml, number, given.path)
        samples = image.planes[0].samples
        kept = kept and places is not None and samples == 1
        order += _by_place(image, places if kept and places else _xyzct(image))
    if kept:
        return order, xml if upscale == 1 else scaled_ome(xml, given.path, upscale)
    return order, scaled_ome(xml, given.path, upscale, pages="XYZCT")


def _xyzct(image: VolumeImage) -> list[tuple[int, int, int]]:
    sizes = _sizes(image)
    step = image.planes[0].samples
    return [
        (t, c, z)
        for t in range(sizes["t"])
        for c in range(0, sizes["c"], step)
        for z in range(sizes["z"])
    ]


def _by_place(image: VolumeImage, places: list[tuple[int, int, int]]) -> list[Plane]:
    found = {}
    for plane in image.planes:
        index = image.index(plane)
        found[index.get("t", 0), index.get("c", 0), index.get("z", 0)] = plane
    return [found[place] for place in places]


def _made(images: list[VolumeImage], given: ZarrPlanes, upscale: int) -> tuple[list[Plane], str]:
    from ome_types import OME, model

    order: list[Plane] = []
    made = []
    for number, (image, found) in enumerate(zip(images, given.found, strict=True)):
        places, sizes, first = _xyzct(image), _sizes(image), image.planes[0]
        pages = _by_place(image, places)
        colors = [str(one.get("color", "")) for one in found.channels]
        channels = [
            model.Channel(
                id=f"Channel:{number}:{at}",
                name=image.channels[at] if at < len(image.channels) else None,
                samples_per_pixel=first.samples,
                color=model.Color(_color(colors, at)),
            )
            for at in range(0, sizes["c"], first.samples)
        ]
        try:
            made.append(
                model.Image(
                    id=f"Image:{number}",
                    name=image.name,
                    pixels=model.Pixels(
                        id=f"Pixels:{number}",
                        dimension_order=model.Pixels_DimensionOrder.XYZCT,
                        type=model.PixelType(_TYPES[first.dtype.name]),
                        size_x=first.width * upscale,
                        size_y=first.height * upscale,
                        size_z=sizes["z"],
                        size_c=sizes["c"],
                        size_t=sizes["t"],
                        channels=channels,
                        tiff_data_blocks=[model.TiffData(ifd=len(order), plane_count=len(pages))],
                        **_physical(image, upscale),
                    ),
                )
            )
        except ValueError as error:
            raise SourceError(
                f"{given.path}: its metadata makes no OME model ({error}); correct it"
            ) from error
        order += pages
    return order, OME(images=made).to_xml()


def _color(colors: list[str], at: int) -> str:
    return f"#{colors[at]}" if at < len(colors) and colors[at] else "#FFFFFF"


def _physical(image: VolumeImage, upscale: int) -> dict[str, Any]:
    lengths = {name: short for short, name in LENGTHS.items()}
    times = {name: short for short, name in TIMES.items()}
    made: dict[str, Any] = {}
    for axis in "xyz":
        if axis in image.units and axis in image.pixel:
            unit = lengths.get(image.units[axis])
            if unit is not None:
                value = image.pixel[axis] / (upscale if axis in "xy" else 1)
                made[f"physical_size_{axis}"] = value
                made[f"physical_size_{axis}_unit"] = unit
    if "t" in image.units and image.units["t"] in times:
        made["time_increment"] = image.pixel["t"]
        made["time_increment_unit"] = times[image.units["t"]]
    return made
