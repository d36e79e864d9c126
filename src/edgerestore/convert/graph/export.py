"""Export of networks to their core graph: plain ONNX with dynamic height and width."""

from __future__ import annotations

import io
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, cast
from zipfile import BadZipFile, ZipFile

import onnx
import torch
from onnx import ModelProto
from torch import Tensor, nn

from ...errors import CheckpointError, ConversionError, first_line
from .onnx_graphs import (
    OPSET,
    checked_output,
    root_cause,
    root_error,
    shape_text,
    tidied,
    with_one_output,
)

__all__ = [
    "PROBE_PX",
    "export_fixed",
    "export_module",
    "export_program",
    "export_script",
    "quiet",
]

_logger = logging.getLogger(__name__)

PROBE_PX = (96, 192)
"""Height and width that networks are traced at: multiples of every common stride, and unlike."""


class _Residual(nn.Module):
    """A network seen through its ``residual``."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        correction: Tensor = self.network.residual(image)  # type: ignore[operator]
        return correction


def export_module(
    network: nn.Module, channels: int, *, residual: bool, sides: tuple[int, int] = PROBE_PX
) -> ModelProto:
    """Export a network, or the residual it predicts.

    Parameters
    ----------
    network : torch.nn.Module
        ``forward``, or ``residual`` where that is asked for, takes f32 ``[1, channels, H, W]``.
    channels : int
    residual : bool
        Export ``network.residual`` in place of ``forward``.
    sides : (int, int)
        Height and width to trace at, different ones that the network takes.

    Returns
    -------
    onnx.ModelProto
        One input, one output, height and width dynamic.

    Raises
    ------
    ConversionError
        When PyTorch cannot trace the network or has no ONNX for one of its operations.
    """
    module = (_Residual(network) if residual else network).eval()
    free = ({2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC},)
    return _export(module, (torch.rand(1, channels, *sides),), dynamic_shapes=free)


def export_fixed(
    network: nn.Module, shape: tuple[int, ...], entry: str, leaving: str
) -> ModelProto:
    """Export a network that takes one shape and no other.

    Parameters
    ----------
    network : torch.nn.Module
    shape : tuple of int
        Of its f32 input.
    entry, leaving : str
        What the graph's input and output are called.

    Returns
    -------
    onnx.ModelProto
        One input, one output, all sides static.

    Raises
    ------
    ConversionError
        As `export_module`.
    """
    names: dict[str, Any] = {"input_names": [entry], "output_names": [leaving]}
    return _export(network.eval(), (torch.rand(shape),), **names)


def _export(
    network: Any, images: tuple[Tensor, ...], *, where: str = "", **options: Any
) -> ModelProto:
    def exported(form: Any, inputs: tuple[Tensor, ...], **more: Any) -> Any:
        more |= {"dynamo": True, "opset_version": OPSET, "verbose": False}
        with quiet(), torch.no_grad():
            return torch.onnx.export(form, inputs, **more)

    try:
        try:
            program = exported(network, images, **options)
        except Exception as error:
            if "aten.clamp" not in str(root_error(error)):
                raise
            free = options.pop("dynamic_shapes", None)
            if isinstance(network, nn.Module):
                with quiet(), torch.no_grad():
                    network = torch.export.export(network, images, dynamic_shapes=free)
            program = exported(_with_float_limits(network), (), **options)
    except Exception as error:
        if "expected sympy.Symbol" in str(root_error(error)):
            raise ConversionError(
                f"{where}a side is a multiple of a dimension, as in 8*Dim, which has no ONNX;"
                " export it again with torch.export.Dim.DYNAMIC for height and width"
            ) from error
        raise ConversionError(f"{where}export to ONNX: {root_cause(error)}") from error
    return tidied(program.model_proto)


def _with_float_limits(program: Any) -> Any:
    """Make floats of the limits of clamps, in place: the exporter takes no float beside an int."""
    for node in program.graph.nodes:
        if node.target is torch.ops.aten.clamp.default:
            image, *limits = node.args
            node.args = (image, *(None if one is None else float(one) for one in limits))
            node.kwargs = {k: v if v is None else float(v) for k, v in node.kwargs.items()}
    return program


def export_program(path: Path) -> tuple[ModelProto, nn.Module, int]:
    """Export a ``.pt2`` file.

    Returns
    -------
    onnx.ModelProto, torch.nn.Module, int
        The graph, the program as a module to compare it with, which takes any side, and the
        smallest side that the program was exported for.

    Raises
    ------
    CheckpointError
        When the file cannot be read.
    ConversionError
        When it was exported at a fixed size, or does not translate.
    """
    _refuse_code(path)
    try:
        with quiet(), _weights_only():
            program = torch.export.load(path)
    except Exception as error:
        raise CheckpointError(f"{path}: is damaged or too old: {root_cause(error)}") from error
    core = _export(program, (), where=f"{path}: ")
    with quiet():
        module = program.module(check_guards=False)
        # Else it refuses sides outside its bounds, which the graph has not.
        module._forward_pre_hooks.clear()
    least, most = _side_bounds(program)
    if most is not None:
        _logger.warning(
            "%s: was exported for sides up to %d px; its author checked no larger",
            path,
            most,
        )
    return core, module, least


# What a ``.pt2`` holds that is a graph, plain tensors or a note about them: of the archive that
# PyTorch writes since 2.8, in a folder of its own, and of the one before.
_HARMLESS = re.compile(
    r"([^/]+/)?("
    r"archive_format|archive_version|byteorder|version|\.data/[^/]+|extra/.*|models/[^/]+\.json"
    r"|data/(weights|constants)/((weight|tensor)_\d+|[^/]+_config\.json)"
    r"|data/sample_inputs/[^/]+\.pt"
    r"|serialized_(exported_program|state_dict|constants|example_inputs)\.(json|pt)"
    r")"
)


def _refuse_code(path: Path) -> None:
    """Refuse a ``.pt2`` that brings anything but a graph and tensors: PyTorch would run it.

    Pickles of constants (``opaque_obj_0``, ``custom_obj_0``) and compiled libraries
    (``aotinductor/``) run when the file is read, also where PyTorch reads weights alone.
    """
    try:
        with ZipFile(path) as archive:
            names = [one.filename for one in archive.infolist() if not one.is_dir()]
    except (BadZipFile, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: is damaged: {first_line(error)}") from error
    if strange := [name for name in names if not _HARMLESS.fullmatch(name)]:
        more = f" and {len(strange) - 1} more" if len(strange) > 1 else ""
        raise CheckpointError(
            f"{path}: holds {strange[0]!r}{more}, which may be code and would run; export the"
            " network alone, or convert from its safetensors with --arch"
        )


_FEWEST_PX = 2  # PyTorch's own lower bound of a free dimension; it says nothing of the network


def _side_bounds(program: Any) -> tuple[int, int | None]:
    """Return the smallest and, where there is one, the largest side of a program's image."""
    name, *_ = program.graph_signature.user_inputs
    image = next(node for node in program.graph.nodes if node.name == name).meta["val"]
    sides = [side for side in getattr(image, "shape", ())[2:] if not isinstance(side, int)]
    known = (program.range_constraints.get(side.node.expr) for side in sides)
    bounds = [bound for bound in known if bound is not None]
    least = max((int(bound.lower) for bound in bounds), default=1)
    most = [int(bound.upper) for bound in bounds if bound.upper.is_Integer]
    return least if least > _FEWEST_PX else 1, min(most, default=None)


