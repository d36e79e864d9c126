"""Mosaics as OME-Zarr: by whole shards, with reduced copies, going on where a run stopped."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..imaging.arrays import Image
from ..microscopy.regions import Region
from ..microscopy.sharded_store import ArrayLayout, ShardedArray, ShardedStore
from .mosaic import MosaicReader
from .writers import Tick

__all__ = ["write_zarr"]

_CHUNK_PX, _SHARD_PX = 512, 2048
_LEAST_PX = 512  # of the smallest reduced copy


def write_zarr(
    output: Path,
    mosaic: MosaicReader,
    facts: Mapping[str, Any],
    *,
    note: str,
    pixel_um: tuple[float, float] | None = None,
    overwrite: bool = False,
    resume: bool = False,
    inputs: list[Path] | None = None,
    tick: Tick | None = None,
) -> None:
    """Write a mosaic as OME-Zarr 0.5, with copies reduced by two each.

    What is in memory is a shard of 2048 px and some decoded tiles. A run that was killed leaves
    whole shards and a journal beside the name; one of the same facts goes on with them.

    Parameters
    ----------
    output : Path
    mosaic : MosaicReader
    facts : mapping of JSON values
        What the mosaic is made of: another's shards are not gone on with.
    note : str
        How it was made.
    pixel_um : (float, float), optional
        Size of a pixel.
    overwrite, resume : bool
    inputs : list of Path, optional
        What must not be replaced.
    tick : callable, optional
        Given shards done and all, and a label.

    Raises
    ------
    SinkError
        When the store exists, is of other facts, or the disk refuses.
    MissingExtraError
        When zarr is not installed.
    """
    canvas = mosaic.canvas
    sizes = [(canvas.height, canvas.width)]
    while max(sizes[-1]) > _LEAST_PX:
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    with ShardedStore(
        output, facts, overwrite=overwrite, resume=resume, inputs=inputs or []
    ) as store:
        store.group("", _attributes(output.stem, len(sizes), note, pixel_um), 3)
        levels = [
            store.array(
                ArrayLayout(
                    str(number),
                    size,
                    (_CHUNK_PX, _CHUNK_PX),
                    np.dtype(mosaic.dtype),
                    (_SHARD_PX, _SHARD_PX),
                    ("y", "x"),
                )
            )
            for number, size in enumerate(sizes)
        ]
        total, done = sum(len(list(level.indices())) for level in levels), 0
        for number, level in enumerate(levels):
            for index in level.indices():
                start = [at * part for at, part in zip(index, level.shard, strict=True)]
                shape = [
                    min(part, side - first)
                    for first, part, side in zip(start, level.shard, level.shape, strict=True)
                ]
                if not store.is_done(level, start, shape):
                    region = Region(start[0], start[1], shape[0], shape[1])
                    data = _halved(levels[number - 1], region) if number else mosaic.region(region)
                    store.write(level, start, data)
                done += 1
                if tick is not None:
                    tick(done, total, output.name)
        store.commit()


def _halved(finer: ShardedArray, region: Region) -> Image:
    """Return a region of a copy: means of two by two pixels, of what is there at the borders."""
    top, left = 2 * region.top, 2 * region.left
    shape = (
        min(2 * region.height, finer.shape[0] - top),
        min(2 * region.width, finer.shape[1] - left),
    )
    block = finer.read((top, left), shape)
    more = [(0, side % 2) for side in block.shape]
    block = np.pad(block, more, mode="edge").astype(np.float64)
    cells = block.reshape(block.shape[0] // 2, 2, block.shape[1] // 2, 2)
    means = cells.mean(axis=(1, 3))
    made = np.rint(means) if np.issubdtype(finer.dtype, np.integer) else means
    return np.asarray(made, finer.dtype)


def _attributes(
    name: str, levels: int, note: str, pixel_um: tuple[float, float] | None
) -> dict[str, Any]:
    unit = {"unit": "micrometer"} if pixel_um else {}
    x, y = pixel_um or (1.0, 1.0)
    datasets = [
        {
            "path": str(number),
            "coordinateTransformations": [
                {"type": "scale", "scale": [y * 2**number, x * 2**number]},
                # A pixel's place is its middle's.
                {
                    "type": "translation",
                    "translation": [y * (2**number - 1) / 2, x * (2**number - 1) / 2],
                },
            ],
        }
        for number in range(levels)
    ]
    axes = [{"name": axis, "type": "space", **unit} for axis in "yx"]
    multiscale = {"name": name, "axes": axes, "datasets": datasets, "type": "mean"}
    return {"ome": {"version": "0.5", "multiscales": [multiscale]}, "edgerestore": {"made": note}}
