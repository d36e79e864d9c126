"""ONNX files and graphs: read, checked for one image in and one out, and tidied."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
from onnx import ModelProto, TensorProto, version_converter

from ...errors import ArgumentError, CheckpointError, ConversionError, first_line

__all__ = [
    "OPSET",
    "checked_output",
    "image_channels",
    "read_onnx",
    "root_cause",
    "root_error",
    "shape_text",
    "tidied",
    "with_one_output",
]

OPSET = 20
"""ONNX operator set of what is written; OpenVINO and ONNX Runtime both run it."""

_OLDEST_OPSET = 13  # below it the signature's nodes have another form

_QUANTIZED = {
    *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"),
    *("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"),
}


def read_onnx(path: Path) -> ModelProto:
    """Read and check an ONNX file.

    Raises
    ------
    CheckpointError
        When it is damaged or quantized, or its external weights are missing.
    ConversionError
        When its operator set is too old to be carried over.
    """
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
        _require_texts(model)
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path}: is damaged: a name in it is no UTF-8") from error
    except Exception as error:
        raise CheckpointError(
            f"{path}: is damaged or no ONNX model: {root_cause(error)}"
        ) from error
    if marks := sorted({node.op_type for node in model.graph.node} & _QUANTIZED):
        raise CheckpointError(
            f"{path}: is quantized already ({', '.join(marks[:2])}); convert the float model,"
            " edgerestore quantizes it"
        )
    version = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    if version < _OLDEST_OPSET:
        try:
            model = version_converter.convert_version(model, OPSET)
        except Exception as error:
            raise ConversionError(
                f"{path}: operator set {version} does not carry over to {OPSET}:"
                f" {root_cause(error)}; export it again with opset_version={OPSET}"
            ) from error
    return tidied(model)


def _require_texts(message: Any) -> None:
    """Raise where a text of a graph is no UTF-8; protobuf gives bytes for it, which fail later."""
    for field, value in message.ListFields():
        if field.type not in (field.TYPE_STRING, field.TYPE_MESSAGE):
            continue
        single = isinstance(value, (str, bytes)) or hasattr(value, "ListFields")
        for one in [value] if single else value:
            if isinstance(one, bytes):
                one.decode()
            elif not isinstance(one, str):
                _require_texts(one)


def checked_output(number: int | None, shapes: Sequence[object], where: object) -> int | None:
    """Return which of several outputs is taken; None where there is only one to take.

    Raises
    ------
    ConversionError
        Where there are several and none is named.
    ArgumentError
        For a number that there is not.
    """
    listed = ", ".join(f"{index}: {shape_text(one)}" for index, one in enumerate(shapes))
    if number is None and len(shapes) > 1:
        raise ConversionError(
            f"{where}: has {len(shapes)} outputs ({listed}); name the restored image's with"
            " --network-output N"
        )
    if number is not None and not 0 <= number < len(shapes):
        raise ArgumentError(f"--network-output {number}: there are {len(shapes)} ({listed})")
    return number or (0 if shapes else None)


def shape_text(one: object) -> str:
    """Return a shape as it is written, 1x3x96x192; a text as it is."""
    return "x".join(map(str, one)) if isinstance(one, tuple) else str(one)


def with_one_output(model: ModelProto, number: int | None, where: object) -> ModelProto:
    """Return a graph without its other outputs, in place; as `checked_output`."""
    shapes = [
        tuple(side.dim_value or "?" for side in one.type.tensor_type.shape.dim)
        for one in model.graph.output
    ]
    if (chosen := checked_output(number, shapes, where)) is not None and len(shapes) > 1:
        taken = model.graph.output[chosen]
        del model.graph.output[:]
        model.graph.output.append(taken)
    return model


_CHANNELS = (1, 3)


def image_channels(model: ModelProto, where: Path | str) -> int:
    """Check that a graph has one image in and one out, and return its input channels.

    Raises
    ------
    ConversionError
        On anything but one f32 ``[1, C, H, W]`` in and one tensor out, H and W dynamic.
    """
    weights = {initializer.name for initializer in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if len(inputs) != 1 or len(model.graph.output) != 1:
        raise ConversionError(
            f"{where}: has {len(inputs)} inputs and {len(model.graph.output)} outputs,"
            " expected one image in and one out"
        )
    tensor = inputs[0].type.tensor_type
    sides = tensor.shape.dim
    if tensor.elem_type != TensorProto.FLOAT or len(sides) != 4:
        kind = TensorProto.DataType.Name(tensor.elem_type)
        raise ConversionError(
            f"{where}: takes {kind} of {len(sides)} dimensions, expected float32 [1, C, H, W]"
        )
    if sides[3].dim_value in _CHANNELS and sides[1].dim_value not in _CHANNELS:
        raise ConversionError(
            f"{where}: takes [1, H, W, {sides[3].dim_value}], channels last, expected float32"
            " [1, C, H, W]; export it with channels first (tf2onnx: --inputs-as-nchw and"
            " --outputs-as-nchw)"
        )
    if sides[2].HasField("dim_value") or sides[3].HasField("dim_value"):
        raise ConversionError(
            f"{where}: was exported for {sides[2].dim_value}x{sides[3].dim_value} pixels only;"
            " export it again with dynamic height and width"
        )
    if not sides[1].dim_value:
        raise ConversionError(f"{where}: the number of channels is not fixed, export it fixed")
    return int(sides[1].dim_value)


def tidied(model: ModelProto) -> ModelProto:
    """Remove the exporter's metadata, in place: source paths, stack traces, doc strings."""
    del model.metadata_props[:]
    model.doc_string = ""
    graphs = [model.graph, *model.functions]
    for part in graphs:
        part.doc_string = ""
        del part.metadata_props[:]
        for node in part.node:
            node.doc_string = ""
            del node.metadata_props[:]
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        value.doc_string = ""
        del value.metadata_props[:]
    _drop_empty_updates(model)
    # Shapes inside the graph are inferred again on reading.
    del model.graph.value_info[:]
    return model


def _drop_empty_updates(model: ModelProto) -> None:
    """Replace updates of no element, which OpenVINO refuses: slices of a mask may be empty."""
    graph = model.graph
    empty = {value.name for value in graph.initializer if 0 in value.dims}
    for value in graph.value_info:
        sides = value.type.tensor_type.shape.dim
        if any(side.HasField("dim_value") and side.dim_value == 0 for side in sides):
            empty.add(value.name)
    for node in graph.node:
        if node.op_type in ("ScatterND", "ScatterElements") and empty & {*node.input[1:]}:
            node.op_type = "Identity"
            del node.input[1:], node.attribute[:]


def root_cause(error: BaseException) -> str:
    """Return one line on the error at the root of a chain; the exporters wrap theirs in pages."""
    error = root_error(error)
    return f"{type(error).__name__}: {first_line(error)}"


def root_error(error: BaseException) -> BaseException:
    """Return the error at the root of a chain."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
