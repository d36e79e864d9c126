"""Finding the network that weights belong to, and saying what does not fit."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from edgerestore.bundle.kinds import OutputKind
from edgerestore.convert import convert
from edgerestore.convert.architectures import GROUP, REGISTRY, Architecture, Registry
from edgerestore.convert.architectures.bsrn import BSRN
from edgerestore.convert.architectures.carn import CARN
from edgerestore.convert.architectures.cutout_unet import CutoutUNet
from edgerestore.convert.architectures.dmphn import DMPHN
from edgerestore.convert.architectures.dncnn import DnCNN
from edgerestore.convert.architectures.edge_unet import EdgeUNet
from edgerestore.convert.architectures.extremec3 import ExtremeC3Net
from edgerestore.convert.architectures.fsrcnn import FSRCNN
from edgerestore.convert.architectures.global_generator import GlobalGenerator
from edgerestore.convert.architectures.imdn import IMDN
from edgerestore.convert.architectures.lut3d import AdaptiveLut
from edgerestore.convert.architectures.mprnet import MPRNet
from edgerestore.convert.architectures.nafnet import NAFNet
from edgerestore.convert.architectures.resnet_generator import ResnetGenerator
from edgerestore.convert.architectures.restormer import Restormer
from edgerestore.convert.architectures.rfdn import RFDN
from edgerestore.convert.architectures.rlfn import RLFN
from edgerestore.convert.architectures.rrdbnet import RRDBNet
from edgerestore.convert.architectures.safmn import SAFMN
from edgerestore.convert.architectures.shift_regressor import ShiftRegressor
from edgerestore.convert.architectures.shuffle_unet import ShuffleUNet
from edgerestore.convert.architectures.sinet import SINet
from edgerestore.convert.architectures.srresnet import SRResNet
from edgerestore.convert.architectures.srvgg import SRVGGNetCompact
from edgerestore.convert.architectures.swinir import SwinIR
from edgerestore.convert.architectures.u2net import U2Net
from edgerestore.convert.architectures.unet_generator import UnetGenerator
from edgerestore.convert.architectures.vdsr import VDSR
from edgerestore.convert.checkpoint.network import (
    Network,
    build_network,
    build_own,
    parse_arguments,
)
from edgerestore.convert.pipeline import PLANNERS
from edgerestore.errors import ArgumentError, CheckpointError, ConversionError

HERE = Path("weights.pth")
NETWORKS: dict[str, list[nn.Module]] = {
    "edge_unet": [
        EdgeUNet(),
        EdgeUNet(1, (4, 6, 8), (2, 1, 3)),
        EdgeUNet(3, (4, 6), (1, 2), (1,)),
        EdgeUNet(3, (4, 6, 8, 8), (1, 0, 1, 2), (1, 2, 1)),
    ],
    "shuffle_unet": [
        ShuffleUNet(),
        ShuffleUNet(1, 1, 2, (4, 6), (1, 0), (2,)),
        ShuffleUNet(5, 3, 4, (8, 8, 12), (0, 2, 1), (1, 0)),
    ],
    "dncnn": [DnCNN(), DnCNN(3, 8, 5, bias=False), DnCNN(1, 16, 20)],
    "imdn": [IMDN(width=8, blocks=2), IMDN(1, 16, 3, 2)],
    "rfdn": [RFDN(), RFDN(1, 8, 4, 2)],
    "lut3d": [AdaptiveLut(5, 2, 4), AdaptiveLut()],
    "mprnet": [MPRNet(3, 8, 4, 4, 2), MPRNet(3, 10, 6, 3, 1, 5, 5, bias=True)],
    "nafnet": [NAFNet(3, 4, (1, 2), 1, (2, 1)), NAFNet(1, 8, (1, 0, 2), 3, (0, 1, 1))],
    "rlfn": [RLFN(), RLFN(1, 8, 12, 4, 3)],
    "unet_generator": [UnetGenerator(3, 3, 2, 8), UnetGenerator(1, 3, 2, 5, "instance", True)],
    "resnet_generator": [
        ResnetGenerator(3, 3, 4, 2),
        ResnetGenerator(1, 1, 4, 6, norm="batch", bias=False, dropout=False),
        ResnetGenerator(3, 3, 4, 9, norm="tracked", twice=False),
    ],
    "global_generator": [
        GlobalGenerator(3, 3, 4, 2),
        GlobalGenerator(1, 3, 2, 9, 4, "batch"),
    ],
    "srresnet": [SRResNet(width=8), SRResNet(1, 8, 16, 1), SRResNet(3, 8, 2, 3)],
    "srvgg": [SRVGGNetCompact(), SRVGGNetCompact(1, 8, 3, 2), SRVGGNetCompact(3, 6, 12, 3)],
    "rrdbnet": [RRDBNet(3, 8, 2, 4), RRDBNet(3, 8, 1, 4, 2), RRDBNet(1, 6, 3, 2, 1)],
    "safmn": [SAFMN(3, 8, 2, 16), SAFMN(1, 12, 1, 18, 2)],
    "carn": [CARN(8), CARN(8, 3), CARN(6, 4, several=True)],
    "fsrcnn": [FSRCNN(2, 1, 8, 4, 2), FSRCNN(3)],
    "vdsr": [VDSR(1, 8, 3), VDSR()],
    "bsrn": [BSRN(3, 8, 2, 4, 2), BSRN(1, 12, 1, 3, 3, 2)],
    "dmphn": [DMPHN(3, 4), DMPHN(4, 2)],
    "restormer": [
        Restormer(3, 8, (1, 1, 1, 2), 1, (1, 2, 4, 8)),
        Restormer(1, 4, (2, 1, 1, 1), 2, (1, 2, 2, 4), bias=True, centred=False),
        Restormer(3, 6, (1, 1, 1, 1), 1, (1, 1, 2, 2), 2.66),
    ],
    "swinir": [
        SwinIR(3, 12, (2, 1), (2, 3), 4, 24, inner=6),
        SwinIR(3, 6, (2,), (2,), 4, 12, "pixelshuffledirect", 3),
        SwinIR(3, 8, (2,), (2,), 4, 8, "nearest+conv", 4, 6, deep=True),
        SwinIR(1, 6, (2,), (3,), 7, 12, "", 1),
        SwinIR(1, 6, (1,), (3,), 8, 12, "pixelshuffle", 3, 5),
    ],
    "cutout_unet": [CutoutUNet(), CutoutUNet((4, 6, 8), (1, 0, 2), (0, 1))],
    "u2net": [U2Net([16] * 11, [64] * 11), U2Net(range(2, 13), range(4, 15))],
    "sinet": [SINet(), SINet(counted=False)],
    "extremec3": [ExtremeC3Net(), ExtremeC3Net(2, 1, 2)],
    "shift_regressor": [ShiftRegressor((4, 6, 8, 8), (16, 8)), ShiftRegressor((3, 5), (7,), 64)],
}
# What weights do not show.
UNSEEN: dict[str, dict[str, Any]] = {"fsrcnn": {"upscale": 2}}
OWN = """
from torch import nn
def make(width=4):
    return nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, 3, 3, padding=1))
