"""Evaluation of models: quality and speed of each, on the same pictures."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ..bundle.manifest import OutputPort
from ..engine.restorer import Restorer
from ..errors import ArgumentError
from ..imaging.arrays import Image
from ..imaging.degradations import Degradation
from ..runtimes.machine import cpu_info, tool_versions
from .dataset import Dataset, Sample, find_pairs
from .models import ModelName, ModelUnderTest, common_output, opened
from .results import Evaluation, ImageScore, Row, WorstCrops
from .scores import SCORING, Fractions, as_fractions, measured

__all__ = ["evaluate"]

_SHAPES_KEPT = 3  # as many as a restorer keeps compiled

Tick = Callable[[int, int, str], None]


def _ignore(*_: object) -> None:
    """Report nothing."""


def evaluate(
    models: Sequence[ModelName],
    *,
    targets: str | os.PathLike[str],
    inputs: str | os.PathLike[str] | None = None,
    degrade: str | None = None,
    precisions: Sequence[str] = ("auto",),
    device: str = "CPU",
    border: int | None = None,
    strength: float = 1.0,
    tta: bool = False,
    seed: int = 0,
    report: Callable[[str], None] | None = None,
    tick: Tick = _ignore,
) -> Evaluation:
    """Measure quality and speed of models on pictures with ground truth.

    Parameters
    ----------
    models : sequence of str or path
        Names that ``edgerestore models`` lists, bundles' folders, or ensembles of them, as
        `load` takes them. All have the same scale and kind of output.
    targets : path
        Folder of ground truth.
    inputs : path, optional
        Folder of inputs: a file for each target, with the same stem.
    degrade : str, optional
        In place of `inputs`: makes inputs from the targets, ``blur``, ``noise:25``,
        ``downscale`` (by the models' scale), another name of `degradation_kinds`, or ``none``.
    precisions : sequence of str
        Each model is run at each of them; see `load`.
    device : str
        As OpenVINO spells it.
    border : int, optional
        Pixels cut from every side before measuring. By default the scale of models that
        enlarge, and none for others.
    strength : float
        From 0 (the input) over 1 (the model) to 2.
    tta : bool
        Average the outputs for the eight rotations and mirrorings of each picture.
    seed : int
        Seed of the degradation, 0 or more.
    report : callable, optional
        Called with the line on each model that is logged.
    tick : callable
        Called after each picture with the number done, the total, and the row's label.

    Returns
    -------
    Evaluation

    Raises
    ------
    ArgumentError
        On a value out of range, a folder without pictures, models that cannot share targets.
    SourceError
        On a picture that is unreadable, without its partner, or of the wrong size.
    BundleError, DeviceError, InferenceError
        As `load` and the restorers raise them.
    """
    _check(inputs, degrade, border, seed)
    pairs = find_pairs(Path(targets), None if inputs is None else Path(inputs))
    with opened(
        models, precisions, device=device, strength=strength, tta=tta, report=report
    ) as tested:
        output = common_output(tested)
        degradation = None if degrade is None else _degradation(degrade, output)
        cut = border if border is not None else (output.upscale if output.upscale > 1 else 0)
        dataset = Dataset(pairs, output.kind, output.upscale, cut, degradation, seed)
        dataset.check()
        rows = _rows(dataset, tested, tick)
    cpu = cpu_info()
    recipe: dict[str, Any] = {
        "targets": os.fspath(targets),
        "inputs": None if inputs is None else os.fspath(inputs),
        "degrade": degrade,
        "degradation": None if degradation is None else degradation.describe(),
        "seed": None if degradation is None else seed,
        "strength": float(strength),
        "tta": tta,
    }
    machine = {
        "device": device,
        **{("cpu" if k == "name" else k): v for k, v in asdict(cpu).items()},
    }
    return Evaluation(output.kind, output.upscale, cut, rows, recipe, machine, tool_versions())


def _check(inputs: object, degrade: object, border: int | None, seed: int) -> None:
    if (inputs is None) == (degrade is None):
        raise ArgumentError("an evaluation needs --inputs or --degrade, and not both")
    if border is not None and border < 0:
        raise ArgumentError(f"--border {border}: expected 0 pixels or more")
    if seed < 0:
        raise ArgumentError(f"--seed {seed}: expected 0 or more")


def _degradation(text: str, output: OutputPort) -> Degradation:
    degradation = Degradation.parse(text, upscale=output.upscale)
    if not output.kind.traits.blended:
        raise ArgumentError(
            f"--degrade makes pictures, and a {output.kind}'s picture is not in its target"
        )
    if degradation.kind == "none" and output.upscale > 1:
        raise ArgumentError(
            "--degrade none leaves a model that enlarges without a truth; use downscale"
        )
    return degradation


def _rows(dataset: Dataset, tested: Sequence[ModelUnderTest], tick: Tick) -> list[Row]:
    with_input = dataset.kind.traits.blended
    total = len(dataset.pairs) * (len(tested) + with_input)
    done = 0

    def samples(label: str) -> Iterator[Sample]:
        nonlocal done
        for pair in dataset.pairs:
            yield dataset.sample(pair)
            done += 1
            tick(done, total, label)

    rows = [_input_row(dataset, samples("input"))] if with_input else []
    for model in tested:
        rows.append(_model_row(dataset, model, samples(model.label)))
        model.restorer.close()
    return rows


def _input_row(dataset: Dataset, samples: Iterator[Sample]) -> Row:
    return Row(
        "input", images=[_score(dataset, sample, sample.enlarged(), None) for sample in samples]
    )


def _model_row(dataset: Dataset, model: ModelUnderTest, samples: Iterator[Sample]) -> Row:
    restorer = model.restorer
    row = Row(
        model.name,
        restorer.precision,
        restorer.device,
        restorer.precision_reason,
        folder=restorer.bundle.folder,
    )
    worst = WorstCrops(SCORING[dataset.kind].metrics[0], dataset.border_px)
    stopwatch = _Stopwatch(restorer)
    for sample in samples:
        restored, taken_ms = stopwatch(sample.given)
        made = as_fractions(restored)
        score = _score(dataset, sample, made, taken_ms)
        row.images.append(score)
        worst.offer(score, sample.enlarged(), made, sample.target)
    return replace(row, plan=restorer.plan, worst=worst.crops())


def _score(dataset: Dataset, sample: Sample, made: Fractions, taken_ms: float | None) -> ImageScore:
    height, width = sample.target.shape[:2]
    values = measured(dataset.kind, made, sample.target, dataset.border_px)
    megapixels = sample.given.shape[0] * sample.given.shape[1] / 1e6
    return ImageScore(sample.name, width, height, values, taken_ms, megapixels)


class _Stopwatch:
    """Times the restoration of one picture, without compiling and warming up."""

    def __init__(self, restorer: Restorer) -> None:
        self._restorer = restorer
        self._warm: list[object] = []

    def __call__(self, image: Image) -> tuple[Image, float]:
        kind = (image.shape, image.dtype)
        if kind in self._warm:
            self._warm.remove(kind)
        else:
            self._restorer(image)
        self._warm = [*self._warm, kind][-_SHAPES_KEPT:]
        start = time.perf_counter()
        restored = self._restorer(image)
        return restored, (time.perf_counter() - start) * 1000
