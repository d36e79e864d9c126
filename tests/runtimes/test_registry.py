"""Runtimes by name and by device: rows of the table, and entry points of other packages."""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint

import cv2
import numpy as np
import pytest

import edgerestore
from edgerestore import extensions
from edgerestore.bundle.precision import Precision
from edgerestore.cli.app import run_command_line
from edgerestore.errors import ArgumentError, DeviceError, MissingExtraError
from edgerestore.runtimes import all_runtimes, open_runtime, registry, runtime_for, runtime_names
from edgerestore.runtimes.openvino.runtime import OpenVinoRuntime
from edgerestore.runtimes.survey import RuntimeFacts


class Second(OpenVinoRuntime):
    """Another runtime that has a CPU, and a device of its own."""

    name = "second"

    def devices(self):
        return ["CPU", "CUDA"]

    def describe(self, device):
        return f"{device} of another library"

    def precisions(self, device):
        return [Precision.FP32]


@pytest.fixture
def second(monkeypatch):
    """The second runtime, installed by another package."""
    point = EntryPoint("second", f"{__name__}:Second", "edgerestore.runtimes")
    broken = EntryPoint("broken", "no_such_module_at_all:Runtime", "edgerestore.runtimes")

    def points(*, group):
        return [point, broken] if group == "edgerestore.runtimes" else []

    monkeypatch.setattr(extensions, "entry_points", points)
    monkeypatch.setattr(EntryPoint, "load", lambda self: Second if self == point else missing())


def whole():
    return RuntimeFacts("absent", "1.0", None)


def missing():
    raise ModuleNotFoundError("No module named 'no_such_module_at_all'")


OWN = ["openvino", "onnxruntime", "pytorch"]


def test_three_runtimes_come_with_the_package():
    assert runtime_names() == OWN
    assert [runtime.name for runtime in all_runtimes()] == OWN
    assert runtime_for("CPU").name == runtime_for("CPU", "openvino").name == "openvino"


@pytest.mark.parametrize("name", ["abacus", ""])
def test_a_runtime_that_is_not_here_is_refused_with_those_that_are(name):
    with pytest.raises(ArgumentError, match="runtimes: auto, openvino, onnxruntime, pytorch$"):
        edgerestore.load("deblur", runtime=name)


def test_two_runtimes_serve_the_cpu_side_by_side(second):
    assert runtime_names() == [*OWN, "broken", "second"]
    assert runtime_for("CPU").name == "openvino"
    assert runtime_for("CPU", "second").name == "second"
    assert runtime_for("AUTO:GPU,CPU").name == "openvino"
    assert runtime_for("CUDA").name == "second"  # only that one has it
    with edgerestore.load("deblur", runtime="second") as restorer:
        assert restorer.precision == "fp32"


def test_a_device_that_no_runtime_has_is_refused_by_the_preferred_one(second):
    with pytest.raises(DeviceError, match="FPGA is not here; devices: CPU"):
        edgerestore.load("deblur", device="FPGA")


def test_a_runtime_that_cannot_be_loaded_is_one_line_and_hides_no_other(second):
    with pytest.raises(ArgumentError, match="broken: no_such_module_at_all.*cannot be loaded"):
        open_runtime("broken")
    assert [runtime.name for runtime in all_runtimes()] == [*OWN, "second"]


def test_a_missing_library_gives_the_command(monkeypatch):
    row = registry._Row("no_such_module_at_all:Runtime", f"{__name__}:whole", "edgerestore[none]")
    monkeypatch.setitem(registry._ROWS, "absent", row)
    with pytest.raises(MissingExtraError, match=r"pip install 'edgerestore\[none\]'"):
        open_runtime("absent")
    assert [runtime.name for runtime in all_runtimes()] == OWN


def test_on_the_command_line(second, capsys, tmp_path):
    assert run_command_line(["devices", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    places = [(row["device"], row["runtime"]) for row in rows]
    assert ("CPU", "openvino") in places
    assert [place for place in places if place[1] == "second"] == [
        ("CPU", "second"),
        ("CUDA", "second"),
    ]
    (fault,) = [row["fault"] for row in rows if row["runtime"] == "broken"]
    assert "cannot be loaded" in fault
    assert run_command_line(["devices"]) == 0
    assert "CUDA       second" in capsys.readouterr().out
    picture = tmp_path / "picture.png"
    cv2.imwrite(str(picture), np.zeros((8, 8, 3), np.uint8))
    code = run_command_line(["run", str(picture), "-o", "out.png", "--runtime", "abacus"])
    assert code == 2
    assert "runtime abacus is not here; runtimes: auto, openvino" in capsys.readouterr().err
