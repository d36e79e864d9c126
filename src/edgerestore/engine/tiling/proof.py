"""Proof that tiles equal the whole frame, by the restorer that hosts run.

Frames are restored whole and in tiles through `load`: the grid, the executor, the infer queue
and the conversion from and to pixels are those of every later run, so what they get wrong shows
here. Two things are asked, at each precision:

- **Reach**: one line of a frame is inverted, at every phase of a grid of up to 16 px and along both
  axes, and no output farther away than the halo may change. Cuts alone would not show every halo
  that is too small, since they fall on one phase only, that of the halo.
- **Tiles**: frames in which the last tile moves inward by every phase of the grid are restored
  in the smallest tiles that the halo allows, in tiles one multiple larger and in large ones, and
  compared with the whole in bytes; and once in frames that are long enough for what is computed
  from the place in a frame, such as a resize, to be rounded.

The reach is compared bit by bit: both frames have one shape. Tiles and the whole have different
shapes, for which OpenVINO may take different kernels: a few transposed convolutions then add in
another order (2026.4; 1e-6 in f32, rarely a level of 8 or 16 bits). That much is let through and
told; everything else is refused.

Photographs are used as they are, and under noise that fills the range: a cut replaces pixels by
padding, and between flat areas and padding the outermost ring of a receptive field may make no
difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from ...bundle.bundle import Bundle
from ...bundle.manifest import Manifest, TilingMode
from ...bundle.precision import Precision
from ...errors import VerificationError
from ...imaging.arrays import Depth, Image, round_up, rounded
from ...imaging.metrics import psnr
from ...runtimes import runtime_for
from ...runtimes.cache import temporary_cache
from ..load import load
from ..restorer import Restorer
from .exactness import known_to_be_exact
from .grid import Grid, smallest_tile
from .windows import WindowGrid

__all__ = ["TilingProof", "prove_tiling"]

_DEVICE = "CPU"
_WHOLE = 1 << 20  # a tile that no frame exceeds
_LARGER_PX = 64  # by how much the large tiles are larger than the smallest
_MOST_PHASES = 8
_MOST_LINES = 16  # inverted along an axis, each at a phase of its own
_ROUNDING = 1e-5  # in f32: less than a level of 16 bits
_HALF_STEP = 2.0**-11  # of f16 below 1: kernels that add in another order may differ by one
_FEWEST_STEPS = 5  # of the grid in a tile: layers of fewer elements are added up in another order
_TOLD_EVERY_S = 10.0
_LONG_PX = 1536  # far enough from the first pixel for what is computed from places to be rounded
_NOISE = 0.5  # standard deviation, of white: about a third of the samples saturate
_WINDOWED_FRAME_PX = 384  # the larger the frame, the less its windows know of it


@dataclass(frozen=True)
class TilingProof:
    """Tiles against the whole frame.

    Parameters
    ----------
    difference : float or None
        The largest, in [0, 1] units; 0 where tiles are equal to the byte, None where nothing was
        measured.
    setup : str
        Sizes, phases, sample types and precisions it was found at.
    psnr_db : float or None
        Of windows against the whole; None where tiles are exact, or nothing was measured.
    """

    difference: float | None
    setup: str
    psnr_db: float | None = None

    def __str__(self) -> str:
        if self.difference is None:
            return self.setup
        return f"largest difference {self.difference:.1e} ({self.setup})"


def prove_tiling(
    bundle: Bundle,
    pictures: Sequence[NDArray[np.float32]],
    report: Callable[[str], None] | None = None,
) -> TilingProof:
    """Restore frames whole and in tiles, on the CPU at each precision that it runs.

    Parameters
    ----------
    bundle : Bundle
        On disk, with its manifest.
    pictures : sequence of ndarray, f32 (H, W, C) in [0, 1]
        Of the model's channels; taken in turn, mirrored where they are too small.
    report : callable or None
        Takes a line now and then on how much is done, and about how long the rest takes.

    Returns
    -------
    TilingProof
        Windowed models are measured at f32 alone, and by how much is all that is said: their
        windows never equal the whole.

    Raises
    ------
    VerificationError
        When exact tiles differ by more than a rounding, or a change reaches farther than the
        halo.
    """
    mode = bundle.manifest.tiling.mode
    if mode is TilingMode.WHOLE:
        return TilingProof(0.0, "never cut")
    with temporary_cache(), known_to_be_exact():
        if mode is TilingMode.WINDOWED:
            return _windowed(bundle, pictures)
        return _exact(bundle, pictures, report or (lambda _: None))


def _precisions(bundle: Bundle) -> list[Precision]:
    native = runtime_for(_DEVICE).precisions(_DEVICE)
    return [p for p in Precision if p in native and p.stored in bundle.manifest.variants]


@dataclass(frozen=True)
class _Trial:
    """Plan of a proof: sides of tiles, and frames' heights and widths."""

    least: int
    larger: int
    large: int
    small_frames: list[tuple[int, int]]
    wide_frames: list[tuple[int, int]]
    long_frames: list[tuple[int, int]]

    @classmethod
    def of(cls, manifest: Manifest) -> _Trial:
        halo, multiple = manifest.tiling.halo_px, manifest.input.multiple_of
        least = max(
            smallest_tile(halo, multiple),
            round_up(manifest.input.minimum_px, multiple),
            _FEWEST_STEPS * multiple,
        )
        large = least + round_up(max(_LARGER_PX, 2 * multiple), multiple)
        # Three tiles an axis of the smallest, two of the next: cuts on both sides, and on one.
        side = least + 2 * multiple
        phases = _phases(multiple, _MOST_PHASES).tolist()
        small = [(side - phase, side - (multiple - 1 - phase)) for phase in phases]
        wide = [(large + multiple, large + 1)]
        # As thick as a tile: kernels are taken by the shape of a layer.
        long = [(large, _LONG_PX), (_LONG_PX, large)]
        return cls(least, least + multiple, large, small, wide, long)

    @property
    def checks(self) -> list[tuple[Depth, int, list[tuple[int, int]]]]:
        """Sample type, side of a tile, and frames: each is a shape to compile for."""
        # Samples of every type go through the same network: not all need every tile.
        return [
            (Depth.F32, self.least, self.small_frames),
            (Depth.F32, self.larger, self.small_frames),
            (Depth.F32, self.large, self.wide_frames),
            (Depth.U8, self.least, self.small_frames),
            (Depth.U8, self.large, self.wide_frames),
            (Depth.U16, self.least, self.small_frames),
        ]