def text():
    return "no network"
"""


def test_every_row_has_a_network_here() -> None:
    assert set(REGISTRY.names) == set(NETWORKS)


@pytest.mark.parametrize("name", ["half_precision", "halves"])
def test_half_precision_is_declared_by_either_name(name: str) -> None:
    module = nn.Identity()
    assert Network(module, "own").half_precision
    setattr(module, name, False)
    assert not Network(module, "own").half_precision


def test_another_package_adds_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    made: Callable[..., nn.Module] = partial(nn.Linear, 3, 5)
    row = Architecture("other", "denoise", made, ("weight", "bias"), "weight|bias")
    point = SimpleNamespace(name="other", value="package:ROW", load=lambda: row)
    monkeypatch.setattr("edgerestore.extensions.entry_points", lambda group: [point])
    registry = Registry(REGISTRY, group=GROUP)
    assert registry.names == [*REGISTRY.names, "other"]
    assert registry.fitting(made().state_dict()) == [row]
    assert registry["other"] is row
    # An architecture of the package is not replaced.
    point.name = "dncnn"
    assert Registry(REGISTRY, group=GROUP)["dncnn"] is REGISTRY["dncnn"]


def test_an_entry_point_that_is_no_architecture_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    point = SimpleNamespace(name="other", value="package:row", load=lambda: 3)
    monkeypatch.setattr("edgerestore.extensions.entry_points", lambda group: [point])
    with pytest.raises(ArgumentError, match=r"edgerestore.architectures other: is int, expected"):
        "other" in Registry(REGISTRY, group=GROUP)  # noqa: B015


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_trigger_their_own_row_alone(name: str) -> None:
    for network in NETWORKS[name]:
        assert [row.name for row in REGISTRY if row.fits(network.state_dict())] == [name]


@pytest.mark.parametrize("name", NETWORKS)
def test_arguments_are_read_off_the_shapes(name: str) -> None:
    for network in NETWORKS[name]:
        state = network.state_dict()
        found = build_network(state, HERE, None, UNSEEN.get(name, {}))
        assert found.architecture == name
        for key, value in found.module.state_dict().items():
            assert torch.equal(value, state[key])


@pytest.mark.parametrize("prefix", ["model.", "net_g.", "lit.net."])
def test_prefixes_of_wrappers_are_seen_through(prefix: str) -> None:
    for kind, networks in NETWORKS.items():
        state = {prefix + name: value for name, value in networks[0].state_dict().items()}
        state |= {"loss.scale": torch.ones(1)} if prefix == "net_g." else {}
        assert build_network(state, HERE, None, UNSEEN.get(kind, {})).module


def test_a_part_that_looks_like_a_network_is_not_the_network() -> None:
    state = {f"body.{name}": value for name, value in DnCNN().state_dict().items()}
    with pytest.raises(CheckpointError, match="no known network"):
        build_network(state | {"tail.weight": torch.ones(1)}, HERE, None, {})


def test_unknown_weights_name_the_nearest() -> None:
    state = dict(DnCNN().state_dict()) | {"extra.weight": torch.ones(1)}
    state["model.1.running_mean"] = torch.ones(1)
    with pytest.raises(CheckpointError, match=r"nearest: dncnn \(9\d% of the names\)"):
        build_network(state, HERE, None, {})


def test_named_network_that_does_not_fit() -> None:
    state = dict(EdgeUNet().state_dict())
    del state["head.bias"]
    state |= {"tail.weight": torch.ones(1), "decode_half.0.weight": torch.ones(3, 3)}
    with pytest.raises(CheckpointError) as caught:
        build_network(state, HERE, "edge_unet", {})
    for part in ("1 missing (head.bias)", "1 unexpected (tail.weight)", "1 of another shape"):
        assert part in str(caught.value)
    with pytest.raises(ArgumentError, match="--arch unknown: is not known; use edge_unet"):
        build_network(state, HERE, "unknown", {})


def test_own_networks(tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_text(OWN)
    network = build_own(f"{path}:make", parse_arguments(["width=6"]))
    state = {f"net.{name}": value for name, value in network.state_dict().items()}
    assert build_network(state, HERE, f"{path}:make", {"width": 6}).row is None
    with pytest.raises(CheckpointError, match="3 of another shape"):
        build_network(state, HERE, f"{path}:make", {})
    for reference, error, text in (
        (f"{path}:absent", ArgumentError, "no class or function 'absent'"),
        (f"{tmp_path}/none.py:make", ArgumentError, "no such file"),
        ("no_such_package:make", ArgumentError, "No module named"),
        (f"{path}:text", ConversionError, "returned str"),
    ):
        with pytest.raises(error, match=text):
            build_own(reference, {})
    with pytest.raises(ArgumentError, match="depth=3"):
        build_own(f"{path}:make", {"depth": 3})
    assert isinstance(build_own("torch.nn:Identity", {}), nn.Identity)


@pytest.fixture
def own_path(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A module path whose changes end with the test."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    return sys.path


def test_own_code_finds_its_neighbours_whenever_it_imports_them(
    tmp_path: Path, own_path: list[str]
) -> None:
    library = tmp_path / "library"
    library.mkdir()
    (library / "own_blocks.py").write_text("WIDTH = 4\n")
    (tmp_path / "own_neighbour.py").write_text("DEPTH = 2\n")
    (tmp_path / "own_lazy.py").write_text("SCALE = 3.0\n")
    (tmp_path / "own.py").write_text(
        f"import sys\nsys.path.insert(0, {str(library)!r})\nfrom torch import nn\n\n"
        "class Own(nn.Module):\n    def forward(self, image):\n"
        "        import own_lazy\n        return image * own_lazy.SCALE\n\n"
        "def make():\n    import own_blocks, own_neighbour\n"
        "    assert (own_blocks.WIDTH, own_neighbour.DEPTH) == (4, 2)\n    return Own()\n"
    )
    network = build_own(f"{tmp_path / 'own.py'}:make", {})
    assert float(network(torch.ones(1))) == 3.0
    assert own_path[0] == str(library), "the code's own entry is gone"


def test_a_package_of_the_current_folder_is_found(
    tmp_path: Path, own_path: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "own_package"
    package.mkdir()
    (package / "parts.py").write_text("from torch import nn\n\nPart = nn.Identity\n")
    (package / "whole.py").write_text("from .parts import Part\n\ndef make():\n    return Part()\n")
    monkeypatch.chdir(tmp_path)
    assert isinstance(build_own("own_package.whole:make", {}), nn.Identity)
    with pytest.raises(ConversionError) as caught:
        build_own(f"{package / 'whole.py'}:make", {})
    hint = f"name it as a part of its package: in {tmp_path}, --arch own_package.whole:make"
    assert str(caught.value).endswith(hint)


def test_arguments_are_literals() -> None:
    read = parse_arguments(["a=1", "b=[1, 2]", "c=relu", "d=True", "e=x=y"])
    assert read == {"a": 1, "b": [1, 2], "c": "relu", "d": True, "e": "x=y"}
    with pytest.raises(ArgumentError, match="expected NAME=VALUE"):
        parse_arguments(["width"])


def test_the_kind_of_output_is_declared_and_has_a_planner() -> None:
    assert PLANNERS.keys() == set(OutputKind)
    assert all(kind.traits for kind in OutputKind)

    class Declared(nn.Module):
        output_kind: str = "mask"

    network = Network(Declared(), "own.py:make")
    assert network.output_kind is OutputKind.MASK
    Declared.output_kind = "sound"
    with pytest.raises(ConversionError, match="own.py:make: output_kind 'sound' is not known"):
        _ = network.output_kind
    assert Network(nn.Identity(), "own.py:make").output_kind is OutputKind.IMAGE
    assert Network(ShiftRegressor(), "own.py:make").output_kind is OutputKind.SHIFT


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("image", "declares an image and returns 1 channels for 3"),
        ("shift", "weights.pth: a shift estimator declares pair_px"),
        ("sound", "output_kind 'sound' is not known; use image, mask, shift"),
    ],
)
def test_a_declared_kind_that_does_not_fit_is_refused(tmp_path: Path, kind: str, said: str) -> None:
    source = """
