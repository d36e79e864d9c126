"""The size of a tile, chosen from a memory budget and speed measured on this machine."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ...bundle.bundle import Bundle
from ...bundle.manifest import Manifest, Side
from ...errors import ArgumentError, OutOfDeviceMemoryError
from ...imaging.arrays import ChannelOrder, Depth, ImageKind
from ...runtimes.cache import Measure, keep, measured, recorded
from ...runtimes.limits import available_memory_bytes
from ...runtimes.machine import machine_key
from ...runtimes.protocol import Model, QueueSpec
from ..cancellation import check_cancelled
from .grid import Grid, smallest_tile

__all__ = ["TileChooser"]

_MIB = 1 << 20
_BUDGET_BYTES = 512 * _MIB
_UNTUNED_PX = 512 * 512  # frames up to this run whole: there is nothing to gain by cutting
_SIDES = (256, 512, 1024)
_PATIENCE_S = 1.0  # no larger tile is tried once one inference takes longer
_WORTH_CUTTING = 1.25  # a whole frame may be this much slower before it is cut: timings are noisy
_LIMITS, _UNLIMITED = "tile-limits", 1 << 20
_FALLBACK_BYTES_PER_PX = 512.0  # where resident memory cannot be read


@dataclass(frozen=True)
class _Speed:
    """Cost of one tile size: measured once per bundle, device, precision and machine."""

    side: Side
    ns_per_px: Measure
    bytes_per_px: Measure

    @property
    def bytes(self) -> float:
        """Memory of the tiles in flight."""
        return self.side * self.side * self.bytes_per_px

    def frame_ms(self, height: int, width: int, halo: int, multiple: int) -> float:
        """Predict the time of a frame, its tiles' overlap included."""
        grid = Grid.plan(height, width, self.side, halo=halo, multiple=multiple)
        pixels = len(grid.tiles) * grid.tile_height * grid.tile_width
        return pixels * self.ns_per_px / 1e6


