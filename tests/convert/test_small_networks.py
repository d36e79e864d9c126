"""Small networks of every kind, drawn at random: their source, and the same in tiles."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import ModelProto
from torch import Tensor, nn

import edgerestore
from edgerestore.bundle.bundle import stored_files, write_manifest
from edgerestore.bundle.kinds import InputKind, OutputKind
from edgerestore.bundle.manifest import (
    STRENGTH,
    InputPort,
    Manifest,
    OutputPort,
    StrengthKind,
    Tiling,
    TilingMode,
    Variant,
)
from edgerestore.bundle.precision import Precision
from edgerestore.convert.graph.ir import read_proto
from edgerestore.convert.graph.receptive_field import at_two_sizes, find_receptive_field
from edgerestore.convert.graph.resizes import with_exact_resizes
from edgerestore.convert.graph.signature import BASE_REACH_PX, Signature, attach_signature
from edgerestore.engine.tiling import proof
from edgerestore.engine.tiling.exactness import known_to_be_exact
from edgerestore.engine.tiling.grid import smallest_tile
from edgerestore.imaging.arrays import Depth, planes_of, rounded
from edgerestore.runtimes.cache import temporary_cache
from edgerestore.runtimes.openvino.graph import OpenvinoGraph

WIDTH, LONGEST_PX = 4, 3000
RESIZES = st.sampled_from(["nearest", "bilinear", "bicubic"])


class Coarse(nn.Module):
    """Looks at every second or third pixel, and comes back."""

    def __init__(self, down: nn.Module, up: nn.Module) -> None:
        super().__init__()
        self.down, self.up = down, up

    def forward(self, features: Tensor) -> Tensor:
        coarse: Tensor = features + self.up(self.down(features))
        return coarse


def resize(factor: int, mode: str) -> nn.Module:
    return nn.Upsample(scale_factor=float(factor), mode=mode)


@st.composite
def plain(draw: st.DrawFn) -> nn.Module:
    kernel, dilation = draw(st.sampled_from([(1, 1), (3, 1), (3, 2), (5, 1)]))
    groups = draw(st.sampled_from([1, 2, WIDTH]))
    padding = dilation * (kernel // 2)
    return nn.Conv2d(WIDTH, WIDTH, kernel, 1, padding, dilation, groups)


@st.composite
def depthwise(draw: st.DrawFn) -> nn.Module:
    wide = WIDTH * draw(st.sampled_from([1, 2]))
    return nn.Sequential(
        nn.Conv2d(WIDTH, wide, 1),
        nn.Conv2d(wide, wide, 3, padding=1, groups=wide),
        nn.Hardswish(),
        nn.Conv2d(wide, WIDTH, 1),
    )


@st.composite
def coarse(draw: st.DrawFn) -> nn.Module:
    factor = draw(st.sampled_from([2, 3]))
    down = draw(
        st.sampled_from(
            [
                nn.Conv2d(WIDTH, WIDTH, 3, factor, 1),
                nn.MaxPool2d(factor),
                nn.AvgPool2d(factor),
                nn.Sequential(nn.PixelUnshuffle(factor), nn.Conv2d(WIDTH * factor**2, WIDTH, 1)),
            ]
        )
    )
    shuffled = nn.Sequential(nn.Conv2d(WIDTH, WIDTH * factor**2, 1), nn.PixelShuffle(factor))
    return Coarse(down, shuffled if draw(st.booleans()) else resize(factor, draw(RESIZES)))


class Gated(nn.Module):
    """Weighs features by their mean over the whole picture."""

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.gate = nn.AdaptiveAvgPool2d(1), nn.Conv2d(WIDTH, WIDTH, 1)

    def forward(self, features: Tensor) -> Tensor:
        weighed: Tensor = features * self.gate(self.pool(features)).sigmoid()
        return weighed


@st.composite
def networks(draw: st.DrawFn) -> tuple[nn.Module, int]:
    """A network of one channel, and by how much it enlarges."""
    parts: list[nn.Module] = [nn.Conv2d(1, WIDTH, 3, padding=1)]
    for part in draw(st.lists(st.one_of(plain(), depthwise(), coarse()), min_size=1, max_size=3)):
        parts += [part, nn.ReLU()]
    if draw(st.integers(0, 9)) == 9:
        parts.append(Gated())
    upscale = draw(st.sampled_from([1, 1, 2, 3]))
    if upscale > 1:
        parts.append(resize(upscale, draw(RESIZES)))
    made = nn.Sequential(*parts, nn.Conv2d(WIDTH, 1, 3, padding=1), nn.Sigmoid())
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    with torch.no_grad():
        for weights in made.parameters():
            fan = weights[0].numel() if weights.ndim > 1 else 16
            weights.copy_(torch.randn(weights.shape, generator=generator) * (2 / fan) ** 0.5)
    return made.eval(), upscale


# Height and width beyond the least that is cut into two tiles: frames of a few tiles, and strips.
SHAPES = st.one_of(
    *[st.tuples(st.integers(0, 40), st.integers(0, 40))] * 3,
    st.tuples(st.integers(0, 9), st.integers(1000, LONGEST_PX)),
    st.tuples(st.integers(1000, LONGEST_PX), st.integers(0, 9)),
)


@pytest.mark.slow
@given(drawn=networks(), shape=SHAPES)
@settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_two_hundred_networks_are_their_sources_and_their_tiles_the_whole(
    drawn: tuple[nn.Module, int],
    shape: tuple[int, int],
    graph_of: Callable[..., ModelProto],
    tmp_path: Path,
) -> None:
    check(drawn, shape, graph_of, tmp_path)


@given(drawn=networks(), shape=SHAPES)
@settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_a_network_is_its_source_and_its_tiles_are_the_whole(
    drawn: tuple[nn.Module, int],
    shape: tuple[int, int],
    graph_of: Callable[..., ModelProto],
    tmp_path: Path,
) -> None:
    check(drawn, shape, graph_of, tmp_path)


def check(
    drawn: tuple[nn.Module, int],
    shape: tuple[int, int],
    graph_of: Callable[..., ModelProto],
    folder: Path,
) -> None:
    """Hold a network's graph to its source, and its tiles to the whole."""
    network, upscale = drawn
    core = graph_of(network)
    core = with_exact_resizes(core, at_two_sizes(read_proto(core))) or core
    field = find_receptive_field(read_proto(core))
    exact = not any(isinstance(part, Gated) for part in network.modules())
    assert field.mode is (TilingMode.EXACT if exact else TilingMode.WINDOWED)
    multiple, halo = field.multiple_of, max(field.halo_px, BASE_REACH_PX if upscale > 1 else 0)
    face = Signature(
        1, 1, "gray", multiple_of=multiple, minimum_px=field.minimum_px, upscale=upscale
    )
    graph = attach_signature(core, face)
    least = max(smallest_tile(halo, multiple), 5 * multiple, field.minimum_px)
    height, width = (min(LONGEST_PX, least + more) for more in shape)
    rng = np.random.default_rng(height)

    # The source takes multiples as they are.
    image = rng.random((height // multiple * multiple, width // multiple * multiple, 1), np.float32)
    # In f64: far to the right, PyTorch's resizes in f32 are off by more than the graph is.
    with torch.inference_mode():
        wanted = deepcopy(network).double()(torch.from_numpy(planes_of(image)).double()).numpy()
    made = OpenvinoGraph(read_proto(graph))(planes_of(image))
    np.testing.assert_allclose(made, wanted, atol=1e-4)
    if exact:
        onnx.save(graph, folder / "model.onnx")
        write_manifest(folder, manifest(folder, face, halo))
        tile = least if max(shape) < 1000 else least + 10 * multiple
        frame = rng.random((height, width, 1), np.float32)
        compare(folder, frame, tile, halo)


def manifest(folder: Path, face: Signature, halo: int) -> Manifest:
    port = InputPort(
        "image",
        InputKind.IMAGE,
        channels=1,
        color="gray",
        multiple_of=face.multiple_of,
        minimum_px=face.minimum_px,
    )
    return Manifest(
        name="drawn",
        task="deblur",
        summary="",
        licence="",
        inputs=(port, STRENGTH),
        outputs=(OutputPort.of(port, OutputKind.IMAGE, 1, face.upscale),),
        tiling=Tiling(TilingMode.EXACT, halo),
        strength=StrengthKind.BLEND,
        variants={"fp32": Variant(stored_files(folder, "fp32"))},
    )


def compare(folder: Path, frame: NDArray[np.float32], tile: int, halo: int) -> None:
    compared = proof._Comparison(halo)
    with (
        temporary_cache(),
        known_to_be_exact(),
        edgerestore.load(folder, precision="fp32", tile=1 << 20) as whole,
        edgerestore.load(folder, precision="fp32", tile=tile) as tiled,
    ):
        for depth in Depth:
            given_frame = np.ascontiguousarray(rounded(frame, depth))
            compared.add(whole(given_frame), tiled(given_frame), tile, Precision.FP32)
