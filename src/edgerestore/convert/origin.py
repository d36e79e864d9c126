"""Where a conversion starts: any kind of source, brought to a core graph and its reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from onnx import ModelProto
from torch import nn

from ..errors import ArgumentError, ConversionError
from .checkpoints import SourceKind, load_folder, load_state, recognise
from .export import export_module, export_program, export_script, image_channels, read_onnx
from .network import build_network
from .reference import NetworkFunction, ort_network, torch_network

__all__ = ["Origin", "open_source"]

_TRIED_CHANNELS = (3, 1)
_PROBE_PX = 96
_DECLARED = ("task", "black", "value_range", "color", "window_px", "whole", "halves")


@dataclass(frozen=True)
class Origin:
    """A source that was opened.

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
    declared : dict
        What the network says of itself: ``task``, ``black``, ``value_range``, ``color``,
        ``window_px``, ``whole``.
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
    declared: dict[str, Any] = field(default_factory=dict)


def open_source(
    path: Path,
    architecture: str | None,
    arguments: Mapping[str, Any],
    residual: bool | None,
    color: str | None,
) -> Origin:
    """Read a source of any kind and export its core.

    Parameters
    ----------
    path : Path
    architecture : str or None
    arguments : mapping
    residual : bool or None
        The model returns what is to be added to the image. None asks the network.
    color : str or None
        ``gray`` says one channel where the weights leave it open.

    Raises
    ------
    CheckpointError, ConversionError, ArgumentError
    """
    kind = recognise(path)
    if kind in (SourceKind.STATE_DICT, SourceKind.SAFETENSORS, SourceKind.FOLDER):
        return _from_state(path, kind, architecture, arguments, residual, color)
    if architecture is not None or arguments:
        raise ArgumentError(f"--arch: {path} is {kind}, which brings its own network")
    told = bool(residual)
    if kind is SourceKind.ONNX:
        core = read_onnx(path)
        channels = image_channels(core, path)
        return Origin(kind, core, ort_network(core), channels, "onnx", {}, told, told, eager=False)
    if kind is SourceKind.EXPORTED:
        core, module = export_program(path)
        channels = image_channels(core, path)
        return Origin(
            kind, core, torch_network(module), channels, "exported program", {}, told, told
        )
    channels, core, module = _script(path, color)
    return Origin(kind, core, torch_network(module), channels, "TorchScript", {}, told, told)


def _script(path: Path, color: str | None) -> tuple[int, ModelProto, nn.Module]:
    tried = (1,) if color == "gray" else _TRIED_CHANNELS
    for channels in tried[:-1]:
        try:
            return channels, *export_script(path, channels)
        except ConversionError:
            continue  # most likely the other number of channels; the last one's error is told
    return tried[-1], *export_script(path, tried[-1])


def _from_state(
    path: Path,
    kind: SourceKind,
    architecture: str | None,
    arguments: Mapping[str, Any],
    residual: bool | None,
    color: str | None,
) -> Origin:
    state = load_folder(path) if kind is SourceKind.FOLDER else load_state(path, kind)
    network = build_network(state, path, architecture, arguments)
    module = network.module
    channels = _channels(module, network.architecture, color)
    has_residual = callable(getattr(module, "residual", None))
    # Where the network can name its own residual, that is what is exported unless refused.
    exported = has_residual and residual is not False
    own_residual = bool(residual) and not has_residual
    told = network.row or module
    declared = {
        name: getattr(told, name)
        for name in _DECLARED
        if isinstance(getattr(told, name, None), (str, int, float))
    }
    return Origin(
        kind,
        export_module(module, channels, residual=exported),
        torch_network(module),
        channels,
        network.architecture,
        network.arguments,
        exported or own_residual,
        own_residual,
        declared=declared,
    )


def _channels(module: nn.Module, name: str, color: str | None) -> int:
    """Find how many channels a network takes by running it."""
    failure: Exception | None = None
    for channels in (1,) if color == "gray" else _TRIED_CHANNELS:
        try:
            with torch.inference_mode():
                module(torch.zeros(1, channels, _PROBE_PX, _PROBE_PX))
        except Exception as error:
            failure = failure or error
        else:
            return channels
    said = str(failure).splitlines()[0][:240] if str(failure) else type(failure).__name__
    raise ConversionError(
        f"{name}: does not run on an image [1, 3, {_PROBE_PX}, {_PROBE_PX}], nor a grey one: {said}"
    )
