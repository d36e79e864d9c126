"""OpenVINO graphs: reading, running one on the CPU at a stated precision, and errors as ours."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import passes

from ...bundle.precision import Precision
from ...errors import ConversionError, EdgerestoreError, InferenceError, first_line
from ..device_errors import device_error_kind

__all__ = [
    "OpenvinoGraph",
    "cpu_floats",
    "float_graph",
    "last_line",
    "read_graph",
    "shared_core",
    "translated",
]


@functools.cache
def shared_core() -> openvino.Core:
    """Return the process's core, which is never destroyed.

    Each core holds plugins, thread pools and device contexts. The CPU plugin gives the thread
    that loads it a stack for signals, and leaves it there, unmapped, when cores go in another
    order or thread than they came (OpenVINO 2026.4): the next Ctrl-C would be a segmentation fault.
    """
    return openvino.Core()


@contextmanager
def translated(doing: str, kind: type[EdgerestoreError] = InferenceError) -> Iterator[None]:
    """Raise any error of the library as one of ours that says what was being done."""
    try:
        yield
    except RuntimeError as error:
        if kind is InferenceError:
            kind = device_error_kind(error)
        raise kind(f"{doing}: {last_line(error)}") from error


def last_line(error: BaseException) -> str:
    """Return the last line of an OpenVINO message that is no source position."""
    lines = [line.strip() for line in str(error).splitlines()]
    telling = [x for x in lines if x and not re.match(r"(Exception from|Check '.*' failed) ?", x)]
    return telling[-1][:240] if telling else first_line(error)


def read_graph(path: Path) -> openvino.Model:
    """Read an ONNX file or an IR.

    The core reads; ``openvino.convert_model`` would load a reporting client with it.

    Raises
    ------
    ConversionError
        When OpenVINO does not take the graph.
    """
    with translated(f"{path.name}: OpenVINO", ConversionError):
        return shared_core().read_model(path)


def float_graph(model: openvino.Model) -> openvino.Model:
    """Return a copy with shape arithmetic on constants folded, so that biases are constants."""
    folded = model.clone()
    manager = passes.Manager()
    manager.register_pass(passes.ConstantFolding())
    manager.run_passes(folded)
    return folded


def cpu_floats() -> list[Precision]:
    """Return the float precisions of this CPU, the fastest last: fp32, and bf16 where it has it."""
    capabilities: list[str] = shared_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return [Precision.FP32, *([Precision.BF16] if "BF16" in capabilities else [])]


class OpenvinoGraph:
    """A bundle's graph on OpenVINO's CPU at a stated precision, as measurements need it.

    Parameters
    ----------
    model : openvino.Model
        With the inputs ``image`` and ``strength``.
    precision : Precision
        A float one. Always stated: OpenVINO would run f32 models in bf16 where the CPU has it.
    size : (int, int) or None
        Static height and width; None keeps them dynamic.
    """

    def __init__(
        self,
        model: openvino.Model,
        precision: Precision = Precision.FP32,
        size: tuple[int, int] | None = None,
    ) -> None:
        if size is not None:
            model = model.clone()
            channels = model.input("image").partial_shape[1].get_length()
            model.reshape({"image": [1, channels, *size], "strength": [1, 1, 1, 1]})
        settings = {"INFERENCE_PRECISION_HINT": precision.hint}
        with translated("OpenVINO", ConversionError):
            self.compiled = shared_core().compile_model(model, "CPU", settings)
        self._request = self.compiled.create_infer_request()

    def __call__(
        self, image: NDArray[np.float32], strength: float | NDArray[np.float32] = 1.0
    ) -> NDArray[np.float32]:
        """Restore f32 ``[1, C, H, W]`` in [0, 1]; the result is the caller's own."""
        strengths = np.asarray(strength, np.float32)
        if strengths.ndim == 0:
            strengths = strengths.reshape(1, 1, 1, 1)
        with translated("OpenVINO", ConversionError):
            results = self._request.infer({"image": image, "strength": strengths})
        restored: NDArray[np.float32] = np.array(results["restored"])
        return restored
