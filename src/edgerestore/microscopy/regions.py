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
    read : callable
        Given a `Region` of the image; returns its pixels, shape (H, W) or (H, W, C).

    Raises
    ------
    ArgumentError
        When the model sees more of a frame than a halo.
    """

    restorer: Restorer
    height: int
    width: int
    side: int
    read: Callable[[Region], Image]

    def __post_init__(self) -> None:
        manifest = self.restorer.bundle.manifest
        if manifest.tiling.mode is not TilingMode.EXACT:
            raise ArgumentError(
                f"{manifest.name} sees a frame as a whole, so that it cannot restore an image by"
                " regions; use a model with exact tiles"
            )

    def submit(self, region: Region, look: Callable[[Image], None] | None = None) -> Pending:
        """Start restoring a region; its outcome is as large as the region, times the upscale.

        Parameters
        ----------
        region : Region
        look : callable, optional
            Given the region's own pixels, without the halo.
        """
        manifest = self.restorer.bundle.manifest
        halo, multiple = manifest.tiling.halo_px, manifest.input.multiple_of
        upscale = manifest.output.upscale

        def read(start: int, length: int, whole: int) -> tuple[int, int]:
            longest = round_up(max(self.side, length) + 2 * halo + multiple - 1, multiple)
            return _with_halo(start - halo, whole, longest, multiple)

        top, height = read(region.top, region.height, self.height)
        left, width = read(region.left, region.width, self.width)
        image = self.read(Region(top, left, height, width))
        if look is not None:
            first, second = region.top - top, region.left - left
            look(image[first : first + region.height, second : second + region.width])
        pending = self.restorer.submit(image)
        first_row, first_column = (region.top - top) * upscale, (region.left - left) * upscale

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
