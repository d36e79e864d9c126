"""The rule by which ``--precision auto`` chooses, and the check of an explicit choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import ArgumentError
from ..manifest import Manifest
from ..runtimes.protocol import Precision

__all__ = ["ChosenPrecision", "choose_precision"]

_HALVES = ("bf16", "fp16")
_NAMES = ("auto", "fp32", *_HALVES, "int8")


@dataclass(frozen=True)
class ChosenPrecision:
    """A precision and why."""

    precision: Precision
    reason: str


def choose_precision(
    wanted: str, manifest: Manifest, native: Sequence[Precision]
) -> ChosenPrecision:
    """Choose what to compute in.

    Parameters
    ----------
    wanted : str
        ``auto`` or a precision.
    manifest : Manifest
        Says which variants the bundle has.
    native : sequence of str
        What the device computes natively, its preferred half first.

    Raises
    ------
    ArgumentError
        On a name that is none. Whether the device and the bundle have an explicit
        precision is for the runtime to say.
    """
    if wanted not in _NAMES:
        raise ArgumentError(f"precision is one of {', '.join(_NAMES)}, got {wanted!r}")
    if wanted != "auto":
        return ChosenPrecision(wanted, "asked for")
    half = next((p for p in native if p in _HALVES), None)
    if "int8" in manifest.variants and "int8" in native:
        return ChosenPrecision("int8", "the bundle has it, so it kept its quality budget")
    if half is not None and "fp16" in manifest.variants:
        return ChosenPrecision(half, "the device's native half")
    return ChosenPrecision("fp32", "the device has no native half")
