"""The whole conversion: a bundle that is complete and true, or none."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import openvino
import pytest
import torch
from onnx import load_model
from torch import Tensor, nn
from typer import Typer
from typer.testing import CliRunner

from edgerestore.bundle.bundle import Bundle
from edgerestore.bundle.kinds import OutputKind
from edgerestore.bundle.manifest import TilingMode
from edgerestore.cli.convert import convert_command
from edgerestore.convert import convert, plan
from edgerestore.convert.architectures.edge_unet import EdgeUNet
from edgerestore.convert.checkpoint.files import load_state
from edgerestore.convert.checkpoint.network import build_network
from edgerestore.convert.confinement import can_confine
from edgerestore.convert.graph.export import export_module
from edgerestore.convert.graph.ir import read_proto
from edgerestore.convert.graph.receptive_field import find_receptive_field
from edgerestore.convert.graph.signature import Signature, attach_signature
from edgerestore.convert.kinds import images
from edgerestore.convert.pipeline import ConversionResult
from edgerestore.convert.samples import load_samples
from edgerestore.errors import (
    ArgumentError,
    BundleError,
    CheckpointError,
    EdgerestoreError,
    VerificationError,
)
from edgerestore.runtimes.openvino.graph import OpenvinoGraph

OWN = """
import torch
from torch import nn
class Own(nn.Module):
    value_range = 255.0
    color = "bgr"
    task = "super-resolution"
    def __init__(self, scale=2):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Conv2d(3, 3 * scale * scale, 3, padding=1)
        self.scale = scale
    def forward(self, image):
        gain = image.mean((2, 3), keepdim=True) / 255
        return nn.functional.pixel_shuffle(self.body(image), self.scale) * gain
