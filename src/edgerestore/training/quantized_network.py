"""INT8 graph of a bundle as a network to train: each step rounds as the graph that runs does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino
import torch
from torch import Tensor, nn

from ..bundle.bundle import Bundle
from ..bundle.kinds import OutputKind
from ..calibration.qat.student import Student
from ..calibration.qat.torch_graph import TorchGraph
from ..convert.quantization import replace_int8
from ..errors import ArgumentError, BundleError
from ..runtimes.openvino.graph import float_graph, read_graph
from .dataset import Split
from .learner import to_pictures, to_tensor
from .networks import require_same_task
from .validation import score

__all__ = ["QuantizedNetwork", "write_fine_tuned"]

_JUDGED_PAIRS = 64
_PROVEN_PAIRS = 8


class QuantizedNetwork(nn.Module):
    """INT8 graph of a bundle, f32 on the CPU, with trainable weights, biases and ranges.

    Parameters
    ----------
    source : str
        Name or folder of a bundle that has INT8.
    task : str
        The recipe's, which must be the model's.
    pairs : Split
        Of the recipe's size and channels; the first input measures the scale of the activations.

    Raises
    ------
    ArgumentError
        When there is no such bundle, it has no INT8, it makes no pictures, or it does not fit.
    ConversionError
        When an operation cannot be trained; names it.
    """

    def __init__(self, source: str, task: str, pairs: Split) -> None:
        super().__init__()
        try:
            self.bundle = Bundle.find(source)
        except BundleError as error:
            raise ArgumentError(
                f"--qat --initial {source}: fine-tunes the INT8 of a bundle, and this is none;"
                " edgerestore convert and quantize make one"
            ) from error
        manifest = self.bundle.manifest
        if manifest.output.kind is not OutputKind.IMAGE:
            raise ArgumentError(f"--qat --initial {source}: makes no pictures, but masks or shifts")
        if "int8" not in manifest.variants:
            raise ArgumentError(
                f"--qat --initial {source}: has no INT8; first: edgerestore quantize {source}"
                " --calibrate PATH"
            )
        channels = pairs.inputs.shape[3]
        require_same_task("--initial", source, manifest, (task, pairs.upscale, channels))
        self._graph = read_graph(self.bundle.variant_files("int8")[0])
        self.floats = float_graph(read_graph(self.bundle.variant_files("fp32")[0]))
        image = to_tensor(np.array(pairs.inputs[:1]), torch.device("cpu")).contiguous().numpy()
        self.student = Student(self._graph, self.floats, image)
        self._sized: dict[tuple[int, int], TorchGraph] = {}

    def forward(self, image: Tensor) -> Tensor:
        """Restore f32 ``[N, C, h, w]`` in [0, 1]; the outcome is not clamped."""
        size = (image.shape[2], image.shape[3])
        if size not in self._sized:
            self._sized[size] = TorchGraph(self._graph, size, clamped=False)
        made: Tensor = self._sized[size](image, *self.student.values())
        return made


def write_fine_tuned(recipe: str, pairs: Split, network: nn.Module, folder: Path) -> Path:
    """Write a copy of a network's bundle with the INT8 that it was trained to.

    What INT8 loses against the float graph is measured on the first pairs of a split.

    Parameters
    ----------
    recipe : str
    pairs : Split
    network : QuantizedNetwork
    folder : Path
        Of the training run; gets ``bundle``.
    """
    assert isinstance(network, QuantizedNetwork)  # noqa: S101 - the run's own
    before = network.bundle.manifest.variants["int8"].quality
    model = network.student.export()
    floats, ours = (_mean_db(graph, pairs) for graph in (network.floats, model))
    loss_db, budget_db = round(floats - ours, 4), before.get("budget_db", 0.1)
    quality = {
        "loss_db": loss_db,
        "budget_db": budget_db,
        "within_budget": loss_db <= budget_db,
        "forced": False,
        "method": f"fine-tuned by recipe {recipe} on its pairs",
    }
    pictures = [one.astype(np.float32) / 255 for one in pairs.inputs[:_PROVEN_PAIRS]]
    return replace_int8(network.bundle, model, quality, pictures, folder / "bundle").folder


def _mean_db(model: openvino.Model, pairs: Split) -> float:
    """Return the mean PSNR of a graph's outcome on the first pairs."""
    graph = TorchGraph(model, (pairs.inputs.shape[1], pairs.inputs.shape[2]))
    restore: Callable[..., Tensor] = torch.no_grad()(graph)
    found = score(
        lambda pictures: to_pictures(restore(to_tensor(pictures, torch.device("cpu")))),
        [pairs],
        _JUDGED_PAIRS,
    )
    return found.figures["output_db"]
