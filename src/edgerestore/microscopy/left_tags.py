"""What an OME-Zarr has a place for of a TIFF: a window that is shown; other tags are told."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .planes import Plane
from .tiff_planes import TiffPlanes

__all__ = ["shown_window", "tell_left_tags"]

_logger = logging.getLogger(__name__)


def shown_window(plane: Plane, ranges: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return the values that a viewer shows at first."""
    peak = 1.0 if plane.dtype == np.float32 else float(np.iinfo(plane.dtype).max)
    pairs = [one.split(":") for some in ranges for one in some if ":" in one]
    low = min((float(one[0]) for one in pairs), default=0.0)
    high = max((float(one[1]) for one in pairs), default=peak)
    return {"min": min(0.0, low), "max": max(peak, high), "start": low, "end": high}


_READ_TAGS = {
    *(254, 256, 257, 258, 259, 262, 266, 270, 273, 274, 277, 278, 279, 282, 283, 284, 296, 297),
    *(305, 317, 322, 323, 324, 325, 330, 338, 339, 347, 530, 532, 50838, 50839),
}


def tell_left_tags(given: TiffPlanes, output: Path) -> None:
    """Say which tags an OME-Zarr has no place for."""
    names = sorted(
        {
            tag.name
            for plane in given.planes
            for tag in plane.page.tags
            if tag.code not in _READ_TAGS
        }
    )
    first = given.planes[0].page.tags.get(274)
    if first is not None and first.value != 1:
        names.append("Orientation")
    plain = given.planes[0].page.tags.get(270)
    if plain is not None and given.ome_xml() is None and _is_told(str(plain.value)):
        names.append("ImageDescription")
    if names:
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        _logger.warning(
            "%s: tags that OME-Zarr has no place for are left out: %s%s",
            output,
            ", ".join(names[:5]),
            more,
        )


def _is_told(description: str) -> bool:
    """Return whether a description says more than the shape, which tifffile writes of its own."""
    return bool(description.strip()) and not description.startswith('{"shape":')