"""


def test_bundle_is_complete_and_opens(converted: tuple[ConversionResult, list[str]]) -> None:
    result, lines = converted
    bundle = Bundle.find(result.bundle.folder)
    bundle.verify()
    manifest = bundle.manifest
    assert (manifest.name, manifest.task) == ("small", "deblur")
    assert manifest.input.multiple_of == 8
    assert manifest.output.kind is OutputKind.IMAGE
    assert manifest.tiling.mode is TilingMode.EXACT
    assert 0 < (manifest.tiling.halo_measured_px or 0) <= manifest.tiling.halo_px
    assert set(manifest.variants) == {"fp32", "fp16"}
    assert manifest.source["architecture"] == "edge_unet"
    assert manifest.variants["fp32"].quality["tiled_max_difference"] == 0
    assert manifest.variants["fp32"].quality["parity_max_difference"] < 1e-5
    timing = manifest.variants["fp16"].timings[0]
    assert timing["ms"] > 0
    assert timing["isa"]
    assert len(lines) == len(set(lines)) >= 6
    remaining = next(line for line in lines if line.startswith("proving tiles"))
    assert "then precision and speed" in remaining
    assert lines.index(remaining) < next(i for i, line in enumerate(lines) if "tiles: " in line)
    for part in ("parity at f32", "halo", "fp16 at f32", "PyTorch", "drawn"):
        assert part in result.table


def test_a_quick_conversion_proves_and_leaves_out_the_rest(
    small_checkpoint: Path, tmp_path: Path
) -> None:
    lines: list[str] = []
    result = convert(small_checkpoint, tmp_path / "quick", quick=True, report=lines.append)
    quality = result.bundle.manifest.variants["fp32"].quality
    assert quality["parity_max_difference"] < 1e-5
    assert quality["tiled_max_difference"] == 0
    assert set(result.bundle.manifest.variants) == {"fp32", "fp16"}
    assert not any(variant.timings for variant in result.bundle.manifest.variants.values())
    assert "parity at f32" in result.table
    assert "speed" not in result.table
    page = (result.bundle.folder / "report.html").read_text(encoding="utf-8")
    assert "Tiles" in page
    for left_out in ("<h2>Speed", "<h2>Precision", "data:image/jpeg"):
        assert left_out not in page
    assert any(line.startswith("proving tiles, the last") for line in lines)
    assert not any("measuring speed" in line for line in lines)


def test_the_cost_of_a_network_is_counted(
    small_unet: EdgeUNet, converted: tuple[ConversionResult, list[str]]
) -> None:
    manifest = converted[0].bundle.manifest
    assert manifest.parameters == sum(weights.numel() for weights in small_unet.parameters())
    macs = 0

    def count(layer: nn.Conv2d, _given: object, made: Tensor) -> None:
        nonlocal macs
        macs += layer.weight.numel() * made.shape[2] * made.shape[3]

    hooks = [
        layer.register_forward_hook(count)
        for layer in small_unet.modules()
        if isinstance(layer, nn.Conv2d)
    ]
    with torch.inference_mode():
        small_unet(torch.zeros(1, 3, 720, 1280))
    for hook in hooks:
        hook.remove()
    assert manifest.gmac_720p == pytest.approx(macs / 1e9, rel=1e-3)
    assert (manifest.family, manifest.suited_for) == (None, "")


def test_a_family_stands_in_the_manifest(small_checkpoint: Path, tmp_path: Path) -> None:
    line = f"{small_checkpoint} -o {tmp_path / 'small'} --family small --suited-for".split()
    app = Typer()
    app.command()(convert_command)
    made = CliRunner().invoke(app, [*line, "defocus up to 3 px"])
    assert made.exit_code == 0, made.output
    manifest = Bundle.find(tmp_path / "small").manifest
    assert (manifest.family, manifest.suited_for) == ("small", "defocus up to 3 px")


@pytest.mark.parametrize("name", ["", "../up", "two words", "-s"])
def test_a_family_whose_name_is_none_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="family .*: use letters, digits"):
        convert(tmp_path / "absent.pth", tmp_path / "small", family=name)
    assert not list(tmp_path.iterdir())


def test_report_stands_alone(converted: tuple[ConversionResult, list[str]]) -> None:
    folder = converted[0].bundle.folder
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "data:image/jpeg;base64," in page
    assert len(page) < 250_000
    for outside in ("http://", "https://", "<script", "<link"):
        assert outside not in page
    facts = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert facts["samples"]["synthetic"] is True
    assert [row["size"] for row in facts["parity"]["rows"]][-1] == "1x1"


def test_facts_stand_in_both_graphs(converted: tuple[ConversionResult, list[str]]) -> None:
    folder = converted[0].bundle.folder
    props = {p.key: p.value for p in load_model(folder / "model.onnx").metadata_props}
    ir = openvino.Core().read_model(folder / "fp16" / "model.xml")
    for name, value in props.items():
        assert str(ir.get_rt_info(name.split("/")).value) == value
    assert props["edgerestore/multiple_of"] == "8"
    assert "model_info/scale" not in props


def test_conversion_repeats_itself(
    small_checkpoint: Path, converted: tuple[ConversionResult, list[str]], tmp_path: Path
) -> None:
    again = convert(small_checkpoint, tmp_path / "small").bundle.manifest
    first = converted[0].bundle.manifest
    for variant in ("fp32", "fp16"):
        assert again.variants[variant].files == first.variants[variant].files


def test_own_windowed_network_of_another_range_order_and_scale(tmp_path: Path) -> None:
    code, weights = tmp_path / "own.py", tmp_path / "own.pth"
    code.write_text(OWN)
    space: dict[str, type[nn.Module]] = {}
    exec(OWN, space)
    torch.save({"params_ema": space["Own"]().state_dict()}, weights)
    made = convert(weights, tmp_path / "own", architecture=f"{code}:Own", trust=not can_confine())
    manifest = made.bundle.manifest
    assert (manifest.input.color, manifest.input.value_range) == ("bgr", 255.0)
    assert (manifest.output.upscale, manifest.task) == (2, "super-resolution")
    assert manifest.tiling.mode is TilingMode.WINDOWED
    assert (manifest.tiling.window_px, manifest.tiling.ramp_px) == (384, 96)
    assert "whole picture" in manifest.tiling.reason
    assert manifest.variants["fp32"].quality["tiled_max_difference"] > 0
    assert manifest.source["architecture"] == "own.py:Own"


def test_another_model_is_not_let_through(
    small_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = EdgeUNet.forward

    def other(self: EdgeUNet, image: Tensor) -> Tensor:
        return original(self, image) + 1e-3

    monkeypatch.setattr(EdgeUNet, "forward", other)
    with pytest.raises(VerificationError, match="differs from the source model") as caught:
        convert(small_checkpoint, tmp_path / "bundle", value_range=1.0)
    assert caught.value.exit_code == 3
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_is_one_line(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="limits of POSIX stand in for a full disk")
    torch.save(EdgeUNet(3, (16, 16, 16), (1, 1, 1)).state_dict(), tmp_path / "own.pth")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(BundleError, match="full: cannot be written: .*; free some space"):
            convert(tmp_path / "own.pth", tmp_path / "full")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == ["own.pth"]


def test_a_halo_that_is_too_small_is_caught(
    small_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shortened(model: openvino.Model) -> object:
        field = find_receptive_field(model)
        field.halo_px = 4
        return field

    monkeypatch.setattr(images, "find_receptive_field", shortened)
    with pytest.raises(VerificationError, match="the graph's halo is 4 px"):
        convert(small_checkpoint, tmp_path / "bundle")
    monkeypatch.setattr(plan, "measure_halo", lambda *_: 0)
    with pytest.raises(VerificationError, match="reached the output at fp32, but the halo is 4 px"):
        convert(small_checkpoint, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_arguments_are_checked(small_checkpoint: Path, tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    for arguments, text in (
        ({"color": "gray"}, "does not run"),
        ({"color": "cmyk"}, "use rgb, bgr or gray"),
        ({"value_range": 0.0}, "value range"),
        ({"value_range": float("nan")}, "value range"),
        ({"name": "no/slashes"}, "use letters"),
        ({"samples": tmp_path / "absent"}, "no such file"),
    ):
        with pytest.raises(EdgerestoreError, match=text):
            convert(small_checkpoint, target, **arguments)
    with pytest.raises(CheckpointError, match="No such file"):
        convert(tmp_path / "absent.pth", target)
    assert list(tmp_path.iterdir()) == []
    target.mkdir()
    with pytest.raises(BundleError, match="add --overwrite"):
        convert(small_checkpoint, target)


def test_samples_are_photographs_or_drawn(tmp_path: Path) -> None:
    drawn = load_samples(None, 1)
    assert drawn.synthetic
    assert drawn.crop(1, 3, 1000).shape == (1, 1, 3, 1000)
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(ArgumentError, match="holds no pictures"):
        load_samples(tmp_path, 3)


def test_command(small_checkpoint: Path, tmp_path: Path) -> None:
    app = Typer()
    app.command()(convert_command)
    outcome = CliRunner().invoke(
        app, [str(small_checkpoint), "-o", str(tmp_path / "b"), "--arch-arg", "width"]
    )
    assert isinstance(outcome.exception, ArgumentError)
    outcome = CliRunner().invoke(
        app, [str(small_checkpoint), "-o", str(tmp_path / "b"), "--name", "mine", "--range", "1"]
    )
    assert outcome.exit_code == 0, outcome.output
    assert "parity at f32" in outcome.output
    assert Bundle.find(tmp_path / "b").manifest.name == "mine"


def test_the_command_line_imports_nothing_heavy() -> None:
    code = (
        "import sys, edgerestore.cli.convert, edgerestore.convert;"
        "print([m for m in ('torch', 'onnx', 'openvino', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_trained_denoiser_is_the_same_model(shared_data: Path) -> None:
    path = shared_data / "checkpoints" / "denoise" / "dncnn_25.pth"
    network = build_network(load_state(path), path, None, {})
    assert network.arguments["depth"] == 17
    core = export_module(network.module, 1, residual=True)
    graph = OpenvinoGraph(
        read_proto(attach_signature(core, Signature(1, 1, "gray", residual=True)))
    )
    clean = load_samples(shared_data / "kodak" / "01.png", 1).crop(0, 97, 131)
    noise = np.random.default_rng(0).normal(0, 25 / 255, clean.shape)
    noisy = np.clip(clean + noise, 0, 1).astype(np.float32)
    made = graph(noisy)
    with torch.inference_mode():
        wanted = network.module(torch.from_numpy(noisy)).clamp(0, 1).numpy()
    np.testing.assert_allclose(made, wanted, atol=1e-5)
    # It denoises: the trained weights are in their places.
    assert np.square(made - clean).mean() < np.square(noisy - clean).mean() / 4
