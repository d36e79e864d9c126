"""Global placement: the error that statistics allow, outliers, periodic grids, and the stage."""

from dataclasses import replace

import numpy as np
import pytest

from edgerestore.stitching.grid import Grid
from edgerestore.stitching.pairs import Candidate, PairOptions, PairShift, Reason
from edgerestore.stitching.placement import PlacementOptions, place
from edgerestore.stitching.simulator import Scene, SimulatedMosaic, TileFaults
from edgerestore.stitching.stitcher import Stitcher

UNKNOWN = PairShift(reason=Reason.CONTENT)


def shift(dx: float, dy: float, sigma: float = 0.03) -> PairShift:
    covariance = np.eye(2) * sigma**2
    return PairShift((Candidate(dx, dy, covariance, covariance, 1e4, 0.9),))


def drawn(rows, columns, sigma=0.03, seed=0, stage_px=6.0):
    """Return true and planned positions, and pairs with Gaussian errors."""
    random = np.random.default_rng(seed)
    planned = {(r, c): (100.0 * c, 100.0 * r) for r in range(rows) for c in range(columns)}
    truth = {
        cell: np.add(at, random.uniform(-stage_px, stage_px, 2)) for cell, at in planned.items()
    }
    pairs = {}
    for row, column in planned:
        for other in ((row, column + 1), (row + 1, column)):
            if other in planned:
                step = truth[other] - truth[row, column] + random.normal(0, sigma, 2)
                pairs[(row, column), other] = shift(step[0], step[1], sigma)
    return truth, planned, pairs


def steps(positions, truth):
    """Return errors of the steps between neighbours."""
    return np.array(
        [
            np.subtract(positions[other], positions[cell]) - np.subtract(truth[other], truth[cell])
            for cell in positions
            for other in ((cell[0], cell[1] + 1), (cell[0] + 1, cell[1]))
            if other in positions
        ]
    )


def test_least_squares_reaches_its_bound():
    found = []
    for seed in range(20):
        truth, planned, pairs = drawn(8, 8, seed=seed)
        placed = place(list(planned), planned, pairs)
        found.append(steps(placed.positions, truth))
    error = float(np.sqrt(np.mean(np.square(found))))
    assert error <= 1.15 * 0.03 * np.sqrt(63 / 112)
    assert not any(edge.outlier for edge in placed.edges)


@pytest.mark.parametrize("size", [(4, 4), (2, 6), (6, 3)])
def test_one_outlier_moves_no_other_tile(size):
    _, planned, pairs = drawn(size[0], size[1], sigma=0.01)
    before = place(list(planned), planned, pairs).positions
    for key, one in pairs.items():
        wrong = replace(one.candidates[0], dx=one.candidates[0].dx + 20)
        found = place(list(planned), planned, {**pairs, key: PairShift((wrong,))})
        listed = [(edge.first, edge.second) for edge in found.edges if edge.outlier]
        assert listed == [key]
        moved = np.array([np.subtract(found.positions[cell], before[cell]) for cell in planned])
        moved -= np.median(moved, axis=0)
        assert np.abs(moved).max() < 0.05


def test_the_order_of_pairs_and_tiles_changes_nothing():
    _, planned, pairs = drawn(4, 5)
    turned = dict(reversed(pairs.items()))
    one = place(list(planned), planned, pairs).positions
    other = place(list(reversed(planned)), planned, turned).positions
    assert one == other


def test_a_tile_without_pairs_lies_where_the_corrected_stage_says():
    _, planned, pairs = drawn(4, 4, stage_px=0.0)
    # Every step is 4 px longer than planned.
    pairs = {
        key: shift(one.candidates[0].dx + 4 * (key[0][0] == key[1][0]), one.candidates[0].dy)
        for key, one in pairs.items()
    }
    for key in pairs:
        if (3, 3) in key:
            pairs[key] = UNKNOWN
    found = place(list(planned), planned, pairs)
    assert found.unmeasured == ((3, 3),)
    step = np.subtract(found.positions[3, 3], found.positions[3, 2])
    assert step == pytest.approx((104, 0), abs=0.5)


def test_without_any_pair_the_stage_is_kept():
    _, planned, pairs = drawn(2, 3)
    found = place(list(planned), planned, dict.fromkeys(pairs, UNKNOWN))
    apart = [np.subtract(found.positions[cell], planned[cell]) for cell in planned]
    assert np.ptp(apart, axis=0) == pytest.approx([0, 0], abs=1e-6)
    assert len(found.unmeasured) == 6
    assert all(edge.chosen is None and not edge.is_measured for edge in found.edges)


def test_loops_are_reported():
    _, planned, pairs = drawn(2, 2, sigma=0.001)
    key = ((0, 0), (0, 1))
    one = pairs[key].candidates[0]
    pairs[key] = shift(one.dx + 2, one.dy, 0.001)
    (loop,) = place(list(planned), planned, pairs).loops
    assert (loop.cell, round(loop.dx, 1), round(loop.dy, 1)) == ((0, 0), 2.0, 0.0)


