"""The deblurring networks against what their authors' own code made of the same weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import ModelProto
from torch import Tensor, nn

from edgerestore.bundle.manifest import TilingMode
from edgerestore.convert.architectures.mprnet import MPRNet
from edgerestore.convert.architectures.nafnet import NAFNet
from edgerestore.convert.checkpoint.loaded_model import load_model
from edgerestore.convert.checkpoint.network import build_network
from edgerestore.convert.graph.ir import read_proto
from edgerestore.convert.graph.receptive_field import find_receptive_field
from edgerestore.convert.graph.signature import Signature, attach_signature
from edgerestore.convert.plan import find_sides
from edgerestore.convert.verify import torch_network
from edgerestore.runtimes.openvino.graph import OpenvinoGraph

from .official_weights import filled

OFFICIAL = Path(__file__).parent / "official"
KEPT = 4  # every fourth pixel of the authors' output is stored
SMALL_NAFNET: dict[str, Any] = {
    "width": 4,
    "encode_depths": (0,),
    "middle_depth": 1,
    "decode_depths": (1,),
}


def weights_for(shapes: Mapping[str, tuple[int, ...]], scale: float) -> dict[str, Tensor]:
    weights = filled(shapes, scale)
    for name, weight in weights.items():
        if weight.shape == (1,) and name.endswith("body.1.weight"):
            weight.fill_(0.25)  # one slope under many names
    return weights


def with_weights(network: nn.Module, scale: float = 1.0) -> nn.Module:
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    network.load_state_dict(weights_for(shapes, scale))
    return network.eval()


def picture(height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(height * 1000 + width)
    return torch.rand(1, 3, height, width, generator=generator)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("mprnet_deblur", {"width": 96, "more_per_level": 48, "more_in_last": 32}),
        ("mprnet_denoise", {"width": 80, "more_per_level": 48, "more_in_last": 32}),
        ("nafnet_width32", {"width": 32, "encode_depths": [1, 1, 1, 28], "middle_depth": 1}),
    ],
)
def test_the_authors_output_comes_from_their_weights(name: str, arguments: dict[str, Any]) -> None:
    told = json.loads((OFFICIAL / f"{name}.json").read_text())
    shapes = {key: tuple(shape) for key, shape in told["shapes"].items()}
    weights = weights_for(shapes, told["scale"])
    network = build_network(weights, Path(f"{name}.pth"), None, {})
    assert network.architecture == name.partition("_")[0]
    assert arguments.items() <= network.arguments.items()
    own = network.module.state_dict()
    assert {key: tuple(value.shape) for key, value in own.items()} == shapes
    with np.load(OFFICIAL / f"{name}.npz") as stored, torch.inference_mode():
        for size in stored.files:
            image = picture(*map(int, size.split("x")))
            made = network.module(image)[0, :, ::KEPT, ::KEPT].numpy()
            np.testing.assert_allclose(made, stored[size], rtol=0, atol=1e-5)


def test_mprnet_as_a_graph(graph_of: Callable[..., ModelProto]) -> None:
    network = with_weights(MPRNet(3, 4, 4, 4, 1), 0.5)
    core = graph_of(network, 3)
    field = find_receptive_field(read_proto(core))
    assert (field.mode, field.multiple_of) == (TilingMode.WINDOWED, 8)
    sides = find_sides(read_proto(core), torch_network(network), 1, field.multiple_of, 8)
    assert sides == (8, 8)
    graph = OpenvinoGraph(
        read_proto(attach_signature(core, Signature(3, 3, multiple_of=8, minimum_px=8)))
    )
    # Any size is padded to one that comes apart into quarters.
    for size in ((24, 40), (41, 67)):
        image = picture(*size)
        more = [-side % 8 for side in size]
        padded = nn.functional.pad(image, (0, more[1], 0, more[0]), mode="replicate")
        with torch.inference_mode():
            wanted = network(padded)[:, :, : size[0], : size[1]].clamp(0, 1).numpy()
        np.testing.assert_allclose(graph(image.numpy()), wanted, rtol=0, atol=1e-4)


def test_nafnet_with_windows_as_a_graph(tmp_path: Path) -> None:
    arguments = {"local_px": 40}
    network = with_weights(NAFNet(**SMALL_NAFNET | {"decode_depths": (0,)} | arguments))
    path = tmp_path / "small.pth"
    torch.save(network.state_dict(), path)
    origin = load_model(path, None, arguments, None, None)
    assert origin.core_residual
    assert origin.declared["window_px"] == 384
    core = read_proto(origin.core)
    field = find_receptive_field(core)
    assert (field.mode, field.multiple_of) == (TilingMode.WINDOWED, 2)
    assert find_sides(core, origin.network, 1, 2, 2, comparable=False) == (2, 2)
    face = Signature(3, 3, multiple_of=2, minimum_px=2, residual=True)
    graph = OpenvinoGraph(read_proto(attach_signature(origin.core, face)))
    # Maps smaller than the windows of local averages, larger, and one side of each.
    for size in ((24, 36), (96, 72), (30, 88)):
        image = picture(*size)
        with torch.inference_mode():
            wanted = network(image).clamp(0, 1).numpy()
        np.testing.assert_allclose(graph(image.numpy()), wanted, rtol=0, atol=1e-4)


def test_windows_are_laid_as_the_authors_lay_them() -> None:
    told = json.loads((OFFICIAL / "nafnet_width32.json").read_text())
    weights = weights_for(
        {key: tuple(shape) for key, shape in told["shapes"].items()}, told["scale"]
    )
    with np.load(OFFICIAL / "nafnet_width32_local.npz") as stored, torch.inference_mode():
        for case in stored.files:
            size, _, local_px = case.partition(" in windows of ")
            arguments = {"local_px": int(local_px)}
            network = build_network(weights, Path("local.pth"), None, arguments).module
            made = network(picture(*map(int, size.split("x"))))[0, :, ::KEPT, ::KEPT].numpy()
            np.testing.assert_allclose(made, stored[case], rtol=0, atol=1e-5)


def local_and_global(local_px: int) -> tuple[nn.Module, nn.Module]:
    return with_weights(NAFNet(**SMALL_NAFNET, local_px=local_px)), with_weights(
        NAFNet(**SMALL_NAFNET)
    )


@pytest.mark.parametrize("size", [(48, 64), (64, 64), (20, 8)])
def test_windows_of_the_whole_map_are_the_whole_map(size: tuple[int, int]) -> None:
    local, whole = local_and_global(64)
    image = picture(*size)
    with torch.inference_mode():
        torch.testing.assert_close(local(image), whole(image), rtol=0, atol=1e-5)


def test_local_averages_make_a_part_more_like_the_whole() -> None:
    # A picture whose halves differ: its average is that of no part.
    image = picture(128, 128) * torch.linspace(0, 2, 128)
    part, inner = np.s_[:, :, 32:96, 32:96], np.s_[:, :, 24:40, 24:40]
    differences = []
    for network in local_and_global(16):
        with torch.inference_mode():
            whole, tile = network(image)[part], network(image[part])
        differences.append(float((whole[inner] - tile[inner]).abs().max()))
    local, everywhere = differences
    assert local < everywhere / 2


def test_a_window_reaches_as_far_as_it_says() -> None:
    local, whole = local_and_global(16)
    image = picture(64, 64)
    changed = image.clone()
    changed[:, :, :, 60:] += 1
    with torch.inference_mode():
        moved = [(network(changed) - network(image)).abs() for network in (local, whole)]
    local_moved, moved_everywhere = (float(change[..., 0].max()) for change in moved)
    assert local_moved == 0
    assert moved_everywhere > 1e-4


def test_windows_are_refused_where_they_make_no_sense() -> None:
    with pytest.raises(ValueError, match="local_px 0"):
        NAFNet(local_px=0)
    with pytest.raises(ValueError, match="one entry per level"):
        NAFNet(encode_depths=(1, 1), decode_depths=(1,))
