"""INT8 end to end: what is written, what is refused, and what bad input is told."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import openvino
import pytest
import torch
from msgspec import structs
from numpy.typing import NDArray
from openvino import opset13 as ops
from torch import Tensor, nn

import edgerestore
from edgerestore.bundle.bundle import Bundle, write_manifest
from edgerestore.calibration import benchmark, pipeline
from edgerestore.cli.app import run_command_line
from edgerestore.convert import QuantizationOptions, convert, quantization, quantize
from edgerestore.convert.graph.ir import save_ir
from edgerestore.convert.pipeline import ConversionResult
from edgerestore.convert.quantization import QuantizationResult
from edgerestore.errors import (
    ArgumentError,
    BundleError,
    QuantizationError,
    VerificationError,
)
from edgerestore.runtimes.cache import cache_folder

pytestmark = pytest.mark.slow

Draw = Callable[..., NDArray[np.uint8]]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of this file's own: what other files' searches leave is not looked at."""
    folder = tmp_path_factory.getbasetemp() / "cache-of-quantization"
    monkeypatch.setenv("EDGERESTORE_CACHE", str(folder))


@pytest.fixture(scope="module", autouse=True)
def _small_frames() -> Iterator[None]:
    """Small frames to time, small crops: a small network needs no more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark, "_FRAMES", ((180, 320),))
        patch.setattr(pipeline, "_CROP_PX", {False: 96, True: 96})
        yield


@pytest.fixture(scope="module")
def photographs(picture: Draw, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five drawn pictures and one file that only looks like one."""
    folder = tmp_path_factory.mktemp("photographs")
    for seed in range(5):
        cv2.imwrite(str(folder / f"{seed}.png"), picture(144, 176, seed=seed))
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    return folder


@pytest.fixture
def options(photographs: Path) -> QuantizationOptions:
    # A network this small gains nothing, so its INT8 is forced; what does not pay is tested too.
    return QuantizationOptions(calibrate=[photographs], crops=6, force=True)


@pytest.fixture
def bundle(converted: tuple[ConversionResult, list[str]], tmp_path: Path) -> Path:
    copy = tmp_path / "small"
    shutil.copytree(converted[0].bundle.folder, copy)
    return copy


