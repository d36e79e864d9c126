"""A faced graph on OpenVINO's CPU at a stated precision: what measurements are made with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino
from numpy.typing import NDArray

from ...bundle.precision import Precision
from ...errors import ConversionError
from .errors import last_line

__all__ = ["OpenvinoGraph", "cpu_floats", "read_graph"]


def read_graph(path: Path) -> openvino.Model:
    """Read an ONNX file or an IR.

    The core reads; ``openvino.convert_model`` would load a reporting client with it.

    Raises
    ------
    ConversionError
        When OpenVINO does not take the graph.
    """
    try:
        return openvino.Core().read_model(path)
    except RuntimeError as error:
        raise ConversionError(f"{path.name}: OpenVINO: {last_line(error)}") from error


def cpu_floats() -> list[Precision]:
    """Return the float precisions of this CPU, the fastest last: fp32, and bf16 where it has it."""
    capabilities: list[str] = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return [Precision.FP32, *([Precision.BF16] if "BF16" in capabilities else [])]


class OpenvinoGraph:
    """A faced graph on OpenVINO's CPU at a stated precision.

    Parameters
    ----------
    model : openvino.Model
        With the face's inputs.
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
        try:
            self.compiled = openvino.Core().compile_model(
                model, "CPU", {"INFERENCE_PRECISION_HINT": precision.hint}
            )
        except RuntimeError as error:
            raise ConversionError(f"OpenVINO: {last_line(error)}") from error
        self._request = self.compiled.create_infer_request()

    def __call__(
        self, image: NDArray[np.float32], strength: float | NDArray[np.float32] = 1.0
    ) -> NDArray[np.float32]:
        """Restore f32 ``[1, C, H, W]`` in [0, 1]; the result is the caller's own."""
        strengths = np.asarray(strength, np.float32)
        if strengths.ndim == 0:
            strengths = strengths.reshape(1, 1, 1, 1)
        try:
            results = self._request.infer({"image": image, "strength": strengths})
        except RuntimeError as error:
            raise ConversionError(f"OpenVINO: {last_line(error)}") from error
        restored: NDArray[np.float32] = np.array(results["restored"])
        return restored
