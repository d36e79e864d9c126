"""Frame times of a model: recorded in its bundle, or measured on this machine and cached."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ..bundle.bundle import Bundle
from ..bundle.manifest import Side, TilingMode
from ..bundle.precision import Precision
from ..runtimes.cache import Measure, recorded
from ..runtimes.machine import cpu_info

__all__ = ["FRAMES", "FrameTime", "known_frame_time", "recorded_frame_times", "speed_class"]

FRAMES = "frames"
"""The part of the cache that holds frame times."""

_NOMINAL_PX = 1280 * 720
_RATES = (60, 30, 15, 5, 1)
_SHAPE = r"([1-9]\d{0,4})x([1-9]\d{0,4})"


@dataclass(frozen=True)
class FrameTime:
    """Time that a model takes for a frame, and where that was measured.

    Parameters
    ----------
    ms : float
        For each of many frames.
    width, height : int
        Of the frame.
    precision, device : str
    machine : str
        Processor, instruction sets and cores, as `Cpu` is printed.
    origin : str
        ``here``, or ``bundle`` where conversion measured it.
    """

    ms: Measure
    width: Side
    height: Side
    precision: str
    device: str
    machine: str
    origin: str = "here"

    @property
    def pixels(self) -> int:
        """Pixels of the frame."""
        return self.width * self.height


def known_frame_time(bundle: Bundle) -> FrameTime | None:
    """Return the time of a model for a frame as far as it is known, without measuring.

    Times of a processor like this one go before others, then those of 1280x720, then the fastest.
    """

    def rank(time: FrameTime) -> tuple[bool, bool, float]:
        return time.machine != str(cpu_info()), time.pixels != _NOMINAL_PX, time.ms / time.pixels

    return min([*_cached(bundle), *recorded_frame_times(bundle)], key=rank, default=None)


def speed_class(bundle: Bundle, time: FrameTime) -> str:
    """Return the highest of some usual rates that a model holds at 1280x720, as text."""
    # A model that judges a thumbnail takes as long for any frame.
    whole = bundle.manifest.tiling.mode is TilingMode.WHOLE
    fps = 1e3 / (time.ms * (1 if whole else _NOMINAL_PX / time.pixels))
    return next((f"{rate} fps" for rate in _RATES if fps >= rate), "under 1 fps")


def _cached(bundle: Bundle) -> Iterator[FrameTime]:
    for variant in bundle.manifest.variants:
        yield from recorded(FRAMES, bundle.digest(variant), str(cpu_info()), FrameTime)


def recorded_frame_times(bundle: Bundle) -> Iterator[FrameTime]:
    """Yield the times in the manifest, of the variant that serves each precision.

    They are free facts: nothing about them is certain.
    """
    names = {precision.hint: str(precision) for precision in Precision}
    serving = {precision.hint: precision.stored for precision in Precision}
    for name, variant in bundle.manifest.variants.items():
        for row in variant.timings:
            stored = serving.get(str(row.get("precision")))
            if stored != name and stored in bundle.manifest.variants:
                continue
            ms, shape = row.get("ms"), re.fullmatch(_SHAPE, str(row.get("shape")))
            if shape and isinstance(ms, (int, float)) and ms > 0:
                precision = str(row.get("precision"))
                yield FrameTime(
                    float(ms),
                    int(shape[1]),
                    int(shape[2]),
                    names.get(precision, precision),
                    "CPU",
                    f"{row.get('cpu')}, {row.get('isa')}, {row.get('cores')} cores",
                    "bundle",
                )
