"""Global placement: robust least squares over all pairs, and the stage where they end."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .grid import Cell
from .pairs import Candidate, PairShift, Reason

__all__ = ["Edge", "Loop", "Placement", "PlacementOptions", "place"]

Positions = NDArray[np.float64]

_LEAST_SIGMA_PX = 0.02  # what a model of pure shifts leaves, however clear the pixels are
_HUBER = 2.0
_TURNS = 30
_SETTLED_PX = 1e-9
_ANCHOR = 1e-6  # weight of absolute positions: it decides only what nothing else does
_TEMPERATURES_PX = (12.0, 8.0, 5.0, 3.0, 2.0, 1.0)
_SWEEPS = 50
_MATCH_PX = 0.5  # how near a candidate is met
_MISMATCH = 20.0  # cost of a pair that meets none
_FEW = 3  # pairs that tell a systematic error of the stage


@dataclass(frozen=True)
class PlacementOptions:
    """How tiles are placed.

    Parameters
    ----------
    stage_px : float
        Standard deviation of a step of the stage, in pixels.
    reject_px : float
        Least disagreement that makes a pair an outlier, in pixels.
    """

    stage_px: float = 5.0
    reject_px: float = 3.0


@dataclass(frozen=True)
class Edge:
    """A pair in the placement.

    Parameters
    ----------
    first, second : (int, int)
        Cells; the second lies right of the first, or below.
    shift : PairShift
    chosen : int or None
        Index of the candidate that counts; None where the stage does.
    outlier : bool
        The measured shift disagrees with all others, and does not count.
    dx, dy : float
        Residual: placed less measured (less the stage's where nothing is measured).
    """

    first: Cell
    second: Cell
    shift: PairShift
    chosen: int | None
    outlier: bool
    dx: float
    dy: float

    @property
    def residual_px(self) -> float:
        """Length of the residual."""
        return math.hypot(self.dx, self.dy)

    @property
    def is_measured(self) -> bool:
        """Whether a measured shift counts."""
        return self.chosen is not None and not self.outlier


@dataclass(frozen=True)
class Loop:
    """Closure of a loop of four measured pairs.

    Parameters
    ----------
    cell : (int, int)
        Upper left tile of the four.
    dx, dy : float
        Sum of the shifts around it, in pixels; 0 where they agree.
    """

    cell: Cell
    dx: float
    dy: float


@dataclass(frozen=True)
class Placement:
    """Positions of all tiles.

    Parameters
    ----------
    positions : dict
        Cell -> origin (x, y) in pixels; the first tile of the grid keeps whole pixels.
    planned : dict
        Cell -> origin (x, y) by the stage, corrected by what pairs tell of it.
    edges : tuple of Edge
    loops : tuple of Loop
    unmeasured : tuple
        Cells that no measured pair holds: they lie where the stage says.
    """

    positions: dict[Cell, tuple[float, float]]
    planned: dict[Cell, tuple[float, float]]
    edges: tuple[Edge, ...]
    loops: tuple[Loop, ...]
    unmeasured: tuple[Cell, ...]

    @property
    def largest_shift_px(self) -> tuple[float, float]:
        """Largest distance of a tile from its plan, along x and y."""
        if not self.positions:
            return 0.0, 0.0
        apart = [
            np.abs(np.subtract(self.positions[cell], self.planned[cell])) for cell in self.positions
        ]
        most = np.max(apart, axis=0)
        return float(most[0]), float(most[1])


@dataclass
class _Factors:
    """What holds tiles together, as arrays; one row a pair."""

    first: NDArray[np.intp]
    second: NDArray[np.intp]
    stage: Positions
    stage_weight: float
    shift: Positions = field(default_factory=lambda: np.zeros((0, 2)))
    weight: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 2, 2)))


def place(
    cells: Sequence[Cell],
    stage: Mapping[Cell, tuple[float, float]],
    pairs: Mapping[tuple[Cell, Cell], PairShift],
    options: PlacementOptions | None = None,
) -> Placement:
    """Place tiles so that all pairs agree as well as they can.

    Least squares over pairs, each weighted by its covariance, under Huber's function. Pairs that
    no shift is known of, and all others very lightly, are held by the stage, of which a
    systematic error is corrected by the median of the measured pairs of a direction. Of pairs
    with several equal shifts the one is taken that agrees with the whole grid (as Mahalanobis
    distances to the positions so far say, at falling temperature). A pair that then disagrees by
    more than ``reject_px`` and than all others is an outlier: it no longer counts, and is listed.

    Parameters
    ----------
    cells : sequence of (int, int)
        Tiles that are there.
    stage : mapping
        Cell -> planned origin (x, y) in pixels.
    pairs : mapping
        (first, second) -> what was measured; in any order, which does not matter.
    options : PlacementOptions, optional
    """
    options = options or PlacementOptions()
    cells = sorted(cells)
    keys = sorted(pairs)
    planned = _corrected(cells, stage, {key: pairs[key] for key in keys})
    if not keys:
        return Placement(dict(planned), planned, (), (), tuple(cells))
    at = {cell: number for number, cell in enumerate(cells)}
    start = np.array([planned[cell] for cell in cells])
    factors = _Factors(
        np.array([at[first] for first, _ in keys]),
        np.array([at[second] for _, second in keys]),
        np.array([np.subtract(planned[second], planned[first]) for first, second in keys]),
        1 / options.stage_px**2,
    )
    shifts = [pairs[key] for key in keys]
    chosen = _choose(factors, shifts, start)
    outlier, solved = _settle(factors, shifts, chosen, start, options, _rings(keys))
    solved += np.rint(solved[0]) - solved[0]
    residual = solved[factors.second] - solved[factors.first]
    edges = []
    for number, (first, second) in enumerate(keys):
        pick = chosen[number]
        known = shifts[number].candidates[pick] if pick is not None else None
        expected = (known.dx, known.dy) if known is not None else factors.stage[number]
        dx, dy = residual[number] - expected
        edges.append(
            Edge(first, second, shifts[number], pick, bool(outlier[number]), float(dx), float(dy))
        )
    held = {cell for edge in edges if edge.is_measured for cell in (edge.first, edge.second)}
    return Placement(
        {cell: (float(x), float(y)) for cell, (x, y) in zip(cells, solved, strict=True)},
        planned,
        tuple(edges),
        tuple(_loops(edges)),
        tuple(cell for cell in cells if cell not in held),
    )


def _corrected(
    cells: Sequence[Cell],
    stage: Mapping[Cell, tuple[float, float]],
    pairs: Mapping[tuple[Cell, Cell], PairShift],
) -> dict[Cell, tuple[float, float]]:
    """Return the stage's positions less its systematic error, row by row and column by column."""
    steps: dict[bool, list[Any]] = {True: [], False: []}
    for (first, second), shift in pairs.items():
        if (best := shift.best) is not None:
            expected = np.subtract(stage[second], stage[first])
            steps[first[0] == second[0]].append(np.subtract((best.dx, best.dy), expected))
    along, down = (
        np.median(steps[kind], axis=0) if len(steps[kind]) >= _FEW else np.zeros(2)
        for kind in (True, False)
    )
    made = {}
    for cell in cells:
        x, y = np.asarray(stage[cell]) + along * cell[1] + down * cell[0]
        made[cell] = (float(x), float(y))
    return made


def _weight(candidate: Candidate) -> NDArray[np.float64]:
    covariance = candidate.covariance
    if not np.isfinite(covariance).all():
        covariance = np.eye(2)
    return np.asarray(np.linalg.inv(covariance + _LEAST_SIGMA_PX**2 * np.eye(2)))


def _solve(
    factors: _Factors,
    start: Positions,
    shift: Positions,
    weight: NDArray[np.float64],
    scale: NDArray[np.float64],
    anchor: float,
) -> Positions:
    """Return positions of least squares, pairs weighted by matrices times a scale each."""
    from scipy import sparse
    from scipy.sparse.linalg import spsolve

    tiles = len(start)
    held = np.eye(2) * factors.stage_weight
    blocks = weight * scale[:, None, None] + held
    pulls = np.einsum("nij,nj->ni", weight * scale[:, None, None], shift) + factors.stage @ held
    first, second = factors.first, factors.second
    own = np.tile(np.eye(2) * anchor, (tiles, 1, 1))
    np.add.at(own, first, blocks)
    np.add.at(own, second, blocks)
    right = start * anchor
    np.add.at(right, second, pulls)
    np.add.at(right, first, -pulls)
    rows = np.concatenate([np.arange(tiles), first, second])
    columns = np.concatenate([np.arange(tiles), second, first])
    values = np.concatenate([own, -blocks, -blocks])
    index = np.arange(2)
    matrix = sparse.csc_matrix(
        (
            values.ravel(),
            (
                (rows[:, None, None] * 2 + index[None, :, None] + 0 * index).ravel(),
                (columns[:, None, None] * 2 + 0 * index[:, None] + index[None, None]).ravel(),
            ),
        ),
        shape=(2 * tiles, 2 * tiles),
    )
    return np.asarray(spsolve(matrix, right.ravel())).reshape(tiles, 2)


def _arrays(
    shifts: Sequence[PairShift], chosen: Sequence[int | None]
) -> tuple[Positions, NDArray[np.float64]]:
    """Return shifts and weights of the chosen candidates; those of pairs without one are 0."""
    shift, weight = np.zeros((len(shifts), 2)), np.zeros((len(shifts), 2, 2))
    for number, (one, pick) in enumerate(zip(shifts, chosen, strict=True)):
        if pick is not None:
            candidate = one.candidates[pick]
            shift[number], weight[number] = (candidate.dx, candidate.dy), _weight(candidate)
    return shift, weight


def _choose(factors: _Factors, shifts: Sequence[PairShift], start: Positions) -> list[int | None]:
    """Choose a candidate of every pair that has several equal ones."""
    chosen: list[int | None] = [0 if one.best is not None else None for one in shifts]
    open_pairs = [
        number
        for number, one in enumerate(shifts)
        if one.reason is Reason.EQUAL
        and any(np.isfinite(candidate.covariance).all() for candidate in one.candidates)
    ]
    if not open_pairs:
        return chosen
    # Here a tile's own place counts, too: a lattice fits wherever it is put.
    anchor = factors.stage_weight
    solved = _robust(factors, start, *_arrays(shifts, chosen), anchor)[0]
    for temperature in _TEMPERATURES_PX:
        shift, weight = _arrays(shifts, chosen)
        for number in open_pairs:
            kept = _equal(shifts[number])
            predicted = solved[factors.second[number]] - solved[factors.first[number]]
            places = np.array([(one.dx, one.dy) for _, one in kept])
            likely = -((places - predicted) ** 2).sum(axis=1) / (2 * temperature**2)
            share = np.exp(likely - likely.max())
            share /= share.sum()
            shift[number] = share @ places
            # A pair that is still open holds no tile to a hair.
            spread = float(share @ ((places - shift[number]) ** 2).sum(axis=1))
            weight[number] = np.eye(2) / (spread + _LEAST_SIGMA_PX**2 + temperature**2 / 16)
        solved = _robust(factors, start, shift, weight, anchor)[0]
    _Moves(factors, shifts, open_pairs, solved, start, anchor).make()
    for number in open_pairs:
        predicted = solved[factors.second[number]] - solved[factors.first[number]]
        chosen[number] = min(
            (math.hypot(*(np.subtract((one.dx, one.dy), predicted))), pick)
            for pick, one in _equal(shifts[number])
        )[1]
    return chosen


class _Moves:
    """Moves of single tiles from one candidate to another, while they lower the cost.

    The cost of a pair is its distance to the nearest candidate, up to a limit; that of a tile its
    distance from the stage.
    """

    def __init__(
        self,
        factors: _Factors,
        shifts: Sequence[PairShift],
        open_pairs: Sequence[int],
        solved: Positions,
        start: Positions,
        anchor: float,
    ) -> None:
        self._factors, self._solved, self._start, self._anchor = factors, solved, start, anchor
        self._places, self._of_tile = {}, dict[int, list[int]]()
        for number, one in enumerate(shifts):
            if one.best is None and number not in open_pairs:
                continue
            kept = [(0, one.candidates[0])] if one.best is not None else _equal(one)
            self._places[number] = np.array([(known.dx, known.dy) for _, known in kept])
            for tile in (int(factors.first[number]), int(factors.second[number])):
                self._of_tile.setdefault(tile, []).append(number)

    def make(self) -> None:
        """Move tiles, in place."""
        for _ in range(_SWEEPS):
            moved = False
            for tile, numbers in self._of_tile.items():
                steps = np.concatenate([self._steps(tile, number) for number in numbers])
                costs = [self._cost(tile, step) for step in steps]
                best = int(np.argmin(costs))
                if costs[best] < self._cost(tile, np.zeros(2)) - 1e-6:
                    self._solved[tile] += steps[best]
                    moved = True
            if not moved:
                return

    def _steps(self, tile: int, number: int) -> Positions:
        """Return by how much a tile moves to meet each candidate of a pair."""
        first, second = self._factors.first[number], self._factors.second[number]
        off = self._places[number] - (self._solved[second] - self._solved[first])
        return np.asarray(off if tile == second else -off)

    def _cost(self, tile: int, step: Positions) -> float:
        off = self._solved[tile] + step - self._start[tile]
        cost = 0.5 * self._anchor * float(off @ off)
        for number in self._of_tile[tile]:
            missed = self._steps(tile, number) - step
            nearest = float((missed**2).sum(axis=1).min())
            cost += min(0.5 * nearest / _MATCH_PX**2, _MISMATCH)
        return cost


def _equal(shift: PairShift) -> list[tuple[int, Candidate]]:
    """Return the candidates that compete, with their indices."""
    found = [
        (number, one)
        for number, one in enumerate(shift.candidates)
        if np.isfinite(one.covariance).all()
    ]
    return found or [(0, shift.candidates[0])]


def _robust(
    factors: _Factors,
    start: Positions,
    shift: Positions,
    weight: NDArray[np.float64],
    anchor: float = _ANCHOR,
) -> tuple[Positions, NDArray[np.float64]]:
    """Return positions under Huber's function, and how many sigmas each pair is off."""
    scale = np.ones(len(shift))
    solved, off = start, np.zeros(len(shift))
    for _ in range(_TURNS):
        before = solved
        solved = _solve(factors, start, shift, weight, scale, anchor)
        residual = solved[factors.second] - solved[factors.first] - shift
        off = np.sqrt(np.maximum(np.einsum("ni,nij,nj->n", residual, weight, residual), 0))
        scale = np.minimum(1.0, _HUBER / np.maximum(off, 1e-12))
        if np.abs(solved - before).max() < _SETTLED_PX:
            break
    return solved, off


def _settle(
    factors: _Factors,
    shifts: Sequence[PairShift],
    chosen: Sequence[int | None],
    start: Positions,
    options: PlacementOptions,
    rings: dict[Cell, tuple[int, ...]],
) -> tuple[NDArray[np.bool_], Positions]:
    """Reject what disagrees, the worst first, and solve again until nothing does."""
    outlier = np.zeros(len(shifts), bool)
    shift, weight = _arrays(shifts, chosen)
    measured = np.array([pick is not None for pick in chosen])
    while True:
        counts = measured & ~outlier
        solved, _ = _robust(factors, start, shift, weight * ~outlier[:, None, None])
        length = np.hypot(*(solved[factors.second] - solved[factors.first] - shift).T)
        if not counts.any():
            return outlier, solved
        usual = 1.4826 * float(np.median(length[counts]))
        limit = max(options.reject_px, 6 * usual)
        worst = float(length[counts].max())
        if worst <= limit:
            return outlier, solved
        suspects = _Suspects(factors, shift, counts, rings, limit)
        for number in np.flatnonzero(counts & (length > max(limit, 0.7 * worst))):
            outlier[suspects.culprit(int(number))] = True


class _Suspects:
    """Pairs that may have broken a loop of four."""

    def __init__(
        self,
        factors: _Factors,
        shift: Positions,
        counts: NDArray[np.bool_],
        rings: dict[Cell, tuple[int, ...]],
        limit: float,
    ) -> None:
        self._from_stage = np.hypot(*(shift - factors.stage).T)
        self._closed: set[int] = set()
        self._broken: dict[int, set[int]] = {}
        for ring in rings.values():
            if not counts[list(ring)].all():
                continue
            a, b, c, d = shift[list(ring)]
            if math.hypot(*(a + b - c - d)) <= limit:
                self._closed.update(ring)
                continue
            for one in ring:
                self._broken.setdefault(one, set()).update(ring)

    def culprit(self, number: int) -> int:
        """Return which pair is wrong where one disagrees: it, or another that no loop clears.

        At a corner two pairs explain a broken loop equally well; the one is wrong that is
        farther from the stage.
        """
        if len(self._broken.get(number, ())) != 4:  # none, or two loops that share it
            return number
        open_ones = [one for one in self._broken[number] if one not in self._closed]
        return max(open_ones or [number], key=lambda one: (self._from_stage[one], one))


def _rings(keys: Sequence[tuple[Cell, Cell]]) -> dict[Cell, tuple[int, ...]]:
    """Return the loops of four pairs by their upper left cell, as indices of pairs."""
    at = {key: number for number, key in enumerate(keys)}
    rings = {}
    for row, column in {first for first, _ in keys}:
        a, b, c, d = (row, column), (row, column + 1), (row + 1, column), (row + 1, column + 1)
        ring = [at.get(pair) for pair in ((a, b), (b, d), (a, c), (c, d))]
        if None not in ring:
            rings[a] = tuple(number for number in ring if number is not None)
    return rings


def _loops(edges: Sequence[Edge]) -> list[Loop]:
    """Return how well the measured loops of four close."""
    loops = []
    for cell, ring in sorted(_rings([(one.first, one.second) for one in edges]).items()):
        known = [
            one.shift.candidates[one.chosen]
            for one in (edges[number] for number in ring)
            if one.chosen is not None
        ]
        if len(known) == 4:
            a, b, c, d = known
            loops.append(Loop(cell, a.dx + b.dx - c.dx - d.dx, a.dy + b.dy - c.dy - d.dy))
    return loops
