"""Ranges per channel: less noise from the same arithmetic, and fine-tuning goes on from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino
import pytest
import torch
from numpy.typing import NDArray

from edgerestore.calibration import equalization
from edgerestore.calibration.inputs import measure_inputs
from edgerestore.calibration.operations import channel_shares, nodes_by_name
from edgerestore.calibration.qat.student import Student
from edgerestore.calibration.qat.torch_graph import TorchGraph
from edgerestore.calibration.quantizer import Ranges, quantize_graph
from edgerestore.runtimes.openvino.graph import OpenvinoGraph

Planes = NDArray[np.float32]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def crops(picture: Callable[..., NDArray[np.uint8]]) -> list[Planes]:
    drawn = [picture(32, 32, seed=seed) for seed in range(8)]
    return [image.transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255) for image in drawn]


@pytest.fixture(scope="module")
def model(graph_of: Callable[[str], openvino.Model]) -> openvino.Model:
    return graph_of("uneven")


def quantize(model: openvino.Model, crops: list[Planes]) -> openvino.Model:
    return quantize_graph(model, crops, [], Ranges.EXTREME, measure_inputs(model, crops))


@pytest.fixture(scope="module")
def equalized(model: openvino.Model, crops: list[Planes]) -> openvino.Model:
    return quantize(model, crops[:4])


def noise(made: openvino.Model, model: openvino.Model, crops: list[Planes]) -> float:
    """Return the mean square of what quantization changes."""
    one, two = OpenvinoGraph(made, size=(32, 32)), OpenvinoGraph(model, size=(32, 32))
    return float(np.mean([np.square(one(crop) - two(crop)).mean() for crop in crops]))


def test_quiet_channels_keep_their_levels(
    model: openvino.Model,
    equalized: openvino.Model,
    crops: list[Planes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(equalization, "_LEAST", 1.0)
    plain = quantize(model, crops[:4])
    # On pictures that neither has seen.
    assert noise(equalized, model, crops[4:]) < 0.5 * noise(plain, model, crops[4:])


def test_no_channel_is_clipped_on_the_crops(
    model: openvino.Model, equalized: openvino.Model, crops: list[Planes]
) -> None:
    found = measure_inputs(model, crops[:4])
    checked = 0
    for name, node in nodes_by_name(equalized).items():
        if name not in found or (shares := channel_shares(node)) is None:
            continue
        high = high_of(node)
        assert (found[name].high.max(axis=0) <= shares * high * 1.0001).all()
        assert shares.min() < 0.5
        checked += 1
    assert checked == 3, "the image has levels of its own; the others have ranges per channel"


def test_it_still_runs_in_int8(equalized: openvino.Model, tmp_path: Path) -> None:
    openvino.save_model(equalized, tmp_path / "model.xml", compress_to_fp16=True)
    model = openvino.Core().read_model(tmp_path / "model.xml")
    graph = OpenvinoGraph(model, size=(32, 32)).compiled.get_runtime_model()
    kinds = [
        node.get_rt_info()["runtimePrecision"].astype(str)
        for node in graph.get_ordered_ops()
        if node.get_rt_info()["layerType"].astype(str) == "Convolution"
    ]
    assert kinds == ["u8"] * 4


def test_fine_tuning_goes_on_from_it(
    model: openvino.Model, equalized: openvino.Model, crops: list[Planes]
) -> None:
    student = Student(equalized, model, crops[0])
    images = np.concatenate(crops[4:])
    for far in (0.0, 0.05):
        with torch.no_grad():
            chance = torch.Generator().manual_seed(0)
            student.shift.copy_(far * torch.randn(student.shift.shape, generator=chance))
            made = TorchGraph(equalized, (32, 32))(torch.from_numpy(images), *student.values())
        written = student.export()
        run = OpenvinoGraph(written, size=(32, 32))
        wanted = np.concatenate([run(image[None]) for image in images])
        assert np.abs(made.numpy() - wanted).mean() < 2e-5
        # Every range is trained, those with parts for their channels too.
        assert changed(equalized, written) == (3 if far else 0)


def high_of(node: openvino.Node) -> float:
    """Return the upper end of the range of a convolution's input."""
    return float(np.max(node.input_value(0).get_node().input_value(4).get_node().get_data()))


def changed(before: openvino.Model, after: openvino.Model) -> int:
    """Count the ranges with parts for their channels that are not what they were."""

    def ranges(model: openvino.Model) -> dict[str, float]:
        return {
            name: high_of(node)
            for name, node in nodes_by_name(model).items()
            if channel_shares(node) is not None
        }

    first, second = ranges(before), ranges(after)
    assert first.keys() == second.keys()
    return sum(not np.isclose(first[name], second[name], rtol=1e-3) for name in first)
