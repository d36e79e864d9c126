"""Which runtime serves which device."""

from __future__ import annotations

from importlib import import_module

from ..errors import MissingExtraError
from .protocol import Runtime

__all__ = ["all_runtimes", "runtime_for"]

# device prefix -> module, class, the extra that installs it; the last row takes the rest,
# because OpenVINO's device strings are passed on verbatim.
_ROWS: tuple[tuple[str, str, str, str], ...] = (
    ("", ".openvino.runtime", "OpenVinoRuntime", "edgerestore"),
)


def all_runtimes() -> list[Runtime]:
    """Return every runtime that is installed."""
    return [_open(module, name) for _, module, name, _ in _ROWS]


def runtime_for(device: str) -> Runtime:
    """Return the runtime of a device string.

    Raises
    ------
    MissingExtraError
        When its library is not installed.
    """
    _, module, name, extra = next(row for row in _ROWS if device.startswith(row[0]))
    try:
        return _open(module, name)
    except ImportError as error:
        raise MissingExtraError(
            f"device {device} needs a package that is not installed ({error.name}):"
            f" pip install '{extra}'"
        ) from error


def _open(module: str, name: str) -> Runtime:
    runtime: Runtime = getattr(import_module(module, __package__), name)()
    return runtime
