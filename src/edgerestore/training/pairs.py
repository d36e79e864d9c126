"""Training pairs: what the input and the target of each task are, and the mix they are drawn from.

A `Pairs` holds numbers alone, so that a manifest can say what a dataset was made by. It draws
pictures of 8 bits; the crop it takes is larger than the pair by a margin, so that blur sees real
pixels at the pair's border.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .pictures import Pictures

__all__ = ["Pairs"]

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Pairs(ABC):
    """Distribution of pairs of an input and its target.

    Parameters
    ----------
    side_px : int
        Side of the inputs; a target's is `upscale` times as long.
    """

    side_px: int = 256

    channels: ClassVar[int] = 3
    """Channels of inputs: 3 for RGB, 1 for grey."""
    target_channels: ClassVar[int] = 3
    """Channels of targets: 4 for RGBA, 1 for grey or masks."""
    needs_objects: ClassVar[bool] = False
    """Whether cut-out objects must be given."""
    margin_px: ClassVar[int] = 0
    """Real pixels that a draw takes beyond each side of a target."""

    @property
    def upscale(self) -> int:
        """How many times larger than the inputs targets are."""
        return 1

    @property
    def least_px(self) -> int:
        """Shortest side that a photograph may have."""
        return self.side_px * self.upscale + 2 * self.margin_px

    @abstractmethod
    def draw(self, pictures: Pictures, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
        """Draw a pair.

        Parameters
        ----------
        pictures : Pictures
            No photograph's side is shorter than `least_px`.
        rng : numpy.random.Generator
            The only source of chance: a seed names a pair.

        Returns
        -------
        input : ndarray, u8, shape (side_px, side_px, channels)
        target : ndarray, u8, shape (side_px * upscale, side_px * upscale, target_channels)
        """

    def held_out(self) -> Pairs:
        """Return the pairs of the validation and test splits."""
        return self

    def describe(self) -> dict[str, Any]:
        """Return the mix as plain data, for a manifest."""
        kind = type(self)
        return {
            "kind": kind.__name__,
            "upscale": self.upscale,
            "channels": kind.channels,
            "target_channels": kind.target_channels,
            **_plain(asdict(self)),
        }


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value
