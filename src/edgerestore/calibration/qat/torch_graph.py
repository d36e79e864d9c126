"""OpenVINO graph as a PyTorch module, so that the graph that is trained is the one that runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import openvino
import torch
from torch import Tensor, nn

from ...errors import ConversionError
from ...runtimes.openvino.graph import last_line
from ..operations import float_graph
from .torch_ops import TorchFunction, takes_several, tensor_of, torch_function

__all__ = ["Slot", "TorchGraph", "sized_graph"]

Slot = tuple[str, int]
"""An input of an operation: the operation's friendly name and the number of the input."""

_Value = tuple[str, int]  # a node's unique name and the number of its output
_CLAMPS = ("Clamp", "Maximum", "Minimum")


def sized_graph(model: openvino.Model, size: tuple[int, int]) -> openvino.Model:
    """Return a copy for one image of a size, constants folded.

    Parameters
    ----------
    model : openvino.Model
        A bundle's.
    size : (int, int)
        Height and width of ``image``; ``strength`` is one number.

    Raises
    ------
    ConversionError
        When the graph does not take the size.
    """
    sized = model.clone()
    try:
        channels = sized.input("image").partial_shape[1].get_length()
        sized.reshape({"image": [1, channels, *size], "strength": [1, 1, 1, 1]})
        return float_graph(sized)
    except RuntimeError as error:
        raise ConversionError(f"OpenVINO: {last_line(error)}") from error


@dataclass(frozen=True)
class _Step:
    """One operation: the values it reads and writes, and those that no later step reads."""

    name: str
    run: TorchFunction
    reads: list[_Value]
    writes: list[_Value]
    over: set[_Value]


class TorchGraph(nn.Module):
    """Bundle graph at one image size as a PyTorch module, f32 on the CPU.

    Parameters
    ----------
    model : openvino.Model
        With the inputs ``image`` and ``strength`` and the output ``restored``.
    size : (int, int)
        Height and width of the images.
    clamped : bool
        False leaves out the clamp of ``restored`` to [0, 1], which has no gradient outside.

    Raises
    ------
    ConversionError
        When an operation has no equivalent in PyTorch here; names it.
    """

    def __init__(
        self, model: openvino.Model, size: tuple[int, int], *, clamped: bool = True
    ) -> None:
        super().__init__()
        sized = sized_graph(model, size)
        last = sized.output("restored").get_node().input_value(0)
        if not clamped:
            last = _before_clamp(last)
        nodes = _needed(sized, last)
        self._constants: dict[_Value, Tensor] = {}
        steps: list[tuple[str, TorchFunction, list[_Value], list[_Value]]] = []
        for node in nodes:
            writes = [_value(output) for output in node.outputs()]
            kind, name = node.get_type_name(), node.get_friendly_name()
            if kind == "Constant":
                self._constants[writes[0]] = tensor_of(node)
            elif kind != "Parameter":
                reads = [_value(source) for source in node.input_values()]
                steps.append((name, torch_function(node), reads, writes))
        # After the steps, so that an operation without an equivalent is named first.
        self._stackable = _stackable(nodes)
        self._image, self._strength = (_value(sized.input(n)) for n in ("image", "strength"))
        self._last = _value(last)
        final = {value: at for at, (_, _, reads, _) in enumerate(steps) for value in reads}
        kept = {*self._constants, self._last}
        self._steps = [
            _Step(*step, {value for value in step[2] if final[value] == at} - kept)
            for at, step in enumerate(steps)
        ]

    def forward(
        self,
        image: Tensor,
        given: Mapping[Slot, Tensor] | None = None,
        quantizers: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
        strength: float = 1.0,
    ) -> Tensor:
        """Restore images.

        Parameters
        ----------
        image : Tensor, f32, shape (N, C, h, w)
            In [0, 1]. Where the graph mixes images of a batch, they run one by one.
        given : mapping of Slot to Tensor, optional
            Replace constants of the graph.
        quantizers : mapping of str to callable, optional
            By the name of a ``FakeQuantize``: replace it.
        strength : float

        Returns
        -------
        Tensor, f32, shape (N, C', h', w')
        """
        # oneDNN's convolutions run on this layout; the other one is reordered back and forth.
        image = image.contiguous(memory_format=torch.channels_last)
        given, quantizers = given or {}, quantizers or {}
        parts = [image] if self._stackable else list(torch.split(image, 1))
        made = [self._run(part, given, quantizers, strength) for part in parts]
        return made[0] if len(made) == 1 else torch.cat(made)

    def _run(
        self,
        image: Tensor,
        given: Mapping[Slot, Tensor],
        quantizers: Mapping[str, Callable[[Tensor], Tensor]],
        strength: float,
    ) -> Tensor:
        values: dict[_Value, Any] = dict(self._constants)
        values[self._image] = image
        values[self._strength] = torch.full((1, 1, 1, 1), strength)
        for step in self._steps:
            made: Any
            if step.name in quantizers:
                made = quantizers[step.name](values[step.reads[0]])
            else:
                slots = ((step.name, port) for port in range(len(step.reads)))
                read = zip(slots, step.reads, strict=True)
                made = step.run(*[given.get(slot, values[value]) for slot, value in read])
            outputs = made if isinstance(made, tuple) else (made,)
            values.update(zip(step.writes, outputs, strict=True))
            for value in step.over:
                del values[value]
        restored: Tensor = values[self._last]
        return restored


def _value(output: openvino.Output) -> _Value:
    return output.get_node().get_name(), output.get_index()


def _stackable(nodes: list[openvino.Node]) -> bool:
    """Return whether a graph that is sized to one image can run a batch."""
    varying: set[str] = set()
    for node in nodes:
        if _is_image(node):
            varying.add(node.get_name())
        elif any(value.get_node().get_name() in varying for value in node.input_values()):
            if not takes_several(node, varying):
                return False
            varying.add(node.get_name())
    return True


def _is_image(node: openvino.Node) -> bool:
    return node.get_type_name() == "Parameter" and "image" in node.output(0).get_names()


def _before_clamp(value: openvino.Output) -> openvino.Output:
    """Return the value before the clamps at the end of a graph."""
    while value.get_node().get_type_name() in _CLAMPS:
        inputs = value.get_node().input_values()
        computed = [i for i in inputs if i.get_node().get_type_name() != "Constant"]
        if len(computed) != 1:
            break
        value = computed[0]
    return value


def _needed(model: openvino.Model, last: openvino.Output) -> list[openvino.Node]:
    """Return the inputs and the nodes that a value depends on, in order of execution."""
    ordered = model.get_ordered_ops()
    wanted = {last.get_node().get_name()}
    for node in reversed(ordered):
        if node.get_name() in wanted:
            wanted |= {value.get_node().get_name() for value in node.input_values()}
    return [
        node for node in ordered if node.get_name() in wanted or node.get_type_name() == "Parameter"
    ]
