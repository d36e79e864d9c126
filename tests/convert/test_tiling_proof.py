"""Tiles are proven by the restorer that runs, and a halo that is one pixel short is found."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import msgspec.structs
import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import ModelProto
from torch import nn

import edgerestore
from edgerestore.bundle.bundle import Bundle, file_info
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
from edgerestore.cli.app import run_command_line
from edgerestore.convert import QuantizationOptions, plan, quantize
from edgerestore.convert.graph.export import quiet
from edgerestore.convert.graph.ir import read_proto, write_ir
from edgerestore.convert.graph.receptive_field import ReceptiveField, find_receptive_field
from edgerestore.convert.graph.signature import Signature, attach_signature
from edgerestore.convert.kinds import images
from edgerestore.convert.samples import load_samples
from edgerestore.engine.tiling import proof
from edgerestore.engine.tiling.grid import smallest_tile
from edgerestore.engine.tiling.proof import prove_tiling
from edgerestore.errors import VerificationError
from edgerestore.imaging.arrays import Depth

from ..checked import not_none

Graphs = Callable[..., ModelProto]
Pictures = list[NDArray[np.float32]]

# The halo of every network here is `stride` + `extra` px or, for stride 1, 1 + `extra`.
CASES = [(1, 0), (1, 3), (2, 0), (2, 1), *((8, extra) for extra in range(8))]


def network(stride: int, extra: int) -> nn.Module:
    """A strided network of one channel whose every weight shows."""
    parts: list[nn.Module] = []
    if extra:
        parts.append(nn.Conv2d(1, 1, 2 * extra + 1, padding=extra))
    parts.append(nn.Conv2d(1, stride * stride, 3, stride, padding=1))
    if stride > 1:
        parts.append(nn.PixelShuffle(stride))
    made = nn.Sequential(*parts)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in made.parameters():
            weights.copy_(torch.rand(weights.shape, generator=generator) + 0.5)
            weights.div_(max(4, 2 * weights[0].numel()))
    return made.eval()


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return load_samples(None, 1).interleaved()


@pytest.fixture
def bundle_of(graph_of: Graphs, tmp_path: Path) -> Callable[..., Bundle]:
    """Write a bundle of a network without measuring anything, its halo ``short`` px too small."""

    def make(made: nn.Module, short: int = 0, variants: tuple[str, ...] = ("fp32",)) -> Bundle:
        core = graph_of(made)
        field = find_receptive_field(read_proto(core))
        assert field.mode is TilingMode.EXACT
        image = InputPort(
            "image",
            InputKind.IMAGE,
            channels=1,
            color="gray",
            multiple_of=field.multiple_of,
            minimum_px=field.minimum_px,
        )
        face = Signature(1, 1, "gray", multiple_of=field.multiple_of, minimum_px=field.minimum_px)
        onnx.save(attach_signature(core, face), tmp_path / "model.onnx")
        files = {"fp32": ["model.onnx"], "fp16": ["fp16/model.xml", "fp16/model.bin"]}
        if "fp16" in variants:
            write_ir(tmp_path / "model.onnx", tmp_path / "fp16/model.xml", {})
        manifest = Manifest(
            name="small",
            task="deblur",
            summary="",
            licence="",
            inputs=(image, STRENGTH),
            outputs=(OutputPort.of(image, OutputKind.IMAGE, 1),),
            tiling=Tiling(TilingMode.EXACT, field.halo_px - short),
            strength=StrengthKind.BLEND,
            variants={
                name: Variant({f: file_info(tmp_path / f) for f in files[name]})
                for name in variants
            },
        )
        (tmp_path / "bundle.json").write_text(manifest.to_json())
        return Bundle.find(tmp_path)

    return make


@pytest.mark.parametrize(("stride", "extra"), CASES)
def test_a_halo_one_pixel_short_is_found_at_every_stride_and_offset(
    stride: int, extra: int, bundle_of: Callable[..., Bundle], pictures: Pictures
) -> None:
    bundle = bundle_of(network(stride, extra))
    assert bundle.manifest.input.multiple_of == stride
    assert bundle.manifest.tiling.halo_px == stride + extra
    proven = prove_tiling(bundle, pictures)
    assert proven.difference == 0
    assert f"{stride} phases of the grid, uint8, uint16, float32, at fp32" in proven.setup
    with pytest.raises(VerificationError, match=f"but the halo is {stride + extra - 1} px"):
        prove_tiling(bundle_of(network(stride, extra), short=1), pictures)


@pytest.mark.parametrize(("stride", "extra"), [(1, 0), (2, 1), (8, 0), (8, 5)])
def test_tiles_alone_agree_with_the_restorer(
    stride: int,
    extra: int,
    bundle_of: Callable[..., Bundle],
    pictures: Pictures,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without the check of the reach, what passes is what the restorer gets right."""
    monkeypatch.setattr(proof, "_check_reach", lambda *_: None)
    for short in sorted({1, stride // 2 or 1, stride}):
        bundle = bundle_of(network(stride, extra), short=short)
        least = max(5 * stride, smallest_tile(bundle.manifest.tiling.halo_px, stride))
        frame = np.random.default_rng(1).random((4 * least + 3, 3 * least + 1, 1), np.float32)
        with (
            edgerestore.load(bundle.folder, precision="fp32", tile=1 << 20) as whole,
            edgerestore.load(bundle.folder, precision="fp32", tile=least) as tiled,
        ):
            right = np.array_equal(whole(frame), tiled(frame))
        if right:
            assert prove_tiling(bundle, pictures).difference == 0
        else:
            with pytest.raises(VerificationError, match="tiles differ from the whole"):
                prove_tiling(bundle, pictures)
    assert stride > 1 or not right


def test_every_precision_and_sample_type_is_held_to_the_byte(
    bundle_of: Callable[..., Bundle],
    pictures: Pictures,
    needs_precision: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    needs_precision("bf16")
    bundle = bundle_of(network(1, 3), variants=("fp32", "fp16"))
    assert re.search(
        r" at fp32, bf16(, fp16)?: equal to the byte$", prove_tiling(bundle, pictures).setup
    )
    monkeypatch.setattr(proof, "_check_reach", lambda *_: None)
    short = bundle_of(network(1, 3), short=1, variants=("fp32", "fp16"))
    seen = set()
    checks = proof._Trial.checks.fget  # type: ignore[attr-defined]
    for depth in Depth:

        def only(trial, depth=depth):
            return [check for check in checks(trial) if check[0] == depth]

        monkeypatch.setattr(proof._Trial, "checks", property(only))
        for precision in Precision.FP32, Precision.BF16:
            monkeypatch.setattr(proof, "_precisions", lambda _, p=precision: [p])
            with pytest.raises(VerificationError) as caught:
                prove_tiling(short, pictures)
            seen.add(re.search(r"\d (\w+ at \w+)\)", str(caught.value))[1])  # type: ignore[index]
    assert len(seen) == 6


@pytest.mark.parametrize(
    ("kind", "rounding", "wrong"),
    [("uint8", 1, 2), ("uint16", 1, 2), ("float32", 1e-6, 2e-5), ("float32", 1e-6, np.nan)],
)
def test_no_more_than_the_rounding_of_kernels_is_let_through(
    kind: str, rounding: float, wrong: float
) -> None:
    whole = np.zeros((4, 4, 1), kind)
    compared = proof._Comparison(halo_px=3)
    compared.add(whole, whole.copy(), 64, Precision.FP32)
    assert (str(compared), compared.largest) == ("equal to the byte", 0)
    tiled = whole.copy()
    tiled[1, 2] = rounding
    compared.add(whole, tiled, 64, Precision.FP32)
    assert str(compared) == "1 of 32 samples differ by the rounding of kernels"
    assert compared.largest == pytest.approx(rounding / Depth(kind).peak)
    tiled[1, 2] = wrong
    with pytest.raises(VerificationError, match=rf"halo of 3 px \(tiles of 64 px, 4x4 {kind} at"):
        compared.add(whole, tiled, 64, Precision.FP32)


def test_tiles_are_never_smaller_than_the_network_takes(
    bundle_of: Callable[..., Bundle], pictures: Pictures
) -> None:
    padded = nn.Sequential(nn.ReflectionPad2d(9), nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 17))
    bundle = bundle_of(padded)
    assert bundle.manifest.input.minimum_px == 10
    assert prove_tiling(bundle, pictures).difference == 0


def test_a_long_proof_says_how_much_is_left(
    bundle_of: Callable[..., Bundle], pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof, "_TOLD_EVERY_S", 0.0)
    lines: list[str] = []
    prove_tiling(bundle_of(network(2, 0)), pictures, lines.append)
    shares = [int(re.fullmatch(r"tiles: (\d+)%, about \d+ s to go", line)[1]) for line in lines]  # type: ignore[index]
    assert shares == sorted(shares)
    assert shares[-1] > 50


def test_pictures_smaller_than_a_tile_are_mirrored(bundle_of: Callable[..., Bundle]) -> None:
    tiny = [np.random.default_rng(0).random((5, 3, 1), np.float32)]
    assert prove_tiling(bundle_of(network(2, 1)), tiny).difference == 0


def checkpoint_of(made: nn.Module, folder: Path) -> Path:
    path = folder / "traced.pt"
    with quiet():
        torch.jit.trace(made, torch.rand(1, 1, 64, 64)).save(str(path))
    return path


@pytest.mark.parametrize(("stride", "extra"), [(1, 0), (2, 1), (8, 3)])
def test_conversion_fails_and_writes_no_bundle(
    stride: int,
    extra: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source, target = checkpoint_of(network(stride, extra), tmp_path), tmp_path / "bundle"

    def short(model: object) -> ReceptiveField:
        field = find_receptive_field(model)
        field.halo_px -= 1
        return field

    monkeypatch.setattr(images, "find_receptive_field", short)
    command = ["convert", str(source), "-o", str(target), "--color", "gray"]
    assert run_command_line(command) == 3
    assert "no bundle was written" in capsys.readouterr().err
    # The proof finds it as well where the experiment on the core graph does not.
    monkeypatch.setattr(plan, "measure_halo", lambda *_: 0)
    assert run_command_line(command) == 3
    assert "no bundle was written" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["traced.pt"]


def test_int8_with_a_halo_one_pixel_short_is_refused(
    bundle_of: Callable[..., Bundle], tmp_path: Path, picture: Callable[..., NDArray[np.uint8]]
) -> None:
    import cv2

    torch.manual_seed(1)  # INT8 rounds one pixel of the halo away with some weights
    deep = nn.Sequential(
        network(1, 0), nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 1, 3, padding=1)
    )
    bundle = bundle_of(deep.eval())
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for seed in range(3):
        cv2.imwrite(str(photographs / f"{seed}.png"), picture(288, 352, seed=seed))
    options = QuantizationOptions(calibrate=[photographs], crops=4, force=True)
    lines: list[str] = []
    made = quantize(bundle.folder, options, lines.append).bundle
    assert any(line.startswith("tiles: largest difference 0") and "int8" in line for line in lines)
    del made.manifest.variants["int8"]
    tiling = msgspec.structs.replace(made.manifest.tiling, halo_px=made.manifest.tiling.halo_px - 1)
    short = msgspec.structs.replace(made.manifest, tiling=tiling)
    (bundle.folder / "bundle.json").write_text(short.to_json())
    with pytest.raises(VerificationError, match="the halo is"):
        quantize(bundle.folder, options, lines.append)
    assert set(Bundle.find(bundle.folder).manifest.variants) == {"fp32"}


class AddsItsMean(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image + image.mean((2, 3), keepdim=True)


def test_wide_ramps_leave_less_of_a_seam(graph_of: Graphs, tmp_path: Path) -> None:
    """The seam of windows is measured through the windows that run."""
    onnx.save(
        attach_signature(graph_of(AddsItsMean()), Signature(1, 1, "gray")), tmp_path / "model.onnx"
    )
    image = InputPort("image", InputKind.IMAGE, channels=1, color="gray")
    ramp = np.tile(np.linspace(0, 0.5, 768, dtype=np.float32), (768, 1))[..., None]
    seams = []
    for ramp_px in (2, 16, 128):
        manifest = Manifest(
            name="mean",
            task="deblur",
            summary="",
            licence="",
            inputs=(image, STRENGTH),
            outputs=(OutputPort.of(image, OutputKind.IMAGE, 1),),
            tiling=Tiling(TilingMode.WINDOWED, window_px=256, ramp_px=ramp_px, reason="a mean"),
            strength=StrengthKind.BLEND,
            variants={"fp32": Variant({"model.onnx": file_info(tmp_path / "model.onnx")})},
        )
        (tmp_path / "bundle.json").write_text(manifest.to_json())
        measured = prove_tiling(Bundle.find(tmp_path), [ramp])
        assert 0.02 < not_none(measured.difference) < 0.5  # windows know other means than the whole
        seams.append(float(measured.setup.rpartition("seam ")[2].split()[0]))
    assert seams[0] > 4 * seams[1] > 0
    assert seams[1] > seams[2]
