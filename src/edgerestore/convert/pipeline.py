"""Conversion of a trained model to a verified bundle."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec.structs
import onnx

from ..bundle.bundle import GRAPHS, Bundle, new_bundle_folder, stored_graphs, write_manifest
from ..bundle.kinds import OutputKind
from ..errors import ArgumentError
from ..reports.pages import require_page_libraries
from .checkpoint.confined_model import brings_code, confined_model
from .checkpoint.loaded_model import LoadedModel, load_model
from .disk import told_when_full
from .graph.cost import count_gmac, count_parameters
from .graph.ir import write_ir
from .graph.metadata import facts_for_graphs, write_onnx_facts
from .judgement import fitting_variant
from .kinds.images import plan_images
from .kinds.shift import plan_shift
from .plan import Levels, check_levels
from .records import FP16, FP32, ConversionPlan, Report, Request, stored_variants
from .report import text_table, write_report

__all__ = ["PLANNERS", "ConversionResult", "convert"]

Planner = Callable[[Request, LoadedModel, Report], ConversionPlan]

PLANNERS: dict[OutputKind, Planner] = {
    OutputKind.IMAGE: plan_images,
    OutputKind.MASK: plan_images,
    OutputKind.SHIFT: plan_shift,
}
"""Planner of a network, by the kind of output that it declares."""


@dataclass(frozen=True)
class ConversionResult:
    """Bundle that a conversion wrote, and its measurements as text.

    Parameters
    ----------
    bundle : Bundle
    table : str
        What was measured, as plain text for a terminal.
    """

    bundle: Bundle
    table: str


def _with_elapsed(report: Report) -> Report:
    """Return a report that says how long a conversion has run, once that is a second."""
    begun = monotonic()

    def timed(line: str) -> None:
        seconds = int(monotonic() - begun)
        report(f"{line} [{seconds} s]" if seconds else line)

    return timed


def _silent(line: str) -> None:
    """Discard a line of progress."""


def convert(
    source: Path,
    target: Path,
    *,
    architecture: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    task: str | None = None,
    value_range: Levels | None = None,
    color: str | None = None,
    residual: bool | None = None,
    network_output: int | None = None,
    multiple_of: int | None = None,
    window_px: int | None = None,
    name: str | None = None,
    summary: str = "",
    licence: str = "unspecified",
    family: str | None = None,
    suited_for: str = "",
    samples: Path | None = None,
    quick: bool = False,
    overwrite: bool = False,
    force: bool = False,
    trust: bool = False,
    report: Report = _silent,
) -> ConversionResult:
    """Convert a trained model and prove that the result is the same model.

    Parameters
    ----------
    source : Path
        State dict (``.pth .pt .ckpt .safetensors``), TorchScript, ``.pt2`` or ``.onnx``;
        recognised by content. Pickles that need code are refused.
    target : Path
        The bundle's folder; written only if everything succeeds.
    architecture : str or None
        A known network's name, ``FILE.py:FACTORY`` or ``pkg.mod:FACTORY``; None detects it.
    arguments : mapping or None
        Constructor arguments; they replace what is read off the weights.
    task : str or None
        What the model is for; None takes the network's.
    value_range : float, (float, float) or None
        What white is to the network, 1 or 255, or what black and white are, (-1, 1); None
        takes the network's, else 1.
    color : str or None
        ``rgb``, ``bgr`` or ``gray``; None takes the network's, else RGB.
    residual : bool or None
        The model returns what is to be added to the image. None takes the network's.
    network_output : int or None
        Which of several outputs is the restored image, from 0; None where there is one.
    multiple_of : int or None
        Frames are continued by their edge to multiples of this, also where the network takes
        other sides. None takes the network's.
    window_px : int or None
        Side of a window, for networks whose tiles are not exact: frames that are no larger are
        not cut. None takes the network's, else 384.
    name, summary, licence : str
        For the manifest; the name is taken from ``target`` where none is given.
    family : str or None
        Family of models that may run in place of each other, for the manifest.
    suited_for : str
        Degradations that the model is trained for, in one phrase, for the manifest.
    samples : Path or None
        Photographs to check on, a folder or a file; None draws some.
    quick : bool
        Prove parity and tiles, and leave out what proves nothing: distances of 16-bit floats,
        times, pictures of the report.
    overwrite : bool
        Replace a bundle at ``target``.
    force : bool
        Write a network that restores pictures far worse than it is given them.
    trust : bool
        Run code that comes with the model in this process; else in one that is confined, and
        nothing is converted where that is not possible.
    report : callable
        Takes one line of progress per stage.

    Returns
    -------
    ConversionResult

    Raises
    ------
    CheckpointError
        The source cannot be read, or fits no network.
    ArgumentError
        An argument is out of range or contradicts the network.
    ConversionError
        The network does not carry over to ONNX or OpenVINO.
    VerificationError
        The converted model is not the source model, or it restores pictures far worse than it
        is given them. No bundle is left.
    BundleError
        ``target`` exists or cannot be written, or its disk is full.
    MissingExtraError
        The libraries of the report's page are not installed.
    """
    require_page_libraries()
    source, target = Path(source), Path(target)
    check_levels(value_range, color)
    for option, px in (("--multiple-of", multiple_of), ("--window-px", window_px)):
        if px is not None and px < 1:
            raise ArgumentError(f"{option} {px}: expected a number of pixels from 1")
    request = Request(
        source,
        _bundle_name(name, target),
        summary,
        licence,
        task,
        architecture,
        arguments or {},
        value_range,
        color,
        residual,
        samples,
        family if family is None else _checked("family", family),
        suited_for,
        network_output,
        multiple_of,
        window_px,
        quick,
        force,
    )
    report = _with_elapsed(report)
    report(f"reading {source.name} and exporting its network; then halo and grid")
    with (
        told_when_full(target),
        new_bundle_folder(target, overwrite=overwrite) as folder,
        _loaded(request, trust, report) as loaded,
    ):
        report(f"read {source.name}: {loaded.kind}, {loaded.architecture}")
        table = _write(folder, PLANNERS[loaded.output_kind](request, loaded, report), report)
    report(f"bundle {target}")
    return ConversionResult(Bundle.find(target), table)


@contextmanager
def _loaded(request: Request, trust: bool, report: Report) -> Iterator[LoadedModel]:
    asked = (
        request.source,
        request.architecture,
        request.arguments,
        request.residual,
        request.color,
        request.network_output,
    )
    if trust or not brings_code(request.source, request.architecture):
        choose = partial(fitting_variant, request=request, report=report)
        yield load_model(*asked, choose=choose)
        return
    report("the model brings code, which runs in a process that can write nothing")
    with confined_model(*asked) as loaded:
        yield loaded


def _write(folder: Path, plan: ConversionPlan, report: Report) -> str:
    """Fill a bundle's folder; return what was measured as plain text."""
    report(f"graph: {plan.tiles}")
    facts = facts_for_graphs(plan.manifest)
    write_onnx_facts(plan.graph, facts)
    onnx.save(plan.graph, folder / FP32)
    if plan.half_precision:
        write_ir(folder / FP32, folder / FP16, facts)
    report(f"wrote {' and '.join(GRAPHS[name] for name in stored_graphs(folder))}")
    found = plan.measure(folder, report)
    manifest = msgspec.structs.replace(
        plan.manifest,
        variants=stored_variants(folder, found),
        parameters=count_parameters(plan.graph),
        gmac_720p=count_gmac(plan.manifest, folder / FP32),
    )
    found = replace(found, manifest=manifest)
    write_report(folder, found)
    write_manifest(folder, manifest)
    return text_table(found)


def _bundle_name(name: str | None, target: Path) -> str:
    if name is not None:
        return _checked("name", name)
    cleaned = re.sub(r"[^A-Za-z0-9._-]+", "-", target.resolve().name).lstrip("._-")
    return cleaned or "model"


def _checked(what: str, name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ArgumentError(f"{what} {name!r}: use letters, digits, dots, dashes and underscores")
    return name
