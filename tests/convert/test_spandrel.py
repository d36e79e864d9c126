"""Networks through spandrel: the way there with a stand-in, and the package where it is."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgerestore.bundle.kinds import OutputKind
from edgerestore.bundle.manifest import TilingMode
from edgerestore.convert import convert
from edgerestore.convert.checkpoint import network as network_module
from edgerestore.convert.checkpoint import spandrel_models
from edgerestore.convert.checkpoint.network import Network, build_network
from edgerestore.convert.checkpoint.spandrel_models import (
    SpandrelNetwork,
    import_spandrel,
    load_spandrel,
)
from edgerestore.errors import (
    ArgumentError,
    CheckpointError,
    ConversionError,
    EdgerestoreError,
    MissingExtraError,
)
from edgerestore.extensions import install_command

HERE = Path("weights.pth")


class Enlarger(nn.Module):
    """Takes the image and a noise level, and returns a pair, as some published networks do."""

    def __init__(self, scale: int = 2) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.odd_body = nn.Conv2d(4, 3 * scale * scale, 3, padding=1)
        self.scale = scale

    def forward(self, image: Tensor) -> tuple[Tensor, None]:
        return nn.functional.pixel_shuffle(self.odd_body(image), self.scale), None


def call_enlarger(network: nn.Module, image: Tensor) -> Tensor:
    level = torch.full_like(image[:, :1], 0.1)
    made: Tensor = network(torch.cat([image, level], 1))[0]
    return made


class Descriptor:
    """What the stand-in returns: the public side of spandrel's descriptors."""

    def __init__(self, model: nn.Module, **told: Any) -> None:
        self.model = model
        self.architecture = SimpleNamespace(name="Enlarger")
        self.purpose, self.scale = "SR", 2
        self.input_channels, self.output_channels = 3, 3
        self.size_requirements = SimpleNamespace(minimum=16, multiple_of=8, square=False)
        self.tiling = SimpleNamespace(name="SUPPORTED")
        self.supports_half, self.supports_bfloat16 = False, True
        self._call_fn = call_enlarger
        self.gain = 1.0
        vars(self).update(told)

    @torch.inference_mode()
    def __call__(self, image: Tensor) -> Tensor:
        return (self._call_fn(self.model, image) * self.gain).clamp(0, 1)


class MaskedDescriptor(Descriptor):
    """For networks that fill in what a mask marks."""


class UnsupportedModelError(Exception):
    """What the stand-in raises where it knows no network."""


def stand_in(**told: Any) -> Any:
    """Return a package with spandrel's names that knows one network."""

    class Loader:
        def __init__(self, device: str) -> None:
            assert device == "cpu"

        def load_from_state_dict(self, state: Mapping[str, Tensor]) -> Descriptor:
            if "odd_body.weight" not in state:
                raise UnsupportedModelError
            network = Enlarger()
            network.load_state_dict(dict(state))
            kind: type[Descriptor] = told.get("kind", Descriptor)
            return kind(network, **{name: v for name, v in told.items() if name != "kind"})

    return SimpleNamespace(
        ModelLoader=Loader,
        ImageModelDescriptor=Descriptor,
        MaskedImageModelDescriptor=MaskedDescriptor,
        UnsupportedModelError=UnsupportedModelError,
    )


def through(state: Mapping[str, Tensor], **told: Any) -> Network:
    return build_network(dict(state), HERE, None, {}, spandrel=lambda: stand_in(**told))


@pytest.fixture
def state() -> dict[str, Tensor]:
    return dict(Enlarger().state_dict())


def test_what_no_row_fits_is_loaded_through_spandrel(state: dict[str, Tensor]) -> None:
    found = through({f"net.{name}": value.half() for name, value in state.items()})
    assert (found.architecture, found.row, found.channels) == ("spandrel: Enlarger", None, 3)
    module = found.module
    assert isinstance(module, SpandrelNetwork)
    assert (module.multiple_of, module.minimum_px, module.value_range) == (8, 16, 1.0)
    assert (module.task, module.half_precision, module.tiling_advice) == (
        "super-resolve",
        False,
        "",
    )
    assert not module.training
    made = module(torch.rand(1, 3, 24, 16))
    assert (made.dtype, made.shape) == (torch.float32, (1, 3, 48, 32))


def test_it_says_scale_and_channels_and_what_it_thinks_of_tiles(state: dict[str, Tensor]) -> None:
    package = stand_in(tiling=SimpleNamespace(name="DISCOURAGED"), supports_half=True)
    model = load_spandrel(package, [{"other": state["odd_body.bias"]}, state], HERE)
    assert model is not None
    assert (model.scale, model.channels, model.out_channels) == (2, 3, 3)
    assert model.module.tiling_advice == "spandrel advises against tiles"
    assert model.module.half_precision
    assert load_spandrel(package, [{"other": state["odd_body.bias"]}], HERE) is None


