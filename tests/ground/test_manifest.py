"""A manifest reads back as it was written, and says which field is wrong."""

import json

import pytest

from edgerestore.bundle.manifest import (
    FORMAT,
    FileFacts,
    InputFacts,
    Manifest,
    OutputFacts,
    OutputKind,
    StrengthKind,
    Tiling,
    TilingMode,
    Variant,
    _seal,
)
from edgerestore.errors import BundleError


@pytest.fixture
def manifest():
    return Manifest(
        name="sample",
        task="deblur",
        summary="a sample",
        licence="CC0-1.0",
        input=InputFacts(3, "rgb", 1.0, 8),
        output=OutputFacts(OutputKind.IMAGE, 3, 2),
        tiling=Tiling(TilingMode.EXACT, 61, 55, reason="convolutions"),
        strength=StrengthKind.BLEND,
        variants={"fp32": Variant({"model.onnx": FileFacts("0" * 64, 10)}, {"psnr_db": 3.5})},
        source={"file": "a.pth"},
        tools={"torch": "2"},
    )


def resealed(text, change):
    """Apply a change and seal again: what a wrong writer, not a tamperer, would leave."""
    content = json.loads(text)
    del content["seal"]
    change(content)
    return json.dumps({**content, "seal": _seal(content)})


def test_it_reads_back(manifest):
    assert Manifest.from_json(manifest.to_json()) == manifest


def put(path, value):
    def change(content):
        *parents, last = path.split(".")
        for parent in parents:
            content = content[parent]
        content[last] = value

    return change


def drop(path):
    def change(content):
        *parents, last = path.split(".")
        for parent in parents:
            content = content[parent]
        del content[last]

    return change


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (drop("name"), "name is missing"),
        (put("name", "../up"), "name: expected text like"),
        (put("task", 3), "task: expected text, got 3"),
        (drop("input.channels"), "input.channels is missing"),
        (put("input.channels", 0), "input.channels: expected a whole number of at least 1"),
        (put("input.channels", True), "input.channels"),
        (put("input.color", "cmyk"), "input.color"),
        (put("input.value_range", -1), "input.value_range: expected a number above 0"),
        (put("input.multiple_of", 1.5), "input.multiple_of"),
        (put("output.kind", "sound"), "output.kind: 'sound' is not known"),
        (put("tiling.mode", "maybe"), "tiling.mode"),
        (put("tiling.mode", "windowed"), "tiling.window_px and tiling.ramp_px are missing"),
        (put("tiling.halo_px", -1), "tiling.halo_px"),
        (put("strength", "strong"), "strength"),
        (put("variants", {}), "variants.fp32 is missing"),
        (put("variants.int4", {}), "variants.int4 is unknown"),
        (put("variants.fp32.files", {"../x": {}}), "points outside"),
        (put("variants.fp32.files", {"x": 1}), "expected an object"),
        (put("variants.fp32.files", {"x": {"sha256": "1", "bytes": 1}}), "sha256"),
        (put("variants.fp32.timings", 1), "timings: expected a list"),
        (put("calibration", 7), "calibration: expected an object"),
        (put("format", "1"), "format"),
    ],
)
def test_a_wrong_field_is_named(manifest, change, field):
    with pytest.raises(BundleError, match="bundle.json: ") as caught:
        Manifest.from_json(resealed(manifest.to_json(), change))
    assert field in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_newer_format_says_to_upgrade(manifest):
    text = resealed(manifest.to_json(), put("format", FORMAT + 1))
    with pytest.raises(BundleError, match=f"format {FORMAT + 1} is newer.*upgrade"):
        Manifest.from_json(text)


def test_an_edit_is_noticed(manifest):
    text = manifest.to_json().replace('"halo_px": 61', '"halo_px": 60')
    with pytest.raises(BundleError, match="edited or corrupted"):
        Manifest.from_json(text)


@pytest.mark.parametrize("text", ["", "{", "[]", '"text"', "\x00"])
def test_what_is_no_manifest_is_refused(text):
    with pytest.raises(BundleError, match="bundle.json"):
        Manifest.from_json(text)