@pytest.mark.parametrize("seed", range(4))
def test_a_periodic_grid_is_placed_by_all_its_candidates(seed):
    random = np.random.default_rng(seed)
    truth, planned, pairs = drawn(8, 8, sigma=0.02, seed=seed, stage_px=4.5)
    period, loose = 12.0, {}
    for key, one in pairs.items():
        best = one.candidates[0]
        many = [
            replace(best, dx=best.dx + period * i, dy=best.dy + period * j)
            for i in (-1, 0, 1)
            for j in (-1, 0, 1)
        ]
        random.shuffle(many)
        loose[key] = PairShift(tuple(many), Reason.EQUAL)
    found = place(list(planned), planned, loose)
    error = np.abs(steps(found.positions, truth)).max(axis=1)
    assert (error < 0.2).mean() >= 0.95


def stitched(simulated, order=None, search=15):
    overlap = (simulated.overlap, simulated.overlap)
    options = PairOptions(limit_x=search, limit_y=search)
    tiles = list(simulated.tiles())
    if order is not None:
        tiles = [tiles[at] for at in order]
    with Stitcher(Grid(simulated.rows, simulated.columns), overlap, pairs=options) as stitcher:
        for row, column, image in tiles:
            stitcher.add_tile(image, row, column)
        return stitcher.placement()


def errors_of(placement, simulated):
    truth = {cell: simulated.truth[cell] for cell in placement.positions}
    return steps(placement.positions, truth)


def test_simulated_tiles_end_at_the_bound_of_least_squares():
    simulated = SimulatedMosaic(Scene(21), 4, 4, faults=TileFaults(noise=20))
    found = stitched(simulated)
    assert all(edge.shift.best for edge in found.edges)
    own = np.array(
        [
            np.subtract(
                (best.dx, best.dy), simulated.truth[edge.second] - simulated.truth[edge.first]
            )
            for edge in found.edges
            if (best := edge.shift.best)
        ]
    )
    error = np.sqrt(np.mean(np.square(errors_of(found, simulated))))
    # Of a single draw: 24 pairs leave some scatter around the ratio.
    assert error <= 1.3 * np.sqrt(np.mean(np.square(own))) * np.sqrt(15 / 24)


def test_what_microscopes_do_leaves_no_pair_wrong():
    faults = TileFaults(
        noise=15, defocus_px=0.8, row_steps=2, row_offset_levels=30, gain=0.1, defects=3
    )
    simulated = SimulatedMosaic(Scene(22), 4, 4, height=300, width=300, overlap=60, faults=faults)
    found = stitched(simulated)
    for edge in found.edges:
        if best := edge.shift.best:
            true = simulated.truth[edge.second] - simulated.truth[edge.first]
            assert np.hypot(best.dx - true[0], best.dy - true[1]) < 1
    assert sum(edge.is_measured for edge in found.edges) >= 20


def test_tiles_of_a_chip_are_placed_though_no_pair_is_accepted():
    simulated = SimulatedMosaic(
        Scene(8, period_px=12, texture=0), 4, 4, height=160, width=160, overlap=40, stage_px=4,
        faults=TileFaults(noise=8),
    )  # fmt: skip
    found = stitched(simulated)
    assert not any(edge.shift.best for edge in found.edges)
    error = np.abs(errors_of(found, simulated)).max(axis=1)
    assert (error < 0.5).mean() >= 0.95


def test_a_blank_corner_does_not_move_the_canvas():
    from edgerestore.stitching.mosaic import Canvas

    simulated = SimulatedMosaic(Scene(23), 3, 3, height=160, width=160, stage_px=3)
    overlap = (40.0, 40.0)
    with Stitcher(Grid(3, 3), overlap) as stitcher:
        for row, column, image in simulated.tiles():
            blank = (row, column) == (2, 2)
            stitcher.add_tile(np.full_like(image, 40) if blank else image, row, column)
        found = stitcher.placement()
    assert found.unmeasured == ((2, 2),)
    canvas = Canvas.around(found.positions, (160, 160))
    most = np.ceil(found.largest_shift_px)
    assert canvas.width <= 2 * 120 + 160 + 2 * most[0] + 2
    assert canvas.height <= 2 * 120 + 160 + 2 * most[1] + 2


def test_positions_while_acquiring_are_those_of_the_batch():
    simulated = SimulatedMosaic(Scene(24), 3, 4, height=200, width=200, faults=TileFaults(noise=10))
    batch = stitched(simulated).positions
    order = np.random.default_rng(1).permutation(12)
    tiles = list(simulated.tiles())
    with Stitcher(Grid(3, 4), (40, 40)) as stitcher:
        for count, at in enumerate(order):
            row, column, image = tiles[at]
            stitcher.add_tile(image, row, column)
            assert len(stitcher.positions()) == count + 1
        live = stitcher.positions()
    for cell, place_ in batch.items():
        assert live[cell] == pytest.approx(place_, abs=1e-6)


def test_borders_are_forgotten_when_neighbours_have_come():
    simulated = SimulatedMosaic(Scene(25), 2, 3, height=120, width=120, overlap=30)
    with Stitcher(Grid(2, 3), (30, 30)) as stitcher:
        for row, column, image in simulated.tiles():
            stitcher.add_tile(image, row, column)
        stitcher.positions()
        assert not any(tile.borders for tile in stitcher._waiting.values())


def test_the_stage_error_decides_how_much_the_stage_holds():
    _, planned, pairs = drawn(3, 3, sigma=0.02, stage_px=5)
    loose = place(list(planned), planned, pairs, PlacementOptions(stage_px=50)).positions
    usual = place(list(planned), planned, pairs).positions
    for cell, at in loose.items():
        assert usual[cell] == pytest.approx(at, abs=1e-3)
