"""What a search measured is found again, unless something else is asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino
import pytest

from edgerestore.bundle.precision import Precision
from edgerestore.calibration.candidates import Built, CandidateBuilder, HeldOut
from edgerestore.calibration.dataset import CalibrationData, Crop
from edgerestore.calibration.quantizer import Ranges
from edgerestore.imaging.degradations import Degradation

from .drawn import load

pytestmark = pytest.mark.usefixtures("one_thread")


class Tuner:
    """Gives back what it gets, and notes the checkpoints it was offered."""

    def __init__(self) -> None:
        self.checkpoints: list[Path] = []

    def __call__(
        self, quantized: openvino.Model, _teacher: openvino.Model, checkpoint: Path
    ) -> openvino.Model:
        self.checkpoints.append(checkpoint)
        return quantized


@pytest.fixture
def data(folder: Path) -> CalibrationData:
    return load(folder, channels=1, degradation=Degradation("noise"), count=3, held_out=2)


def test_what_was_tuned_otherwise_is_not_taken(
    graph_of: Callable[[str], openvino.Model], data: CalibrationData, tmp_path: Path
) -> None:
    tuner = Tuner()

    def tuned(*asked: float | None) -> Built:
        builder = CandidateBuilder(
            graph_of("dncnn"),
            data,
            (64, 64),
            tmp_path / "work",
            judged=["noise"],
            rest=Precision.FP32,
            tuning=asked,
        )
        return builder.tune(builder.quantize("full INT8", {}, Ranges.EXTREME), tuner)

    first = tuned(60.0, None, 0)
    assert tuned(60.0, None, 0).path == first.path
    assert len(tuner.checkpoints) == 1, "what is there is measured again"
    others = [tuned(5.0, None, 0), tuned(60.0, 100, 0), tuned(60.0, None, 1)]
    assert len(tuner.checkpoints) == 4
    assert len(set(tuner.checkpoints)) == len({built.path for built in (first, *others)}) == 4
    # What was not fine-tuned depends on none of it, and was measured once.
    kept = [path for path in (tmp_path / "work").iterdir() if path.is_dir()]
    assert len(kept) == 5


def builder_of(graph: openvino.Model, data: CalibrationData, folder: Path) -> CandidateBuilder:
    return CandidateBuilder(graph, data, (64, 64), folder, judged=["noise"], rest=Precision.FP32)


@pytest.mark.parametrize("name", ["model.bin", "model.xml", "candidate.json"])
def test_a_damaged_candidate_is_built_again(
    name: str, graph_of: Callable[[str], openvino.Model], data: CalibrationData, tmp_path: Path
) -> None:
    builder = builder_of(graph_of("dncnn"), data, tmp_path)
    first = builder.quantize("full INT8", {}, Ranges.EXTREME)
    damaged = first.path.with_name(name)
    whole = damaged.read_bytes()
    assert builder.quantize("full INT8", {}, Ranges.EXTREME) == first
    if name == "candidate.json":
        facts = json.loads(whole)
        facts["candidate"]["quality"]["loss_db"] -= 1
        damaged.write_text(json.dumps(facts))
    else:
        at = len(whole) // 2
        damaged.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    spoiled = damaged.read_bytes()
    assert builder.quantize("full INT8", {}, Ranges.EXTREME) == first
    assert damaged.read_bytes() != spoiled


@pytest.mark.parametrize(
    "spoiled",
    [
        {},
        {"table": {}},
        {"table": {"noise": [], "errors": [], "kinds": []}, "complete": True},
        {"table": {"noise": {"a": [1.0]}, "errors": [0.1], "kinds": ["noise"]}, "complete": True},
        {"table": {"noise": {"a": [None]}, "errors": [-1], "kinds": [3]}, "complete": "yes"},
    ],
    ids=range(5),
)
def test_noise_that_is_none_is_measured_again(
    spoiled: dict[str, object],
    graph_of: Callable[[str], openvino.Model],
    data: CalibrationData,
    tmp_path: Path,
) -> None:
    builder = builder_of(graph_of("dncnn"), data, tmp_path)
    full = builder.quantize("full INT8", {}, Ranges.EXTREME)
    wanted = builder.noise(full, lambda *_: True)
    assert builder.noise(full, lambda *_: False) == wanted, "what is whole is not measured again"
    (tmp_path / "noise.json").write_text(json.dumps(spoiled))
    assert builder.noise(full, lambda *_: True) == wanted


def test_nan_on_any_judged_kind_decides() -> None:
    image = np.full((1, 1, 16, 16), 0.5, np.float32)
    crops = [Crop(image, image * 0.9, "a.png at 0,0", "flat", kind) for kind in ("noise", "blur")]
    held_out = HeldOut(crops, lambda given: given, ["noise", "blur"])
    outcomes = iter([image, np.full_like(image, np.nan)])
    found = held_out.measure(lambda _: next(outcomes))
    assert found.deciding == "blur"
    assert not found.loss_db <= 1e9
