"""OpenVINO IR: reading graphs, writing IR, and the operations that half precision excludes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import openvino
from onnx import ModelProto
from openvino import passes

from ...bundle.manifest import TilingMode
from ...errors import ConversionError
from ...runtimes.openvino.graph import last_line, read_graph, shared_core
from ...runtimes.openvino.precise import keep_in_f32, with_older_pads
from .metadata import write_rt_info
from .signature import KEPT_IN_F32

__all__ = ["half_precision_exclusions", "read_proto", "save_ir", "write_ir"]


_LAYERS = {"Convolution", "GroupConvolution", "ConvolutionBackpropData", "MatMul"}


def half_precision_exclusions(model: openvino.Model, *, whole: bool) -> str:
    """Name the operations that stay in f32 at half precision: the blend's base and norms, mostly.

    Parameters
    ----------
    model : openvino.Model
        A bundle's, with the signature.
    whole : bool
        The network runs on a thumbnail.

    Returns
    -------
    str
        A regular expression over the operations' names.
    """
    names = _channel_norms(model)
    if whole:
        names += _around_the_layers(model)
    return "|".join([KEPT_IN_F32, *map(re.escape, names)])


def _channel_norms(model: openvino.Model) -> list[str]:
    """Name the parts of layer norms: sums of squares leave the range of half precision.

    Norms are found by their inverse root, (variance + epsilon) ** -0.5.
    """
    names: list[str] = []
    for root in model.get_ordered_ops():
        if root.get_type_name() != "Power":
            continue
        # Down to the sums: + epsilon, * 1/C, sum, squares, centred, * -1/C, sum.
        chain = [root]
        for kind in ("Add", "Multiply", "ReduceSum", "Multiply", "Add", "Multiply", "ReduceSum"):
            found = [n for n in _sources(chain[-1]) if n.get_type_name() == kind]
            if not found:
                break
            chain.append(found[0])
        else:
            # And on to the end: times the centred, times the weight, plus the bias.
            last = root
            for kind in ("Multiply", "Multiply", "Add"):
                last = next((n for n in _targets(last) if n.get_type_name() == kind), last)
                chain.append(last)
            names.extend(node.get_friendly_name() for node in chain)
    return names


def _sources(node: openvino.Node) -> list[openvino.Node]:
    return [value.get_node() for value in node.input_values()]


def _targets(node: openvino.Node) -> list[openvino.Node]:
    return [t.get_node() for output in node.outputs() for t in output.get_target_inputs()]


def _around_the_layers(model: openvino.Model) -> list[str]:
    """Name the operations before the first layer and after the last one of a thumbnail network.

    Taking the thumbnail, and bringing the mask to the full picture, are differences of nearly
    equal numbers and places between pixels, which half precision turns into spots. They are a
    small part of the work.
    """
    names: set[str] = set()
    outputs = [result.input_value(0).get_node() for result in model.get_results()]
    _walk(outputs, _sources, names)
    (image,) = [p for p in model.get_parameters() if "image" in p.output(0).get_names()]
    _walk([image], _targets, names)
    return sorted(names)


def _walk(
    begin: list[openvino.Node],
    following: Callable[[openvino.Node], list[openvino.Node]],
    names: set[str],
) -> None:
    seen, waiting = set[str](), list(begin)
    while waiting:
        node = waiting.pop()
        name, kind = node.get_friendly_name(), node.get_type_name()
        if name in seen or kind in _LAYERS:
            continue
        seen.add(name)
        if kind not in ("Parameter", "Result", "Constant"):
            names.add(name)
        waiting.extend(following(node))


def read_proto(model: ModelProto) -> openvino.Model:
    """Read an ONNX model from memory.

    Raises
    ------
    ConversionError
        When OpenVINO does not take the graph.
    """
    try:
        return shared_core().read_model(model.SerializeToString())
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
    kept = half_precision_exclusions(
        model, whole=facts.get("edgerestore/tiling") == TilingMode.WHOLE
    )
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
