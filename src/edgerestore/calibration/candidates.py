"""Candidates: quantized forms of a model, built, measured on held-out crops, and cached."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from ..bundle.precision import Precision
from ..imaging.arrays import Planes, pixels_of
from ..imaging.metrics import psnr, ssim
from ..runtimes.cache import recall, remember
from ..runtimes.openvino.graph import OpenvinoGraph, read_graph
from .dataset import CalibrationData, Crop
from .inputs import ConvolutionInputs, measure_inputs
from .operations import Operation, input_ranges, nodes_by_name, operations_of
from .quantizer import Ranges, quantize_graph
from .results import Candidate, KindQuality, Quality
from .sensitivity import SUPPOSED_MSE, NoiseTable, loss_of_noise, mean_square, measure_noise

__all__ = ["Built", "CandidateBuilder", "HeldOut"]

Graph = Callable[[Planes], Planes]

_NOISE_CROPS = {False: 4, True: 2}  # of a kind of input, by whether there are several kinds


@dataclass(frozen=True)
class Built:
    """A measured candidate and its graph's file."""

    candidate: Candidate
    path: Path
    benefit: int


@dataclass(frozen=True)
class _KeptCandidate:
    """Candidate as it is cached beside its graph."""

    candidate: Candidate
    benefit: int
    sha256: str

    @classmethod
    def of(cls, built: Built) -> _KeptCandidate:
        """Seal what was measured together with the files that it was measured of."""
        facts = json.dumps([asdict(built.candidate), built.benefit], sort_keys=True)
        digest = hashlib.sha256(facts.encode())
        for path in (built.path, built.path.with_suffix(".bin")):
            digest.update(path.read_bytes())
        return cls(built.candidate, built.benefit, digest.hexdigest())


@dataclass(frozen=True)
class _KeptNoise:
    """Noise as it is cached, of some operations or of all."""

    table: NoiseTable
    complete: bool


class HeldOut:
    """Held-out crops with the float model's outputs.

    Parameters
    ----------
    crops : sequence of Crop
        Ordered by kind, the task's own first.
    float_model : callable
        f32 [1, C, h, w] in [0, 1] to the restored crop.
    judged : collection of str
        Kinds of input that decide.

    Attributes
    ----------
    outputs : tuple of ndarray, f32 [1, C, H, W]
        Of the float model.
    """

    def __init__(self, crops: Sequence[Crop], float_model: Graph, judged: Collection[str]) -> None:
        self.crops = tuple(crops)
        self._judged = frozenset(judged)
        self._by_kind: dict[str, list[int]] = {}
        for at, crop in enumerate(crops):
            self._by_kind.setdefault(crop.kind, []).append(at)
        self.outputs = tuple(float_model(crop.image) for crop in crops)
        self.float_quality = self._quality(self.outputs)

    def measure(self, graph: Graph) -> Quality:
        """Measure another form of the model.

        Parameters
        ----------
        graph : callable
            Like ``float_model``.
        """
        return self._quality([graph(crop.image) for crop in self.crops])

    def _quality(self, outputs: Sequence[Planes]) -> Quality:
        kinds = tuple(self._on_kind(kind, outputs) for kind in self._by_kind)
        judged = [kind for kind in kinds if kind.kind in self._judged]
        # NumPy's maximum keeps NaN, which Python's drops: NaN is within no budget.
        deciding = judged[int(np.argmax([kind.loss_db for kind in judged]))]
        like_float, like_truth = [], []
        for at in self._by_kind[kinds[0].kind]:
            made, truth = pixels_of(outputs[at]), self.crops[at].truth
            like_float.append(ssim(made, pixels_of(self.outputs[at])))
            if truth is not None:
                like_truth.append(ssim(made, pixels_of(truth)))
        return Quality(
            psnr_db=kinds[0].psnr_db,
            ssim=float(np.mean(like_truth)) if like_truth else None,
            psnr_to_float_db=kinds[0].psnr_to_float_db,
            ssim_to_float=float(np.mean(like_float)),
            deciding=deciding.kind,
            loss_db=deciding.loss_db,
            worst_loss_db=deciding.worst_loss_db,
            worst_crop=deciding.worst_crop,
            kinds=kinds,
        )

    def _on_kind(self, kind: str, outputs: Sequence[Planes]) -> KindQuality:
        losses, to_float, to_truth = [], [], []
        for at in self._by_kind[kind]:
            base, made, truth = self.outputs[at], outputs[at], self.crops[at].truth
            to_float.append(psnr(made, base))
            if truth is None:
                losses.append(loss_of_noise(mean_square(made, base), SUPPOSED_MSE))
                continue
            before, reached = psnr(base, truth), psnr(made, truth)
            losses.append(0.0 if reached == before else before - reached)  # both may be infinite
            to_truth.append(reached)
        worst = int(np.argmax(losses))
        return KindQuality(
            kind=kind,
            psnr_db=float(np.mean(to_truth)) if to_truth else None,
            psnr_to_float_db=float(np.mean(to_float)),
            loss_db=float(np.mean(losses)),
            worst_loss_db=losses[worst],
            worst_crop=self._by_kind[kind][worst],
        )


