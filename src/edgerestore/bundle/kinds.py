"""Kinds of tensors that go into a model and come out of it, and what each kind means.

What follows from a kind stands in its row of the table here, so that other rooms ask for the
property and not for the kind: a new kind is a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["InputKind", "OutputKind", "OutputTraits"]


class InputKind(StrEnum):
    """Content of an input tensor."""

    IMAGE = "image"
    STRENGTH = "strength"


@dataclass(frozen=True)
class OutputTraits:
    """Traits of an output kind: how it is run, compared and converted.

    Parameters
    ----------
    does : str
        The model's work in two words, for messages: "restores images".
    tensor : str
        Name of the graph's output.
    model_type : str
        The task in Model API's vocabulary, for a graph's metadata.
    per_pixel : bool
        One value for each pixel of the frame and channel, in [0, 1]: it can be tiled, quantized,
        and written as a picture.
    blended : bool
        A picture of the same scene as the input: strength blends the two (it scales other
        kinds), the output guard compares them, and evaluation scores the input beside it.
    toned : bool
        Brightness, contrast and balance can be adjusted.
    meaning : str
        What the numbers are, where they are not what a pixel shows.
    """

    does: str
    tensor: str
    model_type: str
    per_pixel: bool
    blended: bool = False
    toned: bool = False
    meaning: str = ""


class OutputKind(StrEnum):
    """Content of an output tensor."""

    IMAGE = "image"
    MASK = "mask"
    SHIFT = "shift"

    @property
    def traits(self) -> OutputTraits:
        """Traits of this kind."""
        return _TRAITS[self]


_RESTORATION = "image_restoration"
_TRAITS = {
    OutputKind.IMAGE: OutputTraits(
        "restores images", "restored", _RESTORATION, per_pixel=True, blended=True, toned=True
    ),
    OutputKind.MASK: OutputTraits("makes masks", "restored", _RESTORATION, per_pixel=True),
    OutputKind.SHIFT: OutputTraits(
        "estimates shifts",
        "shift",
        "shift_estimation",
        per_pixel=False,
        meaning="(dx, dy) in pixels by which the second tile's content is moved",
    ),
}
