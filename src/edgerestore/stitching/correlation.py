"""Correlation of two overlapping tiles over all shifts of a search window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..imaging.arrays import Image

__all__ = [
    "PEAK_RADIUS_PX",
    "Overlap",
    "Search",
    "correlation",
    "effective_pixels",
    "evidence",
    "masked_correlation",
    "peaks",
    "phase_correlation",
]

PEAK_RADIUS_PX = 3
"""Maxima no farther apart are one peak."""

Surface = NDArray[np.float32]

_MOST = 1 - 1e-9  # a correlation of 1 has evidence without limit
_SAMPLE_PX = 256  # side of what is enough to find it
_LAGS_PX = 24  # of the content's own correlation


@dataclass(frozen=True)
class Search:
    """Shifts of the second tile that are searched: its origin in the first tile, in pixels.

    Parameters
    ----------
    x, y : int
        Where the middle of the window lies.
    limit_x, limit_y : int
        How far the window reaches from there.
    height, width : int
        Of both tiles.
    min_overlap : int
        Least overlap along each axis.
    """

    x: int
    y: int
    limit_x: int
    limit_y: int
    height: int
    width: int
    min_overlap: int = 4

    @property
    def shape(self) -> tuple[int, int]:
        """Shifts along y and x."""
        return 2 * self.limit_y + 1, 2 * self.limit_x + 1

    def shift(self, row: int, column: int) -> tuple[int, int]:
        """Return the shift (dx, dy) of a place in the surface."""
        return self.x - self.limit_x + column, self.y - self.limit_y + row

    def overlap(self, dx: int, dy: int) -> Overlap:
        """Return what two tiles share at a shift."""
        return Overlap(
            max(0, dy),
            max(0, dx),
            max(0, min(self.height, self.height + dy) - max(0, dy)),
            max(0, min(self.width, self.width + dx) - max(0, dx)),
            dx,
            dy,
        )

    def is_at_limit(self, dx: int, dy: int) -> bool:
        """Return whether a shift lies on the border of the window."""
        return abs(dx - self.x) >= self.limit_x or abs(dy - self.y) >= self.limit_y


@dataclass(frozen=True)
class Overlap:
    """Rectangle that two tiles share, in the first one's pixels, at a shift of whole pixels."""

    top: int
    left: int
    height: int
    width: int
    dx: int
    dy: int

    def crops(self, first: Image, second: Image) -> tuple[Image, Image]:
        """Return the shared rectangle as either tile has it."""
        top, left = self.top - self.dy, self.left - self.dx
        return (
            first[self.top : self.top + self.height, self.left : self.left + self.width],
            second[top : top + self.height, left : left + self.width],
        )


@dataclass(frozen=True)
class _Window:
    """Parts of both tiles that any shift of the search lets meet, and their spectra."""

    spectra: tuple[NDArray[Any], NDArray[Any]]
    parts: tuple[NDArray[np.float64], NDArray[np.float64]]
    size: tuple[int, int]
    first: tuple[int, int]  # (y, x) of the least shift, between the parts' origins
    starts: tuple[tuple[int, int], tuple[int, int]]  # of the parts, (y, x)


