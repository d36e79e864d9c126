"""Simulated tiles with known truth: what an electron microscope does to a mosaic."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from ..imaging.arrays import Image
from .refinement import cramer_rao_bound

__all__ = ["Pair", "PairSimulator", "Scene", "SimulatedMosaic", "TileFaults"]

_REACH = 12  # of the interpolation, in pixels
_MARGIN = 16


@dataclass(frozen=True)
class TileFaults:
    """What goes wrong in a tile; nothing by default.

    Parameters
    ----------
    noise : float
        Standard deviation, in levels.
    defocus_px : float
        Largest blur, drawn for each tile.
    row_steps : int
        Steps of brightness along the rows of a tile, of up to ``row_step_levels``.
    row_step_levels : float
    row_offset_levels : float
        Large offset of a whole row of the grid: charging between two rows.
    gain : float
        Largest relative change of contrast of a tile.
    drift_px : float
        Largest displacement of the last line against the first: the sample moves in a scan.
    distortion_px : float
        Largest displacement at the left and right edge of a tile.
    defects : int
        Dark spots in a tile, of its own.
    blank : float
        Share of tiles that show nothing but noise.
    """

    noise: float = 0.0
    defocus_px: float = 0.0
    row_steps: int = 0
    row_step_levels: float = 12.0
    row_offset_levels: float = 0.0
    gain: float = 0.0
    drift_px: float = 0.0
    distortion_px: float = 0.0
    defects: int = 0
    blank: float = 0.0


@dataclass(frozen=True)
class Scene:
    """Endless specimen: the same wherever and however often a part of it is seen.

    Parameters
    ----------
    seed : int
    grain_px : float
        Of the finest texture; from 1 on it is resolved by the pixels.
    period_px : float
        Of a periodic structure (a chip); 0 for none.
    texture : float
        Standard deviation of the texture, in levels.
    """

    seed: int
    grain_px: float = 1.2
    period_px: float = 0.0
    texture: float = 30.0

    _BLOCK = 256

    def part(self, top: int, left: int, height: int, width: int) -> Image:
        """Return a part of it, f32 levels around 128, shape (height, width)."""
        margin = int(np.ceil(4 * 8 * self.grain_px))
        noise = self._noise(top - margin, left - margin, height + 2 * margin, width + 2 * margin)
        made = np.zeros_like(noise)
        for grain, share in ((1.0, 0.6), (3.0, 0.6), (8.0, 0.5)):
            sigma = grain * self.grain_px
            blurred = cv2.GaussianBlur(noise, (0, 0), sigma)
            made += np.float32(share * sigma * np.sqrt(4 * np.pi)) * blurred  # of variance share^2
        made = made[margin : margin + height, margin : margin + width] * np.float32(self.texture)
        if self.period_px:
            y = (top + np.arange(height)) * (2 * np.pi / self.period_px)
            x = (left + np.arange(width)) * (2 * np.pi / self.period_px)
            made += (40 * np.add.outer(np.cos(y), np.cos(x)) / 1.4).astype(np.float32)
        return made + np.float32(128)

    def _noise(self, top: int, left: int, height: int, width: int) -> Image:
        """Return white noise that depends on the place alone."""
        block = self._BLOCK
        made = np.empty((height, width), np.float32)
        for row in range(top // block, (top + height - 1) // block + 1):
            for column in range(left // block, (left + width - 1) // block + 1):
                random = np.random.default_rng([self.seed, row % 2**32, column % 2**32])
                cell = random.standard_normal((block, block), np.float32)
                y, x = row * block - top, column * block - left
                y0, x0, y1, x1 = max(0, y), max(0, x), min(height, y + block), min(width, x + block)
                made[y0:y1, x0:x1] = cell[y0 - y : y1 - y, x0 - x : x1 - x]
        return made

    def at(self, y: float, x: float, height: int, width: int) -> Image:
        """Return a part whose origin lies between pixels, by a windowed sinc."""
        top, left = int(np.floor(y)), int(np.floor(x))
        whole = self.part(top - _MARGIN, left - _MARGIN, height + 2 * _MARGIN, width + 2 * _MARGIN)
        moved = cv2.sepFilter2D(whole, cv2.CV_32F, _sinc(x - left), _sinc(y - top))
        return moved[_MARGIN : _MARGIN + height, _MARGIN : _MARGIN + width]


def _sinc(fraction: float) -> NDArray[np.float64]:
    place = np.arange(-_REACH, _REACH + 1) - fraction
    kernel = np.sinc(place) * np.kaiser(2 * _REACH + 1, 6.0)
    return np.asarray(kernel / kernel.sum())


@dataclass(frozen=True)
class Pair:
    """Two overlapping tiles and the truth on them.

    Parameters
    ----------
    first, second : ndarray, u8, shape (H, W)
    dx, dy : float
        Origin of the second in the first.
    bound : ndarray, shape (2, 2)
        Cramer-Rao bound of the overlap at this noise.
    """

    first: Image
    second: Image
    dx: float
    dy: float
    bound: NDArray[np.float64]


@dataclass(frozen=True)
class PairSimulator:
    """Pairs of neighbours of a row, each of a scene of its own.

    Parameters
    ----------
    seed : int
    height, width : int
        Of a tile.
    overlap : int
        Planned, in pixels.
    search_px : float
        Largest error of the plan, drawn evenly, along either axis.
    noise : float
        Standard deviation, in levels.
    period_px : float
        Of a periodic structure without any other content; 0 for texture.
    """

    seed: int
    height: int = 600
    width: int = 200
    overlap: int = 150
    search_px: float = 12.0
    noise: float = 5.0
    period_px: float = 0.0

    def pair(self, index: int) -> Pair:
        """Return one of the pairs."""
        random = np.random.default_rng([self.seed, index])
        scene = Scene(
            int(random.integers(2**31)),
            grain_px=float(random.uniform(1.0, 2.0)),
            period_px=self.period_px,
            texture=0.0 if self.period_px else float(random.uniform(20, 35)),
        )
        dx = self.width - self.overlap + float(random.uniform(-self.search_px, self.search_px))
        dy = float(random.uniform(-self.search_px, self.search_px))
        clean = scene.part(0, 0, self.height, self.width)
        moved = scene.at(dy, dx, self.height, self.width)
        first, second = (
            _levels(one + random.normal(0, self.noise, one.shape)) for one in (clean, moved)
        )
        shared = clean[max(0, int(dy)) : self.height + min(0, int(dy)), int(dx) :]
        sigma = float(np.hypot(self.noise, np.sqrt(1 / 12)))
        if self.period_px:
            return Pair(first, second, dx, dy, np.zeros((2, 2)))
        return Pair(first, second, dx, dy, cramer_rao_bound(shared, sigma))


def _levels(image: Image) -> Image:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class SimulatedMosaic:
    """Grid of tiles of one scene, made one by one when they are asked for.

    Parameters
    ----------
    scene : Scene
    rows, columns : int
    height, width : int
        Of a tile.
    overlap : int
        Planned, in pixels.
    stage_px : float
        Largest error of the stage, drawn evenly for each tile, along either axis.
    whole : bool
        True positions lie on whole pixels.
    faults : TileFaults
    seed : int
    """

    scene: Scene
    rows: int
    columns: int
    height: int = 256
    width: int = 256
    overlap: int = 40
    stage_px: float = 5.0
    whole: bool = False
    faults: TileFaults = TileFaults()
    seed: int = 0

    @cached_property
    def planned(self) -> NDArray[np.float64]:
        """Planned origins (x, y), shape (rows, columns, 2)."""
        y, x = np.mgrid[: self.rows, : self.columns].astype(np.float64)
        return np.stack([x * (self.width - self.overlap), y * (self.height - self.overlap)], -1)

    @cached_property
    def truth(self) -> NDArray[np.float64]:
        """True origins (x, y), shape (rows, columns, 2)."""
        random = np.random.default_rng([self.seed, 1])
        truth = self.planned + random.uniform(-self.stage_px, self.stage_px, self.planned.shape)
        return np.rint(truth) if self.whole else truth

    def tiles(self) -> Iterator[tuple[int, int, Image]]:
        """Yield row, column and tile, in raster order."""
        for row in range(self.rows):
            for column in range(self.columns):
                yield row, column, self.tile(row, column)

    def tile(self, row: int, column: int) -> Image:
        """Return a tile, u8, shape (height, width)."""
        faults = self.faults
        random = np.random.default_rng([self.seed, 2, row, column])
        rows = np.random.default_rng([self.seed, 3, row])
        x, y = self.truth[row, column]
        image: Image
        if random.random() < faults.blank:
            image = np.full((self.height, self.width), 128, np.float32)
        else:
            image = self._seen(float(y), float(x), random)
        if faults.defocus_px:
            blur = random.uniform(0, faults.defocus_px)
            image = cv2.GaussianBlur(image, (0, 0), blur) if blur > 0.1 else image
        image = image * np.float32(1 + random.uniform(-faults.gain, faults.gain))
        image = image + np.float32(rows.uniform(-1, 1) * faults.row_offset_levels)
        for _ in range(faults.row_steps):
            start = int(random.integers(self.height))
            image[start:] += np.float32(random.uniform(-1, 1) * faults.row_step_levels)
        for _ in range(faults.defects):
            at = (int(random.integers(self.width)), int(random.integers(self.height)))
            cv2.circle(image, at, int(random.integers(3, 12)), 10.0, -1)
        return _levels(image + random.normal(0, faults.noise, image.shape))

    def _seen(self, y: float, x: float, random: np.random.Generator) -> Image:
        faults = self.faults
        if not (faults.drift_px or faults.distortion_px):
            return self.scene.at(y, x, self.height, self.width)
        top, left, room = int(np.floor(y)) - 16, int(np.floor(x)) - 16, 32
        whole = self.scene.part(top, left, self.height + room, self.width + room)
        line = np.linspace(0, 1, self.height, dtype=np.float32)[:, None]
        side = np.linspace(-1, 1, self.width, dtype=np.float32)[None]
        drift = random.uniform(-faults.drift_px, faults.drift_px, 2)
        bent = np.sign(side) * np.abs(side) ** 8 * np.float32(faults.distortion_px)
        at_x = np.arange(self.width, dtype=np.float32)[None] + np.float32(drift[0]) * line + bent
        at_y = np.arange(self.height, dtype=np.float32)[:, None] + np.float32(drift[1]) * line
        at_x, at_y = np.broadcast_arrays(at_x + np.float32(x - left), at_y + np.float32(y - top))
        return cv2.remap(
            whole, np.ascontiguousarray(at_x), np.ascontiguousarray(at_y), cv2.INTER_LANCZOS4
        )
