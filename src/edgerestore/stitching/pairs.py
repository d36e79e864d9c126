"""Shift between two neighbours: candidates, covariance, and a reason where there is no answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError
from ..imaging.arrays import Image
from .correlation import (
    PEAK_RADIUS_PX,
    Search,
    correlation,
    effective_pixels,
    evidence,
    masked_correlation,
    peaks,
    phase_correlation,
)
from .refinement import Drift, Refined, drift_along, refine

__all__ = [
    "ESTIMATORS",
    "Candidate",
    "PairOptions",
    "PairShift",
    "Reason",
    "ShiftEstimator",
    "estimate_pair",
    "seam_drift",
]

_SIGNIFICANT = 14.0  # nats: one in a million
_EQUAL_SIGMAS = 6.0  # two correlations nearer than that are equal
_EQUAL_RATIO = 1.05  # of what two shifts leave unexplained
_EQUAL_SHARE = 0.95  # of one correlation in the other
_RIVAL_SHARE = 0.25  # of the best score or evidence; what has less is no rival
_MOST_SIGMA_PX = 0.2  # so that a pixel is five standard deviations


class Reason(StrEnum):
    """Why a pair has no shift."""

    CONTENT = "content"
    LIMIT = "limit"
    EQUAL = "equal"
    OVERLAP = "overlap"
    UNREAD = "unread"

    @property
    def meaning(self) -> str:
        """A line for people."""
        return {
            Reason.CONTENT: "too little content in common",
            Reason.LIMIT: "the best shift lies at the limit of the search",
            Reason.EQUAL: "several shifts fit equally well",
            Reason.OVERLAP: "the planned overlap is too small",
            Reason.UNREAD: "one of the tiles could not be read",
        }[self]


@dataclass(frozen=True)
class Candidate:
    """A shift that the pixels allow.

    Parameters
    ----------
    dx, dy : float
        Origin of the second tile in the first one's pixels.
    covariance : ndarray, shape (2, 2)
        In square pixels.
    bound : ndarray, shape (2, 2)
        The least covariance that noise and content allow.
    evidence : float
        Log-likelihood against unrelated content, in nats.
    correlated : float
        Correlation of the overlap, in [-1, 1].
    residual : float
        Standard deviation of the difference, in levels.
    gain : float
        Contrast of the first by that of the second.
    pixels : float
        Independent pixels that the evidence stands on.
    """

    dx: float
    dy: float
    covariance: NDArray[np.float64]
    bound: NDArray[np.float64]
    evidence: float
    correlated: float
    residual: float = 0.0
    gain: float = 1.0
    pixels: float = 0.0

    @property
    def sigma(self) -> float:
        """Standard deviation along the axis that is known least, in pixels."""
        return math.sqrt(max(0.0, float(np.linalg.eigvalsh(self.covariance)[-1])))


@dataclass(frozen=True)
class PairShift:
    """What was measured between two neighbours.

    Parameters
    ----------
    candidates : tuple of Candidate
        The most likely first.
    reason : Reason or None
        Why the first is no answer; None where it is one.
    drifts : tuple of Drift
        Along the seam.
    estimators : tuple of str
        Which of them found the first candidate.
    """

    candidates: tuple[Candidate, ...] = ()
    reason: Reason | None = None
    drifts: tuple[Drift, ...] = ()
    estimators: tuple[str, ...] = ()

    @property
    def best(self) -> Candidate | None:
        """The measured shift, None where it is undefined."""
        return self.candidates[0] if self.candidates and self.reason is None else None

    def moved(self, x: float, y: float) -> PairShift:
        """Return the pair with another origin of its first tile, which lies (x, y) before."""
        return replace(
            self,
            candidates=tuple(replace(one, dx=one.dx + x, dy=one.dy + y) for one in self.candidates),
        )

    @property
    def confidence(self) -> float:
        """Probability, from 0 to 1, that the first candidate and no other is the shift."""
        if not self.candidates or self.reason is not None:
            return 0.0
        first = self.candidates[0]
        chance = math.exp(-min(first.evidence - _SIGNIFICANT, 700.0))
        for other in self.candidates[1:]:
            chance += math.erfc(_apart(first, other) / math.sqrt(2))
        return max(0.0, 1.0 - chance)

    @property
    def drift_px(self) -> float:
        """Largest significant difference between the shifts of two parts of the seam."""
        most = 0.0
        for one in self.drifts:
            for other in self.drifts:
                apart = math.hypot(one.dx - other.dx, one.dy - other.dy)
                if apart > 4 * math.hypot(one.sigma, other.sigma):
                    most = max(most, apart)
        return most


class ShiftEstimator(Protocol):
    """Scores every shift of a search window; its maxima become candidates.

    A score has no unit: candidates of all estimators are refined and judged alike. An estimator
    keeps nothing between calls and may be called from several threads.
    """

    def __call__(self, first: Image, second: Image, search: Search) -> NDArray[np.float32]:
        """Return scores, f32, shape `Search.shape`; higher is likelier, 0 or less is nothing."""
        ...


def _on(prepare: Callable[[Image], Image]) -> ShiftEstimator:
    def estimator(first: Image, second: Image, search: Search) -> NDArray[np.float32]:
        return masked_correlation(prepare(first), prepare(second), search)

    return estimator


def _smooth(image: Image) -> Image:
    return cv2.GaussianBlur(image, (0, 0), 1.5)


def _median(image: Image) -> Image:
    return cv2.medianBlur(np.asarray(image, np.float32), 5)


def _bilateral(image: Image) -> Image:
    return cv2.bilateralFilter(np.asarray(image, np.float32), 7, 3 * float(image.std()) / 2, 2.0)


def _edges(image: Image) -> Image:
    smooth = cv2.GaussianBlur(np.asarray(image, np.float32), (0, 0), 1.5)
    return cv2.magnitude(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1))


ESTIMATORS: dict[str, ShiftEstimator] = {
    "raw": masked_correlation,
    "smooth": _on(_smooth),
    "median": _on(_median),
    "bilateral": _on(_bilateral),
    "edges": _on(_edges),
    "phase": phase_correlation,
}
"""Estimators by name: correlation of the pixels, of filtered ones, and of phases."""


@dataclass(frozen=True)
class PairOptions:
    """How pairs are measured.

    Parameters
    ----------
    limit_x, limit_y : int
        How far from the plan a shift is searched, in pixels.
    min_overlap : int
        Least overlap along each axis, in pixels.
    candidates : int
        Kept of a pair at the most.
    estimators : tuple of str
        Names in `ESTIMATORS`. Others than the first found no pair more in simulations, and none
        that was wrong (`benchmarks/test_stitching.py`).
    network : ShiftEstimator, optional
        Another estimator beside them, called ``network``.

    Raises
    ------
    ArgumentError
        On an unknown estimator, or numbers out of range.
    """

    limit_x: int = 15
    limit_y: int = 15
    min_overlap: int = 4
    candidates: int = 9
    estimators: tuple[str, ...] = ("smooth",)
    network: ShiftEstimator | None = None

    def __post_init__(self) -> None:
        unknown = [name for name in self.estimators if name not in ESTIMATORS]
        if unknown or not self.estimators:
            raise ArgumentError(
                f"no estimator {', '.join(unknown)!r}; there are {', '.join(ESTIMATORS)}"
            )
        if min(self.limit_x, self.limit_y) < 1:
            raise ArgumentError("the search reaches at least 1 px")
        if self.min_overlap < 3:
            raise ArgumentError("the least overlap is 3 px or more")
        if self.candidates < 2:
            raise ArgumentError("keep two candidates or more: equal ones are told by the second")


def estimate_pair(
    first: Image, second: Image, plan: tuple[float, float], options: PairOptions
) -> PairShift:
    """Measure the shift between two neighbours.

    Every estimator proposes whole shifts; each is judged by the correlation of the two lightly
    blurred crops it implies, on as many independent pixels as they hold, and refined by
    Gauss-Newton. No answer is a guess: where content is too little, the best shift lies at the
    limit, or a second one fits equally well, the pair is undefined and says why.

    Parameters
    ----------
    first, second : ndarray, shape (H, W)
        Of one size and dtype.
    plan : (float, float)
        Planned origin (dx, dy) of the second in the first, in pixels.
    options : PairOptions
    """
    height, width = first.shape
    search = Search(
        round(plan[0]), round(plan[1]), options.limit_x, options.limit_y, height, width,
        options.min_overlap,
    )  # fmt: skip
    reach = [side - abs(at) + limit for side, at, limit in zip(
        (width, height), (search.x, search.y), (options.limit_x, options.limit_y), strict=True
    )]  # fmt: skip
    if min(reach) < options.min_overlap:
        return PairShift(reason=Reason.OVERLAP)
    first, second = (np.ascontiguousarray(tile, np.float32) for tile in (first, second))
    proposed = _proposed(first, second, search, options)
    judged = _judged(first, second, search, proposed)[: options.candidates]
    if not judged:
        return PairShift(reason=Reason.CONTENT)
    first_fine = _refined(first, second, search, judged[0])
    kept = [first_fine or judged[0]]
    for one in judged[1:]:
        rival: Candidate | None = one
        if _apart(judged[0], one) < 2 * _EQUAL_SIGMAS:
            # What leads elsewhere lies on the flank of a peak, and is none itself.
            rival = _refined(first, second, search, one)
        if rival is not None:
            kept.append(rival)
    found = tuple(dict.fromkeys(proposed[round(judged[0].dx), round(judged[0].dy)]))
    shifts = _without_doubles(kept)
    reason = _undefined(shifts, search, determined=first_fine is not None)
    return PairShift(shifts, reason, (), found)


def seam_drift(first: Image, second: Image, found: PairShift, options: PairOptions) -> PairShift:
    """Return a pair with the drift along its seam, measured where the shift is defined."""
    best = found.best
    if best is None:
        return found
    height, width = first.shape
    search = Search(
        round(best.dx), round(best.dy), options.limit_x, options.limit_y, height, width,
        options.min_overlap,
    )  # fmt: skip
    whole = Refined(
        best.dx, best.dy, best.gain, 0.0, best.covariance, best.bound, best.residual,
        best.correlated,
    )  # fmt: skip
    one, other = (np.ascontiguousarray(tile, np.float32) for tile in (first, second))
    return replace(found, drifts=tuple(drift_along(one, other, search, whole)))


def _proposed(
    first: Image, second: Image, search: Search, options: PairOptions
) -> dict[tuple[int, int], list[str]]:
    """Return shifts that are worth judging, with the estimators that propose each."""
    proposed: dict[tuple[int, int], list[str]] = {}
    estimators = {name: ESTIMATORS[name] for name in options.estimators}
    if options.network is not None:
        estimators["network"] = options.network
    for name, estimator in estimators.items():
        score = estimator(first, second, search)
        if name != "phase":
            score = _weighed(score, search)
        places = peaks(score, options.candidates)
        for place in places:
            if score[place] < _RIVAL_SHARE * score[places[0]]:
                break
            shift = search.shift(*place)
            near = next((one for one in proposed if _near(one, shift)), shift)
            proposed.setdefault(near, []).append(name)
    return proposed


def _weighed(score: NDArray[np.float32], search: Search) -> NDArray[np.float32]:
    """Return correlations as evidence, up to a factor: small overlaps correlate by chance."""
    dy = np.abs(search.y - search.limit_y + np.arange(search.shape[0]))
    dx = np.abs(search.x - search.limit_x + np.arange(search.shape[1]))
    pixels = np.outer(np.maximum(0, search.height - dy), np.maximum(0, search.width - dx))
    kept = np.clip(score.astype(np.float64), 0, 1 - 1e-6)
    return np.asarray(-np.log1p(-kept * kept) * pixels, np.float32)


def _near(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return max(abs(one[0] - other[0]), abs(one[1] - other[1])) <= 1


def _judged(
    first: Image, second: Image, search: Search, shifts: Iterable[tuple[int, int]]
) -> list[Candidate]:
    """Return shifts of whole pixels with their evidence, the most likely first."""
    found = []
    for dx, dy in shifts:
        crops = search.overlap(dx, dy).crops(first, second)
        blurs = [min(1.5, side / 8) for side in crops[0].shape]
        smooth = [
            cv2.GaussianBlur(
                np.ascontiguousarray(crop), (0, 0), blurs[1], sigmaY=blurs[0],
                borderType=cv2.BORDER_REFLECT,
            )
            for crop in crops
        ]  # fmt: skip
        correlated = correlation(*smooth)
        pixels = effective_pixels(*smooth)
        unknown = np.full((2, 2), np.nan)
        found.append(
            Candidate(
                float(dx), float(dy), unknown, unknown, evidence(correlated, pixels), correlated,
                pixels=pixels,
            )
        )  # fmt: skip
    kept: list[Candidate] = []
    for one in sorted(found, key=lambda one: -one.evidence):
        if kept and one.evidence < _RIVAL_SHARE * kept[0].evidence:
            break  # as chance correlates
        # What another estimator proposes on the flank of a peak is no rival of it.
        if all(max(abs(one.dx - o.dx), abs(one.dy - o.dy)) > PEAK_RADIUS_PX for o in kept):
            kept.append(one)
    return kept


def _refined(first: Image, second: Image, search: Search, rough: Candidate) -> Candidate | None:
    """Return a candidate to a fraction of a pixel; None where that is not determined."""
    if rough.evidence < _SIGNIFICANT / 2:
        return None
    fine = refine(first, second, search, round(rough.dx), round(rough.dy))
    if fine is None:
        return None
    correlated = max(fine.correlated, rough.correlated)
    return replace(
        rough,
        dx=fine.dx,
        dy=fine.dy,
        covariance=fine.covariance,
        bound=fine.bound,
        residual=fine.residual,
        gain=fine.gain,
        correlated=correlated,
        evidence=evidence(correlated, rough.pixels),
    )


def _without_doubles(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    kept: list[Candidate] = []
    # The first stays the first: it was refined, the others may not have been.
    for one in [candidates[0], *sorted(candidates[1:], key=lambda one: -one.evidence)]:
        if all(math.hypot(one.dx - other.dx, one.dy - other.dy) > 1.5 for other in kept):
            kept.append(one)
    return tuple(sorted(kept, key=lambda one: -one.evidence))


def _apart(first: Candidate, other: Candidate) -> float:
    """Return how many standard deviations lie between two correlations (Fisher's z)."""
    most = 1 - 1e-9
    z = [math.atanh(min(max(one.correlated, 0.0), most)) for one in (first, other)]
    spread = math.sqrt(sum(1 / max(one.pixels - 3, 1.0) for one in (first, other)))
    return (z[0] - z[1]) / spread


def _undefined(shifts: Sequence[Candidate], search: Search, *, determined: bool) -> Reason | None:
    first = shifts[0]
    window = search.limit_x * 2 + 1, search.limit_y * 2 + 1
    if first.evidence < _SIGNIFICANT + math.log(window[0] * window[1]):
        return Reason.CONTENT
    for other in shifts[1:]:
        unexplained = (1 - other.correlated**2) / max(1 - first.correlated**2, 1e-12)
        alike = other.correlated > _EQUAL_SHARE * first.correlated and unexplained < _EQUAL_RATIO
        if alike or _apart(first, other) < _EQUAL_SIGMAS:
            return Reason.EQUAL
    if search.is_at_limit(round(first.dx), round(first.dy)):
        return Reason.LIMIT
    if not determined or not np.isfinite(first.covariance).all() or first.sigma > _MOST_SIGMA_PX:
        return Reason.CONTENT
    return None