@pytest.mark.parametrize(
    ("told", "text"),
    [
        ({"kind": MaskedDescriptor}, "spandrel: Enlarger takes a mask beside the image"),
        ({"kind": SimpleNamespace}, "is SimpleNamespace, not image in, image out"),
        ({"size_requirements": SimpleNamespace(square=True)}, "takes square images alone"),
        ({"scale": 4}, r"does not return \[1, 3, 256, 256\] for \[1, 3, 64, 64\]"),
        ({"input_channels": 1}, "fails at 64x64: RuntimeError"),
        ({"gain": 0.5}, "alone returns another image than through spandrel"),
    ],
)
def test_what_is_no_image_to_image_network_is_refused(
    state: dict[str, Tensor], told: dict[str, Any], text: str
) -> None:
    if told.get("kind") is SimpleNamespace:
        told = {"kind": guided}
    with pytest.raises(ConversionError, match=text) as caught:
        through(state, **told)
    assert "\n" not in str(caught.value)


def guided(model: nn.Module, **told: Any) -> SimpleNamespace:
    return SimpleNamespace(model=model, architecture=SimpleNamespace(name="Enlarger"), **told)


def test_what_spandrel_does_not_load_is_told(state: dict[str, Tensor]) -> None:
    with pytest.raises(CheckpointError, match="spandrel takes it for a network that it does not"):
        through({**state, "extra.weight": torch.ones(1)})
    with pytest.raises(CheckpointError, match=r"no known network.*; spandrel does not know it"):
        through({"extra.weight": torch.ones(1)})


def test_arguments_are_read_by_spandrel(state: dict[str, Tensor]) -> None:
    with pytest.raises(ArgumentError, match="--arch-arg: spandrel: Enlarger"):
        build_network(state, HERE, None, {"scale": 2}, spandrel=stand_in)


def failing(error: Exception) -> Callable[[str], Any]:
    def fail(name: str) -> Any:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ModuleNotFoundError("No module named 'spandrel'", name="spandrel"), "knows more networks"),
        (ModuleNotFoundError("No module named 'einops'", name="einops"), r"\(ModuleNotFoundError"),
        (RuntimeError("operator torchvision::nms does not exist\nat"), r"nms does not exist\):"),
        (OSError(), r"\(OSError: OSError\)"),
    ],
)
def test_absent_or_broken_it_is_a_hint_and_no_failure(
    state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch, error: Exception, text: str
) -> None:
    monkeypatch.setattr(spandrel_models, "import_module", failing(error))
    with pytest.raises(MissingExtraError, match=text):
        import_spandrel()
    with pytest.raises(CheckpointError, match=r"no known network has these weights") as caught:
        build_network(state, HERE, None, {})
    assert str(caught.value).endswith(install_command("spandrel"))
    assert "\n" not in str(caught.value)


def test_known_networks_do_not_ask_for_it(small_unet: nn.Module) -> None:
    def unwanted() -> Any:
        raise AssertionError("spandrel was asked for")

    build_network(small_unet.state_dict(), HERE, None, {}, spandrel=unwanted)


def test_a_bundle_says_that_it_came_through_spandrel(
    state: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network_module, "import_spandrel", stand_in)
    torch.save({"params_ema": state}, tmp_path / "odd.pth")
    lines: list[str] = []
    manifest = convert(tmp_path / "odd.pth", tmp_path / "odd", report=lines.append).bundle.manifest
    assert any(line.startswith("read odd.pth: state dict, spandrel: Enlarger") for line in lines)
    assert manifest.source["architecture"] == "spandrel: Enlarger"
    assert (manifest.task, manifest.output.upscale) == ("super-resolve", 2)
    assert (manifest.input.multiple_of, manifest.input.minimum_px) == (8, 16)
    assert manifest.output.kind is OutputKind.IMAGE
    assert manifest.tiling.mode is TilingMode.EXACT
    assert set(manifest.variants) == {"fp32"}  # halves are said to be unsafe


@pytest.fixture
def spandrel() -> Any:
    """The package itself; torchvision fails in more ways than by being absent."""
    try:
        return importlib.import_module("spandrel")
    except Exception as error:
        pytest.skip(f"spandrel does not import: {type(error).__name__}: {error}")


def test_a_published_architecture_converts(spandrel: Any, tmp_path: Path) -> None:
    network = spandrel.architectures.ESRGAN.ESRGAN(num_filters=8, num_blocks=1, scale=2)
    torch.save(network.state_dict(), tmp_path / "esrgan.pth")
    try:
        result = convert(tmp_path / "esrgan.pth", tmp_path / "esrgan")
    except EdgerestoreError as error:  # pragma: no cover
        pytest.fail(str(error))
    assert result.bundle.manifest.source["architecture"] == "spandrel: ESRGAN"
    assert result.bundle.manifest.output.upscale == 2
