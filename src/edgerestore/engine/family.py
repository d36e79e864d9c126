"""Families of models: the member that holds a frame rate on a device, and the ones below it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import numpy as np

from ..bundle.bundle import Bundle
from ..bundle.precision import Precision
from ..errors import ArgumentError, EdgerestoreError
from ..imaging.arrays import Depth, ImageKind
from ..runtimes.cache import measured
from ..runtimes.machine import cpu_info, machine_key, milliseconds
from .loader import AUTO, Loader, ModelName
from .restorer import Restorer
from .speed import FRAMES, FrameTime

__all__ = [
    "HEADROOM",
    "QUALITIES",
    "ModelChoice",
    "check_family",
    "check_quality",
    "choose_member",
    "choose_model",
    "frame_time",
    "lighter_members",
]

logger = logging.getLogger(__name__)

QUALITIES = ("fast", "balanced", "best")
"""The smallest member of a family, the largest that holds the rate, the largest."""

HEADROOM = 0.85
"""Share of the time between two frames that a model may fill."""

_TRIALS, _BUDGET_S = 4, 0.25
_SLOW_S = 2.0  # frames that take so long together are timed once


@dataclass(frozen=True)
class ModelChoice:
    """A member of a family, and the reason for it.

    Parameters
    ----------
    bundle : Bundle
    reason : str
        One line.
    frame_ms : float or None
        Time of a frame here; None where nothing was measured.
    """

    bundle: Bundle
    reason: str
    frame_ms: float | None = None

    @property
    def model(self) -> Path:
        """The bundle's folder, as `load` takes it."""
        return self.bundle.folder


def choose_model(
    model: ModelName = AUTO,
    *,
    quality: str = "balanced",
    fps: float | None = None,
    size: tuple[int, int] = (1280, 720),
    device: str = "CPU",
    runtime: str = "auto",
    precision: str = "auto",
) -> ModelChoice:
    """Choose the member of a model's family that suits a stream on a device.

    Members are timed once per machine, size, device and precision, and the times are cached.

    Parameters
    ----------
    model : str or path
        Any member; ``auto`` is the default model.
    quality : str
        ``balanced`` is the largest member that holds the rate, or the smallest where none does;
        ``fast`` the smallest, ``best`` the largest, whatever the rate.
    fps : float, optional
        Frames a second; without a rate, ``balanced`` is the model itself.
    size : (int, int)
        Width and height of the frames, 8 bits deep.
    device, runtime, precision : str
        As `load` takes them.

    Returns
    -------
    ModelChoice
        `load` takes its ``model``.

    Raises
    ------
    ArgumentError
        On a value that is not usable, several models, or a model without a family.
    BundleError, DeviceError, InferenceError
        When there is no such model or device, or no member runs.
    """
    loader = Loader(model, device, runtime, precision, live=True)
    check_quality(quality)
    if fps is not None and not 0 < fps < float("inf"):
        raise ArgumentError(f"fps is a number of frames a second above 0, got {fps}")
    width, height = size
    if not (width > 0 and height > 0):
        raise ArgumentError(f"size is a width and a height above 0, got {width} x {height}")
    bundle = Bundle.find(loader.parts[0][0])
    channels = 0 if bundle.manifest.input.channels == 1 else 3
    return choose_member(loader, bundle, quality, fps, ImageKind(height, width, channels, Depth.U8))


def check_quality(quality: str) -> None:
    """Refuse what is none of `QUALITIES`."""
    if quality not in QUALITIES:
        raise ArgumentError(f"quality is one of {', '.join(QUALITIES)}, got {quality!r}")


def check_family(loader: Loader, bundle: Bundle) -> None:
    """Refuse several models, and a bundle that belongs to no family."""
    if len(loader.parts) > 1:
        raise ArgumentError(
            f"{loader.model}: a quality chooses among the sizes of one model, not of an average;"
            " name one model"
        )
    if bundle.manifest.family is None:
        raise ArgumentError(
            f"{bundle.manifest.name}: belongs to no family to choose from; leave the quality out,"
            " or convert with --family NAME"
        )


def choose_member(
    loader: Loader, bundle: Bundle, quality: str, fps: float | None, kind: ImageKind
) -> ModelChoice:
    """Choose the member of a bundle's family for frames of a kind; see `choose_model`.

    Parameters
    ----------
    loader : Loader
        Opens the members that are timed.
    bundle : Bundle
    quality : str
        One of `QUALITIES`.
    fps : float or None
    kind : ImageKind

    Raises
    ------
    ArgumentError
        Where there are several models, or the bundle has no family.
    EdgerestoreError
        Where no member runs.
    """
    check_family(loader, bundle)
    members, name = bundle.family(), bundle.manifest.name
    if len(members) == 1:
        return ModelChoice(bundle, f"the only model of its family, {bundle.manifest.family}")
    names = ", ".join(member.manifest.name for member in members)
    if quality != "balanced":
        size, member = ("smallest", members[0]) if quality == "fast" else ("largest", members[-1])
        return ModelChoice(member, f"the {size} of {names}")
    if fps is None:
        return ModelChoice(bundle, f"no rate to hold, so {name} of {names}")
    return _largest_within(HEADROOM * 1e3 / fps, fps, _timed(loader, members, kind))


