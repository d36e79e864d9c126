"""The cut-out networks against their authors' definitions, and what makes full size of a mask."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

import edgerestore
from edgerestore.bundle.kinds import OutputKind
from edgerestore.bundle.manifest import TilingMode
from edgerestore.convert import convert
from edgerestore.convert.architectures.extremec3 import ExtremeC3Net
from edgerestore.convert.architectures.sinet import SINet
from edgerestore.convert.architectures.thumbnail import CutOut, counts_batches, refined, resized
from edgerestore.convert.checkpoint.files import load_state
from edgerestore.convert.checkpoint.network import build_network
from edgerestore.convert.verify import PARITY_LIMIT
from edgerestore.runtimes.openvino.graph import OpenvinoGraph, read_graph

from .official_weights import filled

OFFICIAL = Path(__file__).parent / "official"
STEP = 7  # one pixel of so many was stored, along each side
KNOWN = {"u2netp": "u2net", "u2net": "u2net", "sinet": "sinet", "extremec3": "extremec3"}
TRAINED = ("SINet", "ExtremeC3")
PICTURES = ("kodak/04.png", "kodak/09.png", "kodak/15.png", "matting/lemur.png")


def cut_out(state: dict[str, Tensor]) -> tuple[str, CutOut]:
    network = build_network(state, Path("weights.pth"), None, {})
    assert isinstance(network.module, CutOut)
    return network.architecture, network.module


def trained(shared_data: Path, name: str) -> tuple[str, CutOut]:
    path = shared_data / "checkpoints" / "portrait_matting" / f"{name}.pth"
    return cut_out(load_state(path))


def pixels(path: Path) -> NDArray[np.uint8]:
    return np.array(Image.open(path).convert("RGB"))


def planes(image: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(image.transpose(2, 0, 1)[None] / np.float32(255))


def overlap(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    first, second = one > 0.5, other > 0.5
    return float((first & second).sum() / (first | second).sum())


@pytest.mark.parametrize("name", KNOWN)
def test_judges_as_the_official_definition_does(name: str) -> None:
    shapes = json.loads((OFFICIAL / f"{name}.json").read_text())["shapes"]
    architecture, network = cut_out(filled({key: tuple(shapes[key]) for key in shapes}))
    assert architecture == KNOWN[name]
    wanted = torch.from_numpy(np.load(OFFICIAL / f"{name}.npz")["output"])
    generator = torch.Generator().manual_seed(0)
    thumbnail = torch.randn(1, 3, network.side_px, network.side_px, generator=generator)
    with torch.inference_mode():
        if isinstance(network, (SINet, ExtremeC3Net)):
            classes = network.classes(thumbnail)[..., ::STEP, ::STEP]
            torch.testing.assert_close(classes, wanted, rtol=1e-5, atol=1e-5)
            one = wanted.shape[1] == 1
            wanted = (wanted / 2 + 0.5).clamp(0, 1) if one else wanted.softmax(dim=1)[:, 1:]
        made = network.predict(thumbnail)[..., ::STEP, ::STEP]
    torch.testing.assert_close(made, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["sinet", "u2netp"])
def test_weights_from_before_batches_were_counted(name: str) -> None:
    shapes = json.loads((OFFICIAL / f"{name}.json").read_text())["shapes"]
    state = filled({key: tuple(shapes[key]) for key in shapes if not counts_batches([key])})
    _, network = cut_out(state)
    assert network.state_dict().keys() == state.keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_the_mask_of_a_bundle_is_the_mask_in_pytorch(
    name: str, shared_data: Path, tmp_path: Path
) -> None:
    _, network = trained(shared_data, name)
    source = shared_data / "checkpoints" / "portrait_matting" / f"{name}.pth"
    bundle = convert(source, tmp_path / name).bundle
    manifest = bundle.manifest
    assert manifest.task == "cut-out"
    assert manifest.output.kind is OutputKind.MASK
    assert manifest.tiling.mode is TilingMode.WHOLE
    images = [pixels(shared_data / picture) for picture in PICTURES]
    with torch.inference_mode():
        wanted = [network(planes(image))[0, 0].numpy() for image in images]
    with edgerestore.load(bundle.folder) as restorer:
        assert restorer.precision == "fp32"  # in halves a hesitant mask loses a tenth of itself
        masks = [restorer(image).reshape(image.shape[:2]) / np.float32(255) for image in images]
    assert min(map(overlap, masks, wanted)) >= 0.999

    # Sides larger than the thumbnail's, where leaving out the antialiasing would show.
    image = planes(images[0])[..., :720, :].repeat(1, 1, 1, 3)[..., :1280]
    with torch.inference_mode():
        full = network(image).numpy()
    made = OpenvinoGraph(read_graph(bundle.folder / "model.onnx"))(image.numpy())
    assert np.abs(made - full).max() <= PARITY_LIMIT


@pytest.mark.parametrize("name", TRAINED)
def test_finds_the_lemur(name: str, shared_data: Path) -> None:
    _, network = trained(shared_data, name)
    alpha = Image.open(shared_data / "matting" / "lemur_alpha.png").convert("L")
    with torch.inference_mode():
        mask = network(planes(pixels(shared_data / "matting" / "lemur.png")))[0, 0].numpy()
    assert np.abs(mask - np.array(alpha) / np.float32(255)).mean() < 0.02


@pytest.mark.parametrize("given", [(720, 1280), (131, 400), (5, 3), (1, 1)])
def test_resizing_is_antialiased(given: tuple[int, int]) -> None:
    image = torch.rand(1, 3, *given, generator=torch.Generator().manual_seed(0))
    wanted = functional.interpolate(image, size=(224, 320), mode="bilinear", antialias=True)
    torch.testing.assert_close(resized(image, 224, 320), wanted, rtol=0, atol=5e-5)


@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("size", [(5, 3), (300, 411)])
def test_refinement_keeps_a_constant_mask(level: float, size: tuple[int, int]) -> None:
    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    thumbnail = resized(image, 96, 96)
    made = refined(torch.full((1, 1, 96, 96), level), thumbnail, image)
    torch.testing.assert_close(made, torch.full((1, 1, *size), level), rtol=0, atol=1e-4)


def test_refinement_sharpens_a_soft_mask_along_the_edge() -> None:
    wanted = torch.zeros(1, 1, 384, 384)
    wanted[..., 150:, :] = 1
    image = (0.2 + 0.6 * wanted).repeat(1, 3, 1, 1)
    mask, thumbnail = resized(wanted, 96, 96), resized(image, 96, 96)
    plain = functional.interpolate(mask, size=(384, 384), mode="bilinear")
    made = refined(mask, thumbnail, image)
    assert (made - wanted).abs().mean() < 0.5 * (plain - wanted).abs().mean()


@pytest.mark.parametrize("side", [224, 320])
def test_refinement_beats_enlarging_on_fur(side: int, shared_data: Path) -> None:
    image = planes(pixels(shared_data / "matting" / "lemur.png"))
    alpha = planes(pixels(shared_data / "matting" / "lemur_alpha.png"))[:, :1]
    mask = resized(alpha, side, side)
    plain = functional.interpolate(mask, size=alpha.shape[2:], mode="bilinear")
    made = refined(mask, resized(image, side, side), image)
    assert (made - alpha).abs().mean() < 0.97 * (plain - alpha).abs().mean()
