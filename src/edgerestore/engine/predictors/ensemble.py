"""Averaging: several models of one task, and one picture seen from eight sides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...bundle.manifest import Manifest
from ...errors import ArgumentError
from ...imaging.arrays import ChannelOrder, Depth, Image, check_image, rounded
from ..channels import with_alpha
from ..guard import GuardCounts
from ..pending import Pending
from ..restorer import Restorer
from ..strength import Strength
from ..temporal.cadence import check_cadence
from ..temporal.counts import ReuseCounts
from .model import ModelRestorer

__all__ = ["EVERY_SIDE", "Ensemble", "Member", "Turn"]


@dataclass(frozen=True)
class Turn:
    """One of the eight ways in which a square lies on itself.

    Parameters
    ----------
    quarters : int
        Quarter turns to the left.
    mirrored : bool
        Swapped left and right before the turning.
    """

    quarters: int = 0
    mirrored: bool = False

    def of(self, image: Image) -> Image:
        """Return an image turned, C-contiguous."""
        if self == Turn():
            return image
        flipped = image[:, ::-1] if self.mirrored else image
        return np.ascontiguousarray(np.rot90(flipped, self.quarters))

    def undone(self, image: Image) -> Image:
        """Return a turned image as it was."""
        back = np.rot90(image, -self.quarters)
        return back[:, ::-1] if self.mirrored else back


EVERY_SIDE = tuple(Turn(q, mirrored) for mirrored in (False, True) for q in range(4))
"""The eight turns and mirrorings of a picture."""


@dataclass(frozen=True)
class Member:
    """A model and what its opinion counts."""

    restorer: ModelRestorer
    weight: float = 1.0


class Ensemble(Restorer):
    """The weighted mean of several models' outcomes, of several turns of the picture each.

    Outcomes are averaged in f32 and rounded once. With turns, a model is asked once for each
    and answers for the picture as a whole (Timofte, Rothe, Van Gool, "Seven ways to improve
    example-based single image super resolution", CVPR 2016).

    Parameters
    ----------
    members : sequence of Member
    turns : sequence of Turn
    order : ChannelOrder
        The members'.

    Raises
    ------
    ArgumentError
        When the models do not do the same thing, or a weight is not above 0.
    """

    def __init__(
        self,
        members: Sequence[Member],
        turns: Sequence[Turn] = (Turn(),),
        order: ChannelOrder = ChannelOrder.RGB,
    ) -> None:
        _check_members(members)
        first = members[0].restorer
        super().__init__(
            first.bundle,
            _joined(m.restorer.device for m in members),
            _joined(m.restorer.precision for m in members),
            first.strength,
            order,
        )
        total = sum(member.weight for member in members) * len(turns)
        self._members = [Member(m.restorer, m.weight / total) for m in members]
        self._turns = tuple(turns)
        self.precision_reason = "; ".join(
            dict.fromkeys(member.restorer.precision_reason for member in members)
        )
        for member in members:
            member.restorer.on_guarded = self._tell_guarded

    @property
    def depth(self) -> int:
        """Of the members, the least: each image in flight is in flight several times over."""
        return min(member.restorer.depth for member in self._members)

    @property
    def reuse(self) -> ReuseCounts | None:
        """What the first member took over; each compares the same pictures."""
        return self._members[0].restorer.reuse

    @property
    def guarded(self) -> GuardCounts | None:
        """Tiles of all members that fell back to their input."""
        counts = [member.restorer.guarded for member in self._members]
        told = [one for one in counts if one is not None]
        return sum(told, GuardCounts()) if told else None

    @property
    def cadence(self) -> int:
        """In how many frames each pixel is refreshed; see `Restorer.cadence`.

        With turns it stays 1: a member would see eight pictures one after another.
        """
        return self._members[0].restorer.cadence

    @cadence.setter
    def cadence(self, cadence: int) -> None:
        if check_cadence(cadence) != 1 and self._turns != (Turn(),):
            raise ArgumentError("an average of turns restores every frame: cadence is 1")
        for member in self._members:
            member.restorer.cadence = cadence

    def submit(self, image: Image, strength: Strength | None = None) -> Pending:
        """Start restoring an image with every member; see `Restorer.submit`."""
        kind = check_image(image)
        strength = self.strength if strength is None else strength
        tone = self._adjuster.tone(image)
        if np.ndim(strength) == 0 and strength == 0 and self._returns_input and tone is None:
            return Pending([], image.copy)
        colours = image[..., :3] if kind.channels == 4 else image
        flying = [
            (
                member.weight,
                turn,
                member.restorer.submit_at(
                    turn.of(colours), _turned(strength, turn), Depth.F32, tone
                ),
            )
            for turn in self._turns
            for member in self._members
        ]
        self.plan = f"{len(flying)} outcomes averaged; {self._members[0].restorer.plan}"

        def mean() -> Image:
            total: NDArray[np.float32] | None = None
            for weight, turn, pending in flying:
                part = turn.undone(pending.result()) * np.float32(weight)
                total = part if total is None else total + part
            assert total is not None  # noqa: S101 - there is a member
            made = rounded(total, kind.depth)
            return with_alpha(made, image[..., 3]) if kind.channels == 4 else made

        return Pending([pending for _, _, pending in flying], mean)

    def close(self) -> None:
        """Close every member."""
        for member in self._members:
            member.restorer.close()


def _check_members(members: Sequence[Member]) -> None:
    first = members[0].restorer.bundle.manifest
    for member in members:
        manifest = member.restorer.bundle.manifest
        if not (np.isfinite(member.weight) and member.weight > 0):
            raise ArgumentError(f"{manifest.name}: a weight is above 0, got {member.weight:g}")
        if _what(manifest) != _what(first):
            raise ArgumentError(
                f"{first.name} ({_told(first)}) and {manifest.name} ({_told(manifest)}) cannot be"
                " averaged; models of an ensemble have one task, scale and number of channels"
            )


def _what(manifest: Manifest) -> tuple[object, ...]:
    output = manifest.output
    task = manifest.task, output.kind, output.channels, output.upscale
    return (*task, manifest.input.channels)


def _told(manifest: Manifest) -> str:
    return f"{manifest.task}, x{manifest.output.upscale}, {manifest.input.channels} channels"


def _joined(names: Iterable[str]) -> str:
    return "+".join(dict.fromkeys(names))


def _turned(strength: Strength, turn: Turn) -> Strength:
    return turn.of(strength) if isinstance(strength, np.ndarray) and strength.ndim else strength
