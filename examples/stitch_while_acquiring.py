"""A mosaic while pymmcore-plus acquires it: positions are known as soon as a tile has come.

    pip install pymmcore-plus useq-schema 'edgerestore[stitch]'
    python stitch_while_acquiring.py MICROSCOPE.cfg 3 4

`frameReady` runs on the acquisition thread, which must not wait: frames are put into a queue,
and a thread of ours takes them from there.
"""

from __future__ import annotations

import queue
import sys
import threading
from typing import Any

import useq
from pymmcore_plus import CMMCorePlus

from edgerestore.stitching.grid import Grid
from edgerestore.stitching.stitcher import Stitcher

OVERLAP = 0.1  # of a tile


def main(config: str, rows: int, columns: int) -> None:
    """Acquire a grid and print where each tile lies."""
    core = CMMCorePlus.instance()
    core.loadSystemConfiguration(config)
    core.snapImage()
    height, width = core.getImage().shape
    pixel_um = core.getPixelSizeUm() or 1.0
    plan = useq.GridRowsColumns(
        rows=rows, columns=columns, overlap=100 * OVERLAP, mode="row_wise",
        fov_width=width * pixel_um, fov_height=height * pixel_um,
    )  # fmt: skip
    frames: queue.Queue[tuple[Any, Any] | None] = queue.Queue()
    core.mda.events.frameReady.connect(lambda image, event, *_: frames.put((image.copy(), event)))
    stitcher = Stitcher(Grid(rows, columns), (OVERLAP * width, OVERLAP * height))
    follower = threading.Thread(target=follow, args=(stitcher, frames, columns, pixel_um))
    follower.start()
    core.run_mda(useq.MDASequence(grid_plan=plan), block=True)
    frames.put(None)
    follower.join()
    placed = stitcher.placement()
    stitcher.close()
    measured = sum(edge.is_measured for edge in placed.edges)
    print(f"{measured} of {len(placed.edges)} pairs measured")


def follow(stitcher: Stitcher, frames: queue.Queue[Any], columns: int, pixel_um: float) -> None:
    """Take frames as they come; stage coordinates point up, rows of pixels down."""
    while (item := frames.get()) is not None:
        image, event = item
        row, column = divmod(event.index["g"], columns)
        stage = (event.x_pos / pixel_um, -event.y_pos / pixel_um)
        stitcher.add_tile(image, row, column, stage=stage)
        x, y = stitcher.positions()[row, column]
        print(f"tile {row}, {column} at {x:.2f}, {y:.2f} px")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
