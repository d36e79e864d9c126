"""A manifest reads back as it was written, and says which field is wrong."""

import itertools
import json
import math
import re
from pathlib import Path

import pytest
from msgspec.structs import replace

from edgerestore.bundle.kinds import InputKind, OutputKind
from edgerestore.bundle.manifest import (
    FORMAT,
    STRENGTH,
    FileInfo,
    InputPort,
    Manifest,
    OutputPort,
    Score,
    StrengthKind,
    Tiling,
    TilingMode,
    Variant,
    _seal,
)
from edgerestore.errors import BundleError

FORMAT_1 = (Path(__file__).parent / "data" / "deblur_format_1.json").read_text()
IMAGE = InputPort("image", InputKind.IMAGE, 3, "rgb", multiple_of=8)


@pytest.fixture
def manifest():
    return Manifest(
        name="sample",
        task="deblur",
        summary="a sample",
        licence="CC0-1.0",
        inputs=(IMAGE, STRENGTH),
        outputs=(OutputPort.of(IMAGE, OutputKind.IMAGE, 3, 2),),
        tiling=Tiling(TilingMode.EXACT, 61, 55, reason="convolutions"),
        strength=StrengthKind.BLEND,
        variants={"fp32": Variant({"model.onnx": FileInfo("0" * 64, 10)}, {"psnr_db": 3.5})},
        source={"file": "a.pth"},
        tools={"torch": "2"},
    )


def sealed(content):
    """Return the text of a manifest whose seal fits, whatever it says."""
    content = {name: value for name, value in content.items() if name != "seal"}
    return json.dumps({**content, "seal": _seal(content)})


def resealed(text, change):
    """Apply a change and seal again: what a wrong writer, not a tamperer, would leave."""
    content = json.loads(text)
    change(content)
    return sealed(content)


def steps_of(path):
    return [int(step) if step.isdigit() else step for step in path.split("/")]


def put(path, value):
    def change(content):
        *parents, last = steps_of(path)
        for parent in parents:
            content = content[parent]
        content[last] = value

    return change


def drop(path):
    def change(content):
        *parents, last = steps_of(path)
        for parent in parents:
            content = content[parent]
        del content[last]

    return change


def refused(text):
    """Return the one line with which a manifest is refused."""
    with pytest.raises(BundleError, match="bundle.json") as caught:
        Manifest.from_json(text)
    line = str(caught.value)
    assert line.isprintable()
    assert len(line) < 500
    return line


