"""Networks that see the whole picture: the sides they take, and trained ones as they come."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from onnx import ModelProto
from torch import Tensor, nn

import edgerestore
from edgerestore.bundle.manifest import TilingMode
from edgerestore.convert import convert
from edgerestore.convert.architectures.rlfn import RLFN
from edgerestore.convert.checkpoint.loaded_model import LoadedModel, load_model
from edgerestore.convert.graph.ir import read_proto
from edgerestore.convert.graph.receptive_field import ReceptiveField, find_receptive_field
from edgerestore.convert.graph.signature import attach_signature
from edgerestore.convert.plan import find_sides, plan_signature, plan_tiling
from edgerestore.convert.verify import Reference, torch_network
from edgerestore.imaging.metrics import psnr
from edgerestore.runtimes.openvino.graph import OpenvinoGraph

from ..checked import imread

Graphs = Callable[..., ModelProto]


def seeded(network: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in network.parameters():
            weights.copy_(torch.randn(weights.shape, generator=generator) * 0.1)
    return network.eval()


class UNet(nn.Module):
    """Three halvings, and a gain that comes from the whole picture."""

    def __init__(self, *, stretches: bool) -> None:
        super().__init__()
        self.down = nn.ModuleList(nn.Conv2d(c, 4, 3, 2, 1) for c in (1, 4, 4))
        self.up = nn.ModuleList(nn.ConvTranspose2d(4, c, 2, 2) for c in (1, 4, 4))
        self.stretches = stretches

    def forward(self, image: Tensor) -> Tensor:
        made, skipped = image, []
        for down in self.down:
            skipped.append(made)
            made = torch.relu(down(made))
        made = made * made.mean((2, 3), keepdim=True)
        for up in reversed(self.up):
            skip, made = skipped.pop(), up(made)
            if self.stretches:
                made = F.interpolate(made, size=skip.shape[2:], mode="bilinear")
            made = made + skip
        return made


class Shuffled(nn.Module):
    """Works on every fourth pixel, after padding of its own."""

    def __init__(self, *, pads: bool, traced: bool = False) -> None:
        super().__init__()
        self.body = nn.Conv2d(16, 16, 3, padding=1)
        self.pads, self.traced = pads, traced

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[2:]
        if self.traced:
            height, width = int(height), int(width)
        padded = image
        if self.pads:
            padded = F.pad(image, (0, -width % 4, 0, -height % 4), mode="replicate")
        made = F.pixel_shuffle(self.body(F.pixel_unshuffle(padded, 4)), 4)
        return made[:, :, :height, :width] * image.mean((2, 3), keepdim=True)


class Even(nn.Module):
    """Refuses odd sides in so many words; its graph does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(1, 4, 3, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        if int(image.shape[2]) % 2 or int(image.shape[3]) % 2:
            raise ValueError("sides must be even")
        made = F.interpolate(self.body(image), size=image.shape[2:]).mean(1, keepdim=True)
        return image * made.mean((2, 3), keepdim=True)


def small_rlfn() -> nn.Module:
    network = seeded(RLFN(3, 8, 8, 4, upscale=2))
    with torch.no_grad():
        # What is added to the picture is small, as in a trained network.
        for weights in network.get_submodule("upsampler").parameters():
            weights.mul_(0.1)
    return network


def sides(
    network: nn.Module, graph_of: Graphs, channels: int = 1, upscale: int = 1
) -> tuple[ReceptiveField, tuple[int, int]]:
    core = read_proto(graph_of(network, channels))
    field = find_receptive_field(core)
    assert field.mode is TilingMode.WINDOWED
    claimed = field.multiple_of, field.minimum_px
    return field, find_sides(core, torch_network(network), upscale, *claimed)


@pytest.mark.parametrize(
    ("network", "graph_multiple", "found"),
    [
        (UNet(stretches=False), 8, (8, 8)),
        (UNet(stretches=True), 8, (1, 1)),
        (Shuffled(pads=False), 4, (4, 4)),
        (Shuffled(pads=True), 4, (1, 1)),
        # A trace holds the padding of the size it was made at, which is none.
        (Shuffled(pads=True, traced=True), 4, (4, 4)),
        (Even(), 2, (2, 2)),
    ],
    ids=["unet", "stretching unet", "shuffled", "padded", "traced", "refusing"],
)
def test_the_grid_is_what_the_network_demands(
    network: nn.Module, graph_multiple: int, found: tuple[int, int], graph_of: Graphs
) -> None:
    field, measured = sides(seeded(network), graph_of)
    assert field.multiple_of == graph_multiple
    assert measured == found


def test_attention_on_a_coarse_grid_takes_every_side_from_15(graph_of: Graphs) -> None:
    field, measured = sides(small_rlfn(), graph_of, channels=3, upscale=2)
    assert (field.multiple_of, field.minimum_px) == (6, 18)
    assert measured == (1, 15)


def test_a_least_size_that_the_graph_does_not_tell_is_found(graph_of: Graphs) -> None:
    class Shy(UNet):
        def forward(self, image: Tensor) -> Tensor:
            if image.shape[2] < 40:
                raise RuntimeError("too small")
            return super().forward(image)

    _, measured = sides(seeded(Shy(stretches=True)), graph_of)
    assert measured == (1, 40)


def test_what_runs_nowhere_keeps_what_the_graph_claims(graph_of: Graphs) -> None:
    core = read_proto(graph_of(seeded(UNet(stretches=False))))

    def broken(image: NDArray[np.float32]) -> NDArray[np.float32]:
        raise RuntimeError("no")

    assert find_sides(core, broken, 1, 8, 16) == (8, 16)


def test_a_residual_is_not_compared_with_the_image(graph_of: Graphs) -> None:
    network = seeded(UNet(stretches=True))
    core = read_proto(graph_of(network))

    def whole(image: NDArray[np.float32]) -> NDArray[np.float32]:
        added: NDArray[np.float32] = torch_network(network)(image) + 1
        return added

    assert find_sides(core, whole, 1, 8, 8) == (8, 8)
    assert find_sides(core, whole, 1, 8, 8, comparable=False) == (1, 1)


@pytest.mark.slow
def test_small_attention_network_becomes_a_bundle(
    tmp_path: Path, picture: Callable[..., NDArray[np.uint8]]
) -> None:
    network, path = small_rlfn(), tmp_path / "small.pth"
    torch.save(network.state_dict(), path)
    lines: list[str] = []
    bundle = convert(path, tmp_path / "small", force=True, report=lines.append).bundle
    manifest = bundle.manifest
    assert (manifest.input.multiple_of, manifest.input.minimum_px) == (1, 15)
    assert (manifest.tiling.mode, manifest.output.upscale) == (TilingMode.WINDOWED, 2)
    assert (manifest.tiling.window_px, manifest.tiling.ramp_px) == (96, 24)
    assert "depends on the size of the frame" in manifest.tiling.reason
    quality = manifest.variants["fp32"].quality
    assert quality["parity_max_difference"] <= 1e-4
    assert quality["tiled_max_difference"] > 0
    assert any("384x384 in 25 windows of 96" in line and " dB" in line for line in lines)
    with edgerestore.load(bundle.folder, precision="fp32") as restorer:
        for height, width in ((7, 5), (17, 95), (130, 101)):
            assert restorer(picture(height, width)).shape == (2 * height, 2 * width, 3)
        assert "4 windows of 96x96, not exact" in restorer.plan


NETS = {
    "imdn": "imdn_baseline.pth",
    "rfdn": "rfdn_baseline.pth",
    "rlfn": "team04_rlfn.pth",
}


@pytest.fixture(scope="module", params=list(NETS))
def trained(request: pytest.FixtureRequest, shared_data: Path) -> LoadedModel:
    path = shared_data / "checkpoints" / "super_resolution" / NETS[request.param]
    return load_model(path, None, {}, None, None)


def photographs(shared_data: Path) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Return the middles of some photographs at a quarter of their size, and as they were."""
    pairs = []
    for number in (13, 14, 15, 16):
        image = imread(shared_data / "kodak" / f"{number}.png")
        clean = torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)[None].float()
        small = F.interpolate(clean, scale_factor=0.25, mode="bicubic", antialias=True)
        small = small.clamp(0, 255).round()[..., 40:93, 60:131]
        pairs.append(((small / 255).numpy(), (clean[..., 160:372, 240:524] / 255).numpy()))
    return pairs


def test_trained_networks_keep_their_quality(trained: LoadedModel, shared_data: Path) -> None:
    field = find_receptive_field(read_proto(trained.core))
    windowed = trained.architecture != "imdn"
    assert (field.mode is TilingMode.WINDOWED) == windowed
    face = plan_signature(trained, field, None, None)
    assert (face.upscale, face.multiple_of, face.minimum_px) == (4, 1, 15 if windowed else 1)
    if windowed:
        tiling = plan_tiling(trained, field, face.upscale)
        assert (tiling.window_px, tiling.ramp_px) == (96, 24)
    graph = OpenvinoGraph(read_proto(attach_signature(trained.core, face)))
    reference = Reference(trained.network, face)
    ours, theirs, cubic = [], [], []
    for small, clean in photographs(shared_data):
        made, wanted = graph(small), reference(small)
        np.testing.assert_allclose(made, wanted, atol=1e-4)
        eager = np.clip(trained.network(small * face.value_range) / face.value_range, 0, 1)
        ours.append(psnr(made, clean))
        theirs.append(psnr(eager, clean))
        cubic.append(psnr(graph(small, 0.0), clean))
    assert abs(np.mean(ours) - np.mean(theirs)) < 0.01
    # Trained weights in their places, colours and range as they were trained.
    assert np.mean(ours) > np.mean(cubic) + 0.5
    # The smallest side, and one beside it, are the network's own and not padded.
    for shape in ((15, 16), (16, 21)):
        image = np.random.default_rng(0).random((1, 3, *shape), np.float32)
        eager = trained.network(image * face.value_range) / face.value_range
        np.testing.assert_allclose(graph(image), np.clip(eager, 0, 1), atol=1e-4)
