"""Reduced copies of images: means of whole pixels, each level of the one before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..imaging.arrays import Image
from .planes import VolumeImage

__all__ = ["level_sizes", "pyramid_steps", "reduced"]

_FLAT_PX = 2048  # larger pictures get a pyramid
_SMALLEST_PX = 512


def reduced(block: Image, steps: Sequence[int], shape: Sequence[int]) -> Image:
    """Return the means of cells of a block, which is continued by its edge where they reach over.

    Parameters
    ----------
    block : ndarray
    steps : sequence of int
        Sides of a cell, one for each axis.
    shape : sequence of int
        Of the outcome.

    Returns
    -------
    ndarray
        Of the block's dtype; whole numbers are rounded to the nearest, halves to the even one.
    """
    more = [
        (0, max(0, size * step - side))
        for size, step, side in zip(shape, steps, block.shape, strict=True)
    ]
    if any(after for _, after in more):
        block = np.pad(block, more, mode="edge")
    block = block[tuple(slice(size * step) for size, step in zip(shape, steps, strict=True))]
    # One cell's pixel after another: sums of strided views take no copy of the whole.
    total: Image | None = None
    wide = np.float64 if block.dtype == np.float32 else np.uint32
    for offset in np.ndindex(*steps):
        part = block[tuple(slice(at, None, step) for at, step in zip(offset, steps, strict=True))]
        total = part.astype(wide) if total is None else np.add(total, part, out=total)
    assert total is not None  # noqa: S101 - for the type checker: cells have pixels
    count = int(np.prod(steps))
    means = total / count
    return (means if block.dtype == np.float32 else np.rint(means)).astype(block.dtype)


def pyramid_steps(image: VolumeImage, upscale: int = 1) -> Sequence[Mapping[str, int]]:
    """Return how much smaller each level is than the one before.

    As it is where the image has levels; else a large one is halved until it is small.
    """
    if image.steps:
        return image.steps
    height, width = image.planes[0].height * upscale, image.planes[0].width * upscale
    steps: list[Mapping[str, int]] = []
    if max(height, width) > _FLAT_PX:
        while max(height, width) > _SMALLEST_PX and min(height, width) > 1:
            steps.append({"y": 2, "x": 2})
            height, width = height // 2, width // 2
    return steps


def level_sizes(
    image: VolumeImage, steps: Sequence[Mapping[str, int]], upscale: int = 1
) -> list[tuple[int, ...]]:
    """Return the shapes of all levels, the largest first, as t, c, z, y and x.

    Those of levels that the image has are its own.
    """
    first = image.planes[0]
    axes = f"{image.axes}yx"
    shape = (*image.sizes, first.height * upscale, first.width * upscale)
    sizes = [shape]
    for at, step in enumerate(steps):
        before = sizes[-1]
        made = [max(1, side // step.get(axis, 1)) for axis, side in zip(axes, before, strict=True)]
        if at < len(first.reduced):
            made[-2:] = [side * upscale for side in first.reduced[at]]
        sizes.append(tuple(made))
    return sizes