SHARED = [
    (drop("name"), "name is missing"),
    (put("family", "../up"), "family: expected text"),
    (put("suited_for", None), "suited_for: expected text, got None"),
    (put("parameters", 0), "parameters: expected a whole number of at least 1"),
    (put("gmac_720p", 0), "gmac_720p: expected a number above 0"),
    (put("gmac_720p", 5), None),
    (put("name", "../up"), "name: expected text like"),
    (put("name", "line\n"), "name: expected text like"),
    (put("name", "n" * 5000), "name: expected text of at most 255 characters"),
    (put("name", "\ud800"), "name: expected text like"),
    (put("task", 3), "task: expected text, got 3"),
    (put("tiling/mode", "maybe"), "tiling.mode: 'maybe' is not known"),
    (put("tiling/mode", "\ud800"), "tiling.mode"),
    (put("tiling/mode", "windowed"), "tiling.window_px and tiling.ramp_px are missing"),
    (put("tiling/halo_px", -1), "tiling.halo_px: expected a whole number of at least 0"),
    (put("tiling/halo_px", 10**30), "tiling.halo_px: expected a whole number of at most 1048576"),
    (put("tiling/halo_px", 10**400), "tiling.halo_px: expected a number"),
    (put("source/seed", 2**64), None),
    (drop("tiling/halo_px"), "tiling.halo_px is missing"),
    (drop("tiling/reason"), "tiling.reason is missing"),
    (put("tiling/window_px", "8"), "tiling.window_px: expected a whole number or null, got '8'"),
    (put("strength", "strong"), "strength: 'strong' is not known"),
    (put("variants", {}), "variants.fp32 is missing"),
    (put("variants", []), "variants: expected an object"),
    (put("variants/int4", {}), "variants.int4 is unknown"),
    (put("variants/\x1b[31m", {}), "variants. [31m is unknown"),
    (put("variants/fp32", 1), "variants.fp32: expected an object, got 1"),
    (put("variants/int8", {"files": {}}), "variants.int8.quality is missing"),
    (put("variants/fp32/files", {"../x": {}}), "variants.fp32.files: '../x' points outside"),
    (put("variants/fp32/files", {"..\\x": {}}), "variants.fp32.files: '..\\\\x' is no name"),
    (put("variants/fp32/files", {"x" * 5000: {}}), "variants.fp32.files: 'xxx"),
    (put("variants/fp32/files", {"a\x00b.bin": {}}), "is no name"),
    (put("variants/fp32/files", {"model.pb": {}}), "'model.pb' is no name of a bundle's file"),
    (put("variants/fp32/files", {}), "variants.fp32.files: expected one graph"),
    (
        put("variants/fp32/files", {"x.bin": 1}),
        "variants.fp32.files.x.bin: expected an object, got 1",
    ),
    (
        put("variants/fp32/files", {"x.bin": {"sha256": "0" * 64}}),
        "variants.fp32.files.x.bin.bytes is missing",
    ),
    (
        put("variants/fp32/files", {"x.bin": {"sha256": "1", "bytes": 1}}),
        "variants.fp32.files.x.bin.sha256: expected text like [0-9a-f]{64}, got '1'",
    ),
    (
        put("variants/fp32/files", {"x.bin": {"sha256": "0" * 64, "bytes": True}}),
        "variants.fp32.files.x.bin.bytes: expected a whole number, got True",
    ),
    (put("variants/fp32/timings", 1), "variants.fp32.timings: expected a list, got 1"),
    (put("variants/fp32/timings", [1]), "variants.fp32.timings[0]: expected an object, got 1"),
    (put("variants/fp32/quality/psnr_db", math.nan), "variants.fp32.quality.psnr_db: expected a"),
    (put("source/factor", -math.inf), "source.factor: expected a number"),
    (put("source/factor", 10**4000), "source.factor: expected a number"),
    (put("source/factor", 10**5), None),
    (put("calibration", 7), "calibration: expected an object or null, got 7"),
    (put("tools", []), "tools: expected an object, got []"),
    (put("format", "1"), "format: expected a whole number, got '1'"),
    (put("format", True), "format: expected a whole number, got True"),
    (put("format", 0), "format: expected a whole number of at least 1, got 0"),
    (drop("format"), "format is missing"),
]
OLD = [
    (drop("input/channels"), "input.channels is missing"),
    (drop("input/multiple_of"), "input.multiple_of is missing"),
    (put("input/channels", 0), "input.channels: expected a whole number of at least 1, got 0"),
    (put("input/channels", True), "input.channels: expected a whole number, got True"),
    (put("input/color", "cmyk"), "input.color: expected text like (rgb|bgr|gray), got 'cmyk'"),
    (put("input/value_range", -1), "input.value_range: expected a number above 0, got -1"),
    (put("input/black", "0"), "input.black: expected a number, got '0'"),
    (put("input/multiple_of", 1.5), "input.multiple_of: expected a whole number, got 1.5"),
    (put("input", []), "input: expected an object, got []"),
    (put("output/kind", "sound"), "output.kind: 'sound' is not known"),
    (drop("output/upscale"), "output.upscale is missing"),
]
NEW = [
    (put("strength", "none"), "strength: none does not fit the inputs, image, strength"),
    (drop("inputs"), "inputs is missing"),
    (put("inputs", []), "inputs: expected a list of at least 1"),
    (put("inputs", {}), "inputs: expected a list, got {}"),
    (put("inputs/1", 5), "inputs[1]: expected an object, got 5"),
    (drop("inputs/0/channels"), "inputs[0].channels is missing"),
    (drop("inputs/0/multiple_of"), "inputs[0].multiple_of is missing"),
    (put("inputs/0/channels", 0), "inputs[0].channels: expected a whole number of at least 1"),
    (put("inputs/0/channels", 1025), "inputs[0].channels: expected a whole number of at most 1024"),
    (put("inputs/0/size_px", 1 << 17), "inputs[0].size_px: expected a whole number of at most 65"),
    (put("outputs/0/upscale", 65), "outputs[0].upscale: expected a whole number of at most 64"),
    (put("inputs/0/kind", "sound"), "inputs[0].kind: 'sound' is not known"),
    (put("inputs/0/kind", "strength"), "inputs: expected an image among them"),
    (put("inputs/1/kind", "image"), "strength: blend does not fit the inputs, image, image"),
    (put("inputs/1/name", "image"), "inputs: two are named image"),
    (put("outputs/0/name", "image"), "outputs: two are named image"),
    (put("outputs/0/kind", "strength"), "outputs[0].kind: 'strength' is not known"),
    (put("outputs/0/upscale", 1.5), "outputs[0].upscale: expected a whole number, got 1.5"),
    (drop("outputs/0/upscale"), "outputs[0].upscale is missing"),
]


