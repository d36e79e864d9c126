"""Fitting any picture to a model's channels, and its outcome back to the picture's."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ..imaging.arrays import ChannelOrder, Image, ImageKind

__all__ = ["ChannelPlan", "with_alpha"]


def with_alpha(colours: Image, alpha: Image) -> Image:
    """Put alpha beside restored colours, interpolated bicubically where they were enlarged.

    Parameters
    ----------
    colours : ndarray, shape (H', W', C)
    alpha : ndarray, shape (H, W)
    """
    height, width = colours.shape[:2]
    if alpha.shape != (height, width):
        alpha = np.asarray(cv2.resize(alpha, (width, height), interpolation=cv2.INTER_CUBIC))
    return np.dstack([colours, alpha])


@dataclass(frozen=True)
class ChannelPlan:
    """How one kind of picture meets a model.

    A colour model sees a grey picture three times over, and its outcome's luma is kept. A
    grey model sees each colour channel as a picture of its own. Alpha goes around.
    """

    kind: ImageKind
    model_channels: int
    order: ChannelOrder

    @property
    def queue_order(self) -> ChannelOrder:
        """The channel order that the runtime meets."""
        return ChannelOrder.GRAY if self.model_channels == 1 else self.order

    def split(self, image: Image) -> list[Image]:
        """Return the planes to submit: shape (H, W, model channels), C-contiguous, writable.

        A plane is the image itself where nothing has to change.
        """
        colour = image[..., None] if self.kind.channels == 0 else image[..., : self._colours]
        if self.model_channels == 1:
            planes = [colour[..., i : i + 1] for i in range(colour.shape[2])]
        elif colour.shape[2] == 1:
            planes = [np.repeat(colour, self.model_channels, axis=2)]
        else:
            planes = [colour]
        return [np.require(plane, requirements=("C", "W")) for plane in planes]

    def merge(self, outcomes: list[Image], image: Image) -> Image:
        """Return the restored picture, of the input's rank, channels and dtype.

        Parameters
        ----------
        outcomes : list of ndarray, shape (H', W', C')
            One for each plane of `split`.
        image : ndarray
            The input; its alpha is carried over.
        """
        restored = outcomes[0] if len(outcomes) == 1 else np.concatenate(outcomes, axis=2)
        if self._colours == 1 and restored.shape[2] == 3:
            code = cv2.COLOR_BGR2GRAY if self.order is ChannelOrder.BGR else cv2.COLOR_RGB2GRAY
            restored = cv2.cvtColor(restored, code)[..., None]
        if self.kind.channels == 0:
            return restored[..., 0] if restored.shape[2] == 1 else restored
        if self.kind.channels == 4:
            return with_alpha(restored, image[..., 3])
        return restored

    @property
    def _colours(self) -> int:
        return {0: 1, 4: 3}.get(self.kind.channels, self.kind.channels)
