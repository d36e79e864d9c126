"""Small networks with seeded weights, and their graphs."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

from edgerestore.convert import convert
from edgerestore.convert.architectures.edge_unet import EdgeUNet
from edgerestore.convert.graph.export import quiet
from edgerestore.convert.pipeline import ConversionResult

# Small networks gain nothing from threads, and lose much where the cores are shared.
torch.set_num_threads(1)


def seeded(network: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weights in network.parameters():
            weights.copy_(torch.randn(weights.shape, generator=generator) * 0.1)
    return network.eval()


@pytest.fixture(scope="session")
def small_unet() -> EdgeUNet:
    network = seeded(EdgeUNet(3, (4, 6, 8), (1, 1, 1)))
    assert isinstance(network, EdgeUNet)
    return network


@pytest.fixture(scope="session")
def small_checkpoint(small_unet: EdgeUNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoints") / "small.pth"
    torch.save(small_unet.state_dict(), path)
    return path


@pytest.fixture(scope="session")
def converted(
    small_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[ConversionResult, list[str]]:
    lines: list[str] = []
    target = tmp_path_factory.mktemp("bundles") / "small"
    return convert(small_checkpoint, target, report=lines.append), lines


@pytest.fixture(scope="session")
def graph_of() -> Callable[..., onnx.ModelProto]:
    """Export fast, by the older exporter: the graph is what is under test, not the export."""

    def export(network: nn.Module, channels: int = 1) -> onnx.ModelProto:
        written = io.BytesIO()
        with quiet():
            torch.onnx.export(
                network.eval(),
                (torch.rand(1, channels, 48, 96),),
                written,  # type: ignore[arg-type]
                dynamo=False,
                opset_version=20,
                input_names=["picture"],
                output_names=["made"],
                dynamic_axes={"picture": {2: "h", 3: "w"}},
            )
        return onnx.load_model_from_string(written.getvalue())

    return export