@pytest.mark.parametrize(
    ("version", "change", "field"),
    [(version, *case) for version in (1, 2) for case in SHARED]
    + [(1, *case) for case in OLD]
    + [(2, *case) for case in NEW],
)
def test_a_wrong_field_is_named(version, change, field):
    text = FORMAT_1 if version == 1 else Manifest.from_json(FORMAT_1).to_json()
    if field is None:
        Manifest.from_json(resealed(text, change))
    else:
        assert refused(resealed(text, change)).startswith("bundle.json: ")
        assert field in refused(resealed(text, change))


def places(value, at=()):
    """Return the path of everything in a parsed JSON text."""
    if at:
        yield at
    if isinstance(value, (dict, list)):
        for step, its in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(its, (*at, step))


STRANGE: tuple[object, ...] = (
    None, True, 0, -1, 1.5, 10**18, 10**30, math.nan, math.inf, "", "x" * 5000, "\ud800", "\x1b[2J",
    [], {}, [[]], {"": 1}, {"\ud800": "\ud800"}, [None] * 3,
)  # fmt: skip


@pytest.mark.parametrize("version", [1, 2])
def test_no_wrong_value_anywhere_ends_in_another_error(version):
    text = FORMAT_1 if version == 1 else Manifest.from_json(FORMAT_1).to_json()
    content = json.loads(text)
    content["calibration"] = {"digest": "0"}
    for variant in content["variants"].values():
        del variant["timings"][1:]  # what is the same over and over again, and slow
    text = sealed(content)
    tried = refusals = 0
    for path, value in itertools.product(list(places(content)), (*STRANGE, "drop")):
        names = "/".join(str(step) for step in path)
        if "model." in names:
            continue  # the separator of these paths; such keys have their own tests
        change = drop(names) if value == "drop" else put(names, value)
        changed = json.loads(text)
        change(changed)
        tried += 1
        try:
            read = Manifest.from_json(sealed(changed) if path[0] != "seal" else json.dumps(changed))
        except BundleError as error:
            refusals += 1
            line = str(error)
            assert line.startswith("bundle.json: ")
            assert line.isprintable()
            assert len(line) < 500
            if "edited or corrupted" not in line:
                assert str(path[0]) in line
        else:
            assert Manifest.from_json(read.to_json()) == read
    assert tried > 1500
    assert refusals > 700


def test_it_reads_back(manifest):
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert json.loads(manifest.to_json())["format"] == FORMAT


def test_format_1_has_the_same_facts_in_format_2():
    old = Manifest.from_json(FORMAT_1)
    written = json.loads(FORMAT_1)
    assert {name: getattr(old.input, name) for name in written["input"]} == written["input"]
    assert {name: getattr(old.output, name) for name in written["output"]} == written["output"]
    assert [(port.name, port.kind) for port in old.inputs] == [
        ("image", "image"),
        ("strength", "strength"),
    ]
    (out,) = old.outputs
    assert (out.name, out.color, out.value_range, out.black) == ("restored", "rgb", 1.0, 0.0)
    new = json.loads(old.to_json())
    assert new["format"] == 2
    for name in written.keys() - {"format", "input", "output", "seal"}:
        assert new[name] == written[name]
    assert Manifest.from_json(old.to_json()) == old


def test_bundles_from_before_families_are_read(manifest):
    content = json.loads(manifest.to_json())
    for name in ("family", "suited_for", "parameters", "gmac_720p", "scores"):
        del content[name]
    read = Manifest.from_json(sealed(content))
    assert (read.family, read.suited_for, read.parameters, read.gmac_720p) == (None, "", None, None)
    assert read.scores == ()


def test_scores_read_back_and_are_checked(manifest):
    score = Score("PSNR", "dB", 32.5, "int8", "mild blur", 30.9)
    scored = replace(manifest, scores=(score, replace(score, before=None)))
    assert Manifest.from_json(scored.to_json()) == scored
    assert "scores[1].data is missing" in refused(resealed(scored.to_json(), drop("scores/1/data")))
    assert "scores[0].value: expected a number" in refused(
        resealed(scored.to_json(), put("scores/0/value", "much"))
    )
    read = Manifest.from_json(resealed(scored.to_json(), drop("scores/0/before")))
    assert read.scores[0].before is None