class _Entry(nn.Module):
    """A scripted network that returns a dictionary, seen through one entry."""

    def __init__(self, network: nn.Module, key: str) -> None:
        super().__init__()
        self.network, self.key = network, key

    def forward(self, image: Tensor) -> Tensor:
        return self.network(image)[self.key]  # type: ignore[no-any-return]


def export_script(
    path: Path, tried: Sequence[int], number: int | None = None
) -> tuple[int, ModelProto, nn.Module]:
    """Export a TorchScript file, traced or scripted.

    Parameters
    ----------
    path : Path
    tried : sequence of int
        Numbers of channels; the first that the network runs on is taken.
    number : int or None

    Returns
    -------
    int, onnx.ModelProto, torch.nn.Module
        The channels, the graph of one output, and the loaded module to compare it with.

    Raises
    ------
    CheckpointError
        When the file cannot be read.
    ArgumentError, ConversionError
        When there is no such output, or it does not translate.
    """
    try:
        with quiet():
            load = cast("Callable[..., nn.Module]", torch.jit.load)
            module = load(str(path), map_location="cpu").float().eval()
    except (RuntimeError, ValueError, OSError) as error:
        raise CheckpointError(f"{path}: is damaged: {root_cause(error)}") from error
    image, made = _run_script(path, module, tried)
    # A dictionary has no ONNX.
    entries = list(made) if isinstance(made, Mapping) else []
    shapes = [f"{key} {shape_text(tuple(made[key].shape))}" for key in entries]
    chosen = checked_output(number, shapes, path) if entries else None
    written = io.BytesIO()
    try:
        # Only the older exporter reads TorchScript; the newer one traces Python.
        with quiet(), torch.no_grad():
            if entries:
                entry = _Entry(module, entries[chosen or 0]).eval()
                module = torch.jit.freeze(torch.jit.script(entry))
                torch._C._jit_pass_peephole(module.graph)  # takes the dictionary out
            torch.onnx.export(
                module,
                (image,),
                cast("Any", written),  # the older exporter takes a stream too
                dynamo=False,
                opset_version=OPSET,
                input_names=["image"],
                output_names=["restored"],
                dynamic_axes={"image": {2: "height", 3: "width"}},
            )
        core = tidied(onnx.load_model_from_string(written.getvalue()))
    except Exception as error:
        raise ConversionError(
            f"{path}: TorchScript to ONNX: {root_cause(error)}; convert from the state dict"
            " with --arch FILE.py:FACTORY, or from a .pt2 made by torch.export"
        ) from error
    return image.shape[1], core if entries else with_one_output(core, number, path), module


def _run_script(path: Path, module: nn.Module, tried: Sequence[int]) -> tuple[Tensor, Any]:
    """Return an image that a network runs on, and what it makes of it."""
    failure: Exception | None = None
    for image in (torch.rand(1, channels, *PROBE_PX) for channels in tried):
        try:
            with quiet(), torch.no_grad():
                return image, module(image)
        except Exception as error:  # most likely the other number of channels
            failure = failure or error
    taken = " or ".join(map(str, tried))
    raise ConversionError(
        f"{path}: does not run on an image of {taken} channels: {failure and first_line(failure)}"
    ) from failure


@contextmanager
def _weights_only() -> Iterator[None]:
    """Forbid pickled code: PyTorch reads some parts of a ``.pt2`` with its unsafe reader."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress the exporter's output: progress, log and warnings."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    sink = io.StringIO()
    try:
        with warnings.catch_warnings(), redirect_stdout(sink), redirect_stderr(sink):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
