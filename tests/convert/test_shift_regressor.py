"""Shift estimators: a pair of tiles in, (dx, dy) out, proved on pairs at known shifts."""

from __future__ import annotations

import copy
import json
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import onnx
import openvino
import pytest
import torch
from torch import nn

from edgerestore.bundle.bundle import Bundle
from edgerestore.bundle.kinds import OutputKind
from edgerestore.bundle.manifest import StrengthKind, TilingMode
from edgerestore.cli.app import run_command_line
from edgerestore.convert import QuantizationOptions, convert, quantize
from edgerestore.convert.architectures.shift_regressor import ShiftRegressor
from edgerestore.convert.checkpoint import loaded_model
from edgerestore.convert.confinement import can_confine
from edgerestore.convert.graph.export import export_fixed
from edgerestore.convert.kinds.shift import cut_pairs
from edgerestore.convert.pipeline import ConversionResult
from edgerestore.convert.samples import load_samples
from edgerestore.engine.load import load
from edgerestore.errors import (
    ArgumentError,
    ConversionError,
    QuantizationError,
    VerificationError,
)

from ..checked import not_none

OWN = """
from torch import nn
class Own(nn.Module):
    pair_px = 32
    task = "stitch"
    def __init__(self, outputs=2):
        super().__init__()
        self.dense = nn.Linear(2 * 32 * 32, outputs)
    def forward(self, image):
        return self.dense(image.flatten(1))
"""


def responsive(network: ShiftRegressor) -> ShiftRegressor:
    """Give a network weights that tell one pair from another by pixels, not by rounding."""
    torch.manual_seed(0)
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(layer.weight, 0.2)
            elif isinstance(layer, nn.BatchNorm2d):
                not_none(layer.running_mean).normal_(0, 0.1)
                not_none(layer.running_var).uniform_(0.2, 1.5)
                layer.weight.uniform_(0.5, 1.5)
        last = network.dense[-1]
        assert isinstance(last, nn.Linear)
        last.weight.mul_(10)
    return network.eval()


@pytest.fixture(scope="module")
def network() -> ShiftRegressor:
    return responsive(ShiftRegressor((4, 6, 8, 8), (16, 8)))


