"""OpenVINO: CPU, integrated GPU, NPU and its AUTO, MULTI and HETERO devices."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

import openvino

from ...bundle.bundle import Bundle
from ...bundle.precision import Precision
from ...errors import BundleError, DeviceError
from ..compiled_models import cached_compilation
from ..limits import usable_threads
from ..protocol import DEFAULT_TUNING, QueueSpec, Tuning, check_precision, check_tuning
from .depthwise import keep_depthwise_apart
from .graph import shared_core, translated
from .pixels import attach_pixels
from .queue import OpenVinoQueue

__all__ = ["OpenVinoModel", "OpenVinoRuntime"]

_COMPOSITE = ("AUTO", "MULTI", "HETERO", "BATCH")
# While it compiles, OpenVINO sets the locale of the whole process to C and then back to what it
# found (2026.4): two at once leave C behind, and Python opens its files in ASCII from then on.
_COMPILING = threading.Lock()
# A live stream would rather know that a driver hangs than wait for it for ever.
_PATIENCE_S = 60.0
_REWRITES = 1  # raised with what is done to a graph before it is compiled: part of the cache's key


class OpenVinoRuntime:
    """`Runtime` over OpenVINO."""

    name = "openvino"

    def devices(self) -> list[str]:
        """Return the devices present, and ``AUTO``."""
        return [*shared_core().available_devices, "AUTO"]

    def describe(self, device: str) -> str:
        """Return the device's own full name."""
        if device.partition(":")[0] in _COMPOSITE:
            return "chooses among the devices present"
        return str(shared_core().get_property(device, "FULL_DEVICE_NAME"))

    def precisions(self, device: str) -> list[Precision]:
        """Return what a device computes natively, its native half first where it has one."""
        with translated(f"asking {device} what it can do"):
            can = shared_core().get_property(self._present(device)[0], "OPTIMIZATION_CAPABILITIES")
        halves = [half for half in Precision if half.is_half and half.upper() in can]
        return [*halves, Precision.FP32, *([Precision.INT8] if "INT8" in can else [])]

    def load(
        self,
        bundle: Bundle,
        device: str,
        precision: Precision,
        *,
        live: bool = False,
        tuning: Tuning = DEFAULT_TUNING,
    ) -> OpenVinoModel:
        """See `Runtime.load`."""
        present, narrowed = self._present(device)
        native = self.precisions(device)
        floats = precision = check_precision(precision, native, present)
        if precision is Precision.INT8:
            # A network that must not run in halves has no such variant; its floats stay f32.
            halves = Precision.FP16.stored in bundle.manifest.variants
            floats = native[0] if halves else Precision.FP32
        return OpenVinoModel(bundle, narrowed, precision, floats=floats, live=live, tuning=tuning)

    def _present(self, device: str) -> tuple[str, str]:
        """Return a present device behind ``device``, and ``device`` without absent ones.

        Only AUTO and MULTI may do with fewer than were named; the rest raise with a list.
        """
        here = shared_core().available_devices
        kind, _, listed = device.partition(":")
        if kind not in _COMPOSITE:
            wanted = [device]
        elif listed:
            wanted = [name.split("(")[0].strip() for name in listed.split(",")]
        else:
            wanted = list(here)
        found = [w for w in wanted if w in here or any(h.split(".")[0] == w for h in here)]
        missing = [name for name in wanted if name not in found]
        if not found or (missing and kind not in ("AUTO", "MULTI")):
            raise DeviceError(
                f"device {missing[0]} is not here; devices: {', '.join(self.devices())}"
            )
        return found[0], f"{kind}:{','.join(found)}" if missing else device


