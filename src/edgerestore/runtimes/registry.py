"""Registry of runtimes by name: rows of a lazy table, and entry points of other packages.

Another package adds a runtime by an entry point in the group ``edgerestore.runtimes``, whose
name is what ``--runtime`` takes and whose value is ``module:Class``, a class that needs no
arguments and is a `Runtime`.
"""

from __future__ import annotations

from ..errors import ArgumentError, MissingExtraError
from ..extensions import extension, extension_names, load_target
from .protocol import Runtime

__all__ = ["all_runtimes", "open_runtime", "runtime_for", "runtime_names"]

_GROUP = "edgerestore.runtimes"

# name -> module:class, and what pip installs it. The first row that serves a device has it.
_ROWS: dict[str, tuple[str, str]] = {
    "openvino": ("edgerestore.runtimes.openvino.runtime:OpenVinoRuntime", "edgerestore")
}


def runtime_names() -> list[str]:
    """Return the names of all registered runtimes, in the order in which ``auto`` tries them."""
    return [*_ROWS, *sorted(extension_names(_GROUP) - set(_ROWS))]


def open_runtime(name: str) -> Runtime:
    """Return a runtime by its name.

    Raises
    ------
    ArgumentError
        When no runtime has that name, with those that there are; or when another package's
        cannot be loaded.
    MissingExtraError
        When its library is not installed; gives the command.
    """
    if name not in _ROWS:
        made = extension(_GROUP, name)
        if made is None:
            names = ", ".join(["auto", *runtime_names()])
            raise ArgumentError(f"runtime {name} is not here; runtimes: {names}")
    else:
        target, package = _ROWS[name]
        try:
            made = load_target(target)
        except ImportError as error:
            raise MissingExtraError(
                f"runtime {name} needs a package that is not installed ({error.name}):"
                f" pip install '{package}'"
            ) from error
    runtime: Runtime = made()
    return runtime


def runtime_for(device: str, runtime: str = "auto") -> Runtime:
    """Return the runtime that serves a device.

    Parameters
    ----------
    device : str
    runtime : str
        A name, or ``auto`` for the first installed one that has the device.

    Raises
    ------
    ArgumentError
        When no runtime has that name.
    MissingExtraError
        When its library is not installed.
    """
    if runtime != "auto":
        return open_runtime(runtime)
    first, *others = runtime_names()
    preferred = open_runtime(first)
    if not others or _serves(preferred, device):
        return preferred
    serving = (one for one in all_runtimes() if _serves(one, device))
    return next(serving, preferred)  # which says what devices there are


def all_runtimes() -> list[Runtime]:
    """Return every runtime that can be loaded."""
    opened = []
    for name in runtime_names():
        try:
            opened.append(open_runtime(name))
        except (MissingExtraError, ArgumentError):
            continue
    return opened


def _serves(runtime: Runtime, device: str) -> bool:
    """Return whether a runtime has a device, or one of its kind (``GPU`` for ``GPU.0``)."""
    kinds = {name.split(".")[0] for name in runtime.devices()}
    return device.partition(":")[0].split(".")[0] in kinds
