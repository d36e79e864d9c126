"""What all tests share: real data where it is, small pictures where it is not."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray

from edgerestore.bundle.bundle import Bundle
from edgerestore.imaging.arrays import ImageKind
from edgerestore.runtimes.cache import measured
from edgerestore.runtimes.machine import cpu_info

from .checked import not_none

# No time limit for one example: the machine may be busy with something else.
settings.register_profile("edgerestore", deadline=None, derandomize=True)
settings.load_profile("edgerestore")

ROOT = Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what needs the trained denoiser, whose conversion takes half a minute."""
    for item in items:
        if "dncnn_bundle" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def without_imagecodecs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tifffile be as where imagecodecs is not installed."""
    import tifffile._imagecodecs as substitute
    from tifffile import TIFF, tifffile

    monkeypatch.setattr(tifffile, "imagecodecs", substitute)
    for codecs in (TIFF.DECOMPRESSORS, TIFF.UNPREDICTORS):
        monkeypatch.setattr(codecs, "_codecs", {1: codecs[1]})


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real photographs, video and checkpoints that are not part of the project."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the real data of {folder.parent.name}/{folder.name}, absent here")
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled models are kept for the test run, not in the home of whoever runs it."""
    monkeypatch.setenv("EDGERESTORE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def picture() -> Callable[..., NDArray[np.uint8]]:
    """Draw a seeded picture with edges, gradients and texture, of any size."""

    def draw(height: int, width: int, channels: int = 3, seed: int = 0) -> NDArray[np.uint8]:
        rng = np.random.default_rng(seed)
        y, x = np.mgrid[0:height, 0:width].astype(np.float32)
        image = np.empty((height, width, channels), np.float32)
        for channel in range(channels):
            a, b, c = rng.uniform(0.02, 0.4, 3)
            image[..., channel] = 128 + 60 * np.sin(a * x + b * y) + 40 * np.sign(np.sin(c * x))
        image += rng.normal(0, 8, image.shape)
        return np.clip(np.rint(image), 0, 255).astype(np.uint8)

    return draw


@pytest.fixture(scope="session")
def needs_precision() -> Callable[[str], None]:
    """Skip where the processor lacks a precision natively."""
    from edgerestore.runtimes import runtime_for

    native = runtime_for("CPU").precisions("CPU")

    def check(precision: str) -> None:
        if precision not in native:
            pytest.skip(f"this CPU has no {precision}")

    return check


@pytest.fixture(scope="session")
def dncnn_bundle(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained grey denoiser, converted."""
    from edgerestore.convert import convert

    target = tmp_path_factory.mktemp("bundles") / "dncnn"
    convert(shared_data / "checkpoints" / "denoise" / "dncnn_25.pth", target, name="dncnn")
    return target


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    """Three sizes of one model, in a folder of their own."""
    from .bundles import write_bundle

    folder = tmp_path_factory.mktemp("family")
    sizes = {"small": (4, 0), "base": (16, 1), "large": (48, 2)}
    return {
        name: write_bundle(folder / name, width=width, layers=layers, family="sizes")
        for name, (width, layers) in sizes.items()
    }


@pytest.fixture
def timed_family(
    family: dict[str, Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, Bundle]]:
    """Keep frame times of the family in a cache of the test's own, as if they were measured."""
    from edgerestore.engine.family import _cached_as
    from edgerestore.engine.loader import Loader
    from edgerestore.engine.speed import FrameTime

    monkeypatch.setenv("EDGERESTORE_CACHE", str(tmp_path / "cache"))

    def keep(kind: ImageKind, **times_ms: float) -> dict[str, Bundle]:
        for live, (name, ms) in itertools.product((False, True), times_ms.items()):
            precision, entry = _cached_as(Loader(live=live), family[name], kind)
            time = FrameTime(ms, kind.width, kind.height, precision, "CPU", str(cpu_info()))
            measured(*entry, [time].pop, FrameTime)
        return family

    return keep


@pytest.fixture(scope="session")
def mask_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that cuts out what is red: its mask is a sigmoid of red less green."""
    import torch
    from torch import nn

    from edgerestore.convert import convert

    folder = tmp_path_factory.mktemp("masks")
    code = "from torch import nn\ndef make():\n"
    code += "    return nn.Sequential(nn.Conv2d(3, 1, 1), nn.Sigmoid())\n"
    (folder / "red.py").write_text(code)
    convolution = nn.Conv2d(3, 1, 1)
    network = nn.Sequential(convolution, nn.Sigmoid())
    with torch.no_grad():
        convolution.weight.copy_(torch.tensor([20.0, -20.0, 0.0]).reshape(1, 3, 1, 1))
        not_none(convolution.bias).fill_(-4.0)
    torch.save(network.state_dict(), folder / "red.pth")
    target = folder / "red"
    own = f"{folder / 'red.py'}:make"
    convert(folder / "red.pth", target, architecture=own, task="cut-out", trust=True)
    return target