@pytest.fixture(scope="module")
def checkpoint(network: ShiftRegressor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoints") / "shift.pth"
    torch.save({"state_dict": network.state_dict()}, path)
    return path


@pytest.fixture(scope="module")
def shifts(
    checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[ConversionResult, list[str]]:
    lines: list[str] = []
    target = tmp_path_factory.mktemp("bundles") / "shifts"
    return convert(checkpoint, target, report=lines.append), lines


def test_bundle_is_complete_and_opens(shifts: tuple[ConversionResult, list[str]]) -> None:
    result, lines = shifts
    bundle = Bundle.find(result.bundle.folder)
    bundle.verify()
    manifest = bundle.manifest
    assert (manifest.task, manifest.source["architecture"]) == ("register", "shift_regressor")
    given = manifest.input
    assert (given.channels, given.color, given.value_range) == (2, "gray", 1.0)
    assert (given.minimum_px, given.multiple_of) == (150, 1)
    assert (manifest.output.kind, manifest.output.channels) == (OutputKind.SHIFT, 2)
    assert manifest.tiling.mode is TilingMode.WHOLE
    assert manifest.tiling.reason == "takes pairs of 150x150 tiles"
    assert manifest.strength is StrengthKind.NONE
    assert set(manifest.variants) == {"fp32", "fp16"}
    quality = manifest.variants["fp32"].quality
    assert quality["parity_max_difference_px"] < 1e-4
    assert 0 < manifest.variants["fp16"].quality["f32"]["max_difference_px"] < 0.1
    assert manifest.variants["fp16"].timings[0]["shape"] == "2x150x150"
    assert len(lines) == len(set(lines)) >= 6
    for part in ("parity at f32", "(-15, -11)", "fp16 at f32", "PyTorch", "drawn"):
        assert part in result.table


def test_report_stands_alone(shifts: tuple[ConversionResult, list[str]]) -> None:
    folder = shifts[0].bundle.folder
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,") == 6
    for outside in ("http://", "https://", "<script", "<link"):
        assert outside not in page
    facts = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    rows = facts["parity"]["rows"]
    assert len(rows) == 6
    assert facts["parity"]["limit_px"] == 1e-3
    # The estimates tell the pairs apart, so that equal numbers are no accident.
    assert np.ptp([row["dx"] for row in rows]) > 0.01


@pytest.mark.parametrize("file", ["model.onnx", "fp16/model.xml"])
def test_the_graph_is_what_the_manifest_says(
    shifts: tuple[ConversionResult, list[str]], network: ShiftRegressor, file: str
) -> None:
    model = openvino.Core().read_model(shifts[0].bundle.folder / file)
    (entry,), (leaving,) = model.inputs, model.outputs
    assert (entry.any_name, leaving.any_name) == ("image", "shift")
    assert list(entry.shape) == [1, 2, 150, 150]
    assert list(leaving.shape) == [1, 2]
    hint = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(model, "CPU", hint)
    tiles = cut_pairs(load_samples(None, 1), 150)[2].tiles
    with torch.inference_mode():
        wanted = network(torch.from_numpy(tiles)).numpy()
    tolerance = 1e-4 if file.endswith("onnx") else 0.1
    np.testing.assert_allclose(compiled({"image": tiles})["shift"], wanted, atol=tolerance)
    if file.endswith("xml"):
        assert str(model.get_rt_info(["edgerestore", "output_kind"]).value) == "shift"


def test_facts_and_names_stand_in_the_onnx_graph(
    shifts: tuple[ConversionResult, list[str]],
) -> None:
    model = onnx.load(shifts[0].bundle.folder / "model.onnx")
    props = {entry.key: entry.value for entry in model.metadata_props}
    assert props["edgerestore/output_kind"] == "shift"
    assert props["edgerestore/strength"] == "none"
    assert props["model_info/layout"] == "image:NCHW"
    assert props["model_info/model_type"] == "shift_estimation"
    assert all(node.name.startswith("core/") for node in model.graph.node)


def test_info_tells_what_goes_in_and_comes_out(
    shifts: tuple[ConversionResult, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command_line(["info", str(shifts[0].bundle.folder)]) == 0
    said = capsys.readouterr().out
    for part in (
        "two grey tiles of 150x150 pixels, the reference first",
        "shift, (dx, dy) in pixels",
        "never cut; takes pairs of 150x150 tiles",
        "strength  none",
    ):
        assert part in said


def test_what_restores_images_refuses_it(
    shifts: tuple[ConversionResult, list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = shifts[0].bundle.folder
    before = (folder / "bundle.json").read_bytes()
    with pytest.raises(ArgumentError, match="shifts estimates shifts and restores no images"):
        load(folder)
    picture = tmp_path / "given.png"
    cv2.imwrite(str(picture), np.zeros((160, 160), np.uint8))
    with pytest.raises(QuantizationError, match="estimates shifts and restores no images"):
        quantize(folder, QuantizationOptions(calibrate=[tmp_path]), lambda _: None)
    for command in (
        ["run", str(picture), "-o", str(tmp_path / "made.png"), "--model", str(folder)],
        ["quantize", str(folder), "--calibrate", str(tmp_path)],
        ["evaluate", "--model", str(folder), "--targets", str(tmp_path), "--degrade", "none"],
    ):
        assert run_command_line(command) != 0, command
        said = capsys.readouterr().err.strip()
        assert "estimates shifts" in said, command
        assert "\n" not in said
    assert (folder / "bundle.json").read_bytes() == before


def test_options_of_image_networks_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    for options, text in (
        ({"residual": True}, "returns no image"),
        ({"value_range": 255.0}, r"takes its tiles in \[0, 1\]"),
        ({"color": "rgb"}, "takes two grey tiles"),
    ):
        with pytest.raises(ArgumentError, match=text):
            convert(checkpoint, tmp_path / "bundle", **options)
    assert list(tmp_path.iterdir()) == []


def test_another_estimator_is_not_let_through(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(module: nn.Module, *rest: object) -> onnx.ModelProto:
        changed = copy.deepcopy(module)
        changed.dense[-1].bias.data += 0.01  # type: ignore[union-attr,index]
        return export_fixed(changed, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(loaded_model, "export_fixed", other)
    with pytest.raises(VerificationError, match=r"differs from the source model by 0\.01 px"):
        convert(checkpoint, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_an_own_estimator_says_so_by_its_side(tmp_path: Path) -> None:
    code, weights = tmp_path / "own.py", tmp_path / "own.pth"
    code.write_text(OWN)
    space: dict[str, type[nn.Module]] = {}
    exec(OWN, space)
    torch.manual_seed(0)
    torch.save(space["Own"]().state_dict(), weights)
    own = partial(convert, weights, architecture=f"{code}:Own", trust=not can_confine())
    manifest = own(tmp_path / "own").bundle.manifest
    assert (manifest.task, manifest.input.minimum_px) == ("stitch", 32)
    assert manifest.source["architecture"] == "own.py:Own"
    torch.save(space["Own"](outputs=3).state_dict(), weights)
    with pytest.raises(ConversionError, match=r"returns \[1, 3\], expected a shift"):
        own(tmp_path / "b", arguments={"outputs": 3})
