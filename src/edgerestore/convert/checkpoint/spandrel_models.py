"""Networks of the optional spandrel package, tried where no architecture fits.

spandrel imports torchvision, which is large and does not import everywhere. It is therefore
looked for only where weights fit no network of this package, and every way in which its
import can fail is reported as a part that is not installed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import CheckpointError, ConversionError, MissingExtraError, first_line
from ...extensions import install_command
from ...imaging.arrays import round_up
from ..graph.export import quiet
from .files import State

__all__ = ["SpandrelModel", "SpandrelNetwork", "import_spandrel", "load_spandrel"]

_PROBE_PX = 64
_SAME = 1e-4  # of white: the network as it is exported and as spandrel calls it
_ADVICE = {
    "DISCOURAGED": "spandrel advises against tiles",
    "INTERNAL": "the network cuts tiles itself",
}


class SpandrelNetwork(nn.Module):
    """Module around a network of spandrel, with spandrel's description as attributes.

    Parameters
    ----------
    network : torch.nn.Module
    call : callable
        Takes the network and an image; some networks want more than the image, or return
        more, and spandrel knows what.
    task : str
    multiple_of, minimum_px : int
        What the network requires of the image's sides.
    half_precision : bool
        Both kinds of half are said to be safe.
    tiling_advice : str
        Empty where tiles are no question.
    """

    value_range = 1.0
    color = "rgb"

    def __init__(
        self,
        network: nn.Module,
        call: Callable[[nn.Module, Tensor], Any],
        *,
        task: str = "restore",
        multiple_of: int = 1,
        minimum_px: int = 1,
        half_precision: bool = True,
        tiling_advice: str = "",
    ) -> None:
        super().__init__()
        self.network = network
        self._call = call
        self.task = task
        self.multiple_of, self.minimum_px = multiple_of, minimum_px
        self.half_precision = half_precision
        self.tiling_advice = tiling_advice

    def forward(self, image: Tensor) -> Tensor:
        """Return the restored image, f32 ``[1, C', H*scale, W*scale]``, white at 1.

        Parameters
        ----------
        image : Tensor, f32 [1, C, H, W] in [0, 1]
            H and W as the network requires them.
        """
        restored: Tensor = self._call(self.network, image)
        return restored


@dataclass(frozen=True)
class SpandrelModel:
    """Network found by spandrel, with its weights.

    Parameters
    ----------
    module : SpandrelNetwork
        In evaluation mode, f32, on the CPU.
    architecture : str
        ``spandrel: ESRGAN``.
    scale : int
        Output pixels per input pixel and side.
    channels, out_channels : int
        Of the image and of what comes out.
    """

    module: SpandrelNetwork
    architecture: str
    scale: int
    channels: int
    out_channels: int


def import_spandrel() -> Any:
    """Import the spandrel package.

    Raises
    ------
    MissingExtraError
        When it is not installed, or something that it imports is broken.
    """
    try:
        return import_module("spandrel")
    except ModuleNotFoundError as error:
        if error.name == "spandrel":
            raise MissingExtraError(
                f"spandrel knows more networks: {install_command('spandrel')}"
            ) from error
        raise MissingExtraError(_broken(error)) from error
    except Exception as error:  # torchvision fails with RuntimeError, OSError and others
        raise MissingExtraError(_broken(error)) from error


def _broken(error: BaseException) -> str:
    return (
        "spandrel knows more networks, but does not import here"
        f" ({type(error).__name__}: {first_line(error)}): {install_command('spandrel')}"
    )


def load_spandrel(spandrel: Any, candidates: Iterable[State], where: Path) -> SpandrelModel | None:
    """Ask spandrel for the network that weights belong to.

    Parameters
    ----------
    spandrel : module
        As `import_spandrel` returns it.
    candidates : iterable of State
        The weights, and the same without a wrapper's prefixes.
    where : Path
        The checkpoint, named in errors.

    Returns
    -------
    SpandrelModel or None
        None where spandrel does not know it either.

    Raises
    ------
    CheckpointError
        When spandrel recognises the weights but does not load them.
    ConversionError
        When the network takes more than one image, squares alone, or cannot be called as
        spandrel calls it.
    """
    for state in candidates:
        try:
            # A copy: spandrel renames in place.
            with quiet():
                found = spandrel.ModelLoader(device="cpu").load_from_state_dict(dict(state))
        except spandrel.UnsupportedModelError:
            continue
        except Exception as error:
            raise CheckpointError(
                f"{where}: spandrel takes it for a network that it does not load:"
                f" {type(error).__name__}: {first_line(error)}"
            ) from error
        return _described(spandrel, found, where)
    return None


def _described(spandrel: Any, found: Any, where: Path) -> SpandrelModel:
    name = f"spandrel: {found.architecture.name}"
    if isinstance(found, spandrel.MaskedImageModelDescriptor):
        raise ConversionError(f"{where}: {name} takes a mask beside the image, bundles take none")
    if not isinstance(found, spandrel.ImageModelDescriptor):
        raise ConversionError(f"{where}: {name} is {type(found).__name__}, not image in, image out")
    sides = found.size_requirements
    if getattr(sides, "square", False):
        raise ConversionError(f"{where}: {name} takes square images alone, bundles take any")
    # The public call pads, clamps and turns gradients off in ways that do not export; what
    # it does around the network is behind this name. Compared with the public call below.
    call = getattr(found, "_call_fn", None) or (lambda network, image: network(image))
    module = SpandrelNetwork(
        found.model.float().cpu().eval(),
        call,
        task=_task(found),
        multiple_of=max(1, int(sides.multiple_of or 1)),
        minimum_px=max(1, int(sides.minimum or 1)),
        half_precision=bool(found.supports_half and found.supports_bfloat16),
        tiling_advice=_ADVICE.get(getattr(getattr(found, "tiling", None), "name", ""), ""),
    ).eval()
    model = SpandrelModel(
        module, name, int(found.scale), int(found.input_channels), int(found.output_channels)
    )
    _require_same(model, found, where)
    return model


def _task(found: Any) -> str:
    known: Mapping[str, str] = {"SR": "super-resolve", "FaceSR": "super-resolve"}
    return known.get(str(found.purpose), "restore") if int(found.scale) > 1 else "restore"


def _require_same(model: SpandrelModel, found: Any, where: Path) -> None:
    """Run the network as it will be exported and as spandrel calls it."""
    module = model.module
    side = round_up(max(_PROBE_PX, module.minimum_px), module.multiple_of)
    image = torch.rand(1, model.channels, side, side, generator=torch.Generator().manual_seed(0))
    try:
        with quiet(), torch.no_grad():
            made = module(image)
            wanted = found(image)
    except Exception as error:
        raise ConversionError(
            f"{where}: {model.architecture} fails at {side}x{side}:"
            f" {type(error).__name__}: {first_line(error)}"
        ) from error
    shape = (1, model.out_channels, side * model.scale, side * model.scale)
    if not isinstance(made, Tensor) or made.shape != shape or wanted.shape != shape:
        raise ConversionError(
            f"{where}: {model.architecture} does not return {list(shape)} for"
            f" {list(image.shape)}, as spandrel states"
        )
    if float((made.clamp(0, 1) - wanted).abs().max()) > _SAME:
        raise ConversionError(
            f"{where}: {model.architecture} alone returns another image than through spandrel"
        )
