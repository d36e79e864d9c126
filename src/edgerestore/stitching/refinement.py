"""Shifts finer than a pixel, by Gauss-Newton, with the covariance that the content allows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..imaging.arrays import Image
from .correlation import Search, correlation

__all__ = ["Drift", "Refined", "cramer_rao_bound", "drift_along", "refine"]

Matrix = NDArray[np.float64]

_BLUR_PX = 1.5
_CURVED_PX = 32  # a longer side may be lit along a curve
_ITERATIONS, _RECENTRED = 8, 4
_STILL_PX = 1e-4
_HUBER = 2.5  # residuals in standard deviations
_QUANTUM = 1 / 12  # variance of rounding to whole levels


@dataclass(frozen=True)
class Refined:
    """Shift of the second tile in the first, to a fraction of a pixel.

    Parameters
    ----------
    dx, dy : float
        Origin of the second tile in the first one's pixels.
    gain, offset : float
        first = gain * second + offset; slow changes of lighting are fitted beside them.
    covariance : ndarray, shape (2, 2)
        Of (dx, dy) as this method reaches it, in square pixels.
    bound : ndarray, shape (2, 2)
        Cramer-Rao bound of the same noise and content.
    residual : float
        Standard deviation of the difference of the two blurred crops, in levels.
    correlated : float
        Correlation of the two blurred crops at the shift.
    """

    dx: float
    dy: float
    gain: float
    offset: float
    covariance: Matrix
    bound: Matrix
    residual: float
    correlated: float


@dataclass(frozen=True)
class Drift:
    """Shift of a part of a seam.

    Parameters
    ----------
    at : float
        Its middle along the seam, in the first tile's pixels.
    dx, dy : float
        Less the shift of the whole seam.
    sigma : float
        Standard deviation of either, in pixels.
    """

    at: float
    dx: float
    dy: float
    sigma: float


def cramer_rao_bound(clean: Image, sigma: float) -> Matrix:
    """Return the least covariance of a shift between two equally noisy pictures.

    2 sigma^2 [sum grad I grad I^T]^-1 (Robinson and Milanfar, Fundamental performance limits in
    image registration, IEEE TIP 2004).

    Parameters
    ----------
    clean : ndarray, shape (H, W)
        The overlap without noise.
    sigma : float
        Standard deviation of the noise of either picture.
    """
    down, across = _slopes(np.asarray(clean, np.float64))
    information = _information(across, down, across, down)
    return np.asarray(2 * sigma**2 * np.linalg.inv(information))


def refine(
    first: Image, second: Image, search: Search, dx: int, dy: int, *, blur_px: float = _BLUR_PX
) -> Refined | None:
    """Refine a shift of whole pixels.

    Both crops are blurred lightly and matched with a gain, an offset and a slow change of
    lighting; shifted blurring kernels stand for interpolation, so there is none of its bias.
    Gradients are means of both crops', and residuals are weighted by Huber's function (Pham et
    al., Performance of optimal registration estimators, 2005: iterative gradient methods reach
    the bound).

    Parameters
    ----------
    first, second : ndarray, f32, shape (H, W)
    search : Search
        The overlap stays at least its ``min_overlap``.
    dx, dy : int
        Shift to begin with, within two or three pixels.
    blur_px : float
        Less where the overlap is narrow.

    Returns
    -------
    Refined or None
        None where the content does not determine the shift, or leads away from it.
    """
    at_x, at_y = dx, dy
    for _ in range(_RECENTRED):
        overlap = search.overlap(at_x, at_y)
        if min(overlap.height, overlap.width) < search.min_overlap:
            return None
        fit = _Fit(*overlap.crops(first, second), blur_px)
        moved = fit.solve()
        if moved is None:
            return None
        step_x, step_y = round(moved[0]), round(moved[1])
        if step_x == 0 and step_y == 0:
            break
        at_x, at_y = at_x + step_x, at_y + step_y
        if max(abs(at_x - dx), abs(at_y - dy)) > 3:
            return None
    else:
        return None
    covariances = fit.covariances()
    if covariances is None:
        return None
    return Refined(
        at_x + fit.x, at_y + fit.y, fit.gain, fit.offset, *covariances, fit.residual, fit.correlated
    )


class _Fit:
    """Least squares between two crops of the same size."""

    def __init__(self, first: Image, second: Image, blur_px: float) -> None:
        self._sides = first.shape
        # A narrow overlap cannot be blurred as much as a wide one.
        self._blur = [min(blur_px, side / 8) for side in self._sides]
        margins = [
            min(math.ceil(3 * b), side // 4)
            for b, side in zip(self._blur, self._sides, strict=True)
        ]
        self._inner = tuple(
            slice(margin, side - margin) for margin, side in zip(margins, self._sides, strict=True)
        )
        self._first, self._second = (_centred(one) for one in (first, second))
        self._still = self._blurred(self._first, 0.0, 0.0)
        self._lighting = _lighting(*self._still[0].shape)
        self.x = self.y = self.offset = self.residual = 0.0
        self.gain, self.correlated = 1.0, 0.0
        self._moving = self._still

    def solve(self) -> tuple[float, float] | None:
        """Iterate; return the shift that is left, None where it is not determined."""
        still, across, down = (one.ravel() for one in self._still)
        light = len(self._lighting)
        columns = np.empty((3 + light, still.size), np.float32)
        columns[3:] = self._lighting
        error, lit = still, np.zeros(light)
        for turn in range(_ITERATIONS):
            self._moving = self._blurred(self._second, self.x, self.y)
            moving, m_across, m_down = (one.ravel() for one in self._moving)
            error = still - self.gain * moving - np.float32(lit) @ self._lighting
            columns[0] = -0.5 * (across + self.gain * m_across)
            columns[1] = -0.5 * (down + self.gain * m_down)
            columns[2] = moving
            scale = 1.4826 * float(np.median(np.abs(error[::7]))) if turn else 0.0
            weighted = columns
            if scale > 0:
                weighted = columns * np.minimum(
                    1.0, _HUBER * scale / np.maximum(np.abs(error), 1e-12)
                )
            normal = np.asarray(weighted @ columns.T, np.float64)
            size = np.sqrt(np.maximum(np.diag(normal), 1e-30))
            scaled = normal / np.outer(size, size)
            if np.linalg.eigvalsh(scaled)[0] < 1e-7:
                return None
            step = np.linalg.solve(scaled, np.asarray(weighted @ error, np.float64) / size) / size
            self.x, self.y = self.x + float(step[0]), self.y + float(step[1])
            self.gain, lit = self.gain + float(step[2]), lit + step[3:]
            if not (math.isfinite(self.x) and math.isfinite(self.y)) or self.gain <= 0:
                return None
            if max(abs(self.x), abs(self.y)) > 1.5:  # leave it to another crop
                return self._limited()
            if max(abs(step[0]), abs(step[1])) < _STILL_PX:
                break
        self.offset, self.residual = float(lit[0]), float(error.std())
        unlit = still - np.float32(lit) @ self._lighting
        self.correlated = correlation(unlit, moving)
        return self.x, self.y

    def _limited(self) -> tuple[float, float]:
        return max(-2.0, min(2.0, self.x)), max(-2.0, min(2.0, self.y))

    def covariances(self) -> tuple[Matrix, Matrix] | None:
        """Return the covariance of this estimate, and the bound."""
        _, across, down = self._still
        _, m_across, m_down = self._moving
        # Products of the two crops' gradients: their noise is independent and adds nothing.
        information = _information(across, down, m_across * self.gain, m_down * self.gain)
        smooth = [
            cv2.GaussianBlur(
                one, (0, 0), math.sqrt(2) * self._blur[1], sigmaY=math.sqrt(2) * self._blur[0]
            )
            for one in (m_across * self.gain, m_down * self.gain)
        ]
        middle = _information(across, down, *smooth)
        # What the blur leaves of white noise.
        passed = np.prod([float((_kernel(b, 0.0)[0] ** 2).sum()) for b in self._blur])
        noise = max(self.residual**2 / float(passed), _QUANTUM * (1 + self.gain**2))
        try:
            inverse = np.linalg.inv(information)
            if np.linalg.eigvalsh(information)[0] <= 0:
                return None
            covariance = noise * inverse @ middle @ inverse
            down_1, across_1 = _slopes(self._first[self._inner])
            down_2, across_2 = _slopes(self._second[self._inner])
            raw = _information(across_1, down_1, across_2 * self.gain, down_2 * self.gain)
            # Sharper content never holds less than the blurred one.
            bound = noise * np.linalg.inv(raw) if np.linalg.eigvalsh(raw)[0] > 0 else covariance
        except np.linalg.LinAlgError:
            return None
        covariance = (covariance + covariance.T) / 2
        if not np.isfinite(covariance).all() or np.linalg.eigvalsh(covariance)[0] <= 0:
            return None
        return covariance, (bound + bound.T) / 2

    def _blurred(self, image: Image, x: float, y: float) -> tuple[Image, Image, Image]:
        """Return an image moved by (x, y) and blurred, with its gradients; without the margins."""
        (flat_x, slope_x), (flat_y, slope_y) = _kernel(self._blur[1], x), _kernel(self._blur[0], y)
        made = [
            cv2.sepFilter2D(image, cv2.CV_32F, kx, ky, borderType=cv2.BORDER_REFLECT)[self._inner]
            for kx, ky in ((flat_x, flat_y), (slope_x, flat_y), (flat_x, slope_y))
        ]
        return made[0], made[1], made[2]


def _kernel(blur_px: float, moved: float) -> tuple[Matrix, Matrix]:
    """Return a Gaussian that also moves by a fraction, and its slope."""
    reach = math.ceil(4 * blur_px) + 2
    place = np.arange(-reach, reach + 1) + moved
    flat = np.exp(-0.5 * (place / blur_px) ** 2)
    flat /= flat.sum()
    return flat, place / blur_px**2 * flat


def _centred(image: Image) -> Image:
    return np.ascontiguousarray(image, np.float32) - np.float32(image.mean())


def _lighting(height: int, width: int) -> Image:
    """Return what lighting may add over a crop, a row for each shape: even, tilted, curved."""
    y, x = (np.linspace(-1, 1, side, dtype=np.float32) for side in (height, width))
    rows, columns = np.meshgrid(y, x, indexing="ij")
    shapes = [np.ones_like(rows), rows, columns]
    shapes += [one * one for one, side in ((rows, height), (columns, width)) if side > _CURVED_PX]
    return np.stack([one.ravel() for one in shapes])


def _slopes(image: Image) -> tuple[Image, Image]:
    down, across = (np.gradient(image, axis=axis) for axis in (0, 1))
    return np.asarray(down), np.asarray(across)


def _information(across: Image, down: Image, across_2: Image, down_2: Image) -> Matrix:
    def summed(one: Image, other: Image) -> float:
        return float(np.vdot(one.astype(np.float64), other.astype(np.float64)))

    mixed = 0.5 * (summed(across, down_2) + summed(down, across_2))
    return np.array([[summed(across, across_2), mixed], [mixed, summed(down, down_2)]])


def drift_along(
    first: Image,
    second: Image,
    search: Search,
    found: Refined,
    *,
    least_px: int = 48,
    most: int = 12,
) -> list[Drift]:
    """Measure the shift of parts along a seam, less that of the whole.

    Parameters
    ----------
    first, second : ndarray, f32, shape (H, W)
    search : Search
    found : Refined
        Of the whole seam.
    least_px : int
        Length of a part at least.
    most : int
        Parts at the most.

    Returns
    -------
    list of Drift
        Parts without enough content are left out.
    """
    dx, dy = round(found.dx), round(found.dy)
    overlap = search.overlap(dx, dy)
    one, other = overlap.crops(first, second)
    axis = int(overlap.width > overlap.height)
    length = one.shape[axis]
    count = max(1, min(most, length // least_px))
    drifts = []
    for at in range(count):
        span = slice(length * at // count, length * (at + 1) // count)
        part = (span, slice(None)) if axis == 0 else (slice(None), span)
        left, right = np.ascontiguousarray(one[part]), np.ascontiguousarray(other[part])
        own = Search(0, 0, 3, 3, left.shape[0], left.shape[1], search.min_overlap)
        fine = refine(left, right, own, 0, 0)
        if fine is None:
            continue
        sigma = math.sqrt(max(0.0, float(np.trace(fine.covariance))) / 2)
        if sigma > 0.5:
            continue
        start = (overlap.top, overlap.left)[axis]
        drifts.append(
            Drift(
                start + (span.start + span.stop) / 2,
                dx + fine.dx - found.dx,
                dy + fine.dy - found.dy,
                sigma,
            )
        )
    return drifts