class _Comparison:
    """Differences between frames restored whole and in tiles, added up."""

    def __init__(self, halo_px: int) -> None:
        self._halo_px = halo_px
        self.largest = 0.0
        self.unequal = self.samples = 0

    def add(self, whole: Image, tiled: Image, tile: int, precision: Precision) -> None:
        """Compare one frame; refuse more difference than the rounding of the runtime's kernels."""
        self.samples += whole.size
        if np.array_equal(whole, tiled):
            return
        peak = Depth(whole.dtype.name).peak
        apart = np.abs(whole.astype(np.float64) - tiled) / peak
        limit = _ROUNDING if peak == 1 else 1.5 / peak
        if precision is Precision.FP16:
            limit = max(limit, _HALF_STEP)
        if not apart.max() <= limit:
            raise VerificationError(
                f"tiles differ from the whole by {apart.max():.2g} with a halo of"
                f" {self._halo_px} px (tiles of {tile} px, {whole.shape[1]}x{whole.shape[0]}"
                f" {whole.dtype} at {precision}): no bundle was written"
            )
        self.largest = max(self.largest, float(apart.max()))
        self.unequal += int(np.count_nonzero(apart))

    def __str__(self) -> str:
        if not self.unequal:
            return "equal to the byte"
        return f"{self.unequal} of {self.samples} samples differ by the rounding of kernels"


