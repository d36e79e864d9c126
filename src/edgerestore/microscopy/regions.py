"""Restoration of regions: each pixel as in the restored whole, byte for byte."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..bundle.manifest import TilingMode
from ..engine.predictors.protocol import Pending
from ..engine.restorer import Restorer
from ..errors import ArgumentError
from ..imaging.arrays import Image, round_up

__all__ = ["Region", "RegionRestorer"]


@dataclass(frozen=True)
class Region:
    """Rectangle of an image, in its pixels."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class RegionRestorer:
    """Restorer of regions of one image.

    A region is read with a halo around it, from the grid of the model on, as tiles are cut from
    a frame (`Grid`); so what is kept has seen no cut.

    Parameters
    ----------
    restorer : Restorer
        Of a model whose tiles are exact.
    height, width : int
        Of the image.
    side : int
        Pixels: smaller regions, at borders, are read in the size of one of so many.

    Raises
    ------
    ArgumentError
        When the model sees more of a frame than a halo.
    """

    restorer: Restorer
    height: int
    width: int
    side: int

    def __post_init__(self) -> None:
        manifest = self.restorer.bundle.manifest
        if manifest.tiling.mode is not TilingMode.EXACT:
            raise ArgumentError(
                f"{manifest.name} sees a frame as a whole, so that it cannot restore an image by"
                " regions; use a model with exact tiles"
            )

    def extent(self, region: Region) -> Region:
        """Return what is to be read for a region: it and its halo, within the image."""
        manifest = self.restorer.bundle.manifest
        halo, multiple = manifest.tiling.halo_px, manifest.input.multiple_of

        def read(start: int, length: int, whole: int) -> tuple[int, int]:
            longest = round_up(max(self.side, length) + 2 * halo + multiple - 1, multiple)
            return _with_halo(start - halo, whole, longest, multiple)

        top, height = read(region.top, region.height, self.height)
        left, width = read(region.left, region.width, self.width)
        return Region(top, left, height, width)

    def meets_border(self, region: Region) -> bool:
        """Return whether the outcome of a region sees a border of the image."""
        halo = self.restorer.bundle.manifest.tiling.halo_px
        ends = region.top + region.height + halo, region.left + region.width + halo
        starts = region.top - halo, region.left - halo
        return min(starts) < 0 or ends[0] > self.height or ends[1] > self.width

    def submit(
        self, region: Region, image: Image, on_tile: Callable[[int, int], None] | None = None
    ) -> Pending:
        """Start restoring a region; its outcome is as large as the region, times the upscale.

        Parameters
        ----------
        region : Region
        image : ndarray, shape (H, W) or (H, W, C)
            The pixels of its `extent`.
        on_tile : callable, optional
            As `Restorer.submit` takes it.
        """
        extent, upscale = self.extent(region), self.restorer.bundle.manifest.output.upscale
        pending = self.restorer.submit(image, on_progress=on_tile)
        first_row, first_column = (
            (region.top - extent.top) * upscale,
            (region.left - extent.left) * upscale,
        )

        def kept() -> Image:
            rows = slice(first_row, first_row + region.height * upscale)
            columns = slice(first_column, first_column + region.width * upscale)
            return pending.result()[rows, columns]

        return Pending([pending], kept)


def _with_halo(start: int, whole: int, longest: int, multiple: int) -> tuple[int, int]:
    """Return start and length of what is read along an axis."""
    if longest >= whole:
        return 0, whole
    # The last ones move inward: the model meets the border where the image has one.
    first = min(max(0, start) // multiple * multiple, round_up(whole - longest, multiple))
    return first, min(longest, whole - first)
