"""Ensembles: the mean of several models, and test-time augmentation by turns and mirrorings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ...bundle.manifest import Manifest
from ...errors import ArgumentError
from ...imaging.arrays import Depth, Image, ImageKind, check_image, rounded
from ..guard import GuardCounts
from ..temporal.reuse import ReuseCounts
from .model import with_alpha
from .protocol import Pending, Predictor, Settings

__all__ = ["ORIENTATIONS", "EnsemblePredictor", "Member", "Orientation"]


@dataclass(frozen=True)
class Orientation:
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
        if self == Orientation():
            return image
        flipped = image[:, ::-1] if self.mirrored else image
        return np.ascontiguousarray(np.rot90(flipped, self.quarters))

    def undone(self, image: Image) -> Image:
        """Return a turned image as it was."""
        back = np.rot90(image, -self.quarters)
        return back[:, ::-1] if self.mirrored else back


ORIENTATIONS = tuple(Orientation(q, mirrored) for mirrored in (False, True) for q in range(4))
"""The eight turns and mirrorings of a square."""


@dataclass(frozen=True)
class Member:
    """A predictor and the weight of its outcome in the mean."""

    predictor: Predictor
    weight: float = 1.0


class EnsemblePredictor:
    """`Predictor` that averages several predictors and several orientations of the picture.

    Outcomes are averaged in f32 and rounded once. With several orientations (test-time
    augmentation) each model restores the picture once in each (Timofte, Rothe, Van Gool,
    "Seven ways to improve example-based single image super resolution", CVPR 2016).

    Parameters
    ----------
    members : sequence of Member
        Closed with the ensemble.
    orientations : sequence of Orientation

    Raises
    ------
    ArgumentError
        When the models do not do the same thing.
    """

    def __init__(
        self, members: Sequence[Member], orientations: Sequence[Orientation] = (Orientation(),)
    ) -> None:
        _check_members(members)
        self.bundle, self.plan = members[0].predictor.bundle, ""
        self.device = _joined(m.predictor.device for m in members)
        self.runtime = _joined(m.predictor.runtime for m in members)
        total = sum(member.weight for member in members) * len(orientations)
        self._members = [Member(m.predictor, m.weight / total) for m in members]
        self._describe()
        self._orientations = tuple(orientations)
        # With several, members see orientations of one frame and not one frame after another.
        self.partial = len(self._orientations) == 1

    @property
    def depth(self) -> int:
        """The least of the members': each image in flight is in flight several times over."""
        return min(member.predictor.depth for member in self._members)

    @property
    def reuse(self) -> ReuseCounts | None:
        """Counts of the first member; each compares the same pictures."""
        return self._members[0].predictor.reuse

    @property
    def guarded(self) -> GuardCounts | None:
        """Tiles of all members that the guard replaced."""
        counts = [member.predictor.guarded for member in self._members]
        known = [one for one in counts if one is not None]
        return sum(known, GuardCounts()) if known else None

    def submit(self, image: Image, kind: ImageKind, settings: Settings) -> Pending:
        """Start restoring an image with every member; see `Predictor.submit`."""
        colours = image[..., :3] if kind.channels == 4 else image
        if settings.count is not None:
            settings.count.parts = len(self._orientations) * len(self._members)
        flying: list[tuple[float, Orientation, Pending]] = []
        for orientation in self._orientations:
            turned, strength = orientation.of(colours), settings.strength
            if isinstance(strength, np.ndarray):
                strength = orientation.of(strength)
            own = replace(settings, strength=strength, depth=Depth.F32)
            own_kind = check_image(turned)
            flying += [
                (m.weight, orientation, m.predictor.submit(turned, own_kind, own))
                for m in self._members
            ]
        self._describe()  # a member may have left INT8
        self.plan = f"{len(flying)} outcomes averaged; {self._members[0].predictor.plan}"

        def mean() -> Image:
            total: NDArray[np.float32] | None = None
            for weight, orientation, pending in flying:
                part = orientation.undone(pending.result()) * np.float32(weight)
                total = part if total is None else total + part
            assert total is not None  # noqa: S101 - there is a member
            made = rounded(total, settings.depth)
            return with_alpha(made, image[..., 3]) if kind.channels == 4 else made

        return Pending([pending for _, _, pending in flying], mean)

    def _describe(self) -> None:
        predictors = [member.predictor for member in self._members]
        self.precision = _joined(one.precision for one in predictors)
        self.precision_reason = "; ".join(dict.fromkeys(one.precision_reason for one in predictors))

    def forget(self) -> None:
        """Let every member infer all of the next image."""
        for member in self._members:
            member.predictor.forget()

    def close(self) -> None:
        """Close every member."""
        for member in self._members:
            member.predictor.close()


def _check_members(members: Sequence[Member]) -> None:
    first = members[0].predictor.bundle.manifest
    for member in members:
        manifest = member.predictor.bundle.manifest
        if _interface(manifest) != _interface(first):
            raise ArgumentError(
                f"{first.name} ({_kind(first)}) and {manifest.name} ({_kind(manifest)}) cannot be"
                " averaged; models of an ensemble have one task, scale and number of channels"
            )


def _interface(manifest: Manifest) -> tuple[object, ...]:
    output = manifest.output
    kept = (output.kind, output.channels, output.upscale, manifest.input.channels)
    return (manifest.task, *kept)


def _kind(manifest: Manifest) -> str:
    return f"{manifest.task}, x{manifest.output.upscale}, {manifest.input.channels} channels"


def _joined(names: Iterable[str]) -> str:
    return "+".join(dict.fromkeys(names))
