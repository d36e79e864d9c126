"""INT8 for one bundle: crops, search under a quality budget, timing on this machine, verdict."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import openvino

from ..bundle.bundle import Bundle
from ..bundle.manifest import Manifest
from ..bundle.precision import Precision
from ..errors import ArgumentError, QuantizationError, VerificationError
from ..imaging.arrays import round_up
from ..imaging.degradations import Degradation
from ..runtimes.cache import cache_folder
from ..runtimes.machine import cpu_info, tool_versions
from ..runtimes.openvino.graph import cpu_floats, float_graph, read_graph
from .benchmark import time_variants, timing_size
from .candidates import Built, CandidateBuilder
from .dataset import CalibrationData, load_calibration
from .kinds import ALL, InputKind, chosen_kinds, input_kinds
from .operations import operations_of
from .pictures import find_files
from .results import KindResult, PrecisionResult, QuantizationResults, WorstCrop
from .search import SearchResult, Tuner, search

__all__ = ["Quantization", "QuantizationOptions", "find_int8"]

_CROP_PX = {False: 256, True: 96}  # by whether the model enlarges
_SAME_DB = 0.01  # what another number of threads may change, and no damage worth the name does


@dataclass(frozen=True)
class QuantizationOptions:
    """Options of quantization, checked before minutes of work.

    Parameters
    ----------
    calibrate : sequence of Path
        Pictures, videos or folders of them.
    targets : Path or None
        Folder of ground truth with the pictures' names; then ``calibrate`` holds the
        degraded ones.
    degradation : str or None
        Degradation of clean pictures: ``blur``, ``noise:25``, ``downscale`` or ``none``;
        None takes it from the model's task.
    kinds : sequence of str
        Kinds of input to calibrate on, and that the budget must hold for: ``all``, ``task`` for
        the task's own, or names. The others are measured all the same.
    max_drop_db : float
        Largest mean loss of PSNR on held-out crops of the kind that loses most, above 0.
    crops : int
        Places to calibrate on.
    minutes : float
        After which no further candidate is built.
    qat : bool
        Also fine-tune a candidate with quantizers in place, the float model as teacher.
    qat_minutes : float
    qat_steps : int or None
        A fixed number of steps, for reproducible results.
    seed : int
    force : bool
        Write INT8 even over budget or slower.
    overwrite : bool
        Replace an INT8 variant.
    """

    calibrate: Sequence[Path]
    targets: Path | None = None
    degradation: str | None = None
    kinds: Sequence[str] = (ALL,)
    max_drop_db: float = 0.1
    crops: int = 24
    minutes: float = 30.0
    qat: bool = False
    qat_minutes: float = 60.0
    qat_steps: int | None = None
    seed: int = 0
    force: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        if not self.calibrate:
            raise ArgumentError("INT8 needs pictures to calibrate on: add --calibrate PATH")
        if not self.kinds:
            raise ArgumentError("--kinds names no kind of input; use all, or task for the task's")
        for name, value in (
            ("--max-drop-db", self.max_drop_db),
            ("--minutes", self.minutes),
            ("--qat-minutes", self.qat_minutes),
        ):
            if not 0 < value < float("inf"):
                raise ArgumentError(f"{name} {value:g}: expected a number above 0")
        if self.qat_steps is not None and self.qat_steps < 1:
            raise ArgumentError(f"--qat-steps {self.qat_steps}: expected 1 or more")
        find_files(self.calibrate)


@dataclass(frozen=True)
class Quantization:
    """Outcome of a search for INT8.

    Parameters
    ----------
    results : QuantizationResults
    taken : Built
        The candidate to store, where ``results.written``.
    data : CalibrationData
    """

    results: QuantizationResults
    taken: Built
    data: CalibrationData
    _builder: CandidateBuilder
    _cache: Path

    def require_quality(self, graph: Path) -> None:
        """Measure an INT8 graph as it was written, which may be one that an earlier run built.

        Raises
        ------
        VerificationError
            When it loses more or less than the candidate did.
        """
        told = self.taken.candidate.quality.loss_db
        found = self._builder.held_out.measure(self._builder.graph(graph)).loss_db
        if not abs(found - told) <= _SAME_DB:
            raise VerificationError(
                f"{graph.name} loses {found:.3f} dB as it was written and {told:.3f} dB when it was"
                f" built: delete {self._cache} and quantize again"
            )

    def forget(self) -> None:
        """Delete the cache of measurements, unless an unfinished search can resume from it."""
        if self.results.options["complete"]:
            shutil.rmtree(self._cache, ignore_errors=True)


def find_int8(
    bundle: Bundle, options: QuantizationOptions, report: Callable[[str], None]
) -> Quantization:
    """Search the INT8 graph that keeps the quality budget, and time it on this machine.

    Parameters
    ----------
    bundle : Bundle
        Not changed.
    options : QuantizationOptions
    report : callable
        Takes one line of progress.

    Raises
    ------
    ArgumentError
        When the pictures cannot be used.
    QuantizationError
        When nothing in the model can be quantized, or it is quantized already.
    """
    manifest = bundle.manifest
    if manifest.refusal:
        raise QuantizationError(f"{bundle.folder}: {manifest.refusal}, by which INT8 is judged")
    if "int8" in manifest.variants and not options.overwrite:
        raise QuantizationError(
            f"{bundle.folder}: has INT8 already, add --overwrite to do it again"
        )
    floats: dict[str, Path] = {
        name: bundle.variant_files(name)[0]
        for name in ("fp32", "fp16")
        if name in manifest.variants
    }
    # A network that must not run in halves must not do so between quantized layers either.
    rest = cpu_floats()[-1] if "fp16" in floats else Precision.FP32
    source = read_graph(floats["fp32"])
    _refuse_quantized(source, bundle.folder)
    model = float_graph(source)
    kinds, judged, data = _load_data(manifest, options, report)
    size = timing_size(partial(operations_of, model), manifest.input.multiple_of)
    cache = cache_folder("quantization") / _cache_key(bundle, data, judged, rest)
    if cache.is_dir():
        report("going on with what an earlier run measured")
    tuning = (options.qat_minutes, options.qat_steps, options.seed)
    builder = CandidateBuilder(model, data, size, cache, judged=judged, rest=rest, tuning=tuning)
    found = search(
        builder,
        options.max_drop_db,
        minutes=options.minutes,
        tuner=_tuner(options, data, report) if options.qat else None,
        report=report,
    )
    able = [built for built in found.candidates if built.candidate.macs_share > 0]
    if not able:
        types = ", ".join(sorted({operation.kind for operation in builder.operations})) or "none"
        raise QuantizationError(f"{bundle.folder}: NNCF quantizes none of its operations ({types})")
    taken = found.chosen or min(able, key=lambda built: built.candidate.quality.loss_db)
    times = time_variants(floats, found.candidates, size, rest)
    report(f"timed at {size[1]}x{size[0]}")
    results = _results(bundle, builder, found, taken, times, size, options, kinds)
    return Quantization(results, taken, data, builder, cache)


def _load_data(
    manifest: Manifest, options: QuantizationOptions, report: Callable[[str], None]
) -> tuple[tuple[InputKind, ...], tuple[str, ...], CalibrationData]:
    """Return the kinds of input, the names of those that the budget must hold for, the crops."""
    upscale = manifest.output.upscale
    if options.degradation is None:
        degradation = Degradation.for_task(manifest.task, upscale)
    else:
        degradation = Degradation.parse(options.degradation, upscale=upscale)
    kinds = input_kinds(degradation, pairs=options.targets is not None)
    judged = chosen_kinds(kinds, options.kinds)
    side = max(_CROP_PX[upscale > 1], manifest.input.minimum_px)
    data = load_calibration(
        [Path(path) for path in options.calibrate],
        channels=manifest.input.channels,
        degradation=degradation,
        crop_px=round_up(side, manifest.input.multiple_of),
        count=options.crops,
        held_out=max(4, options.crops // 2),
        seed=options.seed,
        targets=options.targets,
        kinds=kinds,
        calibrated=judged,
    )
    if set(judged) == {kind.name for kind in kinds}:
        judged = (*judged, *(kind.name for kind in data.added))
    kinds = (*kinds, *data.added)
    info = data.info
    skipped = f", {len(info.skipped)} files skipped" if info.skipped else ""
    report(
        f"{info.calibration} crops to calibrate on, {info.held_out} held out of each of"
        f" {len(kinds)} kinds of input{skipped}"
    )
    return kinds, judged, data


def _refuse_quantized(model: openvino.Model, folder: Path) -> None:
    for node in model.get_ordered_ops():
        if node.get_type_name() == "FakeQuantize":
            name = node.get_friendly_name()
            raise QuantizationError(f"{folder}: the source model is quantized already ({name})")


def _cache_key(
    bundle: Bundle, data: CalibrationData, judged: Sequence[str], rest: Precision
) -> str:
    tools = {name: tool_versions().get(name) for name in ("edgerestore", "openvino", "nncf")}
    parts = [bundle.digest("fp32"), data.info.digest, judged, rest, tools]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _tuner(
    options: QuantizationOptions, data: CalibrationData, report: Callable[[str], None]
) -> Tuner:
    from .qat.fine_tune import fine_tune  # imports PyTorch

    return lambda quantized, model, checkpoint: fine_tune(
        quantized,
        model,
        [crop.image for crop in data.calibration],
        minutes=options.qat_minutes,
        steps=options.qat_steps,
        seed=options.seed,
        checkpoint=checkpoint,
        report=report,
    )


def _results(
    bundle: Bundle,
    builder: CandidateBuilder,
    found: SearchResult,
    taken: Built,
    times: dict[str, float],
    size: tuple[int, int],
    options: QuantizationOptions,
    kinds: Sequence[InputKind],
) -> QuantizationResults:
    rows = _kind_results(builder, taken, options.max_drop_db, kinds)
    pays, verdict = _verdict(found, taken, times, options, rows)
    cpu = cpu_info()
    worst = taken.candidate.quality.worst_crop
    crop = builder.held_out.crops[worst]
    return QuantizationResults(
        budget_db=options.max_drop_db,
        verdict=verdict,
        written=pays or options.force,
        chosen=taken.candidate.label,
        candidates=tuple(
            replace(built.candidate, ms=times[built.candidate.label]) for built in found.candidates
        ),
        sensitivities=found.noise.ranking(builder.operations),
        kinds=rows,
        runs=tuple(_runs(bundle, builder, taken, times)),
        timing_shape=f"{size[1]}x{size[0]}",
        cpu=cpu.name,
        isa=cpu.isa,
        cores=cpu.cores,
        seed=options.seed,
        data=builder.data.info,
        worst=WorstCrop(
            crop.origin,
            crop.image,
            builder.held_out.outputs[worst],
            builder.graph(taken.path)(crop.image),
            crop.truth,
        ),
        options={
            "minutes": options.minutes,
            "qat": options.qat,
            "forced": options.force and not pays,
            "complete": found.complete,
        },
    )


def _kind_results(
    builder: CandidateBuilder, taken: Built, budget_db: float, kinds: Sequence[InputKind]
) -> tuple[KindResult, ...]:
    summaries = {kind.name: kind.summary for kind in kinds}
    exact = builder.held_out.float_quality
    return tuple(
        KindResult(
            kind=made.kind,
            summary=summaries[made.kind],
            judged=made.kind in builder.judged,
            within_budget=made.loss_db <= budget_db,
            float_db=exact.of(made.kind).psnr_db,
            int8_db=made.psnr_db,
            to_float_db=made.psnr_to_float_db,
            loss_db=made.loss_db,
            worst_loss_db=made.worst_loss_db,
            worst_picture=builder.held_out.crops[made.worst_crop].origin,
        )
        for made in taken.candidate.quality.kinds
    )


def _verdict(
    found: SearchResult,
    taken: Built,
    times: dict[str, float],
    options: QuantizationOptions,
    kinds: Sequence[KindResult],
) -> tuple[bool, str]:
    """Return whether INT8 keeps the budget and is faster than float, and a sentence on it."""
    hints = {precision.hint for precision in Precision}
    rival = min((name for name in times if name in hints), key=times.__getitem__)
    candidate, budget = taken.candidate, f"{options.max_drop_db:g} dB"
    judged = sum(kind.judged for kind in kinds)
    on = f" on {candidate.quality.deciding}, the worst of {judged} kinds of input,"
    measured = (
        f"{candidate.label} loses {candidate.quality.loss_db:.3f} dB{on if judged > 1 else ''} and"
        f" runs at {times[rival] / times[candidate.label]:.2f} times {rival}"
    )
    done = "written because it was forced" if options.force else "refused"
    if found.chosen is None:
        return False, (
            f"INT8 {done}, over the budget of {budget}: of {len(found.candidates)} candidates the"
            f" best, {measured}; --kinds chooses the kinds that count"
        )
    if times[candidate.label] >= times[rival]:
        return False, f"INT8 {done}, it does not pay: {measured}"
    over = [f"{k.kind} ({k.loss_db:.3f} dB)" for k in kinds if not k.judged and not k.within_budget]
    beyond = f"; over it, by --kinds, on {', '.join(over)}" if over else ""
    return True, f"INT8 written: {measured}, within {budget}{beyond}"


def _runs(
    bundle: Bundle, builder: CandidateBuilder, taken: Built, times: dict[str, float]
) -> list[PrecisionResult]:
    def stored(variant: str) -> int:
        files = bundle.manifest.variants[variant].files
        return next((f.bytes for n, f in files.items() if n.endswith((".bin", ".onnx"))), 0)

    quality = builder.held_out.float_quality
    runs = [PrecisionResult("f32", stored("fp32"), times["f32"], quality)]
    half = Precision.BF16
    if half.hint in times:
        lost = builder.measure(read_graph(bundle.variant_files(half.stored)[0]), half)
        runs.append(PrecisionResult(half.hint, stored(half.stored), times[half.hint], lost))
    candidate = taken.candidate
    runs.append(PrecisionResult("int8", candidate.bytes, times[candidate.label], candidate.quality))
    return runs