class TileChooser:
    """Chooses a tile side for each frame size.

    Parameters
    ----------
    tile : int or ``auto``
        A fixed side in pixels, or measure and choose.
    memory_mb : int or None
        Budget of the tiles in flight, MiB.
    """

    def __init__(self, tile: int | Literal["auto"], memory_mb: int | None = None) -> None:
        if tile != "auto" and (isinstance(tile, bool) or not isinstance(tile, int) or tile < 1):
            raise ArgumentError(f"tile is auto or a number of pixels above 0, got {tile!r}")
        if memory_mb is not None and memory_mb < 1:
            raise ArgumentError(f"memory_mb is above 0, got {memory_mb}")
        self._tile = tile
        self._budget = memory_mb * _MIB if memory_mb else _default_budget()
        self._limit: int | None = None

    @property
    def asked(self) -> int | None:
        """The side that was asked for, if one was."""
        return None if self._tile == "auto" else self._tile

    def shrink(self, bundle: Bundle, model: Model, side: int) -> int | None:
        """Take tiles of half a side from now on, which the device's memory does not hold.

        The limit is kept in the cache, for as long as machine and library are the same.

        Returns
        -------
        int or None
            The new largest side; None where ``side`` is the smallest there is.
        """
        manifest = bundle.manifest
        least = smallest_tile(manifest.tiling.halo_px, manifest.input.multiple_of)
        half = max(least, side // 2)
        if half >= side:
            return None
        self._limit = half
        keep(_LIMITS, _limit_key(bundle, model), machine_key(model.runtime), half)
        return half

    def choose(
        self, bundle: Bundle, model: Model, kind: ImageKind, order: ChannelOrder
    ) -> tuple[int, str]:
        """Return a side in pixels and one sentence that says why."""
        side, reason = self._chosen(bundle, model, kind, order)
        if self._limit is None:
            key, machine = _limit_key(bundle, model), machine_key(model.runtime)
            self._limit = min(recorded(_LIMITS, key, machine, int), default=max(side, _UNLIMITED))
        if side <= self._limit:
            return side, reason
        return self._limit, (
            f"tiles of {self._limit} px: the device's memory did not hold larger ones"
        )

    def _chosen(
        self, bundle: Bundle, model: Model, kind: ImageKind, order: ChannelOrder
    ) -> tuple[int, str]:
        height, width = kind.height, kind.width
        if self._tile != "auto":
            return self._tile, f"tiles of {self._tile} px: asked for"
        if height * width <= _UNTUNED_PX:
            return max(height, width), f"{width}x{height} in one tile: a small frame"
        tiling, multiple = bundle.manifest.tiling, bundle.manifest.input.multiple_of
        least = smallest_tile(tiling.halo_px, multiple)
        speeds = _speeds(bundle, model, kind.depth, order, least)
        budget_mib = self._budget / _MIB
        affordable = [s for s in speeds if s.bytes <= self._budget]
        if not affordable:
            return speeds[0].side, (
                f"tiles of {speeds[0].side} px: the smallest, though {speeds[0].bytes / _MIB:.0f}"
                f" MiB is over the {budget_mib:.0f} MiB allowed"
            )
        times_ms = {s: s.frame_ms(height, width, tiling.halo_px, multiple) for s in affordable}
        best = min(affordable, key=times_ms.__getitem__)
        whole = height * width * speeds[-1].bytes_per_px
        whole_ms = height * width * speeds[-1].ns_per_px / 1e6
        if whole <= self._budget and whole_ms <= _WORTH_CUTTING * times_ms[best]:
            return max(height, width), (
                f"{width}x{height} in one tile: {whole / _MIB:.0f} MiB of {budget_mib:.0f} MiB,"
                " nothing computed twice"
            )
        return best.side, (
            f"tiles of {best.side} px: fastest of {len(affordable)} sizes measured within"
            f" {budget_mib:.0f} MiB ({best.bytes / _MIB:.0f} MiB, {times_ms[best]:.0f} ms a frame)"
        )


def _limit_key(bundle: Bundle, model: Model) -> str:
    where = f"{model.runtime}-{model.device}-{model.precision}"
    return f"{bundle.digest(model.precision.stored)}-{where}"


def _speeds(
    bundle: Bundle, model: Model, depth: Depth, order: ChannelOrder, least: int
) -> list[_Speed]:
    """Return the costs of some tile sizes, ascending, from the cache or measured now."""

    def measure() -> list[_Speed]:
        speeds: list[_Speed] = []
        multiple = bundle.manifest.input.multiple_of
        for side in sorted({max(s // multiple * multiple, least) for s in _SIDES}):
            try:
                speed, seconds = _measure(model, side, depth, order, bundle.manifest)
            except OutOfDeviceMemoryError:
                if speeds:
                    break
                raise
            speeds.append(speed)
            if seconds > _PATIENCE_S:
                break
        return speeds

    where = f"{model.runtime}-{model.device}-{model.precision}-{depth}"
    return measured(
        "tiles",
        f"{bundle.digest(model.precision.stored)}-{where}",
        machine_key(model.runtime),
        measure,
        list[_Speed],
    )


def _measure(
    model: Model, side: int, depth: Depth, order: ChannelOrder, manifest: Manifest
) -> tuple[_Speed, float]:
    """Time a tile size; also return the seconds that one inference took."""
    check_cancelled()
    before = _resident_bytes()
    queue = model.open_queue(QueueSpec(side, side, depth, order))
    image = np.zeros((side, side, manifest.input.channels), depth.value)
    corner = (1, 1, manifest.output.channels)
    outcomes = [np.empty(corner, depth.value) for _ in range(queue.requests)]

    def round_trip() -> float:
        start = time.perf_counter()
        for completion in [queue.submit(image, 1.0, outcome) for outcome in outcomes]:
            completion.result()
        return (time.perf_counter() - start) / queue.requests

    first = round_trip()
    own = queue.memory_bytes
    grown = max(0, _resident_bytes() - before) if own is None else own
    seconds = first if first > _PATIENCE_S else min(round_trip() for _ in range(3))
    queue.close()
    pixels = side * side
    each = grown / pixels if grown else _FALLBACK_BYTES_PER_PX * queue.requests
    return _Speed(side, seconds / pixels * 1e9, each), seconds


def _default_budget() -> int:
    free = available_memory_bytes()
    return _BUDGET_BYTES if free is None else min(_BUDGET_BYTES, free // 4)


def _resident_bytes() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
