"""Choice of the inference precision: the rule of ``auto``, and INT8 timed against float.

Whether INT8 is faster than float on a device is taken from the bundle's timings where they are
of this CPU, else measured once and cached.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import numpy as np

from ..bundle.bundle import Bundle
from ..bundle.manifest import Manifest, TilingMode
from ..bundle.precision import Precision
from ..errors import ArgumentError
from ..imaging.arrays import ChannelOrder, Depth, round_up
from ..runtimes.cache import Measure, measured
from ..runtimes.limits import usable_threads
from ..runtimes.machine import cpu_info, machine_key, paired_times
from ..runtimes.protocol import InferQueue, QueueSpec, Runtime
from .cancellation import check_cancelled

__all__ = [
    "ChosenPrecision",
    "Pace",
    "choose_precision",
    "int8_pace",
    "round_trip",
    "trial_spec",
]

_NAMES = ("auto", *Precision)
_SIDE_PX = 256
_UPSCALED_SIDE_PX = 128  # a pixel of a model that enlarges is several times the work
_BUDGET_S = 1.5
_MOST_ROUNDS = 15
_NOISE = 1.2  # identical settings differed by 0.85 to 1.14 between medians


@dataclass(frozen=True)
class ChosenPrecision:
    """A precision and the reason for it.

    Parameters
    ----------
    precision : Precision
    reason : str
    rival : Precision or None
        Float precision that ``auto`` would take in the place of INT8.
    """

    precision: Precision
    reason: str
    rival: Precision | None = None


@dataclass(frozen=True)
class Pace:
    """Time of a frame in INT8 and in the float precision that it competes with.

    Parameters
    ----------
    int8_ms, rival_ms : float
        On one device, for frames of one size.
    origin : str
        Where the numbers are from, to be read after "measured".
    low, high : float or None
        Interval of how many times as fast INT8 is; None where only the times are known.
    """

    int8_ms: Measure
    rival_ms: Measure
    origin: str
    low: Measure | None = None
    high: Measure | None = None

    @property
    def gain(self) -> float:
        """How many times as fast INT8 is."""
        return self.rival_ms / self.int8_ms

    @property
    def interval(self) -> tuple[float, float]:
        """What the gain lies in; where only two times are known, a fifth of it either way."""
        if self.low is None or self.high is None:
            return self.gain / _NOISE, self.gain * _NOISE
        return self.low, self.high


def choose_precision(
    wanted: str, manifest: Manifest, native: Sequence[Precision], pace: Callable[[Precision], Pace]
) -> ChosenPrecision:
    """Choose the inference precision.

    Parameters
    ----------
    wanted : str
        ``auto`` or a precision.
    manifest : Manifest
        Says which variants the bundle has, and whether INT8 kept its quality budget.
    native : sequence of str
        What the device computes natively, its preferred half first.
    pace : callable
        From a float precision to the times of INT8 and of it on the device. It may have to
        measure, so it is called only where INT8 could be taken.

    Raises
    ------
    ArgumentError
        On a name that is none. Whether the device and the bundle have an explicit
        precision is for the runtime to say.
    """
    if wanted not in _NAMES:
        raise ArgumentError(f"precision is one of {', '.join(_NAMES)}, got {wanted!r}")
    if wanted != "auto":
        return ChosenPrecision(Precision(wanted), "asked for")
    float_choice = _native_float(manifest, native)
    if "int8" not in manifest.variants or "int8" not in native:
        return float_choice
    quality = manifest.variants["int8"].quality
    if quality.get("within_budget") is False:
        return ChosenPrecision(float_choice.precision, _over_budget(quality))
    if one := _judged_on_one(quality):
        return ChosenPrecision(float_choice.precision, one)
    rival = float_choice.precision
    found = pace(rival)
    low, high = found.interval
    if low > 1:
        gain = f"{found.gain:.2f} times as fast as {rival} here"
        return ChosenPrecision(Precision.INT8, f"{gain} (measured {found.origin})", rival)
    if high > 1:
        between = f"{low:.2f} to {high:.2f} times as fast as {rival}, measured {found.origin}"
        return ChosenPrecision(rival, f"int8 is undecided here ({between})")
    times = f"{found.int8_ms:.3g} ms against {found.rival_ms:.3g} ms {found.origin}"
    return ChosenPrecision(rival, f"int8 measured slower here ({times})")


def _native_float(manifest: Manifest, native: Sequence[Precision]) -> ChosenPrecision:
    half = next((p for p in native if p.is_half), None)
    if half is None:
        return ChosenPrecision(Precision.FP32, "the device has no native half")
    if half.stored not in manifest.variants:
        return ChosenPrecision(Precision.FP32, f"the bundle has no {half.stored} model")
    return ChosenPrecision(half, "the device's native half")


def _judged_on_one(quality: dict[str, object]) -> str | None:
    """Return why INT8 is not trusted that was judged on one of several kinds of input."""
    kinds = quality.get("kinds")
    if not isinstance(kinds, dict) or len(kinds) < 2:
        return None
    judged = [name for name, row in kinds.items() if isinstance(row, dict) and row.get("judged")]
    if len(judged) != 1:
        return None
    return (
        f"the bundle's int8 was judged on one kind of input, {judged[0]}; --precision int8 runs it"
    )


def _over_budget(quality: dict[str, object]) -> str:
    lost, allowed = quality.get("loss_db"), quality.get("budget_db")
    if not isinstance(lost, (int, float)) or not isinstance(allowed, (int, float)):
        return "the bundle's int8 is over its quality budget"
    return f"the bundle's int8 loses {lost:.3g} dB, over its quality budget of {allowed:g} dB"


def int8_pace(bundle: Bundle, runtime: Runtime, device: str, rival: Precision) -> Pace:
    """Return the times of INT8 and of a float precision on a device.

    Timings in the manifest count where they were made on this very CPU. Otherwise both
    variants are compiled for a small frame and timed, once: the outcome is kept in the
    cache for as long as bundle and machine stay the same.

    Parameters
    ----------
    bundle : Bundle
        With an ``int8`` variant and the one that serves ``rival``.
    runtime : Runtime
    device : str
        Must have ``int8`` and ``rival``.
    rival : str
        ``fp32``, ``bf16`` or ``fp16``.

    Raises
    ------
    BundleError, DeviceError, InferenceError
        Where a variant cannot be loaded or compiled.
    """
    recorded = _recorded(bundle.manifest, rival) if _as_recorded(runtime, device) else None
    if recorded is not None and not recorded.interval[0] < 1 < recorded.interval[1]:
        return recorded
    digests = f"{bundle.digest('int8')}-{bundle.digest(rival.stored)}"
    return measured(
        "precision",
        f"{digests}-{runtime.name}-{device}-{rival}",
        f"{machine_key(runtime.name)}, {runtime.describe(device)}",
        lambda: _measure(bundle, runtime, device, rival),
        Pace,
    )


def _as_recorded(runtime: Runtime, device: str) -> bool:
    """Return whether times are those that conversion measures: OpenVINO's, with all threads."""
    return runtime.name == "openvino" and device == "CPU" and usable_threads() >= cpu_info().cores


