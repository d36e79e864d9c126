"""Checkpoints with the wrong thing in them: discriminators, quantized weights, several sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgerestore.convert.architectures import REGISTRY, Registry
from edgerestore.convert.architectures.discriminators import find_discriminator
from edgerestore.convert.architectures.dncnn import DnCNN
from edgerestore.convert.architectures.edge_unet import EdgeUNet
from edgerestore.convert.architectures.resnet_generator import ResnetGenerator
from edgerestore.convert.checkpoint import network as network_module
from edgerestore.convert.checkpoint.files import load_state, unwrap
from edgerestore.convert.checkpoint.network import build_network
from edgerestore.errors import CheckpointError

HERE = Path("weights.pth")
GENERATOR = dict(ResnetGenerator(3, 3, 2, 1).state_dict())


def chain(name: str, kernel: int, kinds: str) -> dict[str, Tensor]:
    """Return the weights of layers in a row: c and b for convolution and batch norm."""
    made: dict[str, nn.Module] = {"c": nn.Conv2d(2, 2, kernel), "b": nn.BatchNorm2d(2)}
    layers = nn.Sequential(*(made.get(kind, nn.Identity()) for kind in kinds))
    return {f"{name}.{key}": value for key, value in layers.state_dict().items()}


PATCH = chain("model", 4, "c_cb_cb_cb_c")
DISCRIMINATORS = {
    "pix2pix": (PATCH, "PatchGAN"),
    "pix2pix with instance norm": (chain("model", 4, "c_c__c__c__c"), "PatchGAN"),
    "pix2pixHD": (
        {k: v for i in range(3) for k, v in chain(f"layer{i}", 4, "c_c__c__c__c").items()},
        "PatchGAN",
    ),
    "pix2pixHD, layers compared": (
        {
            k: v
            for scale in range(2)
            for layer in range(5)
            for k, v in chain(f"scale{scale}_layer{layer}", 4, "cb"[: 1 + layer % 2]).items()
        },
        "PatchGAN",
    ),
    "pixel": (chain("net", 1, "c_cb_c"), "PixelGAN"),
    "srgan": (chain("net", 3, "c_" + "cb_" * 7 + "_c_c"), "SRGAN"),
}


@pytest.mark.parametrize("name", DISCRIMINATORS)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_discriminators_are_named(name: str, prefix: str) -> None:
    weights, family = DISCRIMINATORS[name]
    state = unwrap({prefix + key: value for key, value in weights.items()})
    with pytest.raises(CheckpointError) as caught:
        build_network(state, HERE, None, {})
    assert str(caught.value) == (
        f"weights.pth: is a discriminator ({family}), which only training needs;"
        " convert the generator"
    )


def test_a_chain_with_small_kernels_is_no_discriminator() -> None:
    state = chain("model", 3, "c_cb_cb_cb_c")
    assert find_discriminator(state) is None
    assert find_discriminator(GENERATOR) is None


@pytest.mark.parametrize(
    "wrapped",
    [
        {"netG": GENERATOR, "netD": PATCH, "optimG": {"state": {}, "param_groups": []}},
        {"generator": GENERATOR, "discriminator": PATCH},
        {"d_state": PATCH, "g_state": GENERATOR, "opt_g": "OPTIMIZER"},
        {"G": GENERATOR, "D": PATCH},
        {"gen_AB": {f"module.{k}": v for k, v in GENERATOR.items()}, "critic": PATCH},
        {"my_g": GENERATOR, "my_d": {"first.weight": torch.ones(2), "last.bias": torch.ones(2)}},
        {"state_dict": {f"netG.{k}": v for k, v in GENERATOR.items()} | {"netD.a": torch.ones(1)}},
        {"g": {k: v + 1 for k, v in GENERATOR.items()}, "g_ema": GENERATOR, "d": PATCH},
    ],
)
def test_the_generator_is_found_in_a_training_checkpoint(
    wrapped: dict[str, Any], tmp_path: Path
) -> None:
    network = ResnetGenerator(3, 3, 2, 1)
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.zeros(1, 3, 16, 16)).sum().backward()
    optimizer.step()
    if "opt_g" in wrapped:
        wrapped = wrapped | {"opt_g": optimizer.state_dict()}
    path = tmp_path / "all.pth"
    torch.save({**wrapped, "step": 3}, path)
    found = build_network(load_state(path), path, None, {})
    assert found.architecture == "resnet_generator"
    for name, value in found.module.state_dict().items():
        assert torch.equal(value, GENERATOR[name])


def test_an_unknown_generator_is_what_is_no_discriminator() -> None:
    own = {"head.weight": torch.ones(2), "tail.weight": torch.ones(2)}
    assert unwrap({"mine": own, "judge": PATCH}) == own


@pytest.mark.parametrize("sets", [("netG_A", "netG_B"), ("G_A", "G_B", "D_A", "D_B")])
def test_two_generators_are_not_guessed_between(sets: tuple[str, ...]) -> None:
    content = {name: PATCH if name[0] == "D" else GENERATOR for name in sets}
    with pytest.raises(CheckpointError, match=r"several sets of weights \(.*; *save|several sets"):
        unwrap(content)


def quantized() -> dict[str, dict[str, Any]]:
    tensor = torch.quantize_per_tensor(torch.ones(2, 2), 0.1, 0, torch.qint8)
    point = {"scale": torch.tensor(0.1), "zero_point": torch.tensor(3)}
    named = {f"conv.{name}": value for name, value in point.items()}
    return {
        "qint": {"conv.weight": tensor, "conv.bias": torch.ones(2)},
        "packed": {"fc._packed_params._packed_params": (tensor, None), "conv.bias": torch.ones(2)},
        "packed alone": {"fc._packed_params._packed_params": (tensor, None)},
        "zero point": {"conv.weight": torch.ones(2), **named},
        "wrapped": {"state_dict": {"conv.weight": torch.ones(2), **named}},
        "bare": {"weight": torch.ones(2), **point},
    }


@pytest.mark.parametrize(
    "form", ["qint", "packed", "packed alone", "zero point", "wrapped", "bare"]
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_quantized_checkpoints_are_refused(form: str, tmp_path: Path) -> None:
    path = tmp_path / "int8.pth"
    torch.save(quantized()[form], path)
    with pytest.raises(CheckpointError, match="is quantized already") as caught:
        load_state(path)
    assert str(caught.value).endswith("convert the float checkpoint, edgerestore quantizes it")
    assert "\n" not in str(caught.value)


def test_a_scale_alone_is_no_quantization() -> None:
    state = {"scale": torch.ones(1), "norm.scale": torch.ones(1), "conv.zero_point": torch.ones(1)}
    assert unwrap(state) == state


def test_weights_that_fit_two_networks_ask_which(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = list(REGISTRY)
    same = next(row for row in rows if row.name == "dncnn")
    other = type(same)("twin", "denoise", same.network, same.required, same.allowed)
    monkeypatch.setattr(network_module, "REGISTRY", Registry([*rows, other]))
    state = dict(DnCNN().state_dict())
    with pytest.raises(CheckpointError, match="fits dncnn and twin; say which with --arch"):
        build_network(state, HERE, None, {})
    assert build_network(state, HERE, "twin", {}).architecture == "twin"


@pytest.mark.parametrize(
    ("taken", "made", "name"), [(13, 12, "FFDNet"), (5, 4, "FFDNet"), (4, 3, "FDnCNN")]
)
def test_networks_that_take_a_noise_level_are_named(taken: int, made: int, name: str) -> None:
    layers: list[nn.Module] = [nn.Conv2d(taken, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU()]
    state = nn.Sequential(*layers, nn.Conv2d(8, made, 3)).state_dict()
    with pytest.raises(CheckpointError, match=f"is {name}, which takes a map of the noise level"):
        build_network({f"model.{key}": value for key, value in state.items()}, HERE, None, {})


@pytest.mark.parametrize("network", [EdgeUNet(3, (4, 6, 8)), ResnetGenerator(3, 3, 2, 2)])
def test_names_too_many_and_too_few_are_counted_and_named(network: nn.Module) -> None:
    name = "edge_unet" if isinstance(network, EdgeUNet) else "resnet_generator"
    state = dict(network.state_dict())
    lost = list(state)[-1]
    del state[lost]
    with pytest.raises(CheckpointError) as caught:
        build_network(state | {"extra.weight": torch.ones(1)}, HERE, name, {})
    said = str(caught.value)
    assert f"does not fit {name}" in said
    assert f"1 missing ({lost})" in said
    assert "1 unexpected (extra.weight)" in said
    with pytest.raises(CheckpointError, match=f"nearest: {name}"):
        build_network(state | {"extra.weight": torch.ones(1)}, HERE, None, {})
