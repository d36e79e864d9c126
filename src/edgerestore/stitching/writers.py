"""Mosaics as files: TIFF and OME-TIFF, written tile by tile from top to bottom."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .._version import __version__
from ..errors import SinkError
from ..imaging.arrays import Image
from ..imaging.error_translation import translated
from ..microscopy.regions import Region
from ..streams.sinks.partial_file import PartialFile, clear_partials
from .mosaic import MosaicReader

__all__ = ["TIFF_NAMES", "check_name", "write_tiff"]

TIFF_NAMES = (".tif", ".tiff", ".btf", ".tf8")
_SIDE_PX = 512
_LARGEST_CLASSIC = 2**32 - 2**25

Tick = Callable[[int, int, str], None]


def check_name(path: Path) -> None:
    """Refuse a name that says no format of a mosaic.

    Raises
    ------
    SinkError
        On another ending.
    """
    if path.suffix.lower() not in (*TIFF_NAMES, ".zarr"):
        raise SinkError(f"{path}: a mosaic is written as .ome.zarr, .ome.tif or .tif")


def write_tiff(
    output: Path,
    mosaic: MosaicReader,
    *,
    note: str,
    pixel_um: tuple[float, float] | None = None,
    overwrite: bool = False,
    inputs: list[Path] | None = None,
    tick: Tick | None = None,
) -> None:
    """Write a mosaic as a tiled TIFF, uncompressed; as OME-TIFF where the name ends so.

    What is in memory is a square of 512 px and some decoded tiles.

    Parameters
    ----------
    output : Path
    mosaic : MosaicReader
    note : str
        How it was made.
    pixel_um : (float, float), optional
        Size of a pixel.
    overwrite : bool
    inputs : list of Path, optional
        Files that must not be replaced.
    tick : callable, optional
        Given squares done and all, and a label.

    Raises
    ------
    SinkError
        When the file exists, or the disk refuses; nothing unfinished is left.
    """
    import tifffile

    canvas = mosaic.canvas
    clear_partials([output])
    file = PartialFile(output, overwrite=overwrite, inputs=inputs or [])
    ome = output.name.lower().endswith((".ome.tif", ".ome.tiff"))
    metadata: dict[str, Any] | None = None
    if ome:
        metadata = {"axes": "YX", "Name": output.name, "Description": note}
        if pixel_um:
            metadata |= {
                "PhysicalSizeX": pixel_um[0], "PhysicalSizeXUnit": "µm",
                "PhysicalSizeY": pixel_um[1], "PhysicalSizeYUnit": "µm",
            }  # fmt: skip
    size = canvas.height * canvas.width * mosaic.dtype.itemsize
    side = min(_SIDE_PX, -(-max(canvas.height, canvas.width) // 16) * 16)
    settings: dict[str, Any] = {"description": note} if not ome else {}
    if pixel_um and not ome:
        settings |= {"resolution": tuple(1e4 / one for one in pixel_um), "resolutionunit": 3}
    try:
        with (
            translated(SinkError, output),
            tifffile.TiffWriter(
                file.path, bigtiff=size > _LARGEST_CLASSIC, ome=ome, byteorder="<"
            ) as writer,
        ):
            writer.write(
                _squares(mosaic, side, tick, output.name),
                shape=(canvas.height, canvas.width),
                dtype=mosaic.dtype,
                tile=(side, side),
                photometric="minisblack",
                metadata=metadata,
                software=f"edgerestore {__version__}",
                **settings,
            )
        file.commit()
    except BaseException:
        file.discard()
        raise


def _squares(mosaic: MosaicReader, side: int, tick: Tick | None, label: str) -> Iterator[Image]:
    """Yield squares of a mosaic, row by row; those at the borders are smaller."""
    canvas = mosaic.canvas
    tops, lefts = range(0, canvas.height, side), range(0, canvas.width, side)
    total, done = len(tops) * len(lefts), 0
    for top in tops:
        for left in lefts:
            yield mosaic.region(
                Region(top, left, min(side, canvas.height - top), min(side, canvas.width - left))
            )
            done += 1
            if tick is not None:
                tick(done, total, label)