@pytest.fixture(scope="module")
def quantized(
    converted: tuple[ConversionResult, list[str]],
    photographs: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[QuantizationResult, list[str]]:
    folder = tmp_path_factory.mktemp("quantized") / "small"
    shutil.copytree(converted[0].bundle.folder, folder)
    lines: list[str] = []
    wanted = QuantizationOptions(calibrate=[photographs], crops=6, force=True)
    return quantize(folder, wanted, lines.append), lines


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_bundle_says_what_was_measured(quantized: tuple[QuantizationResult, list[str]]) -> None:
    result, lines = quantized
    manifest = result.bundle.manifest
    result.bundle.verify()
    facts = manifest.variants["int8"]
    assert facts.quality["loss_db"] <= facts.quality["budget_db"] == 0.1
    assert facts.quality["within_budget"] is True
    (timing,) = facts.timings
    assert timing["precision"] == "int8"
    assert timing["cpu"]
    assert timing["isa"]
    float_shapes = {row["shape"] for row in manifest.variants["fp32"].timings}
    assert timing["shape"] in float_shapes, "INT8 was timed beside nothing"
    assert manifest.calibration is not None
    assert len(manifest.calibration["digest"]) == 64
    assert manifest.calibration["skipped"] == 1
    kinds = facts.quality["kinds"]
    assert list(kinds) == ["blur", "jpeg", "noise", "dark", "low-contrast", "sharp"]
    assert all(row["judged"] and row["within_budget"] for row in kinds.values())
    worst = max(kinds, key=lambda kind: kinds[kind]["loss_db"])
    assert (worst, kinds[worst]["loss_db"]) == (
        facts.quality["worst_kind"],
        facts.quality["loss_db"],
    )
    assert kinds["blur"]["float_db"] - kinds["blur"]["int8_db"] == pytest.approx(
        kinds["blur"]["loss_db"], abs=2e-3
    )
    assert kinds["sharp"]["float_db"] is None
    told = json.loads((result.bundle.folder / "report.json").read_text())["int8"]
    assert [row["kind"] for row in told["kinds"]] == list(kinds)
    assert all(" at " in row["worst_picture"] for row in told["kinds"])
    assert [run["precision"] for run in told["runs"]][-1] == "int8"
    assert list(told["data"]["skipped"]) == ["broken.png"]
    assert told["sensitivities"]
    page = (result.bundle.folder / "report.html").read_text()
    assert timing["isa"] in page
    assert "parity" in page.lower(), "the conversion's own part is gone"
    assert any("held out of each of 6 kinds of input" in line for line in lines)
    assert "1 files skipped" in "\n".join(lines) or "1 file skipped" in "\n".join(lines)


def test_it_restores_like_the_float_model(
    quantized: tuple[QuantizationResult, list[str]], picture: Draw
) -> None:
    folder, image = quantized[0].bundle.folder, picture(150, 211, seed=9)
    with (
        edgerestore.load(folder, precision="int8") as small,
        edgerestore.load(folder, precision="fp32") as exact,
    ):
        assert small.precision == "int8"
        assert np.abs(small(image).astype(int) - exact(image)).mean() < 1.0
        np.testing.assert_array_equal(small(image, strength=0.0), image)


def test_tiles_equal_the_whole(
    quantized: tuple[QuantizationResult, list[str]], picture: Draw
) -> None:
    folder, image = quantized[0].bundle.folder, picture(333, 471, seed=3)
    with (
        edgerestore.load(folder, precision="int8", tile=4096) as whole,
        edgerestore.load(folder, precision="int8", tile=160) as tiled,
    ):
        np.testing.assert_array_equal(tiled(image), whole(image))


def test_an_interrupted_search_goes_on(
    quantized: tuple[QuantizationResult, list[str]], bundle: Path, options: QuantizationOptions
) -> None:
    before = contents(bundle)
    measured: list[str] = []

    def interrupt(line: str) -> None:
        measured.extend([line] if " loses " in line else [])
        if len(measured) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantize(bundle, options, interrupt)
    assert contents(bundle) == before
    (kept,) = cache_folder("quantization").iterdir()
    stamps = {path: path.stat().st_mtime_ns for path in kept.rglob("model.bin")}
    assert len(stamps) == 2
    lines: list[str] = []
    again = quantize(bundle, options, lines.append)
    assert any("going on" in line for line in lines)
    assert not list(cache_folder("quantization").iterdir()), "nothing is left behind"
    first = quantized[0].bundle.folder / "int8/model.bin"
    assert (again.bundle.folder / "int8/model.bin").read_bytes() == first.read_bytes()


def test_over_budget_is_refused_with_the_table(
    bundle: Path, photographs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # As another version wrote it: what reads that form must find it unchanged.
    (bundle / "bundle.json").write_text((bundle / "bundle.json").read_text() + "\n\n")
    before = contents(bundle)
    arguments = ["quantize", str(bundle), "--calibrate", str(photographs)]
    # Without ground truth every change is a loss, so a budget of nothing cannot be kept.
    code = run_command_line([*arguments, "--degrade", "none", "--max-drop-db", "1e-15"])
    said = capsys.readouterr()
    assert code == 3
    assert "refused" in said.err.splitlines()[-1]
    for row in ("full INT8", "int8", "f32"):
        assert row in said.out
    after = contents(bundle)
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {"report.html", "report.json"}
    assert Bundle.find(bundle).manifest.variants.keys() == {"fp32", "fp16"}
    assert "refused" in after["report.html"].decode()


def test_kinds_that_do_not_count_are_told_all_the_same(
    bundle: Path, photographs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["quantize", str(bundle), "--calibrate", str(photographs), "--force"]
    assert run_command_line([*arguments, "--kinds", "fog"]) == 2
    said = capsys.readouterr().err
    assert "--kinds fog: not a kind of input of this model; use all, task, or of these" in said
    assert run_command_line([*arguments, "--kinds", "task", "--kinds", "dark"]) == 0
    kinds = Bundle.find(bundle).manifest.variants["int8"].quality["kinds"]
    assert [name for name, row in kinds.items() if row["judged"]] == ["blur", "dark"]
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    for name, row in kinds.items():
        near = {f"{row['loss_db'] + rounded:.3f}" for rounded in (-5e-5, 5e-5)}
        (shown,) = (cells for cells in rows if name in cells[:2] and near & set(cells))
        assert ("judged" in shown) is not row["judged"]


@pytest.fixture(scope="module")
def hopeless(
    converted: tuple[ConversionResult, list[str]],
    photographs: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[QuantizationResult, list[str]]:
    """INT8 over a budget that nothing keeps, forced and fine-tuned."""
    folder = tmp_path_factory.mktemp("hopeless") / "small"
    shutil.copytree(converted[0].bundle.folder, folder)
    lines: list[str] = []
    wanted = QuantizationOptions(
        calibrate=[photographs],
        crops=6,
        force=True,
        degradation="none",
        max_drop_db=1e-15,
        qat=True,
        qat_steps=4,
    )
    before = set(cache_folder("quantization").iterdir())  # of runs that were broken off
    result = quantize(folder, wanted, lines.append)
    assert set(cache_folder("quantization").iterdir()) <= before, "the checkpoint is removed"
    return result, lines


def test_forced_over_budget_is_marked_and_not_chosen(
    hopeless: tuple[QuantizationResult, list[str]],
) -> None:
    bundle = hopeless[0].bundle
    facts = bundle.manifest.variants["int8"].quality
    assert facts["within_budget"] is False
    assert facts["forced"] is True
    with edgerestore.load(bundle.folder) as restorer:
        assert restorer.precision != "int8"


def test_done_again_the_same_seed_gives_the_same_bytes(
    quantized: tuple[QuantizationResult, list[str]],
    options: QuantizationOptions,
    tmp_path: Path,
) -> None:
    first, folder = quantized[0].bundle.folder, tmp_path / "again"
    shutil.copytree(first, folder)
    with pytest.raises(QuantizationError, match="has INT8 already, add --overwrite"):
        quantize(folder, options, lambda _: None)
    page = (folder / "report.html").read_text()
    done = quantize(folder, replace(options, overwrite=True), lambda _: None)
    assert done.results.written
    for name in ("int8/model.xml", "int8/model.bin"):
        assert (folder / name).read_bytes() == (first / name).read_bytes()
    assert (folder / "report.html").read_text().count("<!-- int8 -->") == page.count(
        "<!-- int8 -->"
    )


def test_a_refusal_leaves_the_int8_that_was_there(
    quantized: tuple[QuantizationResult, list[str]], options: QuantizationOptions, tmp_path: Path
) -> None:
    folder = tmp_path / "again"
    shutil.copytree(quantized[0].bundle.folder, folder)
    before = contents(folder)
    never = replace(
        options, overwrite=True, force=False, degradation="none", max_drop_db=1e-15, minutes=1e-9
    )
    verdict = quantize(folder, never, lambda _: None).results.verdict
    assert contents(folder) == before
    assert "refused" in verdict
    assert "the INT8 that the bundle has stays" in verdict
    assert "time ran out after 1e-09 min: the same command goes on from here" in verdict


def test_a_bundle_that_cannot_be_replaced_is_told_before_the_search(
    bundle: Path, options: QuantizationOptions
) -> None:
    # No name is left for the folder that would take its place.
    long = bundle.rename(bundle.with_name("x" * 250))
    lines: list[str] = []
    with pytest.raises(BundleError, match="cannot be written .*, so nothing was begun"):
        quantize(long, options, lines.append)
    assert lines == []


def test_fine_tuning_joins_the_candidates(hopeless: tuple[QuantizationResult, list[str]]) -> None:
    tuned, lines = hopeless
    by_method = {c.method: c for c in tuned.results.candidates}
    assert set(by_method) == {"post-training", "fine-tuned"}
    assert any("fine-tuned in 4 steps" in line for line in lines)
    # Never returned worse than it began, by the crops it was trained on.
    start = by_method["fine-tuned"].label.removesuffix(", fine-tuned")
    before = next(c for c in tuned.results.candidates if c.label == start)
    gained = by_method["fine-tuned"].quality.psnr_to_float_db - before.quality.psnr_to_float_db
    assert gained > -1.0


def test_what_is_written_is_measured_again(
    bundle: Path, options: QuantizationOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def brighter(model: openvino.Model, *rest: object) -> None:
        (end,) = model.get_results()
        end.input(0).replace_source_output(
            ops.add(end.input_value(0), np.float32(0.1)).output(0),
        )
        save_ir(model, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(quantization, "save_ir", brighter)
    before = contents(bundle)
    with pytest.raises(VerificationError, match=r"model\.xml loses .* as it was written and"):
        quantize(bundle, replace(options, force=True), list[str]().append)
    assert contents(bundle) == before


def test_tiles_that_are_not_the_whole_are_refused(
    bundle: Path, photographs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = Bundle.find(bundle).manifest
    short = structs.replace(manifest.tiling, halo_px=manifest.tiling.halo_px - 1)
    write_manifest(bundle, structs.replace(manifest, tiling=short))
    before = contents(bundle)
    arguments = ["quantize", str(bundle), "--calibrate", str(photographs), "--force"]
    assert run_command_line(arguments) == 3
    assert "the halo is" in capsys.readouterr().err.splitlines()[-1]
    assert contents(bundle) == before


@pytest.mark.parametrize("budget", ["0", "-0.1", "nan", "inf"])
def test_budgets_that_are_none(
    budget: str, bundle: Path, photographs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["quantize", str(bundle), "--calibrate", str(photographs)]
    assert run_command_line([*arguments, "--max-drop-db", budget]) == 2
    assert f"--max-drop-db {budget}: expected a number above 0" in capsys.readouterr().err


@pytest.mark.parametrize("steps", ["0", "-5"])
def test_no_steps_are_refused_before_the_work(
    steps: str, bundle: Path, photographs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["quantize", str(bundle), "--calibrate", str(photographs), "--qat"]
    assert run_command_line([*arguments, "--qat-steps", steps]) == 2
    assert f"--qat-steps {steps}: expected 1 or more" in capsys.readouterr().err


def test_pictures_that_cannot_serve(bundle: Path, tmp_path: Path, picture: Draw) -> None:
    empty, small = tmp_path / "empty", tmp_path / "tiny"
    empty.mkdir()
    small.mkdir()
    cv2.imwrite(str(small / "a.png"), picture(40, 40))
    with pytest.raises(ArgumentError, match="add --calibrate"):
        QuantizationOptions(calibrate=[])
    with pytest.raises(ArgumentError, match="nowhere"):
        QuantizationOptions(calibrate=[tmp_path / "nowhere"])
    with pytest.raises(ArgumentError, match="empty"):
        QuantizationOptions(calibrate=[empty])
    before = contents(bundle)
    with pytest.raises(ArgumentError, match="smaller than"):
        quantize(bundle, QuantizationOptions(calibrate=[small]), lambda _: None)
    assert contents(bundle) == before


def test_convert_with_int8(
    small_checkpoint: Path,
    photographs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    target = tmp_path / "made"
    arguments = ["convert", str(small_checkpoint), "-o", str(target)]
    assert run_command_line([*arguments, "--calibrate", str(photographs)]) == 2
    assert "--int8" in capsys.readouterr().err
    assert run_command_line([*arguments, "--int8"]) == 2
    assert "--calibrate" in capsys.readouterr().err
    assert not target.exists(), "checked before the work, not after"
    asked = ["--int8", "--calibrate", str(photographs), "--force"]
    assert run_command_line([*arguments, *asked]) == 0
    assert "int8" in Bundle.find(target).manifest.variants


class Elementwise(nn.Module):
    """Nothing here is worth quantizing, or can be."""

    def forward(self, image: Tensor) -> Tensor:
        return image.abs().sqrt()


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_model_that_nncf_leaves_alone(tmp_path: Path, options: QuantizationOptions) -> None:
    script = tmp_path / "script.pt"
    torch.jit.trace(Elementwise(), torch.rand(1, 3, 64, 64)).save(str(script))
    convert(script, tmp_path / "plain", task="deblur", force=True)
    with pytest.raises(QuantizationError, match="quantizes none of its operations"):
        quantize(tmp_path / "plain", options, lambda _: None)