def lighter_members(loader: Loader, bundle: Bundle, kind: ImageKind | None = None) -> list[Bundle]:
    """Return the members of a bundle's family that take less time, the dearest first.

    Parameters
    ----------
    loader : Loader
    bundle : Bundle
    kind : ImageKind or None
        Frames that the members are timed with; without it, multiply-adds count.

    Returns
    -------
    list of Bundle
        None of several models that are averaged.
    """
    if len(loader.parts) > 1:
        return []
    family = bundle.family()
    cheaper = family[: family.index(bundle)]
    if kind is None or not cheaper:
        return cheaper[::-1]
    # A stream goes down to a member in that one's own choice of precision.
    times = list(_timed(replace(loader, precision="auto"), [bundle, *cheaper], kind))
    own_ms = next((time.ms for one, time in times if one is bundle), float("inf"))
    faster = [(time.ms, one) for one, time in times if time.ms < own_ms]
    return [one for _, one in sorted(faster, key=lambda row: row[0], reverse=True)]


def frame_time(loader: Loader, bundle: Bundle, kind: ImageKind) -> FrameTime:
    """Return the time that a model takes for frames of a kind, from the cache or measured now.

    As many frames are in flight as keep the device busy, and nothing is taken over between them.

    Parameters
    ----------
    loader : Loader
        Says on what device, in which precision and in what tiles.
    bundle : Bundle
    kind : ImageKind

    Raises
    ------
    BundleError, DeviceError, InferenceError
    """
    precision, entry = _cached_as(loader, bundle, kind)
    plain = replace(loader, reuse_static=None, guard=False)

    def measure() -> FrameTime:
        name, size = bundle.manifest.name, (kind.width, kind.height)
        logger.info("timing %s once for %dx%d on %s", name, *size, loader.device)
        with Restorer(plain.open(bundle.folder, precision), loader=plain) as restorer:
            ms = _frame_ms(restorer, kind)
        return FrameTime(ms, *size, precision, loader.device, str(cpu_info()))

    return measured(*entry, measure, FrameTime)


def _cached_as(
    loader: Loader, bundle: Bundle, kind: ImageKind
) -> tuple[Precision, tuple[str, str, str]]:
    """Return the precision of a bundle, and part, key and machine of its time in the cache."""
    runtime, chosen = loader.settled(bundle)
    form = f"{kind.width}x{kind.height}x{kind.channels}-{kind.depth}"
    options = (loader.tta, loader.tile, loader.memory_mb)
    part = FRAMES if options == (False, "auto", None) else f"{FRAMES}-with-options"
    digest = bundle.digest(chosen.precision.stored)
    key = (digest, runtime.name, loader.device, chosen.precision, form, loader.live, *options)
    machine = f"{machine_key(runtime.name)}, {runtime.describe(loader.device)}"
    return chosen.precision, (part, "-".join(map(str, key)), machine)


def _timed(
    loader: Loader, members: Sequence[Bundle], kind: ImageKind
) -> Iterator[tuple[Bundle, FrameTime]]:
    """Yield each member that runs, with its time; raise the last failure where none does."""
    failure: EdgerestoreError | None = None
    ran = False
    for member in members:
        try:
            time = frame_time(loader, member, kind)
        except EdgerestoreError as error:
            failure = error
            logger.warning("%s is left out of its family: %s", member.manifest.name, error)
            continue
        ran = True
        yield member, time
    if failure is not None and not ran:
        raise failure


def _largest_within(
    allowed_ms: float, fps: float, times: Iterator[tuple[Bundle, FrameTime]]
) -> ModelChoice:
    """Return the last of the members, the cheapest first, before the first that is too slow."""
    held: tuple[Bundle, FrameTime] | None = None
    rate = f"the {allowed_ms:.3g} ms that {fps:.4g} frames a second allow"
    for member, time in times:
        name, took = member.manifest.name, f"{time.ms:.3g} ms"
        if time.ms <= allowed_ms:
            held = member, time
            continue
        if held is None:
            reason = f"{took} for {time.width}x{time.height}, more than {rate}, and no model of the"
            return ModelChoice(member, f"{reason} family is smaller", time.ms)
        return _held(*held, f"{rate}; {name} takes {took}")
    assert held is not None  # noqa: S101 - `_timed` yields or raises
    return _held(*held, f"{rate}; no model of the family is larger")


def _held(member: Bundle, time: FrameTime, why: str) -> ModelChoice:
    reason = f"{time.ms:.3g} ms for {time.width}x{time.height} of {why}"
    return ModelChoice(member, reason, time.ms)


def _frame_ms(restorer: Restorer, kind: ImageKind) -> float:
    shape = (kind.height, kind.width, *([kind.channels] if kind.channels else []))
    image = np.zeros(shape, kind.depth.value)

    def round_trip() -> None:
        for pending in [restorer.submit(image, 1.0) for _ in range(restorer.depth)]:
            pending.result()

    restorer.submit(image, 1.0).result()  # compiles, after which the depth is known
    began_s = perf_counter()
    round_trip()
    taken_s = perf_counter() - began_s
    if taken_s < _SLOW_S:
        # The least of several medians: what is kept must not depend on a moment's other load.
        taken_s = min(milliseconds(round_trip, _BUDGET_S) for _ in range(_TRIALS)) / 1e3
    return taken_s * 1e3 / restorer.depth