class OpenVinoModel:
    """`Model` over OpenVINO.

    Parameters
    ----------
    bundle : Bundle
    device : str
    precision : Precision
    floats : Precision
        Of float operations, those of an INT8 graph among them.
    live : bool
    tuning : Tuning
    """

    runtime = "openvino"

    def __init__(
        self,
        bundle: Bundle,
        device: str,
        precision: Precision,
        *,
        floats: Precision,
        live: bool,
        tuning: Tuning = DEFAULT_TUNING,
    ) -> None:
        self.device, self.precision = device, precision
        check_tuning(tuning, self.tunables(), f"openvino on {device}")
        self._bundle, self._floats, self._live = bundle, floats, live
        self._tuning = tuning
        graph = bundle.variant_files(precision.stored)[0]
        with _COMPILING, translated(f"reading {graph}"):
            self._model = shared_core().read_model(graph)
            keep_depthwise_apart(self._model)

    def tunables(self) -> Mapping[str, tuple[int | bool, ...]]:
        """See `Model.tunables`."""
        requests: dict[str, tuple[int | bool, ...]] = {"requests": (1, 2, 3, 4)}
        if self.device != "CPU":
            return requests
        counts = tuple(dict.fromkeys((usable_threads(), max(1, usable_threads() // 2), 1)))
        return {"threads": counts, "streams": counts, "pinning": (True, False), **requests}

    def open_queue(self, spec: QueueSpec, requests: int | None = None) -> OpenVinoQueue:
        """Compile for one shape; see `Model.open_queue`."""
        doing = f"compiling {self._bundle.manifest.name} for {spec.width}x{spec.height}"
        with _COMPILING, translated(f"{doing} on {self.device}"):
            model = attach_pixels(self._model.clone(), spec, self._bundle.manifest)
            self._require_output(model, spec)
            compiled = self._compiled(model, spec)
            best = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        # One beyond what runs at a time is always queued, so no core waits for Python.
        count = requests or self._tuning.requests or (best if self._live else best + 1)
        patience_s = _PATIENCE_S if self._live else None
        return OpenVinoQueue(compiled, spec, count, patience_s=patience_s)

    def _compiled(self, model: openvino.Model, spec: QueueSpec) -> openvino.CompiledModel:
        settings = self._settings()

        def compile_in(folder: Path | None) -> openvino.CompiledModel:
            kept = {} if folder is None else {"CACHE_DIR": str(folder)}
            return shared_core().compile_model(model, self.device, settings | kept)

        if self.device.partition(":")[0] in _COMPOSITE:
            return compile_in(None)  # they compile on in the background, after they have returned
        digest = self._bundle.digest(self.precision.stored)
        key = f"{digest} {spec} {self.device} {sorted(settings.items())} {_REWRITES}"
        return cached_compilation("openvino", key, compile_in)

    def _require_output(self, model: openvino.Model, spec: QueueSpec) -> None:
        """Refuse a graph that does not return what the manifest says: it would be read wrongly."""
        said = self._bundle.manifest.output
        wanted = openvino.PartialShape(
            [1, spec.height * said.upscale, spec.width * said.upscale, said.channels]
        )
        made = model.output(0).partial_shape
        if made != wanted:
            raise BundleError(
                f"{self._bundle.folder}: for {spec.width}x{spec.height} the graph returns {made},"
                f" and bundle.json says {wanted}: convert again"
            )

    def _settings(self) -> dict[str, object]:
        settings: dict[str, object] = {
            "PERFORMANCE_HINT": "LATENCY" if self._live else "THROUGHPUT",
            # Always said: CPUs with bf16 would compute f32 models in bf16 otherwise.
            "INFERENCE_PRECISION_HINT": self._floats.hint,
        }
        if self._uses_cpu:
            cpu: dict[str, object] = {
                "INFERENCE_NUM_THREADS": self._tuning.threads or usable_threads()
            }
            if self._tuning.streams is not None:
                cpu["NUM_STREAMS"] = self._tuning.streams
            if self._tuning.pinning is not None:
                cpu["ENABLE_CPU_PINNING"] = self._tuning.pinning
            # AUTO, MULTI and HETERO take a device's own settings under its name alone.
            settings |= cpu if self.device == "CPU" else {"DEVICE_PROPERTIES": {"CPU": cpu}}
        return settings

    @property
    def _uses_cpu(self) -> bool:
        kind, _, listed = self.device.partition(":")
        named = [name.split("(")[0].split(".")[0].strip() for name in listed.split(",") if name]
        return "CPU" in (named or [kind, *(["CPU"] if kind in _COMPOSITE else [])])
