"""Resizes inside a network come out the same wherever a tile lies."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto
from torch import Tensor, nn
from torch.nn import functional

from edgerestore.bundle.manifest import TilingMode
from edgerestore.convert import convert
from edgerestore.convert.graph.ir import read_proto
from edgerestore.convert.graph.receptive_field import at_two_sizes, find_receptive_field
from edgerestore.convert.graph.resizes import with_exact_resizes
from edgerestore.convert.kinds import images
from edgerestore.errors import VerificationError
from edgerestore.runtimes.openvino.graph import shared_core

from .conftest import seeded

Graphs = Callable[..., ModelProto]


class Resized(nn.Module):
    """Enlarges between two convolutions, and comes back to the picture's size where it can."""

    def __init__(self, factor: Fraction, mode: str = "bilinear", width: int = 2) -> None:
        super().__init__()
        self.factor, self.mode = factor, mode
        self.before = nn.Conv2d(1, width, 3, padding=1)
        self.after = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        wide = functional.interpolate(
            self.before(image), scale_factor=float(self.factor), mode=self.mode
        )
        made: Tensor = self.after(wide)
        return made


class Coarse(nn.Module):
    """Adds to a picture what it sees at a coarse scale, stretched to the picture's size."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times
        self.conv = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        coarse = self.conv(functional.max_pool2d(image, self.times))
        return image + functional.interpolate(coarse, size=image.shape[2:], mode="bilinear")


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("factor", [Fraction(3), Fraction(5), Fraction(3, 2), Fraction(5, 3)])
def test_a_resize_is_the_same_far_from_the_corner(
    mode: str, factor: Fraction, graph_of: Graphs
) -> None:
    network = seeded(Resized(factor, mode))
    core = graph_of(network)
    far = 5400
    image = np.random.default_rng(0).random((1, 1, far + 600, 12), np.float32)
    kept = 300 * factor.numerator // factor.denominator

    def ends(model: ModelProto) -> list[np.ndarray]:
        hint = {"INFERENCE_PRECISION_HINT": "f32"}
        run = shared_core().compile_model(read_proto(model), "CPU", hint)
        return [
            run(np.ascontiguousarray(image[:, :, begin:]))[0][:, :, -kept:] for begin in (0, far)
        ]

    given = read_proto(core)
    rewritten = with_exact_resizes(core, at_two_sizes(given))
    assert rewritten is not None
    whole, tail = ends(core)
    assert np.abs(whole - tail).max() > 1e-5  # as the runtime has it
    whole, tail = ends(rewritten)
    assert np.array_equal(whole, tail)
    with torch.inference_mode():
        wanted = network(torch.from_numpy(image[:, :, far:]))[:, :, -kept:].numpy()
    np.testing.assert_allclose(tail, wanted, atol=1e-5)
    after, before = find_receptive_field(read_proto(rewritten)), find_receptive_field(given)
    assert (after.mode, after.multiple_of) == (TilingMode.EXACT, factor.denominator)
    assert after.halo_px >= before.halo_px


@pytest.mark.parametrize("factor", [Fraction(2), Fraction(4), Fraction(1, 3)])
def test_places_without_rounding_stay_a_resize(factor: Fraction, graph_of: Graphs) -> None:
    core = graph_of(seeded(Resized(factor)))
    assert with_exact_resizes(core, at_two_sizes(read_proto(core))) is None


def test_tiles_are_proven_far_from_the_corner(
    graph_of: Graphs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Resized(Fraction(3), width=1)
    with torch.no_grad():
        for weights in network.parameters():
            weights.zero_()
        for conv in (network.before, network.after):
            conv.weight[0, 0, 1, 1] = 1  # so that the resize shows
    onnx.save(graph_of(network), tmp_path / "three.onnx")
    manifest = convert(tmp_path / "three.onnx", tmp_path / "bundle", color="gray").bundle.manifest
    assert (manifest.tiling.mode, manifest.output.upscale) == (TilingMode.EXACT, 3)
    assert manifest.variants["fp32"].quality["tiled_max_difference"] == 0
    monkeypatch.setattr(images, "with_exact_resizes", lambda *_: None)
    with pytest.raises(VerificationError, match="tiles differ from the whole"):
        convert(tmp_path / "three.onnx", tmp_path / "other", color="gray")


def test_a_source_that_takes_frames_as_they_are_is_run_on_them(
    graph_of: Graphs, tmp_path: Path
) -> None:
    network = seeded(Coarse(8))
    with torch.no_grad():
        network.conv.weight.fill_(0.1)  # type: ignore[operator, union-attr]
    onnx.save(graph_of(network), tmp_path / "coarse.onnx")
    with pytest.raises(VerificationError, match=r"131x97|97x131.*--multiple-of 8") as caught:
        convert(tmp_path / "coarse.onnx", tmp_path / "bundle", color="gray")
    assert caught.value.exit_code == 3
    assert not (tmp_path / "bundle").exists()
    lines: list[str] = []
    made = convert(
        tmp_path / "coarse.onnx",
        tmp_path / "bundle",
        color="gray",
        multiple_of=8,
        report=lines.append,
    )
    assert made.bundle.manifest.input.multiple_of == 8
    assert any("continued by their edge to multiples of 8 px" in line for line in lines)
