"""Runs by region: memory against the budget, rate against the model alone, cost against pixels."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

import edgerestore
from edgerestore.engine.restorer import Restorer
from edgerestore.microscopy.memory_budget import plan_budget
from edgerestore.microscopy.regions import Region, RegionRestorer
from edgerestore.microscopy.restore_planes import PlanesOptions, restore_planes
from edgerestore.microscopy.tiff_planes import TiffPlanes

from .harness import Effort, Table, interleaved, paired

Tables = Callable[[str], Table]

MODEL = "denoise-gray"
TILE_PX = 512
MIB = 1 << 20
OVER_MIB = 300  # what the process takes before it reads anything
BUDGETS_MIB = (512, 1024, 2048)
# The largest takes an hour with this model on two cores: EDGERESTORE_GIGAPIXEL=1 adds it.
SIZES = ((4000, 5000), (8000, 10_000))
LARGEST = (30_000, 40_000)


def written(path: Path, height: int, width: int) -> Path:
    """Write a noisy slide of 12 bits in 16, tile by tile, from sixteen different tiles."""
    rng = np.random.default_rng(0)

    def tile(down: int, across: int) -> NDArray[np.uint16]:
        y, x = np.mgrid[:TILE_PX, :TILE_PX]
        waves = np.sin((y + TILE_PX * down) / 37) * np.cos((x + TILE_PX * across) / 53)
        shown = 600 + 300 * waves + rng.normal(0, 20, (TILE_PX, TILE_PX))
        made: NDArray[np.uint16] = np.clip(shown, 0, 4095).astype(np.uint16)
        return made

    drawn = [[tile(down, across) for across in range(4)] for down in range(4)]

    def tiles() -> Iterator[NDArray[np.uint16]]:
        for down in range(-(-height // TILE_PX)):
            for across in range(-(-width // TILE_PX)):
                yield drawn[down % 4][across % 4]

    tifffile.imwrite(
        path,
        tiles(),
        shape=(height, width),
        dtype=np.uint16,
        tile=(TILE_PX, TILE_PX),
        ome=True,
        metadata={"axes": "YX", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25},
        compression="zlib",
        compressionargs={"level": 1},
        bigtiff=True,
    )
    return path


def sizes(effort: Effort) -> list[tuple[int, int]]:
    chosen = [SIZES[0]] if effort == Effort.quick() else list(SIZES)
    return [*chosen, *([LARGEST] if os.environ.get("EDGERESTORE_GIGAPIXEL") else [])]


def test_memory_and_cost(table: Tables, effort: Effort, tmp_path: Path) -> None:
    """Peak resident memory of `edgerestore run` at each budget, and seconds of each size."""
    out = table("runs by region: peak resident memory, and cost by pixels")
    cost: list[float] = []
    for height, width in sizes(effort):
        source = written(tmp_path / f"{width}.ome.tif", height, width)
        for budget in BUDGETS_MIB:
            begun_s = time.perf_counter()
            told = _run(source, tmp_path / "out.ome.zarr", budget)
            seconds = time.perf_counter() - begun_s
            assert told["code"] == 0, told["said"]
            name = f"{width}x{height}, --memory {budget}MiB"
            out.at_most(name, told["peak_kib"] / 1024, budget + OVER_MIB, "MiB")
            if budget == BUDGETS_MIB[1]:
                cost.append(seconds / (height * width) * 1e6)
                out.value(f"{width}x{height}", f"{cost[-1]:.3f} s a million pixels")
        source.unlink()
    if len(cost) > 1:
        spread = [later / before for before, later in itertools.pairwise(cost)]
        out.note(
            f"cost a pixel against the next smaller size: {', '.join(f'{s:.2f}' for s in spread)}"
        )


def _run(source: Path, output: Path, budget_mib: int) -> dict[str, Any]:
    command = [
        *(sys.executable, "-m", "edgerestore", "run", str(source), "-o", str(output)),
        *("--model", MODEL, "--memory", f"{budget_mib}MiB", "--overwrite", "--progress", "none"),
    ]
    watch = Path(__file__).with_name("peak.py")
    done = subprocess.run(
        [sys.executable, str(watch), *command], capture_output=True, text=True, check=True
    )
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.fixture
def restorer() -> Iterator[Restorer]:
    with edgerestore.load(MODEL, precision="fp32", memory_mb=512) as made:
        yield made


def test_rate(table: Tables, effort: Effort, tmp_path: Path, restorer: Restorer) -> None:
    """File to file, against the model alone on the same regions, which lie in memory."""
    height, width = SIZES[0]
    source = written(tmp_path / "in.ome.tif", height, width)
    with TiffPlanes(source) as file:
        budget = plan_budget(restorer, file.planes, None)
        cut = RegionRestorer(restorer, height, width, budget.side_px)
        regions = [
            Region(top, left, min(budget.side_px, height - top), min(budget.side_px, width - left))
            for top in range(0, height, budget.side_px)
            for left in range(0, width, budget.side_px)
        ]
        shown = [(one, file.read(file.planes[0], cut.extent(one))) for one in regions]

    def alone() -> float:
        restorer.intensity_range = "full"
        begun_s = time.perf_counter()
        waiting: deque[Any] = deque()
        for region, image in shown:
            waiting.append(cut.submit(region, image))
            if len(waiting) > 1:
                waiting.popleft().result()
        while waiting:
            waiting.popleft().result()
        return height * width / (time.perf_counter() - begun_s) / 1e6

    def whole() -> float:
        restorer.intensity_range = "auto"
        begun_s = time.perf_counter()
        options = PlanesOptions(overwrite=True)
        restore_planes(restorer, source, tmp_path / "out.ome.zarr", options)
        return height * width / (time.perf_counter() - begun_s) / 1e6

    rounds = interleaved({"alone": alone, "whole": whole}, min(effort.repeats, 3))
    out = table(f"runs by region: rate, {width}x{height} u16, {MODEL}, fp32")
    out.ratio(
        "file to file, pyramid and verification too",
        f"{np.median(rounds['whole']):.2f} Mpx/s",
        f"{np.median(rounds['alone']):.2f} Mpx/s, the model alone",
        paired(rounds["whole"], rounds["alone"]),
        0.9,
    )
