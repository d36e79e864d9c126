"""Finished ONNX models: a bundle's graph with its pixels, for one shape, at one precision.

The finished OpenVINO graph is translated, so that pixels, rounding, blend and quantizers are the
same ones for each runtime. INT8 weights are those of the bundle, whose pairs cannot saturate the
16-bit sums of processors without VNNI.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import openvino
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ..openvino.graph import float_graph
from ..openvino.precise import runs_in_half
from .operators import emit

__all__ = ["finished_onnx"]

_OPSET, _IR_VERSION = 20, 10
_CONVOLUTIONS = ("Convolution", "GroupConvolution")
_TYPES = {"u8": TensorProto.UINT8, "u16": TensorProto.UINT16, "f32": TensorProto.FLOAT}


def finished_onnx(
    model: openvino.Model, *, half: bool = False, free_strength: bool = True
) -> bytes:
    """Translate a finished graph of static shapes to ONNX.

    Parameters
    ----------
    model : openvino.Model
        From `attach_pixels`.
    half : bool
        Compute the network in f16, but for operations that are marked to stay in f32.
    free_strength : bool
        ``strength`` takes one number as well as a map: its height and width are left open.

    Returns
    -------
    bytes
        A model with the inputs and the output of ``model``.

    Raises
    ------
    InferenceError
        When an operation has no equivalent here; names it.
    """
    proto = _Translation(model, half=half).proto(free_strength=free_strength)
    written: bytes = proto.SerializeToString()
    return written


class _Translation:
    """`Emitter` into a list of ONNX nodes."""

    def __init__(self, model: openvino.Model, *, half: bool) -> None:
        self._model, self._half = model, half
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._names: dict[tuple[str, int], str] = {}
        self._casts: dict[tuple[str, int], str] = {}
        self._halves: set[str] = set()
        self._in_half = False
        self._count = 0
        self._integers = _integer_weights(model)

    def add(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        """See `Emitter.add`."""
        name = self._fresh(kind)
        self._nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        if self._in_half:
            self._halves.add(name)
        return name

    def constant(self, values: NDArray[Any]) -> str:
        """See `Emitter.constant`."""
        name = self._fresh("constant")
        values = np.array(values)
        if values.dtype == np.float32 and self._in_half:
            values = values.astype(np.float16)
            self._halves.add(name)
        self._constants.append(numpy_helper.from_array(values, name))
        return name

    def proto(self, *, free_strength: bool) -> onnx.ModelProto:
        folded = float_graph(self._model)
        for port in folded.inputs:
            self._names[_value(port)] = port.get_any_name()
        for node in folded.get_ordered_ops():
            if node.get_type_name() != "Parameter" and not self._merged(node):
                self._translate(node)
        (result,) = folded.get_results()
        output = folded.output(0)
        last = self._as(self._names[_value(result.input_value(0))], half=False)
        self._nodes.append(helper.make_node("Identity", [last], ["restored"], "restored"))
        inputs = [
            helper.make_tensor_value_info(
                port.get_any_name(),
                _TYPES[port.get_element_type().get_type_name()],
                [1, 1, "strength_height", "strength_width"]
                if free_strength and port.get_any_name() == "strength"
                else list(port.get_shape()),
            )
            for port in folded.inputs
        ]
        kind = _TYPES[output.get_element_type().get_type_name()]
        outputs = [helper.make_tensor_value_info("restored", kind, list(output.get_shape()))]
        read = {name for node in self._nodes for name in node.input}
        kept = [constant for constant in self._constants if constant.name in read]
        graph = helper.make_graph(self._nodes, "restorer", inputs, outputs, kept)
        opsets = [helper.make_opsetid("", _OPSET)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)

    def _translate(self, node: openvino.Node) -> None:
        kind = node.get_type_name()
        if kind == "Constant":
            return  # made where it is read
        self._in_half = self._half and runs_in_half(node)
        bias = _bias_of(node)
        made = [self._biased(*bias)] if bias else emit(self, node, self._inputs(node))
        for port, name in enumerate(made):
            self._names[node.get_name(), port] = name

    def _inputs(self, node: openvino.Node) -> list[str]:
        names = []
        for port, source in enumerate(node.input_values()):
            if port == 1 and node.get_friendly_name() in self._integers:
                names.append(self._dequantized(node))
            elif source.get_node().get_type_name() == "Constant":
                names.append(self._constant_of(source.get_node(), node))
            else:
                names.append(self._as(self._names[_value(source)], half=self._in_half))
        return names

    def _constant_of(self, source: openvino.Node, reader: openvino.Node) -> str:
        values = np.asarray(source.get_data())
        if np.issubdtype(values.dtype, np.floating):
            values = values.astype(np.float32)
        if reader.get_type_name() == "GroupConvolution" and values.ndim == 5:
            values = values.reshape(-1, *values.shape[2:])
        return self.constant(values)

    def _dequantized(self, node: openvino.Node) -> str:
        """Return the INT8 weights of a convolution, times their steps."""
        integers, steps = self._integers[node.get_friendly_name()]
        scale, zero = self.constant(steps), self.constant(np.zeros(steps.shape, np.int8))
        return self.add("DequantizeLinear", [self.constant(integers), scale, zero], axis=0)

    def _merged(self, node: openvino.Node) -> bool:
        """Return whether a convolution is emitted with the bias that follows it."""
        targets = [t for output in node.outputs() for t in output.get_target_inputs()]
        return (
            node.get_type_name() in _CONVOLUTIONS
            and len(targets) == 1
            and _bias_of(targets[0].get_node()) is not None
        )

    def _biased(self, convolution: openvino.Node, bias: NDArray[Any]) -> str:
        self._in_half = self._half and runs_in_half(convolution)
        inputs = self._inputs(convolution)
        own = self._integers.get(convolution.get_friendly_name())
        scale = self._activation_step(inputs[0])
        if own is not None and scale is not None:
            # The integer kernels add their bias in the integers of the products.
            steps = (own[1].astype(np.float64) * scale).astype(np.float32)
            rounded = np.rint(bias / steps.astype(np.float64))
            whole = np.clip(rounded, -(2**31), 2**31 - 1).astype(np.int32)
            named = [self.constant(whole), self.constant(steps)]
            inputs.append(self.add("DequantizeLinear", named, axis=0))
        else:
            inputs.append(self.constant(bias.astype(np.float32)))
        return emit(self, convolution, inputs)[0]

    def _activation_step(self, name: str) -> float | None:
        """Return the step of a value that is rounded to integers with one step."""
        made = next((n for n in self._nodes if n.output[0] == name), None)
        if made is None or made.op_type != "DequantizeLinear":
            return None
        step = next((c for c in self._constants if c.name == made.input[1]), None)
        values = None if step is None else numpy_helper.to_array(step)
        return float(values) if values is not None and values.ndim == 0 else None

    def _as(self, name: str, *, half: bool) -> str:
        """Return a value as f16 or f32, where it is a float."""
        if not self._half or (name in self._halves) == half or name in _INPUTS:
            return name
        kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
        key = (name, kind)
        if key not in self._casts:
            before, self._in_half = self._in_half, half
            self._casts[key] = self.add("Cast", [name], to=kind)
            self._in_half = before
        return self._casts[key]

    def _fresh(self, kind: str) -> str:
        self._count += 1
        return f"{kind}_{self._count}"


_INPUTS = ("image", "strength", "tone")


def _value(output: openvino.Output) -> tuple[str, int]:
    return output.get_node().get_name(), output.get_index()


def _bias_of(node: openvino.Node) -> tuple[openvino.Node, NDArray[Any]] | None:
    """Return the convolution that a node adds a bias to, and the bias, one number a channel."""
    if node.get_type_name() != "Add":
        return None
    sides = [value.get_node() for value in node.input_values()]
    for convolution, other in (sides, sides[::-1]):
        if convolution.get_type_name() not in _CONVOLUTIONS or other.get_type_name() != "Constant":
            continue
        shape = list(other.get_output_shape(0))
        channels = node.get_output_shape(0)[1]
        readers = convolution.output(0).get_target_inputs()
        if len(readers) == 1 and shape == [1, channels, *[1] * (len(shape) - 2)] and len(shape) > 2:
            return convolution, np.asarray(other.get_data()).reshape(-1)
    return None


def _integer_weights(model: openvino.Model) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
    """Return the INT8 weights of convolutions and the step of each output channel, by name."""
    found = {}
    for node in model.get_ordered_ops():
        if node.get_type_name() not in _CONVOLUTIONS:
            continue
        scaled = node.input_value(1).get_node()
        if scaled.get_type_name() != "Multiply":
            continue
        converted, steps = (value.get_node() for value in scaled.input_values())
        if converted.get_type_name() != "Convert" or steps.get_type_name() != "Constant":
            continue
        integers = converted.input_value(0).get_node()
        if (
            integers.get_type_name() != "Constant"
            or integers.get_element_type() != openvino.Type.i8
        ):
            continue
        values = np.asarray(integers.get_data())
        if values.ndim == 5:
            values = values.reshape(-1, *values.shape[2:])
        each = np.asarray(steps.get_data()).astype(np.float32).reshape(-1)
        if each.size not in (1, len(values)):
            continue
        found[node.get_friendly_name()] = values, np.broadcast_to(each, len(values)).copy()
    return found
