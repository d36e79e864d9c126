"""Every error that the package raises on purpose, and the exit code each one means.

A message is one line: what is wrong, where, and what to do about it.
"""

from __future__ import annotations

import re
from typing import ClassVar

__all__ = [
    "ArgumentError",
    "BundleError",
    "BusyError",
    "CheckpointError",
    "ConversionError",
    "DeviceError",
    "DeviceLostError",
    "EdgerestoreError",
    "InferenceError",
    "MissingExtraError",
    "NoAnswerError",
    "OutOfDeviceMemoryError",
    "QuantizationError",
    "SinkClosedError",
    "SinkError",
    "SourceError",
    "SourceLostError",
    "TrainingError",
    "VerificationError",
    "counted",
    "first_line",
    "printable",
]


class EdgerestoreError(Exception):
    """The root of the tree: catch this to catch them all."""

    exit_code: ClassVar[int] = 1


class ArgumentError(EdgerestoreError, ValueError):
    """A value that was handed in is not usable: range, shape, dtype, spelling."""

    exit_code = 2


class BusyError(ArgumentError):
    """A change while another one is under way, which it has to wait for."""


class MissingExtraError(EdgerestoreError, ImportError):
    """A part that is not installed; the message gives the command that installs it."""

    exit_code = 2


class DeviceError(EdgerestoreError):
    """A device that is not there, or a precision it does not have."""


class BundleError(EdgerestoreError):
    """A bundle that is missing, incomplete, edited, or of a newer format."""


class CheckpointError(EdgerestoreError):
    """A trained model that cannot be read, or does not fit the network."""


class ConversionError(EdgerestoreError):
    """A network that could not be carried over to ONNX or OpenVINO."""


class QuantizationError(ConversionError):
    """A network that cannot be quantized, or is quantized already."""


class TrainingError(EdgerestoreError):
    """A training run that cannot go on: its loss is not finite."""


class VerificationError(EdgerestoreError):
    """A converted model that is not the model: parity or quality outside its budget."""

    exit_code = 3


class InferenceError(EdgerestoreError):
    """The runtime failed while compiling or running a model."""


class NoAnswerError(InferenceError):
    """The device did not answer in time: its driver hangs, or it is far too slow."""


class OutOfDeviceMemoryError(InferenceError):
    """The device's memory does not hold the work; a smaller tile may fit."""


class DeviceLostError(InferenceError):
    """The device went away or was reset: what is in flight fails; the next image opens it anew."""


class SourceError(EdgerestoreError):
    """Input that is missing, unreadable, empty or not what it says."""


class SourceLostError(SourceError):
    """Input that was there and went away."""

    exit_code = 4


class SinkError(EdgerestoreError):
    """Output that cannot be written."""


class SinkClosedError(SinkError):
    """Whoever took the output has gone (a player's window was closed).

    A person does that on purpose: a live stream without another output ends there as if it
    had been stopped, and a second output goes on.
    """


def first_line(error: BaseException, limit: int = 240) -> str:
    """Return the first line of an error's message that is not blank.

    Parameters
    ----------
    error : BaseException
    limit : int
        Characters at the most.

    Returns
    -------
    str
        Without surrounding blanks; the name of the error's class where the message is empty.
    """
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)[:limit]


# Controls of a terminal, and overrides of the writing direction; not the end of a line, not a tab.
_STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Return a text without what steers a terminal: names in files say what their authors chose."""
    return _STEERING.sub(" ", text.encode("utf-8", "backslashreplace").decode())


def counted(count: int, noun: str) -> str:
    """Return a count with its noun, in the plural where it is not 1."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
