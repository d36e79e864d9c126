"""Trial of a network on degraded pictures: PSNR of what is given and of what is restored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..imaging.arrays import Planes, pixels_of, planes_of
from ..imaging.bicubic import resized
from ..imaging.degradations.registry import Degradation
from ..imaging.metrics import psnr
from .samples import Samples

__all__ = ["Answer", "Outcome", "Trial"]

Answer = Callable[[Planes], Planes]
"""The network within its signature, at strength 1."""

_CROPS, _SIDE_PX = 2, 128
_MOST_DB = 40.0  # above it networks differ by rounding
# Networks trained to invent detail, or for other damage, do not return clean pictures exactly.
_GIVEN_MOST_DB = 30.0
_CLEARLY_DB, _EVERYWHERE_DB, _SLIGHTLY_DB = 4.0, 1.0, 0.5

_Steps = tuple[Degradation, ...]


@dataclass(frozen=True)
class Outcome:
    """Mean PSNR on crops of one degradation.

    Parameters
    ----------
    steps : tuple of Degradation
    given_db : float
        Of the input, enlarged bicubically where the network enlarges.
    restored_db : float
        Minus infinity where the network returns no numbers.
    """

    steps: _Steps
    given_db: float
    restored_db: float

    @property
    def loss_db(self) -> float:
        """How much worse the restored is than the given; what is nearly clean counts less."""
        return min(self.given_db, _GIVEN_MOST_DB) - self.restored_db

    def __str__(self) -> str:
        """Return the two figures and the degradation, for a line of progress."""
        how = ", then ".join(step.describe() for step in self.steps)
        return f"{self.given_db:.1f} dB given, {self.restored_db:.1f} dB restored ({how})"


@dataclass(frozen=True)
class Trial:
    """Degraded crops of the samples, the same for everything that is tried on them.

    Parameters
    ----------
    samples : Samples
    task : str
        Of the manifest.
    upscale : int
    """

    samples: Samples
    task: str
    upscale: int

    @property
    def known(self) -> bool:
        """Whether it is known what such a network removes."""
        return Degradation.for_task(self.task, self.upscale).kind != "none"

    def outcomes(self, answer: Answer, kinds: Sequence[_Steps]) -> list[Outcome]:
        """Run a network on crops of each degradation.

        Raises
        ------
        ConversionError
            When the network fails.
        """
        return [self._outcome(answer, steps) for steps in kinds]

    def score(self, answer: Answer) -> float:
        """Return the mean PSNR of what is restored of the task's own degradation.

        Raises
        ------
        ConversionError
            When the network fails.
        """
        kinds = self.kinds[:1] if self.known else self.kinds
        return float(np.mean([one.restored_db for one in self.outcomes(answer, kinds)]))

    def restored(self, answer: Answer) -> bool:
        """Return whether what a network restores is better than what it is given.

        Raises
        ------
        ConversionError
            When the network fails.
        """
        (own,) = self.outcomes(answer, self.kinds[:1])
        return own.restored_db > own.given_db + _SLIGHTLY_DB

    def judge(self, answer: Answer) -> tuple[Outcome, bool | None]:
        """Judge whether a network restores.

        Returns
        -------
        Outcome, bool or None
            On the task's own degradation; True where it restores, None where the outcome is a
            little worse than the input, False where it is far worse, on every degradation.

        Raises
        ------
        ConversionError
            When the network fails.
        """
        (own,) = self.outcomes(answer, self.kinds[:1])
        if own.loss_db <= _SLIGHTLY_DB:
            return own, True
        others = self.outcomes(answer, self.kinds[1:]) if own.loss_db > _CLEARLY_DB else []
        clear = bool(others) and all(one.loss_db > _EVERYWHERE_DB for one in others)
        return own, False if clear else None

    @cached_property
    def kinds(self) -> tuple[_Steps, ...]:
        """Degradations that such a network may be trained for, the task's own first."""
        own = Degradation.for_task(self.task, self.upscale)
        noise, strong, jpeg = (
            Degradation("noise", 10),
            Degradation("noise"),
            Degradation("jpeg", 50),
        )
        if self.upscale > 1:
            return (own,), (own, noise), (own, jpeg), (own, strong)
        others = {
            "noise": (noise, Degradation("noise", 50)),
            "blur": (Degradation("defocus", 3), Degradation("shake"), noise),
            "jpeg": (jpeg, Degradation("jpeg", 10)),
            "none": (Degradation("blur"), strong),
        }.get(own.kind, ())
        return (own,), *((one,) for one in others)

    @cached_property
    def _clean(self) -> list[NDArray[np.float32]]:
        side = _SIDE_PX * self.upscale
        count = min(_CROPS, len(self.samples.images))
        return [pixels_of(self.samples.crop(index, side, side)) for index in range(count)]

    def _outcome(self, answer: Answer, steps: _Steps) -> Outcome:
        rng = np.random.default_rng(0)
        given_db, restored_db = [], []
        for clean in self._clean:
            given = clean
            for step in steps:
                given = step.apply(given, rng)
            large = resized(given, *clean.shape[:2]) if self.upscale > 1 else given
            restored = pixels_of(answer(planes_of(given)))
            given_db.append(min(_MOST_DB, psnr(np.clip(large, 0, 1), clean)))
            restored_db.append(min(_MOST_DB, psnr(restored, clean)))
        found = float(np.mean(restored_db))
        return Outcome(
            steps, float(np.mean(given_db)), found if np.isfinite(found) else -np.inf
        )  # a network may blow up in a wrong range
