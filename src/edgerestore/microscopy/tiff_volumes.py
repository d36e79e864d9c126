"""Images of up to five axes that the pages of a TIFF make."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import SourceError
from .ome_model import OmeImage, ome_images
from .planes import VolumeImage
from .tiff_planes import TiffPlane

if TYPE_CHECKING:
    from pathlib import Path

    from tifffile import TiffFile, TiffPageSeries

__all__ = ["volume_images"]

_logger = logging.getLogger(__name__)

_PAGED = {"T": "t", "C": "c", "Z": "z"}
_LATER = ("I", "Q")  # of pages that nothing says more of
_UNITS = {2: 25400.0, 3: 10000.0}  # micrometers in an inch, in a centimeter


def volume_images(
    file: TiffFile, planes: Sequence[TiffPlane], xml: str | None, path: Path
) -> list[VolumeImage]:
    """Return the images that pages make, as OME-XML, ImageJ or their sizes tell.

    Raises
    ------
    SourceError
        When they have other axes, lie in other files, or are of other sizes than the XML says.
    """
    by_page = {one.page.index: one for one in planes}
    stated: list[OmeImage | None] = [*ome_images(xml, path)] if xml else []
    series = [one for one in file.series if _is_shown(one, by_page)]
    if stated and len(stated) != len(series):
        raise SourceError(
            f"{path}: its OME-XML states {len(stated)} images, its pages make {len(series)};"
            " correct it"
        )
    stated = stated or [None] * len(series)
    return [
        _image(one, number, by_page, said, path)
        for number, (one, said) in enumerate(zip(series, stated, strict=True))
    ]


def _is_shown(series: TiffPageSeries, by_page: Mapping[int, TiffPlane]) -> bool:
    return any(page is not None and int(page.index) in by_page for page in series.pages)


def _image(
    series: TiffPageSeries,
    number: int,
    by_page: Mapping[int, TiffPlane],
    stated: OmeImage | None,
    path: Path,
) -> VolumeImage:
    found = []
    for page in series.pages:
        if page is None or page.parent.filename != path.name:
            raise SourceError(
                f"{path}: planes of it are missing or lie in other files; put them into one file"
            )
        found.append(by_page[int(page.index)])
    first = found[0]
    if any((p.height, p.width, p.dtype) != (first.height, first.width, first.dtype) for p in found):
        raise SourceError(f"{path}: pages of one image differ in size or depth; split it first")
    sizes = _sizes(series, first, len(found), path)
    if stated is not None:
        _compare(stated, first, sizes, path)
    resolution = _resolution(first) if stated is None else {}
    return VolumeImage(
        (stated.name if stated else "") or (f"image {number}" if number else path.stem),
        "".join(sizes),
        tuple(sizes.values()),
        _in_order(found, series, sizes),
        _steps(first),
        stated.pixel if stated else resolution,
        stated.units if stated else dict.fromkeys(resolution, "micrometer"),
        stated.channels if stated else (),
    )


def _sizes(series: TiffPageSeries, first: TiffPlane, pages: int, path: Path) -> dict[str, int]:
    """Return the lengths of t, c and z, those that there are."""
    told: dict[str, int] = {}
    for axis, size in zip(series.axes, series.shape, strict=True):
        if axis in "YXS":
            continue
        if axis in _PAGED:
            told[_PAGED[axis]] = int(size)
        elif axis in _LATER and "z" not in told:
            told["z"] = int(size)
            _logger.warning("%s: nothing says what its %d pages are; taken as z", path, size)
        else:
            raise SourceError(
                f"{path}: has the axes {series.axes}, of which {axis} is none of t, c, z, y, x;"
                " write it into a TIFF"
            )
    if first.samples > 1:
        within = series.axes.endswith("S") or "C" not in series.axes
        told["c"] = told.get("c", 1) * (first.samples if within else 1)
    ordered = {axis: told[axis] for axis in "tcz" if axis in told}
    planes = 1
    for size in ordered.values():
        planes *= size
    if planes != pages * first.samples:
        raise SourceError(f"{path}: its axes {series.axes} are not those of its {pages} pages")
    return ordered


def _in_order(
    found: Sequence[TiffPlane], series: TiffPageSeries, sizes: Mapping[str, int]
) -> tuple[TiffPlane, ...]:
    """Return the pages by t, c and z, in whichever order the file has them."""
    outer = [
        (_PAGED.get(axis, "z"), int(size))
        for axis, size in zip(series.axes, series.shape, strict=True)
        if axis not in "YXS"
    ]
    if found[0].samples > 1 and not series.axes.endswith("S"):  # planar samples of one page
        outer = [(axis, size) for axis, size in outer if axis != "c"]
    names = [axis for axis, _ in outer]
    turned = [names.index(axis) for axis in sizes if axis in names]
    numbers = np.arange(len(found)).reshape([size for _, size in outer] or [1])
    return tuple(found[int(at)] for at in numbers.transpose(turned or [0]).ravel())


def _compare(stated: OmeImage, first: TiffPlane, sizes: Mapping[str, int], path: Path) -> None:
    wanted = {"x": first.width, "y": first.height, **{a: sizes.get(a, 1) for a in "tcz"}}
    lies = [axis for axis, size in wanted.items() if stated.sizes[axis] != size]
    if lies:
        said = ", ".join(f"Size{axis.upper()} is {stated.sizes[axis]}" for axis in lies)
        held = ", ".join(str(wanted[axis]) for axis in lies)
        raise SourceError(f"{path}: in its OME-XML {said}, its pages hold {held}; correct it")


def _steps(first: TiffPlane) -> tuple[Mapping[str, int], ...]:
    sides = [(first.height, first.width), *first.reduced]
    return tuple(
        {"y": max(1, round(fine[0] / coarse[0])), "x": max(1, round(fine[1] / coarse[1]))}
        for fine, coarse in itertools.pairwise(sides)
    )


def _resolution(first: TiffPlane) -> dict[str, float]:
    """Return micrometers of a pixel, as tags of resolution or ImageJ's state them."""
    tags = first.page.tags
    pair = [tags.get(code) for code in (282, 283)]
    unit = _micrometers(first)
    if unit is None or not all(one is not None and one.value[0] for one in pair):
        return {}
    values: list[Any] = [one.value for one in pair if one is not None]
    return {axis: unit * under / over for axis, (over, under) in zip("xy", values, strict=True)}


def _micrometers(first: TiffPlane) -> float | None:
    imagej: dict[str, Any] = getattr(first.page.parent, "imagej_metadata", None) or {}
    named = str(imagej.get("unit", "")).replace("\\u00B5", "µ")
    if named:
        known = {"micron": 1.0, "um": 1.0, "µm": 1.0, "nm": 1e-3, "mm": 1e3}
        return known.get(named)
    unit = first.page.tags.get(296)
    return None if unit is None else _UNITS.get(int(unit.value))
