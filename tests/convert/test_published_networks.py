"""Published networks under their authors' names: task, scale, range, and the same arithmetic."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgerestore.convert.architectures.bsrn import BSRN
from edgerestore.convert.architectures.dmphn import DMPHN
from edgerestore.convert.architectures.restormer import Restormer
from edgerestore.convert.architectures.swinir import SwinIR
from edgerestore.convert.checkpoint.loaded_model import load_model
from edgerestore.convert.graph.ir import read_proto
from edgerestore.convert.graph.receptive_field import find_receptive_field
from edgerestore.convert.graph.signature import attach_signature
from edgerestore.convert.plan import plan_signature, with_declared_sides
from edgerestore.convert.verify import Reference
from edgerestore.runtimes.openvino.graph import OpenvinoGraph

from .conftest import seeded


def write_file(network: nn.Module, path: Path) -> None:
    torch.save({"params": network.state_dict()}, path)


def write_with_computed_buffers(network: nn.Module, path: Path) -> None:
    state = dict(network.state_dict())
    blocks = "layers.0.residual_group.blocks"
    state[f"{blocks}.1.attn_mask"] = torch.zeros(4, 16, 16)
    for block in (0, 1):
        state[f"{blocks}.{block}.attn.relative_position_index"] = torch.zeros(16, 16)
    torch.save({"params_ema": state}, path)


def write_parts(network: nn.Module, path: Path) -> None:
    path.mkdir()
    for name, part in network.named_children():
        torch.save(part.state_dict(), path / f"{name}.pkl")


@pytest.mark.parametrize(
    ("network", "write", "said"),
    [
        (BSRN(3, 8, 1, 4, 2, 2), write_file, ("bsrn", "super-resolve", 2, 1, 0)),
        (
            SwinIR(3, 6, (2,), (2,), 4, 8, "pixelshuffledirect", 2),
            write_with_computed_buffers,
            ("swinir", "super-resolve", 2, 1, 0),
        ),
        (SwinIR(1, 6, (2,), (2,), 4, 8, "", 1), write_file, ("swinir", "denoise", 1, 1, 0)),
        (
            Restormer(3, 4, (1, 1, 1, 1), 1, (1, 1, 2, 2)),
            write_file,
            ("restormer", "deblur", 1, 1, 0),
        ),
        (DMPHN(3, 2), write_parts, ("dmphn", "deblur", 1, 0.5, -0.5)),
    ],
    ids=["bsrn", "swinir", "swinir for noise", "restormer", "dmphn"],
)
def test_published_weights_become_the_same_model(
    network: nn.Module,
    write: object,
    said: tuple[str, str, int, float, float],
    tmp_path: Path,
) -> None:
    assert callable(write)
    write(seeded(network), tmp_path / "weights")
    loaded = load_model(tmp_path / "weights", None, {}, None, None)
    field = with_declared_sides(find_receptive_field(read_proto(loaded.core)), loaded.declared)
    face = plan_signature(loaded, field, None, None)
    found = loaded.architecture, loaded.declared["task"], face.upscale, face.value_range, face.black
    assert found == said
    graph = OpenvinoGraph(read_proto(attach_signature(loaded.core, face)))
    reference = Reference(loaded.network, replace(face, residual=loaded.network_residual))
    for shape in ((64, 48), (37, 51)):
        image = np.random.default_rng(0).random((1, face.channels, *shape), np.float32)
        np.testing.assert_allclose(graph(image), reference(image), atol=1e-5)
