"""What a search measured is found again, unless something else is asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import openvino
import pytest

from edgerestore.bundle.precision import Precision
from edgerestore.calibration.candidates import Built, CandidateBuilder
from edgerestore.calibration.dataset import CalibrationData
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
