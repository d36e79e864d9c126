"""Generators of adversarial networks against what their authors' own code made of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgerestore.bundle.manifest import TilingMode
from edgerestore.convert import convert
from edgerestore.convert.architectures import REGISTRY
from edgerestore.convert.architectures.global_generator import GlobalGenerator
from edgerestore.convert.architectures.layers import norm_layer
from edgerestore.convert.architectures.resnet_generator import ResnetGenerator
from edgerestore.convert.architectures.srresnet import SRResNet
from edgerestore.convert.architectures.unet_generator import UnetGenerator
from edgerestore.convert.checkpoint.network import build_network

from .official_weights import filled

OFFICIAL = Path(__file__).parent / "official"
ROWS = {
    "unet_256": "unet_generator",
    "cyclegan_resnet9": "resnet_generator",
    "deblurgan_resnet9": "resnet_generator",
    "pix2pixhd_global": "global_generator",
    "srresnet": "srresnet",
}


def told(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((OFFICIAL / f"{name}.json").read_text())
    return content


def shapes_of(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def with_weights(network: nn.Module) -> nn.Module:
    network.load_state_dict(filled(shapes_of(network)))
    return network.eval()


def picture(height: int, width: int, black: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(height * 1000 + width)
    return torch.rand(1, 3, height, width, generator=generator) * (1 - black) + black


@pytest.mark.parametrize("name", ROWS)
def test_the_authors_output_comes_from_their_weights(name: str) -> None:
    record = told(name)
    shapes = {key: tuple(shape) for key, shape in record["shapes"].items()}
    network = build_network(filled(shapes, record["scale"]), Path(f"{name}.pth"), None, {})
    assert network.architecture == ROWS[name]
    assert network.row is not None
    assert network.row.black == record["black"]
    assert shapes_of(network.module) == shapes
    with np.load(OFFICIAL / f"{name}.npz") as stored, torch.inference_mode():
        for size in stored.files:
            height, width = map(int, size.split("x"))
            image = picture(height, width, record["black"])
            # The authors' clamp, which here follows the blend.
            made = network.module(image)[0].clamp(record["black"], 1)
            kept = made[:, :: record["kept"], :: record["kept"]].numpy()
            np.testing.assert_allclose(kept, stored[size], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["unet_256", "cyclegan_resnet9", "pix2pixhd_global"])
def test_the_published_widths_are_told_from_the_shapes(name: str) -> None:
    shapes = {key: tuple(shape) for key, shape in told(name)["published"].items()}
    with torch.device("meta"):
        state = {key: torch.empty(shape) for key, shape in shapes.items()}
        (row,) = REGISTRY.fitting(state)
        assert row.name == ROWS[name]
        arguments = row.arguments_from(state)
        assert arguments["width"] == 64
        assert shapes_of(row.build(**arguments)) == shapes


def test_what_the_weights_show_of_a_generator() -> None:
    def read(network: nn.Module) -> dict[str, Any]:
        return ResnetGenerator.arguments_from(network.state_dict())

    for dropout in (True, False):
        for kind in ("batch", "instance", "tracked"):
            bias = kind != "batch"
            found = read(ResnetGenerator(1, 3, 4, 3, 2, kind, bias, dropout=dropout))
            wanted = {"norm": kind, "bias": bias, "dropout": dropout, "twice": True}
            assert wanted.items() <= found.items()
            # DeblurGAN's default and CycleGAN's.
            assert found["learn_residual"] is dropout
    assert read(ResnetGenerator(3, 3, 4, 3, twice=False))["twice"] is False


@pytest.mark.parametrize("kind", ["batch", "tracked"])
def test_weights_from_before_batches_were_counted(kind: str) -> None:
    network = ResnetGenerator(3, 3, 2, 1, norm=kind)
    state = {k: v for k, v in network.state_dict().items() if "num_batches" not in k}
    found = build_network(state, Path("old.pth"), None, {}).module.state_dict()
    assert all(torch.equal(found[name], value) for name, value in state.items())


def test_two_halvings_are_pix2pixhds_where_the_user_says_so() -> None:
    state = GlobalGenerator(3, 3, 4, 2, 2).state_dict()
    path = Path("two.pth")
    assert build_network(state, path, None, {}).architecture == "resnet_generator"
    module = build_network(state, path, "global_generator", {}).module
    assert isinstance(module, GlobalGenerator)
    assert module.residual is None


def test_skips_may_come_last() -> None:
    network = with_weights(UnetGenerator(3, 3, 2, 5))
    turned = build_network(network.state_dict(), Path("u.pth"), None, {"skip_first": False})
    image = picture(32, 64, -1.0)
    with torch.inference_mode():
        assert not torch.allclose(network(image), turned.module(image))
        assert network(picture(33, 70, -1.0)).shape == (1, 3, 33, 70)
    with pytest.raises(ValueError, match="at least 3"):
        UnetGenerator(depth=2)


def test_norms() -> None:
    features = picture(9, 7)
    plain = nn.InstanceNorm2d(3)
    statistics = {"running_mean": torch.full((3,), 0.5), "running_var": torch.full((3,), 4.0)}
    for kind in ("tracked", "recorded"):
        norm = norm_layer(kind, 3).eval()
        norm.load_state_dict(statistics, strict=True)
        wanted = plain(features) if kind == "tracked" else (features - 0.5) / 2
        torch.testing.assert_close(norm(features), wanted, rtol=0, atol=2e-6)
    # Rounding is all that a flat picture leaves, and it stays small.
    flat = torch.full((1, 3, 33, 35), 0.3)
    assert norm_layer("instance", 3)(flat).abs().max() < 1e-6
    assert norm_layer("none", 3)(flat) is flat
    with pytest.raises(ValueError, match="use batch"):
        norm_layer("layer", 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "mode", "multiple"),
    [
        (UnetGenerator(3, 3, 2, 5), TilingMode.EXACT, 32),
        (ResnetGenerator(3, 3, 4, 1), TilingMode.WINDOWED, 4),
        (GlobalGenerator(3, 3, 4, 1, norm="batch"), TilingMode.EXACT, 8),
        (SRResNet(3, 4, 1, 1), TilingMode.EXACT, 1),
    ],
    ids=["unet", "resnet", "global", "srresnet"],
)
def test_a_small_one_becomes_a_bundle(
    network: nn.Module, mode: TilingMode, multiple: int, tmp_path: Path
) -> None:
    path = tmp_path / "small.pth"
    torch.save(with_weights(network).state_dict(), path)
    # Norms of untrained weights differ much from window to window.
    window = 1600 if mode is TilingMode.WINDOWED else None
    manifest = convert(path, tmp_path / "bundle", window_px=window, force=True).bundle.manifest
    assert manifest.variants["fp32"].quality["parity_max_difference"] <= 1e-4
    assert manifest.tiling.mode is mode
    assert manifest.input.multiple_of == multiple
    assert manifest.output.upscale == (2 if isinstance(network, SRResNet) else 1)
