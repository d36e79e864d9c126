"""OpenVINO's side of conversion: reading graphs, writing the IR, compiling for a check."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import openvino
from numpy.typing import NDArray
from onnx import ModelProto
from openvino import passes

from ..errors import ConversionError
from .metadata import write_rt_info

__all__ = ["OpenvinoGraph", "has_bf16", "read_graph", "read_proto", "write_ir"]


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
        raise ConversionError(f"{path.name}: OpenVINO: {_one_line(error)}") from error


def read_proto(model: ModelProto) -> openvino.Model:
    """Read an ONNX model from memory.

    Raises
    ------
    ConversionError
        When OpenVINO does not take the graph.
    """
    try:
        return openvino.Core().read_model(model.SerializeToString())
    except RuntimeError as error:
        raise ConversionError(f"OpenVINO: {_one_line(error)}") from error


def write_ir(source: Path, target: Path, facts: Mapping[str, str]) -> None:
    """Write an ONNX file as IR with weights compressed to f16.

    Parameters
    ----------
    source, target : Path
        ``model.onnx`` and ``model.xml``; the ``.bin`` is written beside the latter.
    facts : mapping of str to str
        Stored as ``rt_info``.
    """
    model = read_graph(source)
    manager = passes.Manager()
    manager.register_pass(passes.ConstantFolding())
    manager.run_passes(model)
    _name_by_place(model)
    write_rt_info(model, dict(facts))
    target.parent.mkdir(parents=True, exist_ok=True)
    openvino.save_model(model, target, compress_to_fp16=True)


def _name_by_place(model: openvino.Model) -> None:
    """Rename what OpenVINO named by a counter of the process, so that the IR repeats itself."""
    for place, node in enumerate(model.get_ordered_ops()):
        if re.fullmatch(r"[A-Z]\w*_\d+(\.\d+)?", node.get_friendly_name()):
            node.set_friendly_name(f"{node.get_type_name()}_at_{place}")


def has_bf16() -> bool:
    """Return whether this CPU computes in bfloat16."""
    capabilities: list[str] = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "BF16" in capabilities


class OpenvinoGraph:
    """A faced graph on OpenVINO's CPU at a stated precision.

    Parameters
    ----------
    model : openvino.Model
        With the face's inputs.
    precision : str
        ``f32`` or ``bf16``. Said explicitly: OpenVINO runs f32 models in bf16 by default.
    size : (int, int) or None
        Static height and width; None keeps them dynamic.
    """

    def __init__(
        self, model: openvino.Model, precision: str = "f32", size: tuple[int, int] | None = None
    ) -> None:
        if size is not None:
            model = model.clone()
            channels = model.input("image").partial_shape[1].get_length()
            model.reshape({"image": [1, channels, *size], "strength": [1, 1, 1, 1]})
        try:
            self.compiled = openvino.Core().compile_model(
                model, "CPU", {"INFERENCE_PRECISION_HINT": precision}
            )
        except RuntimeError as error:
            raise ConversionError(f"OpenVINO: {_one_line(error)}") from error
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
            raise ConversionError(f"OpenVINO: {_one_line(error)}") from error
        restored: NDArray[np.float32] = np.array(results["restored"])
        return restored


def _one_line(error: BaseException) -> str:
    """Return the sentence of an OpenVINO error; its source locations are noise to a user."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return (said or lines or [type(error).__name__])[-1][:240]
