"""Image restoration on edge machines: exact tiles, live strength, verified conversion.

>>> import edgerestore
>>> with edgerestore.load("deblur") as restorer:  # doctest: +SKIP
...     sharp = restorer(image, strength=0.8)
"""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from .bundle.bundle import Bundle, model_names
    from .engine.adjustments import Adjustments
    from .engine.family import ModelChoice, choose_model
    from .engine.load import load
    from .engine.predictors.cutout import Background, Cutout
    from .engine.predictors.protocol import Pending
    from .engine.restorer import Restorer
    from .server.control import ControlServer
    from .streams.events import Event, StreamState
    from .streams.options import LiveOptions, SourceOptions
    from .streams.session import Live, Session, restore_path

__all__ = [
    "Adjustments",
    "Background",
    "Bundle",
    "ControlServer",
    "Cutout",
    "Event",
    "Live",
    "LiveOptions",
    "ModelChoice",
    "Pending",
    "Restorer",
    "Session",
    "SourceOptions",
    "StreamState",
    "__version__",
    "choose_model",
    "load",
    "model_names",
    "restore_path",
]

# OpenVINO and NNCF report their use to their makers unless told otherwise, from a thread of
# their own; both do without the package that does it. Nothing leaves the machine.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

# What the package logs is for programs to show or to leave; it prints nothing of its own accord.
logging.getLogger(__name__).addHandler(logging.NullHandler())

_HOMES = {
    "Adjustments": ".engine.adjustments",
    "ModelChoice": ".engine.family",
    "choose_model": ".engine.family",
    "Background": ".engine.predictors.cutout",
    "Cutout": ".engine.predictors.cutout",
    "Bundle": ".bundle.bundle",
    "ControlServer": ".server.control",
    "Event": ".streams.events",
    "Live": ".streams.session",
    "Session": ".streams.session",
    "restore_path": ".streams.session",
    "LiveOptions": ".streams.options",
    "SourceOptions": ".streams.options",
    "StreamState": ".streams.events",
    "Pending": ".engine.predictors.protocol",
    "Restorer": ".engine.restorer",
    "load": ".engine.load",
    "model_names": ".bundle.bundle",
}


def __getattr__(name: str) -> Any:
    # Lazy, so that `import edgerestore` and `edgerestore --help` load no runtime.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