from torch import nn
class Net(nn.Sequential):
    output_kind = "KIND"
def make():
    return Net(nn.Conv2d(3, 1, 3, padding=1))
"""
    (tmp_path / "own.py").write_text(source.replace("KIND", kind))
    torch.save(nn.Sequential(nn.Conv2d(3, 1, 3, padding=1)).state_dict(), tmp_path / "weights.pth")
    with pytest.raises(ConversionError, match=said):
        convert(
            tmp_path / "weights.pth",
            tmp_path / "bundle",
            architecture=f"{tmp_path / 'own.py'}:make",
            trust=True,
        )
    assert not (tmp_path / "bundle").exists()


def test_a_scale_that_weights_do_not_show_is_asked_for() -> None:
    with pytest.raises(ArgumentError, match=r"--arch-arg: fsrcnn: .*'upscale'"):
        build_network(FSRCNN(3).state_dict(), HERE, None, {})


FIRST_NAMES = {
    "conv_first": "model.0",
    "conv_body": "model.1.sub.2",
    "conv_up1": "model.3",
    "conv_up2": "model.6",
    "conv_hr": "model.8",
    "conv_last": "model.10",
}


def test_esrgan_is_known_by_its_former_names() -> None:
    state = RRDBNet(3, 8, 2, 4).state_dict()

    def first(name: str) -> str:
        stem, _, kind = name.rpartition(".")
        if stem in FIRST_NAMES:
            return f"{FIRST_NAMES[stem]}.{kind}"
        _, block, dense, conv = stem.split(".")
        return f"model.1.sub.{block}.{dense.upper()}.{conv}.0.{kind}"

    def second(name: str) -> str:
        for now, then in (
            ("body.", "RRDB_trunk."),
            (".rdb", ".RDB"),
            ("conv_body", "trunk_conv"),
            ("conv_up", "upconv"),
            ("conv_hr", "HRconv"),
        ):
            name = name.replace(now, then) if now != "body." or name.startswith(now) else name
        return name

    for former in (first, second):
        named = {former(name): value for name, value in state.items()}
        assert named.keys() != state.keys()
        for wrapped in (named, {f"module.{name}": value for name, value in named.items()}):
            found = build_network(wrapped, HERE, None, {})
            assert found.architecture == "rrdbnet"
            for name, value in found.module.state_dict().items():
                assert torch.equal(value, state[name])
