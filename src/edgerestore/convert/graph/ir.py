"""OpenVINO's side of conversion: reading a graph from memory and writing the IR."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import openvino
from onnx import ModelProto
from openvino import passes

from ...bundle.manifest import TilingMode
from ...errors import ConversionError
from ...runtimes.openvino.graph import last_line, read_graph
from ...runtimes.openvino.precise import keep_in_f32, with_older_pads
from .half_precision import no_halves
from .metadata import write_rt_info

__all__ = ["read_proto", "save_ir", "write_ir"]


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
        raise ConversionError(f"OpenVINO: {last_line(error)}") from error


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
    save_ir(model, target, facts)


def save_ir(model: openvino.Model, target: Path, facts: Mapping[str, str]) -> None:
    """Write a graph as IR, its float weights in f16, in a form that repeats itself.

    Parameters
    ----------
    model : openvino.Model
        Its nodes' names are changed in place.
    target : Path
    facts : mapping of str to str
        Stored as ``rt_info``.
    """
    _name_by_place(model)
    kept = no_halves(model, whole=facts.get("edgerestore/tiling") == TilingMode.WHOLE)
    with_older_pads(model, kept)
    write_rt_info(model, dict(facts))
    target.parent.mkdir(parents=True, exist_ok=True)
    openvino.save_model(model, target, compress_to_fp16=True)
    keep_in_f32(target, kept)


def _name_by_place(model: openvino.Model) -> None:
    """Rename what OpenVINO named by a counter of the process, so that the IR repeats itself."""
    for place, node in enumerate(model.get_ordered_ops()):
        if re.fullmatch(r"[A-Z]\w*_\d+(\.\d+)?", node.get_friendly_name()):
            node.set_friendly_name(f"{node.get_type_name()}_at_{place}")