def masked_correlation(first: Image, second: Image, search: Search) -> Surface:
    """Return the normalised cross-correlation over every shift, each on its own overlap alone.

    Means and variances are those of the pixels that two tiles share at that shift, so no shift
    is favoured by bright borders. The masks are the tiles' rectangles, whose sums come from
    integral images; products come from the spectra (Padfield, Masked object registration in the
    Fourier domain, IEEE TIP 2012).

    Parameters
    ----------
    first, second : ndarray, f32, shape (H, W)
    search : Search

    Returns
    -------
    ndarray, f32, shape `Search.shape`
        In [-1, 1]; 0 where the overlap is too small or holds no content.
    """
    window = _window(first, second, search)
    products = _correlated(window, window.spectra[0] * np.conj(window.spectra[1]), search)
    sums = [_overlap_sums(part, window, search, at) for at, part in enumerate(window.parts)]
    squares = [
        _overlap_sums(part * part, window, search, at) for at, part in enumerate(window.parts)
    ]
    count = _counts(search)
    with np.errstate(divide="ignore", invalid="ignore"):
        covariance = products - sums[0] * sums[1] / count
        variances = [square - one * one / count for one, square in zip(sums, squares, strict=True)]
        found = covariance / np.sqrt(variances[0] * variances[1])
    # Flat content leaves nothing but what rounding leaves.
    floor = [1e-6 * max(float(part.var()), 1e-12) * count for part in window.parts]
    usable = (count > 0) & (variances[0] > floor[0]) & (variances[1] > floor[1])
    return np.where(usable, np.clip(found, -1, 1), 0).astype(np.float32)


def phase_correlation(first: Image, second: Image, search: Search) -> Surface:
    """Return the phase correlation over every shift (Kuglin and Hines, 1975).

    All frequencies count alike, so that noise has the weight of content.

    Returns
    -------
    ndarray, f32, shape `Search.shape`
        1 where the second is a shifted first.
    """
    window = _window(first, second, search)
    cross = window.spectra[0] * np.conj(window.spectra[1])
    cross /= np.maximum(np.abs(cross), np.finfo(np.float32).tiny)
    surface = _correlated(window, cross, search)
    return np.where(_counts(search) > 0, surface, 0).astype(np.float32)


def _window(first: Image, second: Image, search: Search) -> _Window:
    from scipy import fft

    parts, starts = [], []
    low = search.y - search.limit_y, search.x - search.limit_x
    high = search.y + search.limit_y, search.x + search.limit_x
    for at, tile in enumerate((first, second)):
        rows, columns = (
            slice(
                max(0, least if at == 0 else -most), min(side, side + (most if at == 0 else -least))
            )
            for least, most, side in zip(low, high, tile.shape, strict=True)
        )
        part = np.asarray(tile[rows, columns], np.float64)
        parts.append(part - part.mean() if part.size else part)
        starts.append((rows.start, columns.start))
    least = tuple(shift + starts[1][axis] - starts[0][axis] for axis, shift in enumerate(low))
    size = tuple(
        fft.next_fast_len(
            max(
                parts[1].shape[axis] + max(0, least[axis] + search.shape[axis] - 1),
                parts[0].shape[axis] + max(0, -least[axis]),
            ),
            real=True,
        )
        for axis in range(2)
    )
    spectra = tuple(fft.rfft2(part.astype(np.float32), size) for part in parts)
    return _Window(
        (spectra[0], spectra[1]),
        (parts[0], parts[1]),
        (size[0], size[1]),
        (least[0], least[1]),
        (starts[0], starts[1]),
    )


def _correlated(window: _Window, cross: NDArray[Any], search: Search) -> NDArray[np.float64]:
    from scipy import fft

    whole = fft.irfft2(cross, window.size)
    rows, columns = (
        (start + np.arange(count)) % side
        for start, count, side in zip(window.first, search.shape, window.size, strict=True)
    )
    return np.asarray(whole[np.ix_(rows, columns)], np.float64)


