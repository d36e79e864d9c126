"""Where candidates are built and measured, and kept so that an interrupted search goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import openvino

from ..bundle.precision import Precision
from ..runtimes.cache import recall, remember
from ..runtimes.openvino.graph import OpenvinoGraph, read_graph
from .dataset import CalibrationData
from .operations import Operation, input_ranges, nodes_by_name, operations_of
from .quality import HeldOut
from .quantizer import Ranges, quantize_graph
from .results import Candidate, Quality
from .sensitivity import NoiseTable, measure_noise

__all__ = ["Built", "Workbench"]

_NOISE_CROPS = 4


@dataclass(frozen=True)
class Built:
    """A measured candidate and its graph's file."""

    candidate: Candidate
    path: Path
    benefit: int


class Workbench:
    """Builds quantized forms of one model and measures them on held-out crops.

    Parameters
    ----------
    model : openvino.Model
        From `float_graph`, with the face.
    data : CalibrationData
    size : (int, int)
        Height and width of the frame that costs are counted for.
    folder : Path
        Keeps what was measured; a second bench on the same folder starts where it stopped.
    rest : Precision
        Of a candidate's float operations: bf16 or fp32.
    tuning : sequence of numbers and None
        What is asked of fine-tuning (minutes, steps, seed): what was tuned as was asked
        another time is not taken for it.
    """

    def __init__(
        self,
        model: openvino.Model,
        data: CalibrationData,
        size: tuple[int, int],
        folder: Path,
        *,
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
        self.held_out = HeldOut(data.held_out, OpenvinoGraph(self.model, size=self._crop))

    def quantize(self, label: str, kept: Mapping[str, str], ranges: Ranges) -> Built:
        """Build and measure a post-training candidate, or find it done.

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
            lambda: quantize_graph(self.model, self._images, kept, ranges),
            label,
            "post-training",
            kept,
        )

    def tune(
        self, start: Built, tuner: Callable[[openvino.Model, openvino.Model, Path], openvino.Model]
    ) -> Built:
        """Build and measure a fine-tuned form of a candidate, or find it done.

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
        """Return what each operation costs alone, measured on some calibration crops.

        Parameters
        ----------
        full : Built
            Everything quantized: gives the ranges.
        report : callable
            Takes how many are done and of how many; False ends it there, and another time
            goes on from there.
        """
        path = self._folder / "noise.json"
        kept = recall(path)
        known: dict[str, tuple[float, ...]] = {}
        if kept is not None:
            known = {name: tuple(values) for name, values in kept["noise"].items()}
            if kept.get("complete", True):
                return NoiseTable(known, tuple(kept["errors"]))
        step = max(1, len(self.data.calibration) // _NOISE_CROPS)
        crops = self.data.calibration[::step][:_NOISE_CROPS]
        graph = read_graph(full.path)
        complete = True

        def goes_on(done: int, of: int) -> bool:
            nonlocal complete
            complete = report(done, of)
            return complete

        table = measure_noise(self.model, graph, self.operations, crops, goes_on, known)
        remember(path, {**asdict(table), "complete": complete})
        return table

    def graph(self, built: Built) -> OpenvinoGraph:
        """Compile a candidate at the crops' size, to look at what it makes."""
        return OpenvinoGraph(read_graph(built.path), self._rest, self._crop)

    def judge(self, model: openvino.Model, precision: Precision) -> Quality:
        """Measure another form of the model, at ``f32`` or ``bf16``."""
        return self.held_out.judge(OpenvinoGraph(model, precision, self._crop))

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
        found = recall(facts)
        if found is not None and path.is_file():
            quality = Quality(**found.pop("quality"))
            benefit = int(found.pop("benefit"))
            return Built(replace(Candidate(quality=quality, **found), label=label), path, benefit)
        folder.mkdir(parents=True, exist_ok=True)
        made = make()
        openvino.save_model(made, path, compress_to_fp16=True)
        # What is measured is what was stored: reading it back costs little.
        stored = read_graph(path)
        quality = self.judge(stored, self._rest)
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
        benefit = sum(operation.benefit for operation in taken)
        remember(facts, {**asdict(candidate), "benefit": benefit})
        return Built(candidate, path, benefit)


def _key(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