class CandidateBuilder:
    """Builder of quantized forms of one model, measured on held-out crops.

    Parameters
    ----------
    model : openvino.Model
        From `float_graph`.
    data : CalibrationData
    size : (int, int)
        Height and width of the frame that costs are counted for.
    folder : Path
        Keeps what was measured; a second builder on the same folder resumes there.
    judged : collection of str
        Kinds of input that the budget must hold for.
    rest : Precision
        Of a candidate's float operations: bf16 or fp32.
    tuning : sequence of numbers and None
        Settings of fine-tuning (minutes, steps, seed): part of a tuned candidate's cache key.
    """

    def __init__(
        self,
        model: openvino.Model,
        data: CalibrationData,
        size: tuple[int, int],
        folder: Path,
        *,
        judged: Collection[str],
        rest: Precision,
        tuning: Sequence[float | None] = (),
    ) -> None:
        self.model = model
        self.data = data
        self.operations: list[Operation] = operations_of(self.model, *size)
        self._folder = folder
        self._tuning, self._rest = list(tuning), rest
        self._images = [crop.image for crop in data.calibration]
        self._crop = (data.held_out[0].image.shape[2], data.held_out[0].image.shape[3])
        self.judged = tuple(judged)
        self.held_out = HeldOut(data.held_out, OpenvinoGraph(model, size=self._crop), judged)

    def quantize(self, label: str, kept: Mapping[str, str], ranges: Ranges) -> Built:
        """Build and measure a post-training candidate, or read it from the cache.

        Parameters
        ----------
        label : str
        kept : mapping of str to str
            Operations that stay in float, and why.
        ranges : Ranges
        """
        key = _key("post-training", sorted(kept), str(ranges))
        return self._built(
            key,
            lambda: quantize_graph(self.model, self._images, kept, ranges, self._inputs),
            label,
            "post-training",
            kept,
        )

    def tune(
        self, start: Built, tuner: Callable[[openvino.Model, openvino.Model, Path], openvino.Model]
    ) -> Built:
        """Build and measure a fine-tuned form of a candidate, or read it from the cache.

        Parameters
        ----------
        start : Built
        tuner : callable
            Takes the quantized graph, the float graph and a checkpoint file.
        """
        key = _key("fine-tuned", start.path.parent.name, self._tuning)
        checkpoint = self._folder / f"{key}.checkpoint"
        return self._built(
            key,
            lambda: tuner(read_graph(start.path), self.model, checkpoint),
            f"{start.candidate.label}, fine-tuned",
            "fine-tuned",
            start.candidate.kept,
        )

    def noise(self, full: Built, report: Callable[[int, int], bool]) -> NoiseTable:
        """Return the noise of each operation quantized alone, on some calibration crops.

        Parameters
        ----------
        full : Built
            Everything quantized: gives the ranges.
        report : callable
            Takes how many are done and of how many; returns False to stop, and a later call
            resumes there.
        """
        path = self._folder / "noise.json"
        crops, kept = self._probes(), recall(path, _KeptNoise)
        known: dict[str, tuple[float, ...]] = {}
        if kept is not None and kept.table.fits(crops):
            if kept.complete:
                return kept.table
            known = kept.table.noise
        graph = read_graph(full.path)
        complete = True

        def goes_on(done: int, of: int) -> bool:
            nonlocal complete
            complete = report(done, of)
            return complete

        table = measure_noise(self.model, graph, self.operations, crops, goes_on, known)
        remember(path, asdict(_KeptNoise(table, complete)))
        return table

    @cached_property
    def _inputs(self) -> dict[str, ConvolutionInputs]:
        return measure_inputs(self.model, self._images)

    def _probes(self) -> list[Crop]:
        """Return a few calibration crops of each judged kind, spread over the pictures."""
        of = {k: [c for c in self.data.calibration if c.kind == k] for k in self.judged}
        count = _NOISE_CROPS[len(of) > 1]
        return [
            crop for crops in of.values() for crop in crops[:: max(1, len(crops) // count)][:count]
        ]

    def graph(self, path: Path) -> OpenvinoGraph:
        """Compile a stored INT8 graph at the crops' size."""
        return OpenvinoGraph(read_graph(path), self._rest, self._crop)

    def measure(self, model: openvino.Model, precision: Precision) -> Quality:
        """Measure another form of the model, at ``f32`` or ``bf16``."""
        return self.held_out.measure(OpenvinoGraph(model, precision, self._crop))

    def _built(
        self,
        key: str,
        make: Callable[[], openvino.Model],
        label: str,
        method: str,
        kept: Mapping[str, str],
    ) -> Built:
        folder = self._folder / key
        path, facts = folder / "model.xml", folder / "candidate.json"
        kept_before = recall(facts, _KeptCandidate)
        if kept_before is not None:
            built = Built(kept_before.candidate, path, kept_before.benefit)
            with suppress(OSError):  # a file of it is gone
                if _KeptCandidate.of(built) == kept_before:
                    return replace(built, candidate=replace(built.candidate, label=label))
        folder.mkdir(parents=True, exist_ok=True)
        made = make()
        openvino.save_model(made, path, compress_to_fp16=True)
        # What is measured is what was stored: reading it back costs little.
        stored = read_graph(path)
        quality = self.held_out.measure(self.graph(path))
        nodes = nodes_by_name(stored)
        taken = [o for o in self.operations if o.name not in kept and input_ranges(nodes[o.name])]
        left = {
            o.name: kept.get(o.name, "NNCF leaves it in float")
            for o in self.operations
            if o not in taken and (o.macs or o.name in kept)
        }
        macs = max(1, sum(operation.macs for operation in self.operations))
        candidate = Candidate(
            label=label,
            method=method,
            kept=left,
            quantized=len(taken),
            macs_share=sum(operation.macs for operation in taken) / macs,
            quality=quality,
            bytes=path.with_suffix(".bin").stat().st_size,
        )
        built = Built(candidate, path, sum(operation.benefit for operation in taken))
        remember(facts, asdict(_KeptCandidate.of(built)))
        return built


def _key(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