def _recorded(manifest: Manifest, rival: Precision) -> Pace | None:
    """Look for timings that conversion made on this CPU, of both and at one shape."""
    int8 = _times_ms(manifest, Precision.INT8)
    floats = _times_ms(manifest, rival)
    shared = int8.keys() & floats.keys()
    if not shared:
        return None
    shape = max(shared, key=int8.__getitem__)  # the longest time is the least noisy
    return Pace(int8[shape], floats[shape], f"at conversion, {shape}")


def _times_ms(manifest: Manifest, precision: Precision) -> dict[str, float]:
    """Return a precision's times on this CPU by shape; the last one of a shape counts."""
    cpu = cpu_info()
    wanted = {"precision": precision.hint, "cpu": cpu.name, "isa": cpu.isa, "cores": cpu.cores}
    times = {}
    for row in manifest.variants[precision.stored].timings:
        # Free facts, so nothing about them is certain.
        if isinstance(row, dict) and all(row.get(key) == value for key, value in wanted.items()):
            ms, shape = row.get("ms"), row.get("shape")
            if isinstance(shape, str) and isinstance(ms, (int, float)) and ms > 0:
                times[shape] = float(ms)
    return times


def _measure(bundle: Bundle, runtime: Runtime, device: str, rival: Precision) -> Pace:
    spec = trial_spec(bundle.manifest)
    with ExitStack() as opened:
        queues = {}
        for precision in (Precision.INT8, rival):
            check_cancelled()
            model = runtime.load(bundle, device, precision, live=False)
            queues[precision] = model.open_queue(spec)
            opened.callback(queues[precision].close)
        int8, other = queues[Precision.INT8], queues[rival]
        # Rounds of the float model by rounds of INT8: the gain, but for the requests of each.
        times = paired_times(
            partial(round_trip, other, bundle.manifest),
            partial(round_trip, int8, bundle.manifest),
            budget_s=_BUDGET_S,
            most=_MOST_ROUNDS,
        )
    each = int8.requests / other.requests
    return Pace(
        times.second_ms / int8.requests,
        times.first_ms / other.requests,
        f"on this device, {spec.width}x{spec.height}",
        times.low * each,
        times.high * each,
    )


def trial_spec(manifest: Manifest) -> QueueSpec:
    """Return the small frame that precisions and runtimes are timed on."""
    side = _side_px(manifest)
    grey = manifest.input.channels == 1
    return QueueSpec(side, side, Depth.U8, ChannelOrder.GRAY if grey else ChannelOrder.RGB)


def _side_px(manifest: Manifest) -> int:
    side = _SIDE_PX if manifest.output.upscale == 1 else _UPSCALED_SIDE_PX
    if manifest.tiling.mode is TilingMode.WINDOWED:
        side = min(side, manifest.tiling.window_px or side)
    return round_up(max(side, manifest.input.minimum_px), manifest.input.multiple_of)


def round_trip(queue: InferQueue, manifest: Manifest) -> None:
    """Keep the device as busy as a stream does, so that what is timed is what is used."""
    spec = queue.spec
    image = np.zeros((spec.height, spec.width, manifest.input.channels), spec.depth.value)
    corners = [
        np.empty((1, 1, manifest.output.channels), spec.depth.value) for _ in range(queue.requests)
    ]
    for completion in [queue.submit(image, 1.0, corner) for corner in corners]:
        completion.result()
