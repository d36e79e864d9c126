"""Shifts and mosaics against their bounds: thousands of simulated pairs, and estimators apart."""

from __future__ import annotations

import resource
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from edgerestore.imaging.arrays import Image
from edgerestore.stitching.grid import Cell, Grid
from edgerestore.stitching.mosaic import Canvas, MosaicReader
from edgerestore.stitching.pairs import ESTIMATORS, PairOptions, estimate_pair
from edgerestore.stitching.simulator import PairSimulator, Scene, SimulatedMosaic, TileFaults
from edgerestore.stitching.stitcher import Stitcher
from edgerestore.stitching.writers import write_tiff

from .harness import Effort, Table

Tables = Callable[[str], Table]

PAIRS = 10_000  # in all, as the claim is of so many
NOISES = {150: (5, 20, 40), 60: (5, 20, 40), 15: (5, 15, 30)}  # by overlap, in px
ALONE = (("raw",), ("smooth",), ("median",), ("bilateral",), ("edges",), ("phase",))
TOGETHER = (("raw", "smooth"), tuple(ESTIMATORS))


@dataclass
class Outcome:
    """What became of pairs of one kind."""

    errors: list[tuple[float, float]] = field(default_factory=list)
    variances: list[float] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def add(self, simulator: PairSimulator, index: int, options: PairOptions) -> None:
        pair = simulator.pair(index)
        begun = time.perf_counter()
        plan = (simulator.width - simulator.overlap, 0)
        found = estimate_pair(pair.first, pair.second, plan, options)
        self.seconds += time.perf_counter() - begun
        if found.best is None:
            self.reasons[str(found.reason)] += 1
            return
        self.errors.append((found.best.dx - pair.dx, found.best.dy - pair.dy))
        self.variances.append(float(np.trace(pair.bound)) / 2)

    @property
    def count(self) -> int:
        return len(self.errors) + sum(self.reasons.values())

    @property
    def rms(self) -> float:
        return float(np.sqrt(np.mean(np.square(self.errors)))) if self.errors else float("nan")

    @property
    def bound(self) -> float:
        return float(np.sqrt(np.mean(self.variances))) if self.variances else float("nan")

    @property
    def wrong(self) -> int:
        return sum(max(abs(dx), abs(dy)) > 1 for dx, dy in self.errors)


def test_pairs_against_the_bound(effort: Effort, table: Tables) -> None:
    shown = table("Shifts of simulated pairs, 300 px long, 190 px wide tiles")
    each = PAIRS // 9 if effort == Effort() else 20
    wrong = 0
    for overlap, noises in NOISES.items():
        for noise in noises:
            simulator = PairSimulator(77, height=300, width=190, overlap=overlap, noise=noise)
            outcome = Outcome()
            for index in range(each):
                outcome.add(simulator, index, PairOptions())
            wrong += outcome.wrong
            name = f"overlap {overlap} px, sigma {noise}: RMS, bound {outcome.bound:.4f} px"
            shown.at_most(name, outcome.rms, 1.5 * outcome.bound + 0.02, "px")
            if outcome.bound < 0.05:
                accepted = len(outcome.errors) / outcome.count
                shown.at_least("  accepted", accepted, 0.95, "")
    shown.at_most(f"accepted pairs wrong by more than 1 px, of {9 * each}", wrong, 1, "")


def test_estimators_apart_and_together(effort: Effort, table: Tables) -> None:
    shown = table("Estimators: accepted and wrong pairs, on what microscopes do")
    count = 3 if effort == Effort() else 1
    for names in (*ALONE, *TOGETHER):
        accepted = wrong = pairs = 0
        begun = time.perf_counter()
        for seed in range(count):
            for simulated in _hard(seed):
                made, bad, all_pairs = _judged(simulated, names)
                accepted, wrong, pairs = accepted + made, wrong + bad, pairs + all_pairs
        rate = pairs / (time.perf_counter() - begun)
        label = "all" if len(names) == len(ESTIMATORS) else " + ".join(names)
        shown.value(label, f"{accepted} of {pairs} accepted, {wrong} wrong, {rate:.1f} a second")


def _hard(seed: int) -> list[SimulatedMosaic]:
    faults = [
        TileFaults(noise=60),
        TileFaults(noise=25, defocus_px=2.0, gain=0.2, defects=6),
        TileFaults(noise=25, row_steps=6, row_step_levels=30, row_offset_levels=50),
        TileFaults(noise=15, drift_px=1.0, distortion_px=1.0, defects=6),
    ]
    return [
        SimulatedMosaic(
            Scene(100 + seed), 3, 3, height=200, width=200, overlap=30, faults=one, seed=seed
        )
        for one in faults
    ]


