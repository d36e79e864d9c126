"""Kinds of input that INT8 is calibrated on and judged by: the task's own, and what users bring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError
from ..imaging.arrays import Depth, rounded
from ..imaging.degradations import Degradation

__all__ = [
    "ALL",
    "DRAWN",
    "GIVEN",
    "TASK",
    "InputKind",
    "chosen_kinds",
    "input_kinds",
    "kinds_for_lack",
]

Image = NDArray[np.float32]

ALL, TASK = "all", "task"
"""Words of ``--kinds`` for every kind, and for the task's own."""
DRAWN = "drawn"
"""Name of the kind that is drawn, where the pictures lack content."""
GIVEN = "given"
"""Name of the task's own kind where the pictures are inputs already."""


@dataclass(frozen=True)
class InputKind:
    """Kind of input, made of a clean picture or of a given input.

    Parameters
    ----------
    name : str
        As ``--kinds`` spells it.
    summary : str
        A few words for reports.
    steps : tuple of Degradation
        Applied in order, after the tone.
    from_clean : bool
        Whether a clean picture is degraded; else a given input, as pairs have it.
    gain, offset : float
        Tone of input and ground truth alike: ``offset + gain * picture``.
    by_truth : bool
        Whether the ground truth judges; else the float model does. A clean picture has nothing
        that could be restored: what PSNR against itself loses there means little.
    """

    name: str
    summary: str
    steps: tuple[Degradation, ...]
    from_clean: bool = True
    gain: float = 1.0
    offset: float = 0.0
    by_truth: bool = True

    def toned(self, picture: Image) -> Image:
        """Return a picture in the kind's tone; the picture itself where it has none."""
        if (self.gain, self.offset) == (1.0, 0.0):
            return picture
        return np.float32(self.offset) + np.float32(self.gain) * picture

    def apply(self, picture: Image, rng: np.random.Generator) -> Image:
        """Make the input.

        Parameters
        ----------
        picture : ndarray, f32, shape (H, W, C)
            In [0, 1].
        rng : numpy.random.Generator

        Returns
        -------
        ndarray, f32, shape (h, w, C)
            In [0, 1], of 8 bits where anything was changed.
        """
        made = self.toned(picture)
        for step in self.steps:
            made = step.apply(made, rng)
        if made is picture:
            return picture
        return rounded(made, Depth.U8).astype(np.float32) / np.float32(255)


def input_kinds(own: Degradation, *, pairs: bool = False) -> tuple[InputKind, ...]:
    """Return the kinds of input of a model, its task's own first.

    Parameters
    ----------
    own : Degradation
        What the model removes; with ``none`` its inputs are the pictures as they are, and no
        ground truth is known.
    pairs : bool
        Inputs are given with their ground truth, and `own` gives the enlargement alone.
    """
    given, upscale = pairs or own.kind == "none", own.upscale
    truth = pairs or not given
    base = () if given else (own,)
    usual = InputKind("", "", base, from_clean=not given, by_truth=truth)
    if given:
        first = replace(usual, name=GIVEN, summary="the pictures as they are")
    else:
        first = replace(usual, name=own.kind, summary=own.describe())
    smaller = [Degradation(name, upscale=upscale) for name in _SMALLER if upscale > 1 and truth]
    jpeg, noise, blur = Degradation("jpeg", 50), Degradation("noise", 10), Degradation("blur")
    others = [
        *(InputKind(step.kind, step.describe(), (step,)) for step in smaller),
        *(
            InputKind("blur", f"blurred, then {step.describe()}", (blur, step))
            for step in smaller[:1]
        ),
        replace(usual, name="jpeg", summary=jpeg.describe(), steps=(*base, jpeg)),
        replace(usual, name="noise", summary=noise.describe(), steps=(*base, noise)),
        replace(usual, name="dark", summary="a tenth of the range", gain=0.1),
        replace(usual, name="low-contrast", summary="a fifth of the range", gain=0.2, offset=0.4),
    ]
    if truth and upscale == 1:
        others.append(InputKind("sharp", "clean, against float", (), by_truth=False))
    return (first, *(kind for kind in others if kind.name != first.name))


def kinds_for_lack(own: InputKind, upscale: int, gain: float) -> tuple[InputKind, ...]:
    """Return the kinds that make up for content that the pictures lack.

    Parameters
    ----------
    own : InputKind
        The task's own.
    upscale : int
        Of crops with ground truth; 1 without.
    gain : float
        That brightens the pictures to white; 1 where there is nothing to brighten.
    """
    bright = replace(own, name="bright", summary=f"brightened {gain:.1f} times", gain=gain)
    # What pairs were made with is not known: drawn scenes are only made smaller, if at all.
    smaller = (Degradation("downscale", upscale=upscale),) if upscale > 1 else ()
    drawn = InputKind(
        DRAWN,
        "drawn scenes: edges, colours, texture",
        own.steps or smaller,
        by_truth=own.by_truth and own.from_clean,
    )
    return (bright, drawn) if gain > _LEAST_GAIN else (drawn,)


_LEAST_GAIN = 1.2
_SMALLER = ("downscale", "aliased", "nearest")


def chosen_kinds(kinds: Sequence[InputKind], wanted: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the kinds that ``--kinds`` chooses, in the order of `kinds`.

    Parameters
    ----------
    kinds : sequence of InputKind
        The task's own first.
    wanted : sequence of str
        Names, ``task`` for the task's own, ``all`` for every kind.

    Raises
    ------
    ArgumentError
        For a name that is none of these.
    """
    names = [kind.name for kind in kinds]
    known = {TASK: {names[0]}, ALL: set(names)} | {name: {name} for name in names}
    for word in wanted:
        if word not in known:
            raise ArgumentError(
                f"--kinds {word}: not a kind of input of this model; use all, task, or of these:"
                f" {', '.join(names)}"
            )
    chosen = set().union(*(known[word] for word in wanted))
    return tuple(name for name in names if name in chosen)
