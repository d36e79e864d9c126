"""What the tests of calibration share: a folder of pictures, and graphs to quantize."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

from .drawn import save

if TYPE_CHECKING:
    import openvino


@pytest.fixture
def folder(tmp_path: Path, picture: Callable[..., NDArray[np.uint8]]) -> Path:
    """Six pictures of 96 x 80."""
    inside = tmp_path / "pictures"
    inside.mkdir()
    for index in range(6):
        save(inside / f"{index}.png", picture(80, 96, seed=index))
    return inside


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Small networks gain nothing from threads, and lose much where the cores are shared."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def graph_of() -> Callable[[str], openvino.Model]:
    """Make the float graph of one of `NETWORKS`, with its face; it is made once."""
    # Imported here: PyTorch and OpenVINO take seconds, and most tests beside these need neither.
    import torch
    from torch import nn

    from edgerestore.convert.architectures.edge_unet import EdgeUNet
    from edgerestore.convert.graph.export import export_module
    from edgerestore.convert.graph.ir import read_proto
    from edgerestore.convert.graph.signature import attach_signature
    from edgerestore.runtimes.openvino.graph import float_graph

    from .graphs import NETWORKS

    made: dict[str, openvino.Model] = {}

    def build(name: str) -> openvino.Model:
        if name not in made:
            factory, face = NETWORKS[name]
            torch.manual_seed(0)
            network = factory()
            if isinstance(network, EdgeUNet):  # it begins as the identity
                nn.init.normal_(network.head.weight, std=0.1)
            core = export_module(network, face.channels, residual=face.residual)
            made[name] = float_graph(read_proto(attach_signature(core, face)))
        return made[name]

    return build