def _judged(simulated: SimulatedMosaic, names: tuple[str, ...]) -> tuple[int, int, int]:
    grid = Grid(simulated.rows, simulated.columns)
    options = PairOptions(estimators=names)
    overlap = (simulated.overlap, simulated.overlap)
    with Stitcher(grid, overlap, pairs=options, drift=False) as stitcher:
        for row, column, image in simulated.tiles():
            stitcher.add_tile(image, row, column)
        edges = stitcher.placement().edges
    accepted = wrong = 0
    for edge in edges:
        if (best := edge.shift.best) is not None:
            true = simulated.truth[edge.second] - simulated.truth[edge.first]
            accepted += 1
            # Distortion moves the truth itself by up to its own size.
            limit = 1 + 2 * (simulated.faults.drift_px + simulated.faults.distortion_px)
            wrong += bool(np.hypot(best.dx - true[0], best.dy - true[1]) > limit)
    return accepted, wrong, len(edges)


@dataclass(frozen=True)
class Large:
    """Tiles of 2000 px of a repeated scene, made when they are asked for."""

    rows: int
    columns: int
    base: NDArray[np.float32]
    side: int = 2000
    overlap: int = 150

    def origin(self, cell: Cell) -> tuple[int, int]:
        step = self.side - self.overlap
        dx, dy = np.random.default_rng([5, *cell]).integers(-8, 9, 2)
        return int(cell[1] * step + dx + 8), int(cell[0] * step + dy + 8)

    def tile(self, cell: Cell) -> Image:
        x, y = self.origin(cell)
        places = [np.arange(at, at + self.side) % len(self.base) for at in (y, x)]
        noise = np.random.default_rng([6, *cell]).standard_normal(
            (self.side, self.side), np.float32
        )
        return np.asarray((self.base[np.ix_(*places)] + 10 * noise).clip(0, 255), np.uint8)


def test_a_large_mosaic_in_bounded_memory(effort: Effort, table: Tables, tmp_path: Path) -> None:
    shown = table("Tiles of 2000x2000, 150 px of overlap")
    rows, columns = (25, 40) if effort == Effort() else (3, 4)
    random = np.random.default_rng(0).standard_normal((4096, 4096), np.float32)
    base = np.asarray(cv2.GaussianBlur(random, (0, 0), 1.5) * 100 + 128, np.float32)
    large = Large(rows, columns, base)
    grid = Grid(rows, columns)
    begun, busy = time.perf_counter(), time.process_time()
    with Stitcher(grid, (150, 150)) as stitcher:
        for cell in grid.cells():
            stitcher.add_tile(large.tile(cell), *cell)
        placement = stitcher.placement()
    seconds, busy = time.perf_counter() - begun, time.process_time() - busy
    canvas = Canvas.around(placement.positions, (2000, 2000))
    reader = MosaicReader(canvas, large.tile, np.dtype(np.uint8))
    write_tiff(tmp_path / "mosaic.tif", reader, note="benchmark")
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    shown.at_most(f"peak memory of {rows * columns} tiles", peak_mib, 2048, "MiB")
    shown.value("pairs a second", f"{len(placement.edges) / seconds:.2f}")
    shown.value("cores busy, tiles' making counted", f"{busy / seconds:.2f}")
    exact = all(
        np.allclose(np.subtract(place, placement.positions[0, 0]),
                    np.subtract(large.origin(cell), large.origin((0, 0))), atol=0.5)
        for cell, place in placement.positions.items()
    )  # fmt: skip
    shown.value("tiles at their place to half a pixel", "all" if exact else "NOT all")


@pytest.mark.parametrize("stage", ["the regular grid", "fractional stage positions"])
def test_real_tiles(shared_data: Path, table: Tables, stage: str) -> None:
    shown = table(f"Real tiles, u16, 4 to 21 px of overlap, {stage}")
    paths = sorted((shared_data / "mosaics" / "mist_t01").glob("*.tif"))
    tiles = {(at % 5, at // 5): tifffile.imread(path) for at, path in enumerate(paths)}
    random, accepted, exact = np.random.default_rng(5), 0, 0
    with Stitcher(Grid(5, 5), (0.06 * 245, 0.06 * 183)) as stitcher:
        for (row, column), image in tiles.items():
            x, y = 230.3 * column + random.uniform(-4, 4), 172.02 * row + random.uniform(-4, 4)
            place = (x, y) if stage.startswith("fractional") else None
            stitcher.add_tile(image, row, column, stage=place)
        found = stitcher.placement()
    for edge in found.edges:
        accepted += edge.shift.best is not None
        dx, dy = np.rint(
            np.subtract(found.positions[edge.second], found.positions[edge.first])
        ).astype(int)
        one, other = tiles[edge.first], tiles[edge.second]
        height, width = one.shape
        left, right, top, bottom = (
            max(0, dx),
            min(width, width + dx),
            max(0, dy),
            min(height, height + dy),
        )
        exact += np.array_equal(
            one[top:bottom, left:right], other[top - dy : bottom - dy, left - dx : right - dx]
        )
    shown.at_least("pairs accepted, of 40", accepted, 38, "")
    shown.at_least("final edges exact to the bit, of 40", exact, 40, "")
