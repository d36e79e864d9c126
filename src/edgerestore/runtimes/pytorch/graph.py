"""OpenVINO graph of static shapes as a PyTorch module."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import openvino
import torch
from torch import Tensor, nn

from ..openvino.precise import runs_in_half
from .operations import TorchFunction, tensor_of, torch_function

__all__ = ["Slot", "StaticGraph", "Value", "needed_nodes", "value_of"]

Slot = tuple[str, int]
"""An input of an operation: the operation's friendly name and the number of the input."""

Value = tuple[str, int]
"""An output of an operation: the node's unique name and the number of the output."""


@dataclass(frozen=True)
class _Step:
    """One operation: the values it reads and writes, and those that no later step reads."""

    name: str
    run: TorchFunction
    reads: list[Value]
    writes: list[Value]
    over: set[Value]
    floats: torch.dtype | None


class StaticGraph(nn.Module):
    """Graph at static shapes as a PyTorch module.

    Parameters
    ----------
    model : openvino.Model
        All shapes static, constants folded.
    last : openvino.Output
        The value that is computed.
    half : torch.dtype or None
        Of the network's float operations, but for those that are marked to stay in f32.

    Raises
    ------
    ConversionError
        When an operation has no equivalent in PyTorch here; names it.
    """

    def __init__(
        self, model: openvino.Model, last: openvino.Output, half: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.nodes = needed_nodes(model, last)
        self._constants: dict[Value, Tensor] = {}
        steps: list[tuple[str, TorchFunction, list[Value], list[Value]]] = []
        floats: list[torch.dtype | None] = []
        for node in self.nodes:
            writes = [value_of(output) for output in node.outputs()]
            kind, name = node.get_type_name(), node.get_friendly_name()
            if kind == "Constant":
                self._constants[writes[0]] = tensor_of(node)
            elif kind != "Parameter":
                reads = [value_of(source) for source in node.input_values()]
                steps.append((name, torch_function(node), reads, writes))
                halved = half if runs_in_half(node) else torch.float32
                floats.append(None if half is None else halved)
        self._parameters_read = [value_of(port) for port in model.inputs]
        self._last = value_of(last)
        final = {value: at for at, (_, _, reads, _) in enumerate(steps) for value in reads}
        kept = {*self._constants, self._last}
        self._steps = [
            _Step(*step, {value for value in step[2] if final[value] == at} - kept, floats[at])
            for at, step in enumerate(steps)
        ]

    def move_to(self, device: torch.device) -> None:
        """Bring the constants to a device."""
        self._constants = {value: kept.to(device) for value, kept in self._constants.items()}

    def forward(
        self,
        inputs: Sequence[Tensor],
        given: Mapping[Slot, Tensor] | None = None,
        quantizers: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
    ) -> Tensor:
        """Compute the value.

        Parameters
        ----------
        inputs : sequence of Tensor
            In the order of the graph's parameters; strength may be smaller than the parameter,
            where it broadcasts to it.
        given : mapping of Slot to Tensor, optional
            Replace constants of the graph.
        quantizers : mapping of str to callable, optional
            By the name of a ``FakeQuantize``: replace it.
        """
        given, quantizers = given or {}, quantizers or {}
        values: dict[Value, Any] = dict(self._constants)
        values.update(zip(self._parameters_read, inputs, strict=True))
        for step in self._steps:
            made: Any
            if step.name in quantizers:
                made = quantizers[step.name](values[step.reads[0]])
            else:
                slots = ((step.name, port) for port in range(len(step.reads)))
                read = zip(slots, step.reads, strict=True)
                read_values = [given.get(slot, values[value]) for slot, value in read]
                if step.floats is not None:
                    read_values = [_in(step.floats, one) for one in read_values]
                made = step.run(*read_values)
            outputs = made if isinstance(made, tuple) else (made,)
            values.update(zip(step.writes, outputs, strict=True))
            for value in step.over:
                del values[value]
        computed: Tensor = values[self._last]
        return computed


def _in(floats: torch.dtype, value: Tensor) -> Tensor:
    return value.to(floats) if value.is_floating_point() else value


def value_of(output: openvino.Output) -> Value:
    """Return the name of an output."""
    return output.get_node().get_name(), output.get_index()


def needed_nodes(model: openvino.Model, last: openvino.Output) -> list[openvino.Node]:
    """Return the inputs and the nodes that a value depends on, in order of execution."""
    ordered = model.get_ordered_ops()
    wanted = {last.get_node().get_name()}
    for node in reversed(ordered):
        if node.get_name() in wanted:
            wanted |= {value.get_node().get_name() for value in node.input_values()}
    return [
        node for node in ordered if node.get_name() in wanted or node.get_type_name() == "Parameter"
    ]