class _Progress:
    """Lines on the share of a proof that is done, by the pixels that are restored."""

    def __init__(self, pixels: int, report: Callable[[str], None]) -> None:
        self._pixels, self._report = pixels, report
        self._done = 0
        self._begun = self._told = monotonic()

    def add(self, pixels: int) -> None:
        self._done += pixels
        now = monotonic()
        if now - self._told > _TOLD_EVERY_S and self._done < self._pixels:
            self._told = now
            rest = (now - self._begun) * (self._pixels / self._done - 1)
            self._report(f"tiles: {self._done / self._pixels:.0%}, about {rest:.0f} s to go")


_Check = tuple[Depth, int, list[tuple[int, int]]]


def _exact(
    bundle: Bundle, pictures: Sequence[NDArray[np.float32]], report: Callable[[str], None]
) -> TilingProof:
    trial, precisions = _Trial.of(bundle.manifest), _precisions(bundle)
    compared = _Comparison(bundle.manifest.tiling.halo_px)
    # Places are computed in f32 at every precision.
    far: list[_Check] = [(Depth.F32, trial.large, trial.long_frames)]
    checks = {p: trial.checks + (far if p is precisions[0] else []) for p in precisions}
    pixels = sum(
        2 * _pixels(size, tile, bundle.manifest)
        for wanted in checks.values()
        for _, tile, sizes in wanted
        for size in sizes
    )
    progress = _Progress(pixels, report)
    for precision in precisions:
        _compare_at(precision, bundle, pictures, checks[precision], trial, compared, progress)
    return TilingProof(
        compared.largest,
        f"tiles of {trial.least}, {trial.larger} and {trial.large} px, frames of up to {_LONG_PX},"
        f" {len(trial.small_frames)} phases of the grid, {', '.join(Depth)},"
        f" at {', '.join(precisions)}: {compared}",
    )


def _compare_at(
    precision: Precision,
    bundle: Bundle,
    pictures: Sequence[NDArray[np.float32]],
    checks: list[_Check],
    trial: _Trial,
    compared: _Comparison,
    progress: _Progress,
) -> None:
    sides = (trial.least, trial.larger, trial.large)
    open_at = partial(load, bundle.folder, device=_DEVICE, precision=precision)
    with ExitStack() as opened:
        whole, *tiled = (opened.enter_context(open_at(tile=tile)) for tile in (_WHOLE, *sides))
        side = trial.larger + bundle.manifest.input.multiple_of
        _check_reach(whole, _noisy(_cut_out(pictures[0], side, side)), bundle)
        by_side = dict(zip(sides, tiled, strict=True))
        for depth, tile, sizes in checks:
            for frame in _frames(pictures, sizes, depth):
                wanted, made = whole.submit(frame), by_side[tile].submit(frame)
                compared.add(wanted.result(), made.result(), tile, precision)
                progress.add(_pixels(frame.shape[:2], tile, bundle.manifest))


def _pixels(size: tuple[int, ...], tile: int, manifest: Manifest) -> int:
    """Return the pixels that a frame takes, whole and in tiles."""
    height, width = size
    tiling, multiple = manifest.tiling, manifest.input.multiple_of
    grid = Grid.plan(height, width, tile, halo=tiling.halo_px, multiple=multiple)
    return height * width + len(grid.tiles) * grid.tile_height * grid.tile_width


def _phases(multiple: int, most: int) -> NDArray[np.int_]:
    """Return offsets from the grid: all of them, or some that are evenly spread."""
    return np.unique(np.linspace(0, multiple - 1, most, dtype=int))


