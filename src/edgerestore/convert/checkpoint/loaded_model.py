"""Loaded models: a source of any kind as a core graph and a callable reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypedDict

import msgspec
import torch
from msgspec import Meta
from onnx import ModelProto
from torch import Tensor, nn

from ...bundle.kinds import OutputKind
from ...bundle.manifest import Color, Side
from ...errors import ArgumentError, ConversionError, first_line
from ...imaging.arrays import round_up
from ..architectures import Architecture
from ..graph.export import (
    PROBE_PX,
    export_fixed,
    export_module,
    export_program,
    export_script,
)
from ..graph.onnx_graphs import checked_output, image_channels, read_onnx, with_one_output
from ..verify import NetworkFunction, ort_network, torch_network
from .files import SourceKind, load_folder, load_state, recognise
from .network import Network, build_network

__all__ = ["Declared", "LoadedModel", "load_model"]

_TRIED_CHANNELS = (3, 1)
_PROBE_PX = 96
_WEIGHTS_ALONE = (SourceKind.STATE_DICT, SourceKind.SAFETENSORS, SourceKind.FOLDER)


class Declared(TypedDict, total=False):
    """What a network declares of itself, by attributes of these names."""

    task: str
    black: Annotated[float, Meta(ge=-1e6, le=1e6)]
    value_range: Annotated[float, Meta(gt=0, le=1e6)]
    color: Color
    window_px: Side
    whole: bool
    half_precision: bool
    multiple_of: Side
    minimum_px: Side
    tiling_advice: str
    output_kind: OutputKind


@dataclass(frozen=True)
class LoadedModel:
    """Source model, loaded: core graph, reference and declared properties.

    Parameters
    ----------
    kind : SourceKind
    core : onnx.ModelProto
        The network alone.
    network : callable
        The author's model, on arrays.
    channels : int
    architecture : str
    arguments : dict
    core_residual, network_residual : bool
        Whether the core, and the author's model, return what is to be added to the image.
    eager : bool
        The author's model runs in PyTorch.
    range_stated : bool
        The network itself, and not the row of its architecture, declares its value range.
    declared : Declared
    output_kind : OutputKind
        Networks of masks need not declare it.
    pair_px : int or None
        Side of the tiles of a shift estimator.
    row : Architecture or None
        The registry's row.
    """

    kind: SourceKind
    core: ModelProto
    network: NetworkFunction
    channels: int
    architecture: str
    arguments: dict[str, Any] = field(default_factory=dict)
    core_residual: bool = False
    network_residual: bool = False
    eager: bool = True
    range_stated: bool = False
    declared: Declared = field(default_factory=Declared)
    output_kind: OutputKind = OutputKind.IMAGE
    pair_px: int | None = None
    row: Architecture | None = None


def load_model(
    path: Path,
    architecture: str | None,
    arguments: Mapping[str, Any],
    residual: bool | None,
    color: str | None,
    network_output: int | None = None,
    choose: Callable[[Network], Network] | None = None,
) -> LoadedModel:
    """Read a source of any kind and export its core. Code that it brings runs in this process.

    Parameters
    ----------
    path : Path
    architecture : str or None
    arguments : mapping
    residual : bool or None
        The model returns what is to be added to the image. None takes the network's.
    color : str or None
        ``gray`` means one channel where the weights leave it open.
    network_output : int or None
        Which of several outputs is the restored image, from 0; None where there is one.
    choose : callable or None
        Takes a network of weights and returns the one to export.

    Raises
    ------
    CheckpointError, ConversionError, ArgumentError
    """
    kind = recognise(path)
    if kind in _WEIGHTS_ALONE:
        state = load_folder(path) if kind is SourceKind.FOLDER else load_state(path, kind)
        network = build_network(state, path, architecture, arguments)
        network = choose(network) if choose is not None else network
        if network.output_kind is OutputKind.SHIFT and network.pair_px is not None:
            return _from_estimator(network, kind, network.pair_px)
        return _from_network(network, kind, residual, color, network_output)
    if architecture is not None or arguments:
        raise ArgumentError(f"--arch: {path} is {kind}, which brings its own network")
    declared = Declared()
    if kind is SourceKind.ONNX:
        core = with_one_output(read_onnx(path), network_output, path)
        channels, run = image_channels(core, path), ort_network(core)
    else:
        if kind is SourceKind.EXPORTED:
            core, module, declared["minimum_px"] = export_program(path)
            channels = image_channels(with_one_output(core, network_output, path), path)
        else:
            tried = (1,) if color == "gray" else _TRIED_CHANNELS
            channels, core, module = export_script(path, tried, network_output)
        run = torch_network(module if network_output is None else _Chosen(module, network_output))
    eager = kind is not SourceKind.ONNX
    own = bool(residual)
    name = str(kind) if eager else "onnx"
    return LoadedModel(
        kind, core, run, channels, name, {}, own, own, eager=eager, declared=declared
    )


def _from_network(
    network: Network,
    kind: SourceKind,
    residual: bool | None,
    color: str | None,
    network_output: int | None,
) -> LoadedModel:
    module = declaring = network.module
    channels, made = _run_once(module, network.architecture, color, network.channels)
    if not isinstance(made, Tensor):
        outputs = _listed(made)
        shapes = [tuple(one.shape) if isinstance(one, Tensor) else type(one) for one in outputs]
        chosen = checked_output(network_output, shapes, network.architecture)
        module = module if chosen is None else _Chosen(module, chosen)
    elif network_output:
        raise ArgumentError(f"--network-output {network_output}: the network has one output, 0")
    has_residual = callable(getattr(module, "residual", None))
    # Where the network can name its own residual, that is what is exported unless refused.
    exported = has_residual and residual is not False
    own_residual = bool(residual) and not has_residual
    declared = _declared(network, declaring)
    return LoadedModel(
        kind,
        export_module(module, channels, residual=exported, sides=_traced_sides(declared)),
        torch_network(module),
        channels,
        network.architecture,
        network.arguments,
        exported or own_residual,
        own_residual,
        range_stated=isinstance(getattr(declaring, "value_range", None), (int, float)),
        declared=declared,
        output_kind=network.output_kind,
        row=network.row,
    )


def _from_estimator(network: Network, kind: SourceKind, side: int) -> LoadedModel:
    """Load a shift estimator, which takes pairs of grey tiles of one size."""
    return LoadedModel(
        kind,
        export_fixed(network.module, (1, 2, side, side), "image", "shift"),
        torch_network(network.module),
        2,
        network.architecture,
        network.arguments,
        declared=_declared(network, network.module),
        output_kind=OutputKind.SHIFT,
        pair_px=side,
    )


def _declared(network: Network, module: nn.Module) -> Declared:
    # A network whose weights show what they are for knows better than its row.
    found = {
        name: value
        for described in (network.row, module)
        for name in Declared.__annotations__
        if isinstance(value := getattr(described, name, None), (str, int, float))
    } | {"half_precision": network.half_precision}
    try:
        return msgspec.convert(found, Declared, strict=False)
    except msgspec.ValidationError as error:
        raise ConversionError(f"{network.architecture}: declares what is none: {error}") from error


def _traced_sides(declared: Declared) -> tuple[int, int]:
    """Return the usual sides, raised to what the network declares that it takes."""
    multiple, least = declared.get("multiple_of", 1), declared.get("minimum_px", 1)
    height, width = (round_up(max(side, least), multiple) for side in PROBE_PX)
    return height, width + (multiple if width == height else 0)


class _Chosen(nn.Module):
    """A network of several outputs, seen through one of them."""

    def __init__(self, network: nn.Module, number: int) -> None:
        super().__init__()
        self.network, self.number = network, number

    def forward(self, image: Tensor) -> Tensor:
        outputs = _listed(self.network(image))
        chosen: Tensor = outputs[self.number if len(outputs) > 1 else 0]
        return chosen


def _listed(made: Any) -> list[Any]:
    """Return the outputs of a network as a list, lists in it laid flat."""
    if isinstance(made, Mapping):
        made = list(made.values())
    if not isinstance(made, (list, tuple)):
        return [made]
    return [one for part in made for one in _listed(part)]


def _run_once(
    module: nn.Module, name: str, color: str | None, known: int | None
) -> tuple[int, Any]:
    """Run a network; return how many channels it takes, and what it makes."""
    failure: Exception | None = None
    tried = (known,) if known else (1,) if color == "gray" else _TRIED_CHANNELS
    for channels in tried:
        try:
            with torch.inference_mode():
                made = module(torch.zeros(1, channels, _PROBE_PX, _PROBE_PX))
        except Exception as error:
            failure = failure or error
        else:
            return channels, made
    assert failure is not None  # noqa: S101 - some number of channels is always tried
    raise ConversionError(
        f"{name}: does not run on an image [1, {tried[0]}, {_PROBE_PX}, {_PROBE_PX}]"
        f"{', nor a grey one' if len(tried) > 1 else ''}: {first_line(failure)}"
    )
