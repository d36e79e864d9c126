"""Bundles that were made to do harm, or that lie: one line each."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from msgspec.structs import replace

import edgerestore
from edgerestore.bundle.bundle import Bundle, write_manifest
from edgerestore.bundle.kinds import OutputKind
from edgerestore.bundle.manifest import Manifest, _seal
from edgerestore.cli.app import run_command_line
from edgerestore.errors import BundleError

from ..bundles import write_bundle
from .fuzz import damaged, fuzz

Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_bundle(tmp_path_factory.mktemp("bundles") / "small")


@pytest.fixture
def folder(bundle: Bundle, tmp_path: Path) -> Path:
    for file in bundle.folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def sealed(content: dict[str, Any]) -> str:
    content = {name: value for name, value in content.items() if name != "seal"}
    return json.dumps({**content, "seal": _seal(content)})


def put(*path: str, value: object) -> Change:
    def change(content: dict[str, Any]) -> None:
        *parents, last = path
        for parent in parents:
            content = content[parent]
        content[last] = value

    return change


def nested(levels: int) -> list[Any]:
    inner: list[Any] = []
    for _ in range(levels):
        inner = [inner]
    return inner


LIES: dict[str, Change] = {
    "no files": put("variants", "fp32", "files", value={}),
    "a file elsewhere": put("variants", "fp32", "files", value={"../x.onnx": {}}),
    "a long name": put("name", value="n" * 5000),
    "half a character": put("name", value="\ud800"),
    "a name that steers a terminal": put("variants", value={"\x1b[2J": {}, "fp32": {}}),
    "a task of lists": put("task", value=nested(40)),
    "lists in the source": put("source", value={"a": nested(100)}),
    "a halo of a line": put("tiling", "halo_px", value="\x1b]0;title\x07"),
    "no halo": put("tiling", "halo_px", value=None),
}


@pytest.mark.parametrize("name", LIES)
def test_a_manifest_that_lies_is_one_line(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads((folder / "bundle.json").read_text())
    LIES[name](content)
    refused(folder, sealed(content), capsys)


TEXTS = {
    "deep": "[" * 100_000,
    "deep objects": '{"a":' * 100_000,
    "a long number": '{"format": ' + "9" * 10_000 + "}",
    "a name twice": '{"name": "a", "name": "b"}',
    "nothing": "",
    "a null": "\x00",
}


@pytest.mark.parametrize("name", TEXTS)
def test_what_is_no_manifest_is_one_line(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(folder, TEXTS[name], capsys)


def refused(folder: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "bundle.json").write_text(text)
    assert run_command_line(["info", str(folder)]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("edgerestore: ")
    assert told.err.count("\n") == 1
    assert told.err.rstrip("\n").isprintable()
    assert len(told.err) < 1000


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ({"channels": 1}, r"the graph returns \[1,64,48,3\], and bundle.json says \[1,64,48,1\]"),
        ({"channels": 4}, r"the graph returns .*3\], and bundle.json says .*4\]"),
        ({"kind": OutputKind.MASK, "channels": 1}, "the graph returns"),
    ],
)
def test_a_graph_that_returns_something_else_is_refused(
    output: dict[str, Any], said: str, folder: Path, picture: Callable[..., Any]
) -> None:
    manifest = Bundle.find(folder).manifest
    outputs = (replace(manifest.output, **output),)
    write_manifest(folder, replace(manifest, outputs=outputs))
    with edgerestore.load(folder) as restorer, pytest.raises(BundleError, match=said):
        restorer(picture(64, 48))


@st.composite
def wrong_fields(draw: st.DrawFn, text: str) -> bytes:
    """Put anything into any place of a manifest, and seal it."""
    content = json.loads(text)
    place: Any = content
    while True:
        steps = sorted(place) if isinstance(place, dict) else range(len(place))
        step = draw(st.sampled_from(list(steps)))
        if isinstance(place[step], (dict, list)) and place[step] and draw(st.booleans()):
            place = place[step]
            continue
        place[step] = draw(
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
                | st.sampled_from(["\ud800", "\x1b[2J", "x" * 5000]),
                lambda inner: st.lists(inner, max_size=3)
                | st.dictionaries(st.text(max_size=3), inner, max_size=3),
                max_leaves=4,
            )
        )  # fmt: skip
        return sealed(content).encode("utf-8", "surrogatepass")


def test_fuzz_manifest(bundle: Bundle, tmp_path: Path) -> None:
    text = (bundle.folder / "bundle.json").read_text()
    path = tmp_path / "bundle.json"

    def target(content: bytes) -> None:
        path.write_bytes(content)
        try:
            manifest = Bundle.find(tmp_path).manifest
        except BundleError as error:
            line = str(error)
            assert line.isprintable()
            assert len(line) < 1000
        else:
            assert Manifest.from_json(manifest.to_json()) == manifest

    fuzz(damaged([text.encode()]) | wrong_fields(text), target)