def _check_reach(whole: Restorer, frame: NDArray[np.float32], bundle: Bundle) -> None:
    """Invert lines of a frame and see how far away the outcome changes."""
    halo, multiple = bundle.manifest.tiling.halo_px, bundle.manifest.input.multiple_of
    before = whole(frame)
    upscale = before.shape[0] // frame.shape[0]
    middle = frame.shape[0] // 2 // multiple * multiple
    for line in middle + _phases(multiple, _MOST_LINES):
        for axis in (0, 1):
            changed = frame.copy()
            place = (line, slice(None)) if axis == 0 else (slice(None), line)
            changed[place] = 1 - changed[place]
            others = tuple(d for d in range(before.ndim) if d != axis)
            touched = np.flatnonzero((whole(changed) != before).any(axis=others)) // upscale
            farthest = int(np.abs(touched - line).max(initial=0))
            if farthest > halo:
                raise VerificationError(
                    f"a change {farthest} px away reached the output at {whole.precision}, but"
                    f" the halo is {halo} px: no bundle was written"
                )


def _frames(
    pictures: Sequence[NDArray[np.float32]], sizes: Sequence[tuple[int, int]], depth: Depth
) -> Iterator[Image]:
    for index, size in enumerate(sizes):
        picture = _cut_out(pictures[index % len(pictures)], *size)
        for frame in (picture, _noisy(picture)):
            yield np.ascontiguousarray(rounded(frame, depth))


def _cut_out(picture: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Cut the middle of a picture, mirroring one that is too small."""
    short = [
        (0, max(0, side - has)) for side, has in zip((height, width), picture.shape, strict=False)
    ]
    picture = np.pad(picture, (*short, (0, 0)), mode="symmetric")
    top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
    return picture[top : top + height, left : left + width]


def _noisy(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    noise = np.random.default_rng(0).normal(0, _NOISE, picture.shape)
    return np.clip(picture + noise, 0, 1).astype(np.float32)


def _windowed(bundle: Bundle, pictures: Sequence[NDArray[np.float32]]) -> TilingProof:
    """Measure windows against the whole: the largest difference, PSNR, and the seam.

    The largest difference is that of a single pixel; the seam is by how much the difference
    steps across the line where a window ends, on the average along the worst such line.
    """
    manifest = bundle.manifest
    window, ramp = manifest.tiling.window_px or 1, manifest.tiling.ramp_px or 1
    multiple, upscale = manifest.input.multiple_of, manifest.output.upscale
    side = round_up(max(window + window // 2, _WINDOWED_FRAME_PX), multiple)
    if side > _LONG_PX:
        return TilingProof(None, f"not measured: frames of up to {window} px are not cut")
    frame = np.ascontiguousarray(_cut_out(pictures[0], side, side))
    outcomes = []
    for tile in (_WHOLE, window):
        with load(
            bundle.folder,
            device=_DEVICE,
            precision=Precision.FP32,
            tile=tile,
            intensity_range="full",
        ) as restorer:
            outcomes.append(restorer(frame))
    whole, joined = outcomes
    grid = WindowGrid.plan(side, side, window, ramp=ramp, multiple=multiple, upscale=upscale)
    difference = joined - whole
    seam = max(_step(difference, grid, axis, upscale) for axis in (0, 1))
    close = psnr(joined, whole)
    return TilingProof(
        float(np.abs(difference).max()),
        f"{side}x{side} in {len(grid.windows)} windows of {window}, ramps of {ramp} px,"
        f" PSNR {close:.1f} dB, seam {255 * seam:.3f} levels of 255",
        None if close == np.inf else close,
    )


def _step(difference: NDArray[np.float32], grid: WindowGrid, axis: int, upscale: int) -> float:
    """Return the largest mean step of a difference across a line where a window begins or ends."""
    length = (grid.height, grid.width)[axis]
    lines = {
        edge
        for window in grid.windows
        for edge in (window.read[axis], window.read[axis] + window.read[axis + 2])
        if 0 < edge < length
    }
    steps = np.abs(np.diff(difference, axis=axis))
    return max(
        (float(steps.take(line * upscale - 1, axis=axis).mean()) for line in lines), default=0.0
    )
