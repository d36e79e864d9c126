"""INT8 for a bundle: searched under a quality budget, timed, and written only if it pays."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import openvino

from ..bundle.bundle import Bundle, new_bundle_folder, write_manifest
from ..bundle.manifest import Manifest
from ..bundle.precision import Precision
from ..calibration.benchmark import time_variants, timing_size
from ..calibration.candidates import Built, CandidateBuilder
from ..calibration.dataset import CalibrationData, load_calibration
from ..calibration.operations import float_graph, operations_of
from ..calibration.report import text_table, write_report
from ..calibration.results import QuantizationFindings, RunFacts, WorstCrop
from ..calibration.search import SearchResult, search
from ..errors import QuantizationError
from ..imaging.arrays import round_up
from ..imaging.degradations import Degradation
from ..reports.pages import require_page_libraries
from ..runtimes.cache import cache_folder
from ..runtimes.machine import cpu_facts, tool_versions
from ..runtimes.openvino.graph import cpu_floats, read_graph
from .int8_variant import write_variant
from .quantization_options import QuantizationOptions

__all__ = ["QuantizationOptions", "QuantizationResult", "quantize"]

_CROP_PX = {False: 256, True: 96}  # by whether the model enlarges


@dataclass(frozen=True)
class QuantizationResult:
    """What came of it.

    Parameters
    ----------
    bundle : Bundle
        With INT8, or as it was.
    findings : QuantizationFindings
    table : str
        The same as plain text for a terminal.
    """

    bundle: Bundle
    findings: QuantizationFindings
    table: str


def quantize(
    folder: Path, options: QuantizationOptions, report: Callable[[str], None]
) -> QuantizationResult:
    """Add INT8 to a bundle where it keeps the quality budget and is faster on this machine.

    Parameters
    ----------
    folder : Path
        A bundle; replaced as a whole when everything succeeded. A refusal changes its
        report alone.
    options : QuantizationOptions
    report : callable
        Takes one line of progress.

    Raises
    ------
    ArgumentError
        On options out of range, or pictures that cannot be used.
    QuantizationError
        When nothing in the model can be quantized, or it is quantized already.
    BundleError
        When the bundle cannot be read or written.
    """
    require_page_libraries()
    bundle = Bundle.find(folder)
    manifest = bundle.manifest
    if manifest.refusal:
        raise QuantizationError(f"{folder}: {manifest.refusal}, by which INT8 is judged")
    if "int8" in manifest.variants and not options.overwrite:
        raise QuantizationError(f"{folder}: has INT8 already, add --overwrite to do it again")
    floats: dict[str, Path] = {
        name: bundle.variant_files(name)[0]
        for name in ("fp32", "fp16")
        if name in manifest.variants
    }
    # A network that must not run in halves must not do so between quantized layers either.
    rest = cpu_floats()[-1] if "fp16" in floats else Precision.FP32
    source = read_graph(floats["fp32"])
    _refuse_quantized(source, folder)
    model = float_graph(source)
    data = _load_data(manifest, options, report)
    multiple = manifest.input.multiple_of
    size = timing_size(partial(operations_of, model), multiple)
    work = cache_folder("quantization") / _work_name(bundle, data)
    if work.is_dir():
        report("going on with what an earlier run measured")
    tuning = (options.qat_minutes, options.qat_steps, options.seed)
    builder = CandidateBuilder(model, data, size, work, rest=rest, tuning=tuning)
    tuner = _tuner(options, data, report) if options.qat else None
    found = search(
        builder, options.max_drop_db, minutes=options.minutes, tuner=tuner, report=report
    )
    times = time_variants(floats, found.candidates, size, rest)
    report(f"timed at {size[1]}x{size[0]}")
    findings, taken = _conclude(bundle, builder, found, times, size, options)
    with new_bundle_folder(bundle.folder, overwrite=True) as fresh:
        shutil.copytree(bundle.folder, fresh, dirs_exist_ok=True)
        if findings.written:
            manifest = write_variant(fresh, manifest, taken, findings)
        write_report(fresh, findings)
        write_manifest(fresh, manifest)
    if found.complete:
        shutil.rmtree(work, ignore_errors=True)
    report(findings.verdict)
    return QuantizationResult(Bundle.find(bundle.folder), findings, text_table(findings))


def _load_data(
    manifest: Manifest, options: QuantizationOptions, report: Callable[[str], None]
) -> CalibrationData:
    """Read the crops that a model is calibrated and judged on."""
    upscale = manifest.output.upscale
    if options.degradation is None:
        degradation = Degradation.for_task(manifest.task, upscale)
    else:
        degradation = Degradation.parse(options.degradation, upscale=upscale)
    multiple = manifest.input.multiple_of
    side = max(_CROP_PX[upscale > 1], manifest.input.minimum_px)
    data = load_calibration(
        [Path(path) for path in options.calibrate],
        channels=manifest.input.channels,
        upscale=upscale,
        degradation=degradation,
        crop_px=round_up(side, multiple),
        count=options.crops,
        held_out=max(4, options.crops // 2),
        seed=options.seed,
        targets=options.targets,
    )
    facts = data.facts
    skipped = f", {len(facts.skipped)} files skipped" if facts.skipped else ""
    report(f"{facts.calibration} crops to calibrate on, {facts.held_out} held out{skipped}")
    return data


def _refuse_quantized(model: openvino.Model, folder: Path) -> None:
    for node in model.get_ordered_ops():
        if node.get_type_name() == "FakeQuantize":
            name = node.get_friendly_name()
            raise QuantizationError(f"{folder}: the source model is quantized already ({name})")


def _work_name(bundle: Bundle, data: CalibrationData) -> str:
    tools = {name: tool_versions().get(name) for name in ("edgerestore", "openvino", "nncf")}
    rest = cpu_floats()[-1] if "fp16" in bundle.manifest.variants else Precision.FP32
    parts = [bundle.digest("fp32"), data.facts.digest, rest, tools]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _tuner(
    options: QuantizationOptions, data: CalibrationData, report: Callable[[str], None]
) -> Callable[[openvino.Model, openvino.Model, Path], openvino.Model]:
    # PyTorch is imported only where it is used.
    from ..calibration.qat.fine_tune import fine_tune

    def tune(quantized: openvino.Model, model: openvino.Model, checkpoint: Path) -> openvino.Model:
        return fine_tune(
            quantized,
            model,
            [crop.image for crop in data.calibration],
            minutes=options.qat_minutes,
            steps=options.qat_steps,
            seed=options.seed,
            checkpoint=checkpoint,
            report=report,
        )

    return tune


def _conclude(
    bundle: Bundle,
    builder: CandidateBuilder,
    found: SearchResult,
    times: dict[str, float],
    size: tuple[int, int],
    options: QuantizationOptions,
) -> tuple[QuantizationFindings, Built]:
    """Decide what is written, and put together what was found."""
    able = [built for built in found.candidates if built.candidate.macs_share > 0]
    if not able:
        kinds = ", ".join(sorted({operation.kind for operation in builder.operations})) or "none"
        raise QuantizationError(f"{bundle.folder}: NNCF quantizes none of its operations ({kinds})")
    taken = found.chosen or min(able, key=lambda built: built.candidate.quality.loss_db)
    hints = {precision.hint for precision in Precision}
    floats = {name: ms for name, ms in times.items() if name in hints}
    rival = min(floats, key=floats.__getitem__)
    pays, verdict = _verdict(found, taken, times, rival, options)
    cpu = cpu_facts()
    candidates = tuple(
        replace(built.candidate, ms=times[built.candidate.label]) for built in found.candidates
    )
    findings = QuantizationFindings(
        budget_db=options.max_drop_db,
        verdict=verdict,
        written=pays or options.force,
        chosen=taken.candidate.label,
        candidates=candidates,
        sensitivities=found.noise.ranking(builder.operations),
        runs=tuple(_runs(bundle, builder, taken, times)),
        timing_shape=f"{size[1]}x{size[0]}",
        cpu=cpu.name,
        isa=cpu.isa,
        cores=cpu.cores,
        seed=options.seed,
        data=builder.data.facts,
        worst=_worst_crop(builder, taken),
        options={
            "minutes": options.minutes,
            "qat": options.qat,
            "forced": options.force and not pays,
            "complete": found.complete,
        },
    )
    return findings, taken


def _verdict(
    found: SearchResult,
    taken: Built,
    times: dict[str, float],
    rival: str,
    options: QuantizationOptions,
) -> tuple[bool, str]:
    candidate = taken.candidate
    loss, ms = candidate.quality.loss_db, times[candidate.label]
    gain = times[rival] / ms
    told = f"{candidate.label} loses {loss:.3f} dB and runs at {gain:.2f} times {rival}"
    done = "written because it was forced" if options.force else "refused"
    if found.chosen is None:
        return False, (
            f"INT8 {done}, over the budget of {options.max_drop_db:g} dB: of"
            f" {len(found.candidates)} candidates the best, {told}"
        )
    if ms >= times[rival]:
        return False, f"INT8 {done}, it does not pay: {told}"
    return True, f"INT8 written: {told}, within {options.max_drop_db:g} dB"


def _runs(
    bundle: Bundle, builder: CandidateBuilder, taken: Built, times: dict[str, float]
) -> list[RunFacts]:
    def stored(variant: str) -> int:
        files = bundle.manifest.variants[variant].files
        return next((f.bytes for n, f in files.items() if n.endswith((".bin", ".onnx"))), 0)

    quality = builder.held_out.float_quality
    runs = [RunFacts("f32", stored("fp32"), times["f32"], quality)]
    half = Precision.BF16
    if half.hint in times:
        lost = builder.judge(read_graph(bundle.variant_files(half.stored)[0]), half)
        runs.append(RunFacts(half.hint, stored(half.stored), times[half.hint], lost))
    candidate = taken.candidate
    runs.append(RunFacts("int8", candidate.bytes, times[candidate.label], candidate.quality))
    return runs


def _worst_crop(builder: CandidateBuilder, taken: Built) -> WorstCrop:
    at = taken.candidate.quality.worst_crop
    crop = builder.held_out.crops[at]
    made = builder.graph(taken)(crop.image)
    return WorstCrop(crop.origin, crop.image, builder.held_out.output(at), made, crop.truth)
