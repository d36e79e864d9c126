"""Choice of the intensity mapping of one image after another, and what it came to."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle.bundle import Bundle
from ..errors import ArgumentError, counted
from ..imaging.arrays import Depth, Image, check_image, not_finite, out_of_range
from .intensity import IntensityMapping, IntensityRange, RangeKind
from .predictors.model import with_alpha
from .predictors.protocol import Pending, Predictor, Settings

__all__ = ["IntensityCounts", "IntensityMapper", "submit_mapped"]

logger = logging.getLogger(__name__)

_MUCH_OUTSIDE = 0.01


@dataclass(frozen=True)
class IntensityCounts:
    """What intensities were mapped.

    Parameters
    ----------
    range : str
        As it was asked for.
    low, high : float or None
        Window of the latest image that was mapped; None before there is one.
    mapped : int
        Images that were mapped.
    outside : int
        Values of all images that lay outside their window and passed through.
    """

    range: str
    low: float | None = None
    high: float | None = None
    mapped: int = 0
    outside: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


class IntensityMapper:
    """Chooses the mapping of one image after another; frames of a stream keep their first.

    Its methods are called by one thread at a time.

    Parameters
    ----------
    wanted : IntensityRange

    Attributes
    ----------
    counts : IntensityCounts
    note : str
        On the latest image that was mapped, for its file.
    """

    def __init__(self, wanted: IntensityRange) -> None:
        self.wanted = wanted
        self.counts, self.note = IntensityCounts(str(wanted)), ""
        self._latest: IntensityMapping | None = None
        self._fixed: dict[tuple[Depth, str], IntensityMapping | None] = {}
        self._told: set[str] = set()

    def forget(self) -> None:
        """Let the next frame of a stream decide."""
        self._fixed.clear()

    def maps(self, depth: Depth) -> bool:
        """Return whether the next image of a depth will be mapped, as far as is known."""
        stated = self.wanted.kind in (RangeKind.VALUES, RangeKind.PERCENTILES)
        return stated or (depth is not Depth.U8 and self._latest is not None)

    def check(self, bundle: Bundle) -> None:
        """Refuse a range that a model has no use for.

        Raises
        ------
        ArgumentError
            When one is stated, and the model makes masks.
        """
        traits, stated = bundle.manifest.output.kind.traits, (RangeKind.AUTO, RangeKind.FULL)
        if self.wanted.kind not in stated and not traits.blended:
            raise ArgumentError(
                f"{bundle.manifest.name} {traits.does}; a range of intensities is of restored"
                " pictures"
            )

    def mapping(
        self, image: Image, bundle: Bundle, *, steady: bool, series: str = ""
    ) -> IntensityMapping | None:
        """Return the mapping of the next image, and count what it leaves outside.

        Parameters
        ----------
        image : ndarray, of native byte order
        bundle : Bundle
            Nothing is mapped for a model that makes masks.
        steady : bool
            The image is a frame of a stream. What the first one that is not of one value tells
            then holds for all of its depth. Colours of a stream are graded for all of their
            range, which is what ``auto`` keeps.
        series : str
            Of several in one stream, such as the channels of a microscope; each has its own first
            image.

        Raises
        ------
        ArgumentError
            On floats that are not finite, and on those outside [0, 1] where nothing is mapped.
        """
        if wrong := not_finite(image):
            raise ArgumentError(f"the image {wrong}")
        found = None
        if bundle.manifest.output.kind.traits.blended:
            colours = _colours(image)
            found = self._chosen(colours, series, steady=steady)
            self._count(colours, found)
        if found is None and (wrong := out_of_range(image)):
            raise ArgumentError(f"the image {wrong}")
        return found

    def _chosen(self, image: Image, series: str, *, steady: bool) -> IntensityMapping | None:
        depth = Depth(image.dtype.name)
        if steady and (depth, series) in self._fixed:
            found = self._fixed[depth, series]
        else:
            graded = steady and image.ndim == 3 and image.shape[2] == 3 and depth is Depth.U16
            auto = self.wanted.kind is RangeKind.AUTO
            found = None if auto and graded else self.wanted.mapping(image)
            if steady and image.min() != image.max():
                self._fixed[depth, series] = found
        self._latest = found
        return found

    def _count(self, image: Image, found: IntensityMapping | None) -> None:
        if found is None:
            return
        was = self.counts
        outside = int(np.count_nonzero(found.outside(image)))
        self.counts = IntensityCounts(
            was.range, found.low, found.high, was.mapped + 1, was.outside + outside
        )
        seen = f"intensities {found} are seen as black to white ({was.range})"
        self.note = f"edgerestore: {seen}; {counted(outside, 'value')} outside passed through"
        self._tell(logging.INFO, seen)
        if outside > _MUCH_OUTSIDE * image.size:
            self._tell(
                logging.WARNING,
                f"{outside / image.size:.0%} of the values lie outside {found} and pass through"
                " as they are; give a wider range",
            )

    def _tell(self, level: int, line: str) -> None:
        """Log the first line of a level: a folder of frames has a window for each."""
        name = logging.getLevelName(level)
        if name not in self._told:
            self._told.add(name)
            logger.log(level, "%s", line)


def submit_mapped(
    predictor: Predictor,
    mapping: IntensityMapping,
    levels: NDArray[np.float32],
    image: Image,
    settings: Settings,
    note: str,
) -> Pending:
    """Start restoring the levels of an image; the outcome is in the image's values.

    Parameters
    ----------
    predictor : Predictor
        Of a model that restores images.
    mapping : IntensityMapping
    levels : ndarray, f32
        What the mapping made of the image; its alpha does not count.
    image : ndarray
        Read until the outcome is there; its alpha goes around.
    settings : Settings
        ``depth`` does not count.
    note : str
        On the mapping.
    """
    upscale = predictor.bundle.manifest.output.upscale
    seen, own = _colours(levels), _colours(image)
    pending = predictor.submit(seen, check_image(seen), replace(settings, depth=Depth.F32))
    strength = settings.strength if settings.tone is None else 1.0

    def values() -> Image:
        made = mapping.values(pending.result(), own, strength, upscale)
        return made if own is image else with_alpha(made, image[..., 3])

    return Pending([pending], values, note=note)


def _colours(image: Image) -> Image:
    return image[..., :3] if image.shape[2:] == (4,) else image
