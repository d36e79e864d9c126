"""The rule by which ``--precision auto`` chooses, and the check of an explicit choice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..bundle.manifest import Manifest
from ..bundle.precision import Precision
from ..errors import ArgumentError

__all__ = ["ChosenPrecision", "Pace", "choose_precision"]

_NAMES = ("auto", *Precision)


@dataclass(frozen=True)
class ChosenPrecision:
    """A precision and why."""

    precision: Precision
    reason: str


@dataclass(frozen=True)
class Pace:
    """How long a frame takes in INT8 and in the float precision that it competes with.

    Parameters
    ----------
    int8_ms, rival_ms : float
        On one device, for frames of one size.
    origin : str
        Where the numbers are from, to be read after "measured".
    """

    int8_ms: float
    rival_ms: float
    origin: str


def choose_precision(
    wanted: str,
    manifest: Manifest,
    native: Sequence[Precision],
    pace: Callable[[Precision], Pace],
) -> ChosenPrecision:
    """Choose what to compute in.

    Parameters
    ----------
    wanted : str
        ``auto`` or a precision.
    manifest : Manifest
        Says which variants the bundle has, and whether INT8 kept its quality budget.
    native : sequence of str
        What the device computes natively, its preferred half first.
    pace : callable
        From a float precision to INT8's pace beside it on the device. It may have to
        measure, so it is asked only where INT8 could be taken.

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
    rival = float_choice.precision
    found = pace(rival)
    if found.int8_ms < found.rival_ms:
        gain = found.rival_ms / found.int8_ms
        return ChosenPrecision(
            Precision.INT8, f"{gain:.2f} times as fast as {rival} here (measured {found.origin})"
        )
    return ChosenPrecision(
        rival,
        f"int8 measured slower here ({found.int8_ms:.3g} ms against {found.rival_ms:.3g} ms"
        f" {found.origin})",
    )


def _native_float(manifest: Manifest, native: Sequence[Precision]) -> ChosenPrecision:
    half = next((p for p in native if p.is_half), None)
    if half is None:
        return ChosenPrecision(Precision.FP32, "the device has no native half")
    if half.stored not in manifest.variants:
        return ChosenPrecision(Precision.FP32, f"the bundle has no {half.stored} model")
    return ChosenPrecision(half, "the device's native half")


def _over_budget(quality: dict[str, object]) -> str:
    lost, allowed = quality.get("loss_db"), quality.get("budget_db")
    if not isinstance(lost, (int, float)) or not isinstance(allowed, (int, float)):
        return "the bundle's int8 is over its quality budget"
    return f"the bundle's int8 loses {lost:.3g} dB, over its quality budget of {allowed:g} dB"
