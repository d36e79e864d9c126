"""The house rules: what is imported when, what is public, which way imports run."""

import ast
import importlib
import inspect
import os
import pkgutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

import edgerestore
from edgerestore import errors

from ..checked import not_none

PACKAGE = Path(edgerestore.__file__).parent
HEAVY = {
    *("torch", "onnx", "onnxscript", "onnxruntime", "nncf", "safetensors"),
    *("jinja2", "matplotlib"),
}
PHOTO_SERVER = {"fastapi", "pydantic_settings"}


def loaded_after(statement):
    """Return the top-level modules that a fresh interpreter has after a statement."""
    code = f"{statement}\nimport sys; print(*{{m.split('.')[0] for m in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split("\n")[-2].split())


def test_the_face_is_light():
    light = loaded_after("import edgerestore; edgerestore.__all__")
    assert not light & {*HEAVY, "openvino", "numpy", "cv2", "av", "typer"}
    cli = loaded_after("from edgerestore.cli.app import app")
    assert not cli & {*HEAVY, "openvino", "numpy", "cv2", "av", "rich"}


@pytest.mark.parametrize(
    "statement",
    [
        "import edgerestore; edgerestore.load('deblur').close()",
        "import edgerestore.streams.session",
        "from edgerestore.cli.app import run_command_line; run_command_line(['info', 'deblur'])",
        "from edgerestore.cli.app import run_command_line; run_command_line(['devices'])",
        "from edgerestore.cli.app import run_command_line; run_command_line(['models'])",
    ],
)
def test_running_needs_nothing_of_the_convert_extra(statement):
    assert not loaded_after(statement) & HEAVY


def test_listing_the_models_loads_no_runtime():
    listed = loaded_after(
        "from edgerestore.cli.app import run_command_line; run_command_line(['models'])"
    )
    assert not listed & {*HEAVY, "openvino", "cv2", "av"}


