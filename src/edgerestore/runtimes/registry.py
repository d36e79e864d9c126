"""Registry of runtimes by name: rows of a lazy table, and entry points of other packages.

Another package adds a runtime by an entry point in the group ``edgerestore.runtimes``, whose
name is what ``--runtime`` takes and whose value is ``module:Class``, a class that needs no
arguments and is a `Runtime`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from ..errors import ArgumentError, EdgerestoreError, MissingExtraError
from ..extensions import extension, extension_names, load_target
from .protocol import Runtime
from .survey import DeviceFacts, RuntimeFacts, Survey

__all__ = [
    "all_runtimes",
    "open_runtime",
    "runtime_for",
    "runtime_names",
    "runtime_table",
    "runtimes_for",
]

_GROUP = "edgerestore.runtimes"


@dataclass(frozen=True)
class _Row:
    """A runtime that comes with the package.

    Parameters
    ----------
    target : str
        ``module:class``.
    survey : str
        ``module:function`` that tells what is there without importing the library.
    package : str
        What pip installs it with.
    """

    target: str
    survey: str
    package: str


_HERE = "edgerestore.runtimes"
# The first row that serves a device has it.
_ROWS = {
    "openvino": _Row(
        f"{_HERE}.openvino.runtime:OpenVinoRuntime", f"{_HERE}.survey:openvino", "edgerestore"
    ),
    "onnxruntime": _Row(
        f"{_HERE}.onnxruntime.runtime:OnnxRuntime",
        f"{_HERE}.survey:onnxruntime",
        "edgerestore[onnx]",
    ),
    "pytorch": _Row(
        f"{_HERE}.pytorch.runtime:PyTorchRuntime", f"{_HERE}.survey:pytorch", "edgerestore[torch]"
    ),
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
        made = _loaded(name, _ROWS[name])
    runtime: Runtime = made()
    return runtime


def _loaded(name: str, row: _Row) -> type[Runtime]:
    survey: Survey = load_target(row.survey)
    # What is known to be broken is told as that; importing it may end anywhere.
    fault = survey().fault
    if fault is not None:
        raise MissingExtraError(f"runtime {name}: {fault}")
    try:
        made: type[Runtime] = load_target(row.target)
    except ImportError as error:
        missing = f"needs {error.name}, which is not installed" if error.name else str(error)
        raise MissingExtraError(f"runtime {name} {missing}: pip install '{row.package}'") from error
    return made


def runtime_table() -> list[RuntimeFacts]:
    """Return what is known of every runtime, whether it can be used or not.

    No library but OpenVINO is imported for it; what is wrong with one is told, not raised.
    """
    table = []
    for name in runtime_names():
        survey = load_target(_ROWS[name].survey) if name in _ROWS else partial(_asked, name)
        table.append(_told(name, survey))
    return table


def _told(name: str, survey: Survey) -> RuntimeFacts:
    try:
        return survey()
    except (EdgerestoreError, ImportError, OSError, RuntimeError, ValueError) as error:
        return RuntimeFacts(name, None, str(error).splitlines()[0])


def _asked(name: str) -> RuntimeFacts:
    """Return the facts that a runtime of another package gives itself."""
    runtime = open_runtime(name)
    devices = [
        DeviceFacts(device, runtime.describe(device), tuple(runtime.precisions(device)))
        for device in runtime.devices()
    ]
    return RuntimeFacts(name, None, None, tuple(devices))


def runtimes_for(device: str) -> list[Runtime]:
    """Return the runtimes that can be loaded and have a device, the preferred first."""
    return [one for one in all_runtimes() if _serves(one, device)]


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
    return next(iter(runtimes_for(device)), preferred)  # which says what devices there are


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
