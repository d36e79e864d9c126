"""Image restoration on edge machines: exact tiles, live strength, verified conversion.

>>> import edgerestore
>>> with edgerestore.load("deblur") as restorer:  # doctest: +SKIP
...     sharp = restorer(image, strength=0.8)
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from .bundle import Bundle, model_names
    from .engine.adjustments import Adjustments
    from .engine.cutout import Background, Cutout
    from .engine.events import Event, StreamState
    from .engine.live.control_server import ControlServer
    from .engine.live.live import Live
    from .engine.live_options import LiveOptions
    from .engine.load import load
    from .engine.pending import Pending
    from .engine.restorer import Restorer
    from .engine.sources.opening import SourceOptions

__all__ = [
    "Adjustments",
    "Background",
    "Bundle",
    "ControlServer",
    "Cutout",
    "Event",
    "Live",
    "LiveOptions",
    "Pending",
    "Restorer",
    "SourceOptions",
    "StreamState",
    "__version__",
    "load",
    "model_names",
]

# OpenVINO and NNCF report their use to their makers unless told otherwise, from a thread of
# their own; both do without the package that does it. Nothing leaves the machine.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

_HOMES = {
    "Adjustments": ".engine.adjustments",
    "Background": ".engine.cutout",
    "Cutout": ".engine.cutout",
    "Bundle": ".bundle",
    "ControlServer": ".engine.live.control_server",
    "Event": ".engine.events",
    "Live": ".engine.live.live",
    "LiveOptions": ".engine.live_options",
    "SourceOptions": ".engine.sources.opening",
    "StreamState": ".engine.events",
    "Pending": ".engine.pending",
    "Restorer": ".engine.restorer",
    "load": ".engine.load",
    "model_names": ".bundle",
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
