"""What stays in f32 where the rest of a graph runs in halves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from edgerestore.bundle.kinds import OutputKind
from edgerestore.bundle.precision import Precision
from edgerestore.convert.architectures.nafnet import NAFNet
from edgerestore.convert.graph.export import export_module
from edgerestore.convert.graph.ir import write_ir
from edgerestore.convert.graph.signature import Signature, attach_signature
from edgerestore.convert.verify import Reference, torch_network
from edgerestore.runtimes.openvino.graph import OpenvinoGraph, cpu_floats, read_graph

pytestmark = pytest.mark.skipif(len(cpu_floats()) == 1, reason="this CPU does not compute in bf16")


def compiled(network: nn.Module, face: Signature, folder: Path, **facts: str) -> OpenvinoGraph:
    core = export_module(network, 3, residual=face.residual)
    onnx.save(attach_signature(core, face), folder / "model.onnx")
    write_ir(
        folder / "model.onnx", folder / "ir.xml", {f"edgerestore/{k}": facts[k] for k in facts}
    )
    return OpenvinoGraph(read_graph(folder / "ir.xml"), Precision.BF16, (48, 64))


def precisions(graph: OpenvinoGraph, kind: str, name: str = "") -> set[str]:
    nodes = graph.compiled.get_runtime_model().get_ordered_ops()
    facts = [node.get_rt_info() for node in nodes if name in node.get_friendly_name()]
    return {f["runtimePrecision"].astype(str) for f in facts if f["layerType"].astype(str) == kind}


def test_layer_norms_stay_in_f32(tmp_path: Path) -> None:
    network = NAFNet(3, 8, (1,), 1, (1,)).eval()
    graph = compiled(network, Signature(3, 3, multiple_of=2, residual=True), tmp_path)
    assert precisions(graph, "Reduce", "sum") == {"f32"}
    assert "bf16" in precisions(graph, "Convolution")


class Guided(nn.Module):
    """Judges a thumbnail, and sharpens the outcome by a variance: a small difference of sums."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 1, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        small = nn.functional.interpolate(image, (32, 32), mode="bilinear")
        judged = self.layer(small).sigmoid()
        grey = small.mean(1, keepdim=True)
        spread = nn.functional.avg_pool2d(grey * grey, 5, 1, 2)
        mean = nn.functional.avg_pool2d(grey, 5, 1, 2)
        gain = judged / (spread - mean * mean + 1e-4)
        wide = nn.functional.interpolate(gain * 1e-3, image.shape[2:], mode="bilinear")
        return wide * image.mean(1, keepdim=True)


def test_what_is_around_a_thumbnails_layers_stays_in_f32(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, face = Guided().eval(), Signature(3, 1, kind=OutputKind.MASK)
    rng = np.random.default_rng(0)
    image = (0.5 + 0.02 * rng.standard_normal((1, 3, 48, 64))).astype(np.float32)
    wanted = Reference(torch_network(network), face)(image)
    errors = []
    for tiling in ("exact", "whole"):
        folder = tmp_path / tiling
        folder.mkdir()
        made = compiled(network, face, folder, tiling=tiling)(image)
        errors.append(np.abs(made - wanted).max())
    assert errors[1] < 0.02 < 0.1 < errors[0]
