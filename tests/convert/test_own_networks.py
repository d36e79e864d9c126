"""Networks of one's own: what they attend to decides how frames are cut, or that none is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import edgerestore
from edgerestore.bundle.manifest import TilingMode
from edgerestore.convert import convert
from edgerestore.errors import ArgumentError, VerificationError

from .conftest import seeded


class GlobalContext(nn.Module):
    """A context of all positions, weighed by a softmax, is added to each of them."""

    def __init__(self, gain: float = 1.0, width: int = 4) -> None:
        super().__init__()
        self.gain = gain
        self.before = nn.Conv2d(3, width, 3, padding=1)
        self.mask = nn.Conv2d(width, 1, 1)
        self.transform = nn.Conv2d(width, width, 1)
        self.after = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        features = self.before(image)
        batch, width, height, wide = features.shape
        mask = self.mask(features).view(batch, 1, height * wide).softmax(2).unsqueeze(-1)
        flat = features.view(batch, width, height * wide).unsqueeze(1)
        context = torch.matmul(flat, mask).view(batch, width, 1, 1)
        made: Tensor = image + self.gain * self.after(features + self.transform(context))
        return made


class Clamped(nn.Module):
    """Each channel is held between bounds of its own, which are tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 3, 3, padding=1)
        self.register_buffer("least", torch.tensor([0.1, 0.0, 0.2])[:, None, None])
        self.register_buffer("most", torch.tensor([0.9, 0.6, 1.0])[:, None, None])

    def forward(self, image: Tensor) -> Tensor:
        least, most = self.get_buffer("least"), self.get_buffer("most")
        return torch.clamp(image + self.body(image), least, most)


class Tinted(nn.Module):
    """Adds the mean of the whole frame, which no window knows."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        made: Tensor = 0.5 * image + self.body(image) + 0.5 * image.mean((2, 3), keepdim=True)
        return made


class Loud(nn.Module):
    """Squares features, as large as its gain makes them, and comes back to the picture."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = gain
        self.register_buffer("one", torch.ones(1))

    def forward(self, image: Tensor) -> Tensor:
        return (image * self.gain).square().sqrt() / self.gain * self.get_buffer("one")


def saved(network: nn.Module, folder: Path) -> Path:
    torch.save(network.state_dict(), folder / "own.pth")
    return folder / "own.pth"


def restored(network: nn.Module, frame: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        made = network(torch.from_numpy(frame).permute(2, 0, 1)[None]).clamp(0, 1)
    wanted: np.ndarray = made[0].permute(1, 2, 0).numpy()
    return wanted


def test_a_global_context_attention_is_windowed(tmp_path: Path) -> None:
    network = seeded(GlobalContext(gain=0.1))
    made = convert(
        saved(network, tmp_path),
        tmp_path / "bundle",
        architecture=f"{__name__}:GlobalContext",
        trust=True,
        arguments={"gain": 0.1},
        value_range=1.0,
    )
    manifest = made.bundle.manifest
    assert (manifest.tiling.mode, manifest.input.multiple_of) == (TilingMode.WINDOWED, 1)
    assert "positions" in manifest.tiling.reason
    assert manifest.variants["fp32"].quality["parity_max_difference"] < 1e-4
    frame = np.random.default_rng(0).random((70, 101, 3), np.float32)
    with edgerestore.load(made.bundle.folder, precision="fp32") as restorer:
        np.testing.assert_allclose(restorer(frame), restored(network, frame), atol=1e-5)


def test_a_clamp_between_tensors_is_exact(tmp_path: Path) -> None:
    network = seeded(Clamped())
    made = convert(
        saved(network, tmp_path),
        tmp_path / "bundle",
        architecture=f"{__name__}:Clamped",
        trust=True,
        value_range=1.0,
    )
    tiling = made.bundle.manifest.tiling
    assert (tiling.mode, tiling.halo_px) == (TilingMode.EXACT, 1)
    frame = np.random.default_rng(0).random((37, 53, 3), np.float32)
    wanted = restored(network, frame)
    assert wanted[..., 1].max() == np.float32(0.6)
    with edgerestore.load(made.bundle.folder, precision="fp32", tile=16) as restorer:
        np.testing.assert_allclose(restorer(frame), wanted, atol=1e-5)


def test_windows_that_show_are_refused_and_a_window_that_holds_the_frame_is_not(
    tmp_path: Path,
) -> None:
    network, target = seeded(Tinted()), tmp_path / "bundle"
    source, own = saved(network, tmp_path), f"{__name__}:Tinted"
    with pytest.raises(VerificationError, match=r"384 px come within \d\d\.\d dB .*--window-px"):
        convert(source, target, architecture=own, value_range=1.0, trust=True)
    assert not target.exists()
    lines: list[str] = []
    made = convert(
        source,
        target,
        architecture=own,
        value_range=1.0,
        window_px=1600,
        trust=True,
        report=lines.append,
    )
    assert made.bundle.manifest.tiling.window_px == 1600
    assert "whole against tiles not measured: frames of up to 1600 px are not cut" in made.table
    assert made.bundle.manifest.variants["fp32"].quality["tiled_max_difference"] is None
    assert any("frames of up to 1600 px are not cut" in line for line in lines)
    frame = np.random.default_rng(0).random((64, 500, 3), np.float32)
    with edgerestore.load(made.bundle.folder, precision="fp32") as restorer:
        np.testing.assert_allclose(restorer(frame), restored(network, frame), atol=1e-5)
        assert "1 windows" in restorer.plan
    with pytest.raises(ArgumentError, match="--window-px 0: expected a number of pixels"):
        convert(source, target, architecture=own, window_px=0)


@pytest.mark.parametrize(("gain", "variants"), [(4600.0, {"fp32"}), (100.0, {"fp32", "fp16"})])
def test_activations_beyond_halves_leave_no_variant_in_halves(
    gain: float, variants: set[str], tmp_path: Path
) -> None:
    lines: list[str] = []
    made = convert(
        saved(Loud(gain), tmp_path),
        tmp_path / "bundle",
        architecture=f"{__name__}:Loud",
        trust=True,
        arguments={"gain": gain},
        value_range=1.0,
        quick=True,
        report=lines.append,
    )
    assert set(made.bundle.manifest.variants) == variants
    told = [line for line in lines if line.startswith("no fp16 variant: activations reach")]
    assert len(told) == ("fp16" not in variants)
