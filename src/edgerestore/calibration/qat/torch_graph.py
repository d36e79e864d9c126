"""Bundle graph as a PyTorch module, so that the graph that is trained is the one that runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import openvino
import torch
from torch import Tensor, nn

from ...errors import ConversionError
from ...runtimes.openvino.graph import float_graph, last_line
from ...runtimes.pytorch.graph import Slot, StaticGraph
from ...runtimes.pytorch.operations import takes_several

__all__ = ["Slot", "TorchGraph", "sized_graph"]

_CLAMPS = ("Clamp", "Maximum", "Minimum")


def sized_graph(model: openvino.Model, size: tuple[int, int]) -> openvino.Model:
    """Return a copy for one image of a size, constants float_graph.

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
        self._graph = StaticGraph(sized, last if clamped else _before_clamp(last))
        self._image_first = "image" in sized.inputs[0].get_names()
        # After the steps, so that an operation without an equivalent is named first.
        self._stackable = _stackable(self._graph.nodes)

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
        scalar = torch.full((1, 1, 1, 1), strength)
        made = [
            self._graph([part, scalar] if self._image_first else [scalar, part], given, quantizers)
            for part in ([image] if self._stackable else torch.split(image, 1))
        ]
        return made[0] if len(made) == 1 else torch.cat(made)


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