def _edges(search: Search) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Return start and end of the overlap in the first tile, along y and x, for every shift."""
    dy = search.y - search.limit_y + np.arange(search.shape[0])
    dx = search.x - search.limit_x + np.arange(search.shape[1])
    return tuple(  # type: ignore[return-value]
        (np.maximum(0, shift), np.minimum(side, side + shift))
        for shift, side in ((dy, search.height), (dx, search.width))
    )


def _counts(search: Search) -> NDArray[np.float64]:
    """Return the pixels of the overlap at every shift; 0 where they are too few."""
    (top, bottom), (left, right) = _edges(search)
    tall, wide = bottom - top, right - left
    tall, wide = (np.where(side >= search.min_overlap, side, 0) for side in (tall, wide))
    return np.outer(tall, wide).astype(np.float64)


def _overlap_sums(
    part: NDArray[np.float64], window: _Window, search: Search, which: int
) -> NDArray[np.float64]:
    """Return the sum of a part over the overlap at every shift."""
    import cv2

    integral = cv2.integral(part) if part.size else np.zeros((part.shape[0] + 1, part.shape[1] + 1))
    ends = []
    for axis, (start, end) in enumerate(_edges(search)):
        shift = (search.y - search.limit_y, search.x - search.limit_x)[axis]
        moved = (shift + np.arange(search.shape[axis])) * which + window.starts[which][axis]
        ends.append(
            [np.clip(one - moved, 0, part.shape[axis]) for one in (start, np.maximum(start, end))]
        )
    (top, bottom), (left, right) = ends
    return np.asarray(
        integral[np.ix_(bottom, right)]
        - integral[np.ix_(top, right)]
        - integral[np.ix_(bottom, left)]
        + integral[np.ix_(top, left)]
    )


def correlation(first: Image, second: Image) -> float:
    """Return the normalised correlation of two crops; 0 where one has no content."""
    one, other = (np.asarray(image, np.float64) - float(image.mean()) for image in (first, second))
    size = float(np.sqrt((one * one).sum() * (other * other).sum()))
    return float((one * other).sum()) / size if size > 0 else 0.0


def effective_pixels(first: Image, second: Image) -> float:
    """Return how many independent pixels a correlation of two crops stands on.

    Neighbouring pixels are alike. The variance of the correlation of two unrelated fields is
    sum(rho1 rho2) / n, with their own correlations over all lags (Bartlett, 1935).
    """
    from scipy import fft

    own = []
    for image in (first, second):
        starts = [max(0, (side - _SAMPLE_PX) // 2) for side in image.shape]
        image = image[tuple(slice(start, start + _SAMPLE_PX) for start in starts)]
        one = np.asarray(image, np.float32) - np.float32(image.mean())
        size = [fft.next_fast_len(side + min(side, _LAGS_PX), real=True) for side in one.shape]
        power = np.abs(fft.rfft2(one, size)) ** 2
        lags = [min(side - 1, _LAGS_PX) for side in one.shape]
        rows, columns = (np.arange(-lag, lag + 1) for lag in lags)
        found = fft.irfft2(power, size)[np.ix_(rows, columns)]
        most = found[lags[0], lags[1]]
        if most <= 0:
            return 0.0
        own.append(found / most)
    return float(first.size / max(1.0, float((own[0] * own[1]).sum())))


def evidence(correlated: float, pixels: float) -> float:
    """Return the evidence for a shift: log-likelihood of related against unrelated content.

    Parameters
    ----------
    correlated : float
        Correlation on the overlap.
    pixels : float
        Independent ones.

    Returns
    -------
    float
        -(n / 2) log(1 - r^2), in nats; 0 where the correlation is negative. Small overlaps need
        high correlations.
    """
    kept = min(max(correlated, 0.0), _MOST)
    return float(-0.5 * pixels * np.log1p(-kept * kept))


def peaks(
    score: NDArray[np.floating], most: int, radius: int = PEAK_RADIUS_PX
) -> list[tuple[int, int]]:
    """Return rows and columns of the highest local maxima above 0, the highest first."""
    import cv2

    kept: list[tuple[int, int]] = []
    score = np.asarray(score, np.float32)
    highest = cv2.dilate(score, np.ones((3, 3), np.uint8))
    rows, columns = np.nonzero((score >= highest) & (score > 0))
    for at in np.argsort(-score[rows, columns], kind="stable"):
        row, column = int(rows[at]), int(columns[at])
        if all(max(abs(row - r), abs(column - c)) > radius for r, c in kept):
            kept.append((row, column))
            if len(kept) == most:
                break
    return kept