def test_format_1_of_a_shift_estimator_becomes_a_pair_of_one_size():
    def change(content):
        content["input"] |= {"channels": 2, "color": "gray", "multiple_of": 1, "minimum_px": 150}
        content["output"] |= {"kind": "shift", "channels": 2}
        content["tiling"] |= {"mode": "whole"}
        content["strength"] = "none"

    read = Manifest.from_json(resealed(FORMAT_1, change))
    assert [port.name for port in read.inputs] == ["image"]
    assert (read.input.channels, read.input.size_px) == (2, 150)
    assert (read.output.name, read.output.color) == ("shift", None)
    assert read.refusal == "estimates shifts and restores no images"


def test_models_of_several_tensors_are_data_that_single_frames_are_refused_by(manifest):
    before = replace(IMAGE, name="previous")
    two_frames = replace(manifest, inputs=(IMAGE, before, STRENGTH))
    assert Manifest.from_json(two_frames.to_json()) == two_frames
    assert two_frames.input is two_frames.inputs[0]
    told = "takes image, previous, strength and returns restored, not single frames"
    assert two_frames.refusal == told
    mask = OutputPort.of(IMAGE, OutputKind.MASK, 1)
    both = replace(manifest, outputs=(*manifest.outputs, replace(mask, name="mask")))
    assert Manifest.from_json(both.to_json()) == both
    assert "returns restored, mask, not single frames" in both.refusal
    renamed = replace(manifest, inputs=(replace(IMAGE, name="frame"), STRENGTH))
    assert "takes frame, strength and" in renamed.refusal
    assert manifest.refusal == ""


def test_what_could_not_be_read_back_is_not_written(manifest):
    with pytest.raises(BundleError, match="tiling.halo_px"):
        replace(manifest, tiling=Tiling(TilingMode.EXACT, -1)).to_json()


def test_texts_are_read_without_what_steers_a_terminal(manifest):
    summary = "red \x1b[31m\r\n\u202eback\ud800"
    written = replace(manifest, summary=summary, source={"architecture": "a\x1b]0;title\x07"})
    read = Manifest.from_json(written.to_json())
    assert read.summary == "red  [31m   back "
    assert read.source["architecture"] == "a ]0;title "
    accented = replace(manifest, summary="Schärft 写真, naïve 👩‍🔬")
    assert Manifest.from_json(accented.to_json()).summary == accented.summary


def test_a_newer_format_says_to_upgrade(manifest):
    text = resealed(manifest.to_json(), put("format", FORMAT + 1))
    with pytest.raises(BundleError, match=f"format {FORMAT + 1} is newer.*upgrade"):
        Manifest.from_json(text)


@pytest.mark.parametrize("version", [1, 2])
def test_an_edit_is_noticed(version):
    text = FORMAT_1 if version == 1 else Manifest.from_json(FORMAT_1).to_json()
    with pytest.raises(BundleError, match="edited or corrupted"):
        Manifest.from_json(text.replace('"halo_px": 60', '"halo_px": 59'))
    added = json.loads(text) | {"later": 1}
    with pytest.raises(BundleError, match="edited or corrupted"):
        Manifest.from_json(json.dumps(added))
    assert Manifest.from_json(sealed(added))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[]", "expected an object"),
        ('"text"', "expected an object"),
        ("\x00", "is not JSON"),
        ("\ufeff{}", "is not JSON"),
        ("[" * 100_000, "nested more than 64 deep"),
        ('{"a":' * 100_000, "nested more than 64 deep"),
        ('{"source":' + "[" * 100 + "]" * 100 + "}", "source[0][0] is nested more than 64 deep"),
        ('{"name": "a", "name": "b"}', "name is there twice"),
        ('{"tiling": {"halo_px": 1, "halo_px": 2}}', "halo_px is there twice"),
        ('{"format": ' + "9" * 5000 + "}", "format: expected a number"),
        ('{"format": 1e999}', "format: expected a number"),
        ('{"format": NaN}', "format: expected a number"),
    ],
    ids=range(14),
)
def test_what_is_no_manifest_is_refused(text, said):
    assert said in refused(text)


def test_every_field_stands_in_the_documentation():
    page = (Path(__file__).parents[2] / "docs" / "bundle.md").read_text()
    tables = re.findall(r"(?m)^\|(.*?)\|", page)
    told = {
        part
        for cell in tables
        for name in re.findall("`([^`]+)`", cell)
        for part in name.split(".")
    }
    for schema in (Manifest, InputPort, OutputPort, Tiling, Variant, Score):
        assert set(schema.__struct_fields__) <= told
