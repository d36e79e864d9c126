"""Memory budget of a run by region: what is decoded, restored and encoded at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..engine.restorer import Restorer
from ..errors import ArgumentError
from ..imaging.arrays import round_up
from .planes import Plane

__all__ = ["DEFAULT_BYTES", "RegionBudget", "plan_budget"]

DEFAULT_BYTES = 1 << 30
_SIDES_PX = (2048, 1024, 512, 256)
_MOST_CACHED_BYTES = 128 << 20
_F32 = 4
_MIB = 1 << 20


@dataclass(frozen=True)
class RegionBudget:
    """How much is worked on at a time.

    Parameters
    ----------
    side_px : int
        Of a region of the input, without its halo.
    ahead : int
        Regions that are decoded before they are needed.
    in_flight : int
        Regions that are being restored while another one is taken.
    behind : int
        Regions that wait to be encoded and written.
    cache_bytes : int
        For decoded segments of the input.
    """

    side_px: int
    ahead: int = 1
    in_flight: int = 1
    behind: int = 1
    cache_bytes: int = _MOST_CACHED_BYTES


def plan_budget(
    restorer: Restorer,
    planes: Sequence[Plane],
    budget_bytes: int | None,
    *,
    side_px: int | None = None,
    where: object = "",
) -> RegionBudget:
    """Return the largest regions that fit; half of the budget is of the tiles in flight.

    Counted are, for the widest plane: decoded segments that neighbours share, a region with its
    halo as it was read, its levels and outcome in f32, and, of regions that are written, the
    samples, their copy for the codec and what that makes of them.

    Parameters
    ----------
    restorer : Restorer
    planes : sequence of Plane
    budget_bytes : int or None
        1 GiB when not given.
    side_px : int, optional
        Of regions, where what is written fixes it.
    where : object
        For the message.

    Raises
    ------
    ArgumentError
        When not even the smallest regions fit.
    """
    half = (budget_bytes or DEFAULT_BYTES) // 2
    sides = (side_px,) if side_px else _SIDES_PX
    for side in sides:
        needed = max(_region_bytes(restorer, plane, side) for plane in planes)
        cache = max(_segment_bytes(restorer, plane, side) for plane in planes)
        if needed + cache <= half:
            room = half - needed
            return RegionBudget(side, cache_bytes=min(_MOST_CACHED_BYTES, max(cache, room // 2)))
    raise ArgumentError(
        f"{where}: needs at least --memory {-(-2 * (needed + cache) // _MIB)}MiB, for regions of"
        f" {side} px and decoded segments of {cache // _MIB} MiB"
    )


def _extent(restorer: Restorer, length: int, side: int) -> int:
    manifest = restorer.bundle.manifest
    multiple = manifest.input.multiple_of
    return min(length, round_up(side + 2 * manifest.tiling.halo_px + multiple - 1, multiple))


def _region_bytes(restorer: Restorer, plane: Plane, side: int) -> int:
    """Return the bytes of all regions that are worked on at a time."""
    upscale = restorer.bundle.manifest.output.upscale
    extent = _extent(restorer, plane.height, side) * _extent(restorer, plane.width, side)
    own = min(plane.height, side) * min(plane.width, side) * upscale**2
    item = plane.dtype.itemsize * plane.samples
    together = plane.samples if plane.color else 1
    read = extent * item
    floats = extent * _F32 * together * (1 + upscale**2)
    restored = extent * upscale**2 * plane.dtype.itemsize * together
    written = own * item
    ahead, in_flight, behind = 1, 2, 2
    return ahead * read + in_flight * (read + floats + restored) + behind * written + 2 * written


def _segment_bytes(restorer: Restorer, plane: Plane, side: int) -> int:
    """Return the bytes of decoded segments that neighbouring regions share."""
    if not plane.tiled and not plane.compressed:
        return 0  # rows of it are read as they are
    tall, wide = plane.segment
    rows = _extent(restorer, plane.height, side) + tall
    columns = plane.width if not plane.tiled else 2 * wide
    return min(rows, round_up(plane.height, tall)) * columns * plane.samples * plane.dtype.itemsize
