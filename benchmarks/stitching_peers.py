"""Other stitchers on the same real tiles, in an environment of their own.

    python -m venv peers && peers/bin/pip install ashlar m2stitch multiview-stitcher
    peers/bin/python benchmarks/stitching_peers.py ../shared/data/mosaics/mist_t01

ashlar needs a Java runtime. `test_stitching.py` has ours, on the same stage positions.
"""

# mypy: ignore-errors
# ruff: noqa: ARG002 - of methods that a peer calls

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

Cell = tuple[int, int]
Places = Mapping[Cell, tuple[float, float]]

HEIGHT, WIDTH = 183, 245


def main(folder: Path) -> None:
    """Print how many of the 40 edges are exact, by stitcher and stage."""
    paths = sorted(folder.glob("*.tif"))
    tiles = {(at % 5, at // 5): tifffile.imread(path) for at, path in enumerate(paths)}
    random = np.random.default_rng(5)
    stages: dict[str, Places] = {
        "the regular grid": {(r, c): (0.94 * WIDTH * c, 0.94 * HEIGHT * r) for r, c in tiles},
        "fractional stage positions": {
            (r, c): (
                230.3 * c + float(random.uniform(-4, 4)),
                172.02 * r + float(random.uniform(-4, 4)),
            )
            for r, c in tiles
        },
    }
    peers: dict[str, Callable[[Any, Places], Places]] = {
        "ashlar": ashlar,
        "m2stitch": m2stitch,
        "multiview-stitcher": multiview,
    }
    for name, peer in peers.items():
        for stage, places in stages.items():
            try:
                exact, near = scored(tiles, peer(tiles, places))
                print(f"{name}, {stage}: {exact} of 40 exact when rounded, {near} within 0.1 px")
            except Exception as error:  # a peer that fails is a result
                print(f"{name}, {stage}: fails ({type(error).__name__}: {error})")


def scored(tiles: Mapping[Cell, NDArray[Any]], found: Places) -> tuple[int, int]:
    """Return edges whose overlap is equal to the bit, and those within a tenth besides."""
    exact = near = 0
    for first, second in edges(tiles):
        step = np.subtract(found[second], found[first])
        dx, dy = np.rint(step).astype(int)
        left, right = max(0, dx), min(WIDTH, WIDTH + dx)
        top, bottom = max(0, dy), min(HEIGHT, HEIGHT + dy)
        if right <= left or bottom <= top:
            continue
        one, other = tiles[first], tiles[second]
        if np.array_equal(
            one[top:bottom, left:right], other[top - dy : bottom - dy, left - dx : right - dx]
        ):
            exact += 1
            near += bool(np.abs(step - (dx, dy)).max() <= 0.1)
    return exact, near


def edges(tiles: Mapping[Cell, Any]) -> Iterator[tuple[Cell, Cell]]:
    """Yield neighbours."""
    for row, column in tiles:
        for other in ((row, column + 1), (row + 1, column)):
            if other in tiles:
                yield (row, column), other


def ashlar(tiles: Mapping[Cell, NDArray[Any]], stage: Places) -> Places:
    """Return what ashlar's edge aligner finds, at its own settings."""
    from ashlar import reg

    cells = sorted(tiles)

    class Metadata(reg.Metadata):
        _num_images = len(cells)
        num_channels = 1
        pixel_size = 1.0
        pixel_dtype = np.dtype(np.uint16)

        def tile_position(self, at: int) -> NDArray[Any]:
            x, y = stage[cells[at]]
            return np.array([y, x])

        def tile_size(self, at: int) -> NDArray[Any]:
            return np.array([HEIGHT, WIDTH])

    class Reader(reg.Reader):
        def __init__(self) -> None:
            self.metadata, self.path = Metadata(), "tiles"

        def read(self, series: int, c: int) -> NDArray[Any]:
            return tiles[cells[series]]

    aligner = reg.EdgeAligner(Reader(), max_shift=15, verbose=False)
    aligner.run()
    return {cell: tuple(aligner.positions[at][::-1]) for at, cell in enumerate(cells)}


def m2stitch(tiles: Mapping[Cell, NDArray[Any]], _stage: Places) -> Places:
    """Return what m2stitch finds on the raw tiles; it takes no stage."""
    import m2stitch as peer

    cells = sorted(tiles)
    rows, columns = ([cell[axis] for cell in cells] for axis in (0, 1))
    table, _ = peer.stitch_images(
        np.array([tiles[cell] for cell in cells]), rows, columns, row_col_transpose=False
    )
    return {cell: (table.x_pos.iloc[at], table.y_pos.iloc[at]) for at, cell in enumerate(cells)}


def multiview(tiles: Mapping[Cell, NDArray[Any]], stage: Places) -> Places:
    """Return what multiview-stitcher's registration finds."""
    from multiview_stitcher import msi_utils, registration
    from multiview_stitcher import spatial_image_utils as images

    cells = sorted(tiles)
    views = [
        msi_utils.get_msim_from_sim(
            images.get_sim_from_array(
                tiles[cell][None, None],
                dims=["t", "c", "y", "x"],
                scale={"y": 1, "x": 1},
                translation={"y": stage[cell][1], "x": stage[cell][0]},
                transform_key="stage",
            ),
            scale_factors=[],
        )
        for cell in cells
    ]
    registration.register(
        views, reg_channel_index=0, transform_key="stage", new_transform_key="found",
        overlap_tolerance=15,
    )  # fmt: skip
    found = {}
    for cell, view in zip(cells, views, strict=True):
        sim = msi_utils.get_sim_from_msim(view)
        matrix = np.array(images.get_affine_from_sim(sim, "found")).squeeze()
        found[cell] = (stage[cell][0] + matrix[1, 2], stage[cell][1] + matrix[0, 2])
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]))
