"""Fine-tuning: what is trained is what is written back, and it learns from the float graph."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nncf
import numpy as np
import openvino
import pytest
import torch
from numpy.typing import NDArray
from openvino import opset13 as ops

from edgerestore.calibration.operations import nodes_by_name
from edgerestore.calibration.qat import fine_tune as module
from edgerestore.calibration.qat.fine_tune import fine_tune
from edgerestore.calibration.qat.student import Student
from edgerestore.calibration.qat.torch_graph import TorchGraph
from edgerestore.runtimes.openvino.graph import OpenvinoGraph

from .graphs import constant, faced, numbers

Planes = NDArray[np.float32]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def crops(picture: Callable[..., NDArray[np.uint8]]) -> list[Planes]:
    """Return drawn pictures of 32 pixels."""
    drawn = [picture(32, 32, seed=seed) for seed in range(8)]
    return [image.transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255) for image in drawn]


def quantize(model: openvino.Model, crops: list[Planes]) -> openvino.Model:
    logging.getLogger("nncf").setLevel(logging.ERROR)
    strength = np.ones((1, 1, 1, 1), np.float32)
    names = [node.get_friendly_name() for node in model.get_ordered_ops()]
    return nncf.quantize(
        model.clone(),
        nncf.Dataset(crops, lambda image: {"image": image, "strength": strength}),
        preset=nncf.QuantizationPreset.MIXED,
        ignored_scope=nncf.IgnoredScope(names=[n for n in names if n.startswith("face/")]),
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            overflow_fix=nncf.OverflowFix.ENABLE
        ),
    )


@pytest.fixture(scope="module")
def teacher(graph_of: Callable[[str], openvino.Model]) -> openvino.Model:
    return graph_of("imdn")


@pytest.fixture(scope="module")
def quantized(teacher: openvino.Model, crops: list[Planes]) -> openvino.Model:
    return quantize(teacher, crops)


@pytest.fixture
def spoilt(quantized: openvino.Model) -> openvino.Model:
    """Return a badly quantized start: every range clipped to half."""
    model = quantized.clone()
    for node in model.get_ordered_ops():
        if node.get_type_name() == "FakeQuantize":
            for port in range(1, 5):
                half = np.asarray(node.input_value(port).get_node().get_data()) / 2
                node.input(port).replace_source_output(ops.constant(np.float32(half)).output(0))
    return model


def distance(model: openvino.Model, teacher: openvino.Model, crops: list[Planes]) -> float:
    """Return the mean square distance of two graphs, both run by OpenVINO."""
    one, two = (OpenvinoGraph(graph, size=crops[0].shape[2:]) for graph in (model, teacher))
    return float(np.mean([np.square(one(crop) - two(crop)).mean() for crop in crops]))


def bound(quantizer: openvino.Node, port: int) -> float:
    return float(np.ravel(quantizer.input_value(port).get_node().get_data())[0])


def bytes_of(model: openvino.Model, folder: Path) -> bytes:
    openvino.save_model(model, folder / "model.xml", compress_to_fp16=True)
    return (folder / "model.xml").read_bytes() + (folder / "model.bin").read_bytes()


def tune(*args: Any, **changes: Any) -> openvino.Model:
    options = {"minutes": 30.0, "steps": 6, "batch": 2, "report": lambda _: None}
    return fine_tune(*args, **{**options, **changes})


def quantizer(x: openvino.Node, name: str, low: float, high: float, levels: int = 256) -> Any:
    bounds = [ops.constant(np.float32(end)) for end in (low, high, low, high)]
    node = ops.fake_quantize(x, *bounds, levels)
    node.set_friendly_name(f"core/{name}")
    return node


def integers(*shape: int, zero: int = 0) -> openvino.Node:
    stored = np.random.default_rng(3).integers(-60, 60, shape).astype(np.int8)
    floats = ops.convert(ops.constant(stored), "f32")
    if zero:
        floats = ops.subtract(floats, ops.constant(np.float32(zero)))
    return ops.multiply(floats, ops.constant(np.float32(0.01)))


def joined(x: openvino.Node) -> openvino.Node:
    """Return operations with weights of all kinds and in all forms, one after the other."""
    same: list[list[int]] = [[1, 1]] * 4
    x = quantizer(ops.relu(x), "entry", 0.0, 1.0)
    grouped = ops.group_convolution(x, integers(4, 1, 1, 3, 3), *same)
    y = quantizer(ops.add(grouped, constant(1, 4, 1, 1)), "grouped", -2.0, 3.0)
    y = ops.convolution_backprop_data(y, integers(4, 6, 2, 2), [2, 2])
    y = quantizer(y, "stretched", -4.0, 4.0 * 127 / 128)  # symmetric
    y = ops.convolution(y, integers(4, 6, 3, 3, zero=5), [2, 2], *same[1:])
    y = quantizer(y, "with a zero point", -8.0, 5.0)
    y = ops.convolution(y, quantizer(constant(4, 4, 3, 3), "in place", -2.0, 2.0, 255), *same)
    y = quantizer(y, "by a quantizer", -18.0, 15.0)
    y = ops.matmul(ops.transpose(y, numbers(0, 2, 3, 1)), integers(4, 6), False, False)
    y = ops.tanh(ops.transpose(y, numbers(0, 3, 1, 2)))
    y = ops.convolution(y, integers(4, 6, 3, 3), *same)  # stored as integers, run in float
    return ops.convolution(ops.tanh(y), constant(4, 4, 3, 3), *same)


def moved(student: Student, far: float) -> Student:
    with torch.no_grad():
        noise = torch.randn(student.shift.shape, generator=torch.Generator().manual_seed(0))
        student.shift.copy_(far * noise)
    return student


def both(model: openvino.Model, student: Student, images: Planes) -> tuple[Planes, Planes]:
    """Return what PyTorch makes of images with a student, and OpenVINO with what it exports."""
    size = images.shape[2:]
    with torch.no_grad():
        made = TorchGraph(model, size)(torch.from_numpy(images), *student.values()).numpy()
    run = OpenvinoGraph(student.export(), size=size)
    return made, np.concatenate([run(image[None]) for image in images])


def test_what_is_written_back_is_what_was_trained(
    graph_of: Callable[[str], openvino.Model], crops: list[Planes]
) -> None:
    teacher, grey = graph_of("dncnn"), [crop[:, :1] for crop in crops]
    quantized = quantize(teacher, grey)
    student = moved(Student(quantized, teacher, grey[0]), 0.1)
    made, run = both(quantized, student, np.concatenate(grey))
    # A number at the border of two levels may fall to either side.
    assert np.abs(made - run).max() < 2e-3
    assert np.abs(made - run).mean() < 2e-5
    before = OpenvinoGraph(quantized, size=(32, 32))
    assert np.abs(run[:1] - before(grey[0])).mean() > 100 * np.abs(made - run).mean()


def test_openvino_rounds_no_more_than_was_trained(
    teacher: openvino.Model, quantized: openvino.Model, crops: list[Planes]
) -> None:
    # Where a convolution, its quantizer, an addition and the next quantizer become one
    # primitive, the CPU plugin leaves the first rounding out: fewer roundings, not other ones.
    student = moved(Student(quantized, teacher, crops[0]), 0.02)
    made, run = both(quantized, student, np.concatenate(crops[:3]))
    assert np.abs(made - run).mean() < 3e-3


def test_all_kinds_of_weights_are_written_back() -> None:
    model = faced(joined)
    images = np.random.default_rng(2).random((2, 4, 12, 10), np.float32)
    student = moved(Student(model, model, images[:1]), 0.05)
    made, run = both(model, student, images)
    change = np.abs(run - OpenvinoGraph(model, size=(12, 10))(images[:1])).mean()
    assert np.abs(made - run).mean() < 0.02 * change
    kinds = [n.get_element_type() for n in student.export().get_ordered_ops()]
    assert kinds.count(openvino.Type.i8) == 6


def test_nothing_worse_than_the_start_comes_out(
    teacher: openvino.Model, quantized: openvino.Model, crops: list[Planes], tmp_path: Path
) -> None:
    tuned = tune(quantized, teacher, crops, steps=3, rate=5.0)
    assert bytes_of(tuned, tmp_path) == bytes_of(quantized.clone(), tmp_path)


def test_fine_tuning_comes_nearer_to_the_teacher(
    teacher: openvino.Model, spoilt: openvino.Model, crops: list[Planes]
) -> None:
    before = distance(spoilt, teacher, crops)
    lines: list[str] = []
    tuned = tune(spoilt, teacher, crops, steps=40, rate=2e-2, report=lines.append)
    assert distance(tuned, teacher, crops) < 0.7 * before
    assert lines[0].startswith("fine-tuning begins at")
    assert lines[-1].startswith("fine-tuned in 40 steps")
    kinds = [[node.get_type_name() for node in m.get_ordered_ops()] for m in (tuned, spoilt)]
    assert sorted(kinds[0]) == sorted(kinds[1])


def test_integers_cannot_overflow_and_zero_is_a_level(
    teacher: openvino.Model, quantized: openvino.Model, crops: list[Planes]
) -> None:
    tuned = moved(Student(quantized, teacher, crops[0]), 0.02).export()
    found = ranges = 0
    for node in tuned.get_ordered_ops():
        if node.get_type_name() == "Constant" and node.get_element_type() == openvino.Type.i8:
            wide = np.asarray(node.get_data()).astype(int)
            wide = np.concatenate([wide, np.zeros_like(wide[:, : wide.shape[1] % 2])], axis=1)
            for sign in (1, -1):
                parts = np.maximum(sign * wide, 0)
                assert (parts[:, ::2] + parts[:, 1::2]).max() <= 128
            found += 1
        elif node.get_type_name() == "FakeQuantize":
            low, high = bound(node, 1), bound(node, 2)
            zero = -low / (high - low) * 255
            assert abs(zero - round(zero)) < 1e-3
            ranges += 1
    assert found
    assert ranges


def test_what_is_joined_keeps_one_range(
    teacher: openvino.Model, quantized: openvino.Model, crops: list[Planes]
) -> None:
    def ranges(model: openvino.Model) -> dict[str, float]:
        return {
            name: bound(node, 2)
            for name, node in nodes_by_name(model).items()
            if node.get_type_name() == "FakeQuantize"
        }

    before = ranges(quantized)
    after = ranges(moved(Student(quantized, teacher, crops[0]), 0.02).export())
    alike = [names for names in _groups(before) if len(names) > 1]
    assert alike
    assert set(map(tuple, alike)) <= set(map(tuple, _groups(after)))
    assert sum(before[name] != after[name] for name in before) > len(before) / 2


def _groups(ranges: dict[str, float]) -> list[list[str]]:
    values = dict.fromkeys(ranges.values())
    return [sorted(name for name in ranges if ranges[name] == value) for value in values]


def test_the_images_own_levels_stay(
    teacher: openvino.Model, quantized: openvino.Model, crops: list[Planes]
) -> None:
    tuned = nodes_by_name(moved(Student(quantized, teacher, crops[0]), 0.02).export())
    for name, node in nodes_by_name(quantized).items():
        source = node.input_values()[:1]
        if node.get_type_name() == "FakeQuantize" and (
            source[0].get_node().get_type_name() == "Parameter"
        ):
            assert bound(tuned[name], 2) == bound(node, 2)
            return
    pytest.fail("the image is not quantized")


def test_the_same_seed_and_steps_give_the_same_bytes(
    teacher: openvino.Model, spoilt: openvino.Model, crops: list[Planes], tmp_path: Path
) -> None:
    first, again = (bytes_of(tune(spoilt, teacher, crops), tmp_path) for _ in range(2))
    other = bytes_of(tune(spoilt, teacher, crops, seed=1), tmp_path)
    assert first == again
    assert first != other


def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    teacher: openvino.Model,
    spoilt: openvino.Model,
    crops: list[Planes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = bytes_of(tune(spoilt, teacher, crops), tmp_path)
    monkeypatch.setattr(module, "_REPORT_S", 0.0)
    monkeypatch.setattr(module, "_SAVE_S", 0.0)
    checkpoint = tmp_path / "state"

    def interrupt(line: str) -> None:
        if "step 4" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(spoilt, teacher, crops, checkpoint=checkpoint, report=interrupt)
    assert [path.name for path in tmp_path.glob("state*")] == ["state"]
    lines: list[str] = []
    tuned = tune(spoilt, teacher, crops, checkpoint=checkpoint, report=lines.append)
    assert lines[0] == "fine-tuning goes on after step 3"
    assert bytes_of(tuned, tmp_path) == whole
    assert checkpoint.is_file()


def test_a_checkpoint_of_another_run_is_left_alone(
    teacher: openvino.Model,
    spoilt: openvino.Model,
    crops: list[Planes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_SAVE_S", 0.0)
    checkpoint = tmp_path / "state"
    tune(spoilt, teacher, crops, steps=2, checkpoint=checkpoint)
    for changes in ({"seed": 1, "steps": 2}, {"steps": 3}):
        lines: list[str] = []
        tune(spoilt, teacher, crops, checkpoint=checkpoint, report=lines.append, **changes)
        assert lines[0].startswith("fine-tuning begins")
    checkpoint.write_bytes(b"cut off")
    tune(spoilt, teacher, crops, steps=2, checkpoint=checkpoint)


def test_time_is_kept(
    teacher: openvino.Model, quantized: openvino.Model, crops: list[Planes]
) -> None:
    lines: list[str] = []
    tune(quantized, teacher, crops, steps=None, minutes=1e-3, report=lines.append)
    tune(quantized, teacher, crops, steps=10_000, minutes=1e-3, report=lines.append)
    assert all(int(line.split()[2]) < 100 for line in lines if line.startswith("fine-tuned"))