def test_a_run_without_a_server_imports_none(tmp_path):
    picture = tmp_path / "in.png"
    cv2.imwrite(str(picture), np.zeros((32, 32, 3), np.uint8))
    run = "from edgerestore.cli.app import run_command_line; run_command_line({})"
    image = loaded_after(run.format(["run", str(picture), "-o", str(tmp_path / "out.png")]))
    video = tmp_path / "in.mkv"
    with av.open(str(video), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width = stream.height = 32
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")
        container.mux([*stream.encode(frame), *stream.encode()])
    out = str(tmp_path / "out.mp4")
    segments = loaded_after(run.format(["run", str(video), "-o", out, "--segment", "1m"]))
    assert {path.name for path in tmp_path.iterdir()} >= {"out.png", "out-0001.mp4"}
    for loaded in (image, segments):
        assert not loaded & {"starlette", "uvicorn", "h11", "anyio", *HEAVY}
        assert not loaded & PHOTO_SERVER


def test_the_control_interface_needs_nothing_of_the_photo_server():
    control = "import edgerestore.server.control, edgerestore.server.mjpeg"
    assert not loaded_after(control) & PHOTO_SERVER


def test_nothing_reports_home(tmp_path):
    code = (
        "import threading, edgerestore\n"
        "edgerestore.load('deblur').close()\n"
        "import openvino, nncf\n"
        "assert threading.active_count() == 1, threading.enumerate()"
    )
    home = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=home, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not [path.name for path in tmp_path.iterdir() if "intel" in path.name.lower()]


def test_every_public_name_is_there():
    for name in edgerestore.__all__:
        assert getattr(edgerestore, name) is not None
    assert set(dir(edgerestore)) == set(edgerestore.__all__)
    with pytest.raises(AttributeError, match="nothing_such"):
        edgerestore.nothing_such  # noqa: B018


@pytest.mark.parametrize(
    ("path", "name", "home"),
    [
        ("edgerestore.engine.job", "restore_path", edgerestore.restore_path),
        ("edgerestore.engine.live.control_server", "ControlServer", edgerestore.ControlServer),
    ],
)
def test_paths_that_were_documented_once_still_lead_there(path, name, home):
    with pytest.warns(DeprecationWarning, match=name):
        assert getattr(importlib.import_module(path), name) is home


def test_a_frame_keeps_the_name_that_callbacks_know():
    from edgerestore.streams.media.frames import Frame, VideoInfo

    info = VideoInfo(2, 1, Fraction(1, 25), Fraction(25))
    frame = Frame(np.zeros((1, 2, 3), np.uint8), pts=0, time_base=Fraction(1, 25), info=info)
    assert frame.facts is frame.info is info


def modules():
    for info in pkgutil.walk_packages([str(PACKAGE)], "edgerestore."):
        if not info.name.endswith("__main__"):
            yield info.name


@pytest.mark.parametrize("name", list(modules()))
def test_every_module_owns_its_all(name):
    module = importlib.import_module(name)
    tree = ast.parse(Path(not_none(module.__file__)).read_text())
    defined = {
        node.name
        for node in tree.body
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not node.name.startswith("_")
    }
    unexported = defined - set(getattr(module, "__all__", ()))
    assert not unexported, f"{name} has public names outside its __all__: {unexported}"
    for exported in getattr(module, "__all__", ()):
        assert hasattr(module, exported)


# From the ground up; a room imports from rooms before it, never from one after it.
ROOMS = (
    "errors",
    "extensions",
    "imaging",
    "bundle",
    "runtimes",
    "engine",
    "streams",
    "microscopy",
    "reports",
    "calibration",
    "convert",
    "evaluation",
    "stitching",
    "training",
    "cards",
    "server",
    "testing",
    "cli",
)


def room_of(module):
    return module.split(".")[1]


def imports_of(path, module):
    """Return the modules of ours that a file imports, at any depth of its code."""
    tree = ast.parse(path.read_text())
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package.split(".")[: len(package.split(".")) - node.level + 1]
            yield ".".join([*base, node.module] if node.module else base)


def test_imports_run_one_way():
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        relative = path.relative_to(PACKAGE).with_suffix("")
        module = ".".join(["edgerestore", *relative.parts]).removesuffix(".__init__")
        if relative.parts in {("__init__",), ("__main__",), ("_version",)}:
            continue  # the face may name everything
        for imported in imports_of(path, module):
            if imported in {"edgerestore", "edgerestore._version"}:
                continue
            if ROOMS.index(room_of(imported)) > ROOMS.index(room_of(module)):
                wrong.append(f"{module} imports {imported}")
    assert not wrong


def test_fine_tuning_is_behind_a_door_of_each_command():
    doors = {"edgerestore.calibration.pipeline", "edgerestore.training.quantized_network"}
    inside = PACKAGE / "calibration" / "qat"
    for path in PACKAGE.rglob("*.py"):
        module = ".".join(["edgerestore", *path.relative_to(PACKAGE).with_suffix("").parts])
        fenced = [name for name in imports_of(path, module) if "calibration.qat" in name]
        if inside not in path.parents:
            assert not fenced or module in doors, f"{module}: {fenced}"


def test_commands_print_through_one_door():
    doors = {PACKAGE / "cli" / name for name in ("printing.py", "app.py")}
    for path in set((PACKAGE / "cli").glob("*.py")) - doors:
        assert "typer.echo" not in path.read_text(), path


def test_every_error_is_of_the_tree_and_has_a_known_exit_code():
    classes = [
        c for _, c in inspect.getmembers(errors, inspect.isclass) if c.__module__ == errors.__name__
    ]
    assert {c.__name__ for c in classes} == set(errors.__all__) - {
        "counted",
        "first_line",
        "printable",
    }
    for one in classes:
        assert issubclass(one, errors.EdgerestoreError)
        assert one.exit_code in {1, 2, 3, 4}


def test_the_first_line_of_an_error_is_its_first_line_that_is_not_blank():
    assert errors.first_line(ValueError("\n  \n no such layer \nat line 3")) == "no such layer"
    assert errors.first_line(OSError()) == "OSError"
    assert errors.first_line(ValueError("x" * 300)) == "x" * 240
    assert errors.first_line(ValueError("wrong"), limit=2) == "wr"
